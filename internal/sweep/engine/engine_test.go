package engine

import (
	"os"
	"slices"
	"strings"
	"testing"
)

var all = Settings{Path: "/cache/m", Model: "org/m", GPUs: 2, DType: "auto", MaxNumSeqs: "64", MaxModelLen: "4096", ChunkTokens: "2048", Port: 8000, Key: true}

// SGLang has every argument that its server is given, and takes a value where one is
// given: hack/loadtools/sglang-args.py printed what its source has.
func TestSGLangHasItsArguments(t *testing.T) {
	data, err := os.ReadFile("testdata/sglang-0.5.6.txt")
	if err != nil {
		t.Fatal(err)
	}
	published := strings.Split(strings.TrimSpace(string(data)), "\n")
	e, _ := Find(SGLang)
	args := e.Args(all)
	for _, arg := range args {
		name, _, valued := strings.Cut(arg, "=")
		if !valued {
			name += " !"
		}
		if !slices.Contains(published, name) {
			t.Errorf("SGLang has no argument %s", name)
		}
	}
	for _, want := range []string{"--max-running-requests=64", "--context-length=4096", "--chunked-prefill-size=2048", "--disable-radix-cache", "--enable-metrics", "--tensor-parallel-size=2",
		"--model-path=/cache/m", "--served-model-name=org/m", "--api-key=$(SGLANG_API_KEY)"} {
		if !slices.Contains(args, want) {
			t.Errorf("no %s among %q", want, args)
		}
	}
	without := all
	without.Key = false
	if slices.ContainsFunc(e.Args(without), func(a string) bool { return strings.HasPrefix(a, "--api-key") }) {
		t.Error("a key where there is none")
	}
	if !strings.HasSuffix(e.Image, ":v0.5.6") {
		t.Errorf("the arguments are those of 0.5.6, the image is %s", e.Image)
	}
}

func TestWhatTheSweepGives(t *testing.T) {
	for _, test := range []struct{ engine, given, free string }{
		{VLLM, "--max-num-seqs=3 --port=1 -tp --tensor-parallel-size --served-model-name=x --host", "--dtype=half --max-model-len=9 --gpu-memory-utilization=0.9 --max-running-requests=3"},
		{SGLang, "--max-running-requests=3 --model-path=/x --model=x --tp-size=2 --tp=2 --api-key=k --port=1", "--context-length=9 --mem-fraction-static=0.9 --max-num-seqs=3"},
	} {
		e, ok := Find(test.engine)
		if !ok {
			t.Fatal(test.engine)
		}
		for _, a := range strings.Fields(test.given) {
			if !e.Gives(a) {
				t.Errorf("%s gives %s", test.engine, a)
			}
		}
		for _, a := range strings.Fields(test.free) {
			if e.Gives(a) {
				t.Errorf("%s does not give %s", test.engine, a)
			}
		}
		if n := MaxNumSeqs(e.Args(all)); n != 64 {
			t.Errorf("%s: %d requests at once, want 64", test.engine, n)
		}
		if n := MaxNumSeqs(append(e.Args(all), e.limit, "7")); n != 7 {
			t.Errorf("%s: %d requests at once, want 7: the last one counts", test.engine, n)
		}
	}
	if n := MaxNumSeqs([]string{"serve", "--max-num-seqs"}); n != 0 {
		t.Errorf("%d", n)
	}
}
