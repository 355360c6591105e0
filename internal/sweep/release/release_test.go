package release

import (
	"slices"
	"testing"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]Release{
		"0.7.3":                        {[3]int{0, 7, 3}, "0.7.3"},
		"v0.3.1":                       {[3]int{0, 3, 1}, "0.3.1"},
		"0.8.0.dev12+g0a1b2c3":         {[3]int{0, 8, 0}, "0.8.0.dev12+g0a1b2c3"},
		"guidellm, version 0.6.0rc1\n": {[3]int{0, 6, 0}, "0.6.0rc1"},
		"guidellm version: 1.0":        {[3]int{1, 0, 0}, "1.0"},
		Series03:                       {[3]int{0, 3, 0}, "0.3.x"},
	} {
		if got, ok := Parse(text); !ok || got != want {
			t.Errorf("%q: %+v", text, got)
		}
	}
	if _, ok := Parse("no version 7 here"); ok {
		t.Error("found a version")
	}
}

func TestOfImage(t *testing.T) {
	for image, want := range map[string]string{
		"ghcr.io/vllm-project/guidellm:v0.7.3":             "0.7.3",
		"registry:5000/guidellm:v0.8.1@sha256:00f0.1.2":    "0.8.1",
		"registry.example:5000/v0.3.1/guidellm":            "",
		"ghcr.io/vllm-project/guidellm@sha256:0.9.9":       "",
		"ghcr.io/vllm-project/guidellm:latest":             "",
		"ghcr.io/vllm-project/guidellm:v" + Newest + "-cu": Newest + "-cu",
	} {
		if got, ok := OfImage(image); got.String() != want || ok != (want != "") {
			t.Errorf("%s: %q", image, got)
		}
	}
}

// What a version does follows from those before it, and changes in the version that
// changed it.
func TestTraits(t *testing.T) {
	for text, want := range map[string]Traits{
		"0.1.0": {TrialRequests: true, Overshoots: true, KeyVariable: "GUIDELLM__OPENAI__API_KEY", KeyLeaks: true, OverheadSeconds: 8},
		"0.3.1": {TrialRequests: true, BenchmarkRun: true, KeyVariable: "GUIDELLM__OPENAI__API_KEY", KeyLeaks: true, OverheadSeconds: 11},
		"0.5.1": {CommandLine: Profile, BenchmarkRun: true, SharesProcess: true, OverheadSeconds: 20},
		"0.5.2": {CommandLine: Profile, BenchmarkRun: true, SharesProcess: true, OverheadSeconds: 20, KeyVariable: "GUIDELLM_BACKEND_KWARGS", KeyLeaks: true},
		"0.6.1": {CommandLine: Profile, BenchmarkRun: true, SharesProcess: true, OverheadSeconds: 20, KeyVariable: "GUIDELLM_BACKEND_KWARGS", KeyLeaks: true, SampleRequests: true, RequestFormat: true},
		"1.0.0": {CommandLine: Kinds, BenchmarkRun: true, SharesProcess: true, OverheadSeconds: 12, KeyVariable: "GUIDELLM__SPEC__BACKEND", SampleRequests: true, RequestFormat: true},
		"":      {CommandLine: Kinds, BenchmarkRun: true, SharesProcess: true, OverheadSeconds: 12, KeyVariable: "GUIDELLM__SPEC__BACKEND", SampleRequests: true, RequestFormat: true},
	} {
		r, _ := Parse(text)
		if got := r.Traits(); got != want {
			t.Errorf("%s: %+v", text, got)
		}
	}
	for text, want := range map[string][2]bool{"0.1.9": {true, false}, "0.2.0": {}, Newest: {}, "0.8.9": {}, "0.9.0": {false, true}, "1.0.0": {false, true}} {
		if r, _ := Parse(text); [2]bool{r.TooOld(), r.Newer()} != want {
			t.Errorf("%s: too old %v, newer %v", text, r.TooOld(), r.Newer())
		}
	}
	if !slices.IsSortedFunc(history, func(a, b struct {
		version [3]int
		change  func(*Traits)
	}) int {
		return slices.Compare(a.version[:], b.version[:])
	}) {
		t.Error("the history is not in order")
	}
}

func TestSince(t *testing.T) {
	for want, has := range map[string]func(Traits) bool{
		"0.4":   func(t Traits) bool { return t.SharesProcess },
		"0.5.2": func(t Traits) bool { return t.KeyVariable != "" },
		"0.7":   func(t Traits) bool { return t.KeyVariable != "" && !t.KeyLeaks },
		"":      func(Traits) bool { return false },
	} {
		if got := Since(has); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if Oldest() != "0.2" {
		t.Error(Oldest())
	}
}
