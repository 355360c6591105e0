// Package engine is how the servers that a sweep starts are told what makes its
// measurement right. Each engine has names of its own for it.
package engine

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// The engines that a sweep can start.
const (
	VLLM   = "vllm"
	SGLang = "sglang"
)

// Engine is a kind of server.
type Engine struct {
	Name    string
	Image   string   // published, for NVIDIA GPUs
	Command []string // which the arguments follow
	// KeyVariable holds the API key, where the server asks for one.
	KeyVariable string
	Variables   []Variable

	args  func(Settings) []string
	limit string   // argument with the most requests that run at once
	chunk string   // argument with the most prompt tokens of an iteration
	more  []string // further spellings of arguments that the sweep gives
}

// Variable is an environment variable that every server of a kind gets.
type Variable struct{ Name, Value string }

// Settings are what a server is told, in text: what a submitter can change is a
// reference to a variable.
type Settings struct {
	Path        string // what is loaded
	Model       string // the name that it is served by
	GPUs        int
	DType       string
	MaxNumSeqs  string // requests that run at once
	MaxModelLen string // tokens of the longest request
	ChunkTokens string // prompt tokens of an iteration; empty: as the engine chooses
	Port        int
	Key         bool // KeyVariable holds an API key
}

var engines = []Engine{
	{
		Name: VLLM, Image: "vllm/vllm-openai:v0.32.0", Command: []string{"vllm", "serve"},
		KeyVariable: "VLLM_API_KEY", Variables: []Variable{{"VLLM_NO_USAGE_STATS", "1"}},
		limit: "--max-num-seqs", chunk: "--max-num-batched-tokens", more: []string{"-tp"},
		args: func(s Settings) []string {
			return []string{
				s.Path,
				"--served-model-name=" + s.Model,
				"--host=0.0.0.0",
				"--port=" + strconv.Itoa(s.Port),
				"--tensor-parallel-size=" + strconv.Itoa(s.GPUs),
				"--dtype=" + s.DType,
				"--max-num-seqs=" + s.MaxNumSeqs,
				"--max-model-len=" + s.MaxModelLen,
				"--no-enable-prefix-caching", // a repeated prompt would be free
			}
		},
	},
	// The arguments are those of sglang/srt/server_args.py of 0.5.6; testdata holds their
	// names. Its /health generates a token, unless told otherwise (sglang/srt/environ.py):
	// the probes of a pod shall not load the server that is measured. It reads its key from
	// an argument alone.
	{
		Name: SGLang, Image: "lmsysorg/sglang:v0.5.6", Command: []string{"python3", "-m", "sglang.launch_server"},
		KeyVariable: "SGLANG_API_KEY", Variables: []Variable{{"SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION", "false"}},
		limit: "--max-running-requests", chunk: "--chunked-prefill-size", more: []string{"--model", "--tp-size", "--tp", "--api-key"},
		args: func(s Settings) []string {
			args := []string{
				"--model-path=" + s.Path,
				"--served-model-name=" + s.Model,
				"--host=0.0.0.0",
				"--port=" + strconv.Itoa(s.Port),
				"--tensor-parallel-size=" + strconv.Itoa(s.GPUs),
				"--dtype=" + s.DType,
				"--max-running-requests=" + s.MaxNumSeqs,
				"--context-length=" + s.MaxModelLen,
				"--disable-radix-cache",
				"--enable-metrics",
			}
			if s.Key {
				args = append(args, "--api-key=$(SGLANG_API_KEY)") // the kubelet fills it in
			}
			return args
		},
	},
}

// Find looks an engine up by its name.
func Find(name string) (Engine, bool) {
	i := slices.IndexFunc(engines, func(e Engine) bool { return e.Name == name })
	if i < 0 {
		return Engine{}, false
	}
	return engines[i], true
}

// Names are the engines' names.
func Names() []string {
	var names []string
	for _, e := range engines {
		names = append(names, e.Name)
	}
	return names
}

// Images are the published images of all engines.
func Images() []string {
	var images []string
	for _, e := range engines {
		images = append(images, e.Image)
	}
	return images
}

// Args are the arguments of a server.
func (e Engine) Args(s Settings) []string {
	args := e.args(s)
	if s.ChunkTokens != "" {
		args = append(args, e.chunk+"="+s.ChunkTokens)
	}
	return args
}

// mayBeOther are arguments that the sweep gives and a user may give again: that the
// server is then another one than the sweep believes harms nothing.
var mayBeOther = []string{"--dtype", "--max-model-len", "--context-length", "--no-enable-prefix-caching", "--disable-radix-cache", "--enable-metrics"}

// Gives says whether an argument, --name or --name=value, is one that the sweep gives
// itself, and that must not be another. An engine that is not known gives none.
func (e Engine) Gives(argument string) bool {
	if e.args == nil {
		return false
	}
	name, _, _ := strings.Cut(argument, "=")
	own := slices.Clone(e.more)
	for _, a := range e.args(Settings{}) {
		if n, _, _ := strings.Cut(a, "="); strings.HasPrefix(n, "-") && !slices.Contains(mayBeOther, n) {
			own = append(own, n)
		}
	}
	return slices.Contains(own, name)
}

// MaxNumSeqs is what the arguments of a server of any kind say of the most requests that
// it runs at once; 0 where they do not.
func MaxNumSeqs(args []string) int {
	return number(args, func(e Engine) string { return e.limit })
}

// ChunkTokens is what they say of the most prompt tokens that it computes in an iteration;
// 0 where they do not.
func ChunkTokens(args []string) int {
	return number(args, func(e Engine) string { return e.chunk })
}

func number(args []string, name func(Engine) string) int {
	for _, e := range engines {
		if n, err := strconv.Atoi(strings.Trim(Argument(args, name(e)), `"'`)); err == nil && n > 0 {
			return n
		}
	}
	return 0
}

// Role is which half of a pair of servers the arguments make: prefill or decode; empty:
// none, or they do not say. vLLM has it in the JSON of --kv-transfer-config (kv_role,
// vllm/config/kv_transfer.py), SGLang in --disaggregation-mode.
func Role(args []string) string {
	var transfer struct {
		Role string `json:"kv_role"`
	}
	_ = json.Unmarshal([]byte(Argument(args, "--kv-transfer-config")), &transfer) // one that is not JSON says nothing
	switch mode := Argument(args, "--disaggregation-mode"); {
	case transfer.Role == "kv_producer", mode == "prefill":
		return "prefill"
	case transfer.Role == "kv_consumer", mode == "decode":
		return "decode"
	}
	return ""
}

// Argument is the value of an argument, --name=value or --name value; empty where it is
// not given. The last one counts, as the servers take it.
func Argument(args []string, name string) string {
	found := ""
	for i, a := range args {
		if value, ok := strings.CutPrefix(a, name+"="); ok {
			found = value
		} else if a == name && i+1 < len(args) {
			found = args[i+1]
		}
	}
	return found
}
