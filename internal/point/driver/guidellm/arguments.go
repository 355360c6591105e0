package guidellm

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"wfgen.dev/internal/point/driver"
	"wfgen.dev/internal/redact"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/steps"
	"wfgen.dev/internal/sweep/release"
)

// command is a run of one version: everything but the name of its report.
type command struct {
	args  func(report string) []string
	env   []string // NAME=value, for secrets and what has no option
	notes []string // what the user should know
}

// commandLine is how versions are told what to do. Each keeps every request of a run in
// its report, and none is told to drop a warm-up: the steady window is found in the
// rows, and the server's count of requests can only be compared with that of a whole run.
type commandLine struct {
	arguments func(t release.Traits, o driver.Options, withKey bool) func(report string) []string
	key       func(o driver.Options) string // what the variable of the API key holds, which is never an argument
	env       []string
}

var commandLines = map[release.CommandLine]commandLine{
	release.RateType: {arguments: rateType, key: func(o driver.Options) string { return o.APIKey }, env: []string{"GUIDELLM__PREFERRED_ROUTE=text_completions"}},
	release.Profile:  {arguments: profile, key: func(o driver.Options) string { return object("api_key", o.APIKey) }},
	release.Kinds:    {arguments: kinds, key: func(o driver.Options) string { return backend(o, "api_key", o.APIKey) }},
}

// command makes the command line of one point.
func (g *Guidellm) command(o driver.Options) (command, error) {
	traits := g.version.Traits()
	line := commandLines[traits.CommandLine]
	if err := refuseCredentials(o.Target); err != nil {
		return command{}, err
	}
	if len(o.Levels) > 1 && !traits.SharesProcess {
		return command{}, exit.Errorf(exit.Usage, "guidellm %s cannot share a process between batch sizes: between two of them each worker tests the connection, and the server's counts of requests could not be told apart; use %s or newer",
			g.version, release.Since(func(t release.Traits) bool { return t.SharesProcess }))
	}
	var p command
	note := func(format string, args ...any) { p.notes = append(p.notes, fmt.Sprintf(format, args...)) }
	if g.version.Newer() {
		note("guidellm %s is newer than %s, the newest that is known; it is run as that one is", g.version, release.Newest)
	}
	if most := slices.Max(o.BatchSizes()); o.MaxRequests > 0 && o.MaxRequests < 10*most {
		note("%d requests are fewer than 10 in each of %d streams: much of the run will be its beginning and end", o.MaxRequests, most)
	}
	if o.APIKey != "" {
		switch {
		case traits.KeyVariable == "":
			return command{}, exit.Errorf(exit.Usage, "guidellm %s cannot send an API key; use %s or the native driver", g.version, keepsKeys())
		case traits.KeyLeaks && len(strings.TrimSpace(o.APIKey)) < redact.Shortest:
			return command{}, exit.Errorf(exit.Usage, "guidellm %s writes the API key into its report and log, and one of fewer than %d characters cannot be told from other text there; use guidellm %s, the native driver or a longer key", g.version, redact.Shortest, keepsKeys())
		}
		p.env = append(p.env, traits.KeyVariable+"="+line.key(o))
	}
	tokenizer, err := findTokenizer(o.Tokenizer)
	if err != nil {
		return command{}, err
	}
	o.Tokenizer = tokenizer
	o.Seed = int64(uint64(o.Seed) & math.MaxInt32) // numpy's limit
	p.args = line.arguments(traits, o, o.APIKey != "")
	p.env = append(p.env,
		"COLUMNS=250",        // a table must not be wrapped at 80
		"PYTHONUNBUFFERED=1", // the log shows what happens when it happens
	)
	p.env = append(p.env, line.env...)
	return p, nil
}

// keepsKeys is the first version that sends an API key and writes it nowhere.
func keepsKeys() string {
	return release.Since(func(t release.Traits) bool { return t.KeyVariable != "" && !t.KeyLeaks })
}

// findTokenizer makes the name of a directory one that holds where guidellm runs,
// which is elsewhere, and refuses one that is not there: guidellm would look for
// a model of that name, at the cost of a start. Other names are models'.
func findTokenizer(name string) (string, error) {
	if name == "" {
		return "", nil
	}
	path, err := filepath.Abs(name)
	if err != nil {
		return "", exit.Errorf(exit.Usage, "tokenizer: %w", err)
	}
	switch info, err := os.Stat(path); {
	case err == nil && info.IsDir():
		return path, nil
	case err == nil:
		return "", exit.Errorf(exit.Usage, "tokenizer: %s is a file; give --tokenizer the directory that holds tokenizer.json and tokenizer_config.json", name)
	case filepath.IsAbs(name), strings.HasPrefix(name, "."):
		return "", exit.Errorf(exit.Usage, "tokenizer: %w; give --tokenizer a directory with tokenizer.json and tokenizer_config.json, or a model id that can be downloaded", err)
	}
	return name, nil
}

