package report

import (
	"os"
	"strings"
	"testing"
)

// TestDocumented holds docs/formats.md to the formats that are read.
func TestDocumented(t *testing.T) {
	text, err := os.ReadFile("../../../docs/formats.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range Formats {
		if !strings.Contains(string(text), "\n| "+f.Name+" | ") {
			t.Errorf("docs/formats.md has no row for %s", f.Name)
		}
	}
	for _, c := range PlainColumns {
		if !strings.Contains(string(text), "\n| "+c.Name+" | "+c.Meaning+" |") {
			t.Errorf("docs/formats.md has no row for the column %s: %s", c.Name, c.Meaning)
		}
	}
}

// TestRecognized: no format takes another's files, whatever the order of their list.
func TestRecognized(t *testing.T) {
	for name, want := range map[string]string{
		"aiperf-0.13.0/concurrency_1/profile_export.jsonl":              "AIPerf records (profile_export.jsonl)",
		"aiperf-0.13.0/concurrency_1/profile_export_aiperf.json":        "AIPerf export (profile_export_aiperf.json)",
		"aiperf-0.13.0/concurrency_1/profile_export_aiperf.csv":         "AIPerf or GenAI-Perf CSV",
		"genai-perf-0.0.16/concurrency4/profile_export_genai_perf.json": "GenAI-Perf export (profile_export_genai_perf.json)",
		"genai-perf-0.0.16/concurrency4/profile_export_genai_perf.csv":  "AIPerf or GenAI-Perf CSV",
		"vllm-0.32.0/det-4.json":                                        "vllm bench serve, bench sweep",
		"sglang-0.5.6/sgl-det.jsonl":                                    "SGLang bench_serving",
		"inference-perf-0.7.0/per_request_lifecycle_metrics.json":       "inference-perf per-request",
		"inference-perf-0.7.0/stage_0_lifecycle_metrics.json":           "inference-perf stage or summary",
		"inference-perf-0.7.0/inference-perf.partial.stage_0.yaml":      "YAML of any of these",
		"guidellm-0.8.1/r.csv":                                          "guidellm CSV",
		"guidellm-0.8.1/r.html":                                         "guidellm HTML",
		"guidellm-0.3.1/r.html":                                         "guidellm HTML",
		"guidellm-0.8.1/r.yaml":                                         "YAML of any of these",
	} {
		f, err := openTool(t.Context(), "testdata/tools/"+name)
		if err != nil {
			t.Fatal(err)
		}
		text := make([]byte, headSize)
		n, _ := f.Read(text)
		h := newHead(text[:n])
		var found []string
		for _, format := range Formats {
			if format.is(h) {
				found = append(found, format.Name)
			}
		}
		if len(found) != 1 || found[0] != want {
			t.Errorf("%s: %q", name, found)
		}
	}
}
