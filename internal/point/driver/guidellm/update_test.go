//go:build guidellm

package guidellm_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// testdata is where package report keeps reports of real runs.
const testdata = "../../report/testdata/real"

// keepReport makes a point's report testdata, if -update says so, without what
// the reader never looks at and what makes up most of the bytes: the statistics
// of images, videos and audio, and in each row the texts and what says a number
// again. The numbers are left as they are.
func keepReport(t *testing.T, s *step, name string) {
	t.Helper()
	if !*update {
		return
	}
	data, err := os.ReadFile(s.rawReport(t))
	if err != nil {
		t.Fatal(err)
	}
	var report map[string]any
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	if err := decoder.Decode(&report); err != nil {
		t.Fatal(err)
	}
	for _, b := range report["benchmarks"].([]any) {
		b := b.(map[string]any)
		for _, modality := range []string{"text", "image", "video", "audio", "tool_call"} {
			delete(b["metrics"].(map[string]any), modality)
		}
		for _, list := range b["requests"].(map[string]any) {
			rows, _ := list.([]any)
			for _, row := range rows {
				row := row.(map[string]any)
				for _, field := range []string{"prompt", "request_args", "output", "input_metrics", "output_metrics"} {
					delete(row, field)
				}
				if info, ok := row["info"].(map[string]any); ok {
					delete(info, "traceback")
				}
			}
		}
	}
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.NewEncoder(z).Encode(report); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	write(t, name+".json.gz", b.Bytes())
	truth, err := json.MarshalIndent(map[string]any{
		"alpha": alpha, "beta": beta, "gamma": gamma, "delta": delta, "prompt_tokens": promptTokens, "output_tokens": outputTokens,
	}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	write(t, "truth.json", append(truth, '\n'))
}

func write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(testdata, 0o755); err != nil {
		t.Fatal(err)
	}
	partial := filepath.Join(testdata, "."+name+".partial")
	if err := os.WriteFile(partial, data, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(partial, filepath.Join(testdata, name)); err != nil {
		t.Fatal(err)
	}
}