// synchronous says whether the run is of one stream alone, which has a profile of its
// own; beside others it is a level of their profile.
func synchronous(o driver.Options) bool { return slices.Equal(o.BatchSizes(), []int{1}) }

// rateType is the command line of 0.2 and 0.3.
func rateType(t release.Traits, o driver.Options, withKey bool) func(string) []string {
	return func(report string) []string {
		args := []string{"benchmark"}
		if t.BenchmarkRun {
			args = append(args, "run")
		}
		args = append(args, "--target", o.Target, "--model", o.Model)
		if synchronous(o) {
			args = append(args, "--rate-type", "synchronous")
		} else {
			// 0.2 fails on a whole number before Python 3.12.
			args = append(args, "--rate-type", "concurrent", "--rate", fmt.Sprintf("%d.0", o.BatchSize))
		}
		args = append(args, limits(o)...)
		args = append(args,
			"--data", fmt.Sprintf("%s,samples=%d", data(t, o), samples(o)),
			"--random-seed", fmt.Sprint(o.Seed))
		if o.Tokenizer != "" {
			args = append(args, "--processor", o.Tokenizer)
		}
		args = append(args, "--output-path", report, "--disable-progress")
		if withKey {
			// The tables hold the key, and may break it over two lines.
			args = append(args, "--disable-console-outputs")
		}
		return args
	}
}

// samples is how many prompts 0.2 and 0.3 make before they begin. They use them
// again when they are used up, and then a server with a prefix cache has seen
// them; but each takes milliseconds to make, more the longer it is, while the
// GPU waits. So: as many as the fastest server could answer, which is taken to
// need 4 ms per output token, and to read 100,000 prompt tokens per second.
func samples(o driver.Options) int {
	most := math.Inf(1)
	if o.MaxSeconds > 0 {
		perSecond := min(float64(o.BatchSize)/(0.004*float64(o.Shape.OutputTokens)), 100_000/float64(o.Shape.PromptTokens))
		most = math.Ceil(o.MaxSeconds * perSecond)
	}
	if o.MaxRequests > 0 {
		most = min(most, float64(o.MaxRequests))
	}
	return int(most) + 2*o.BatchSize // it takes some ahead of need
}

// profile is the command line of 0.4 to 0.6.
func profile(t release.Traits, o driver.Options, _ bool) func(string) []string {
	return func(report string) []string {
		args := []string{"benchmark", "run", "--target", o.Target, "--model", o.Model}
		if t.RequestFormat {
			args = append(args, "--request-format", "/v1/completions")
		} else {
			args = append(args, "--request-type", "text_completions")
		}
		if synchronous(o) {
			args = append(args, "--profile", "synchronous")
		} else {
			args = append(args, "--profile", "concurrent", "--rate", steps.List(o.BatchSizes()))
		}
		args = append(args, limits(o)...)
		args = append(args,
			"--data", data(t, o),
			"--random-seed", fmt.Sprint(o.Seed))
		if o.Tokenizer != "" {
			args = append(args, "--processor", o.Tokenizer)
		}
		if t.SampleRequests {
			args = append(args, "--sample-requests", "0") // every row, without its texts
		}
		return append(args,
			"--output-dir", filepath.Dir(report), "--outputs", filepath.Base(report), "--disable-console-interactive")
	}
}

// kinds is the command line from 0.7 on.
func kinds(t release.Traits, o driver.Options, withKey bool) func(string) []string {
	return func(report string) []string {
		args := []string{"run"}
		if !withKey { // else it is all in the environment
			args = append(args, "--backend", backend(o))
		}
		if synchronous(o) {
			args = append(args, "--profile", object("kind", "synchronous"))
		} else {
			args = append(args, "--profile", object("kind", "concurrent", "streams", o.BatchSizes()[0]))
		}
		if len(o.BatchSizes()) > 1 { // a list in the profile itself is deprecated from 0.8 on
			args = append(args, "--override", "profile.streams", steps.List(o.BatchSizes()))
		}
		if o.MaxSeconds > 0 {
			args = append(args, "--constraint", object("kind", "max_duration", "seconds", o.MaxSeconds))
		}
		if o.MaxRequests > 0 {
			args = append(args, "--constraint", object("kind", "max_requests", "count", o.MaxRequests))
		}
		args = append(args,
			"--data", object(append([]any{"kind", "synthetic_text"}, lengths(t, o)...)...),
			"--seed", object("kind", "static", "value", o.Seed))
		if o.Tokenizer != "" {
			args = append(args, "--tokenizer", object("kind", "huggingface_auto", "model", o.Tokenizer))
		}
		return append(args,
			"--metrics", object("kind", "generative", "sample_size", 0), // every row, without its texts
			"--output", object("kind", "json", "path", report),
			"--disable-console-interactive")
	}
}

// lengths are the fields, as names and values, by which every version is told how
// long prompts and answers are. Given the least and the most without a standard
// deviation, each draws evenly between them.
func lengths(t release.Traits, o driver.Options) []any {
	fields := []any{"prompt_tokens", o.Shape.PromptTokens, "output_tokens", o.Shape.OutputTokens}
	if least, most := o.OutputTokens(); least < most {
		if t.Overshoots {
			most--
		}
		fields = append(fields, "output_tokens_min", least, "output_tokens_max", most)
	}
	return fields
}

// data is lengths as versions up to 0.6 read it.
func data(t release.Traits, o driver.Options) string {
	var b strings.Builder
	for i, v := range lengths(t, o) {
		if i > 0 {
			b.WriteByte(",="[i%2])
		}
		fmt.Fprint(&b, v)
	}
	return b.String()
}

// limits are the options that end a run, up to 0.6.
func limits(o driver.Options) []string {
	var args []string
	if o.MaxSeconds > 0 {
		args = append(args, "--max-seconds", strconv.FormatFloat(o.MaxSeconds, 'f', -1, 64))
	}
	if o.MaxRequests > 0 {
		args = append(args, "--max-requests", fmt.Sprint(o.MaxRequests))
	}
	return args
}

// backend says what to talk to, from 0.7 on. The endpoint is the one that takes
// a prompt as it is: a chat template would add tokens that nobody asked for.
func backend(o driver.Options, more ...any) string {
	return object(append([]any{"kind", "openai_http", "target", o.Target, "model", o.Model, "request_format", "/v1/completions"}, more...)...)
}

// object is a JSON object of names and values, in their order: guidellm's own
// notation has no way to write a comma in a value.
func object(pairs ...any) string {
	var b strings.Builder
	b.WriteByte('{')
	for i, v := range pairs {
		if i > 0 {
			b.WriteByte(",:"[i%2])
		}
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if err := e.Encode(v); err != nil {
			panic(err) // numbers and strings only
		}
	}
	b.WriteByte('}')
	return strings.ReplaceAll(b.String(), "\n", "")
}

// What the environment may not say to guidellm: defaults of its image that
// contradict our options, and options that we do not give and thereby mean to be
// off. GUIDELLM_ without a second underscore is an option of 0.3 to 0.6.
var unset = []string{
	"GUIDELLM__SPEC", "GUIDELLM__BENCHMARKS", "GUIDELLM__METADATA",
	"GUIDELLM__PREFERRED_ROUTE", "GUIDELLM__DEFAULT_RESULTS_DIR",
	"GUIDELLM__OPENAI__API_KEY", "GUIDELLM__OPENAI__BEARER_TOKEN", "GUIDELLM__OPENAI__HEADERS", "GUIDELLM__OPENAI__BASE_URL",
}

// inherited are the variables of this process that guidellm gets, as names or, with an
// underscore at the end, as their beginnings: where things are, how Python, Hugging Face
// and the network are set up. It has no use for the rest, in which there are keys of
// ours: of the bucket, of the server, of whatever else the pod holds.
var inherited = []string{
	"PATH", "HOME", "USER", "LOGNAME", "SHELL", "TMPDIR", "TEMP", "TMP", "LANG", "LANGUAGE", "LC_", "TZ", "TERM", "COLUMNS", "LINES", "NO_COLOR",
	"LD_LIBRARY_PATH", "PYTHON", "VIRTUAL_ENV", "CONDA_PREFIX", "XDG_", "MPLCONFIGDIR",
	"HF_", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_", "TRANSFORMERS_", "TOKENIZERS_PARALLELISM", "SENTENCE_TRANSFORMERS_HOME",
	"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
	"OMP_", "OPENBLAS_", "MKL_", "NUMEXPR_", "UVLOOP_", "GUIDELLM_",
}

func inherits(name string) bool {
	return slices.ContainsFunc(inherited, func(known string) bool {
		if strings.HasSuffix(known, "_") || known == "PYTHON" {
			return strings.HasPrefix(name, known)
		}
		return strings.EqualFold(name, known) // proxies are written both ways
	})
}

// environment is what guidellm inherits of ours, less what would contradict the command.
// Settings such as GUIDELLM__MAX_WORKER_PROCESSES and those of Hugging Face stay.
func (p command) environment(ours []string) []string {
	var env []string
	for _, v := range ours {
		name, _, _ := strings.Cut(v, "=")
		if !inherits(name) {
			continue
		}
		option := strings.HasPrefix(name, "GUIDELLM_") && !strings.HasPrefix(name, "GUIDELLM__")
		if option || slices.ContainsFunc(unset, func(prefix string) bool { return strings.HasPrefix(name, prefix) }) {
			continue
		}
		if slices.ContainsFunc(p.env, func(own string) bool { return strings.HasPrefix(own, name+"=") }) {
			continue
		}
		env = append(env, v)
	}
	return append(env, p.env...)
}
