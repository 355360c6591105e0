package report

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/sweep"
)

// TestRealRuns reads what guidellm wrote when it ran against simulated servers
// whose law stands beside the reports. They are named VERSION-CASE and are made
// again, every number in them too, by
//
//	hack/guidellm/install.sh 0.2.1 0.3.1 0.4.0 0.5.4 0.6.1 0.7.3
//	go test -tags guidellm ./internal/point/driver/guidellm -run Real -update -timeout 40m
func TestRealRuns(t *testing.T) {
	var truth struct {
		Alpha        float64 `json:"alpha"` // ms
		Beta         float64 `json:"beta"`  // ms per request
		Gamma        float64 `json:"gamma"` // ms
		Delta        float64 `json:"delta"` // ms per prompt token and request
		PromptTokens int     `json:"prompt_tokens"`
		OutputTokens int     `json:"output_tokens"`
	}
	if err := json.Unmarshal(content(t, "real/truth.json"), &truth); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(filepath.Join("testdata", "real"))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, f := range files {
		version, kind, found := strings.Cut(strings.TrimSuffix(f.Name(), ".json.gz"), "-")
		if !found {
			continue
		}
		seen[version] = true
		t.Run(f.Name(), func(t *testing.T) {
			all := read(t, content(t, "real/"+f.Name()), Options{Accelerator: "X", Model: "simulated"})
			if len(all) != 1 {
				t.Fatalf("%d measurements", len(all))
			}
			m := all[0]
			// 0.2 to 0.4 do not say their patch, if anything.
			if family := version[:strings.LastIndex(version, ".")]; !strings.HasPrefix(m.Driver.Version, family) {
				t.Errorf("version %q", m.Driver.Version)
			}
			if m.Shape != (sweep.Shape{PromptTokens: truth.PromptTokens, OutputTokens: truth.OutputTokens}) {
				t.Errorf("shape %s", m.Shape)
			}
			untold := kind == "no-usage" && slices.Contains([]string{"0.2.x", "0.3.x"}, m.Driver.Version) // those do not say who counted
			if void := voids[kind]; void != "" && !untold {
				if len(m.Taken.Void) == 0 || !strings.Contains(m.Taken.Void[0], void) || m.Client != nil {
					t.Errorf("void is %q, want %q", m.Taken.Void, void)
				}
				return
			}
			if len(m.Taken.Void)+len(m.Taken.VoidTTFT) > 0 || m.Client == nil || m.Client.Basis != measurement.BasisRows {
				t.Fatalf("void %q, for TTFT %q, client %+v", m.Taken.Void, m.Taken.VoidTTFT, m.Client)
			}
			if want := truth.Alpha + truth.Beta*m.Taken.Batch; math.Abs(m.Taken.ITL.MS/want-1) > 0.05 {
				t.Errorf("ITL is %.2f ms, the truth %.2f", m.Taken.ITL.MS, want)
			}
			// The client's own delays are in it.
			if least := truth.Gamma + truth.Delta*float64(truth.PromptTokens)*m.Taken.Batch; m.Taken.TTFT.MS < 0.95*least || m.Taken.TTFT.MS > 3*least {
				t.Errorf("TTFT is %.1f ms, the truth %.1f", m.Taken.TTFT.MS, least)
			}
			if math.Abs(m.PromptTokens-float64(truth.PromptTokens)) > 2 || math.Abs(m.OutputTokens-float64(truth.OutputTokens)) > 3 {
				t.Errorf("%.1f prompt tokens, %.1f output tokens", m.PromptTokens, m.OutputTokens)
			}
			if kind == "one-third-500" && m.Requests.Errors["HTTP 500 Internal Server Error"] != m.Requests.Errored {
				t.Errorf("%+v", m.Requests)
			}
			if failed := kind == "one-third-500"; failed != (m.Requests.Errored > 0) {
				t.Errorf("%d requests failed", m.Requests.Errored)
			}
		})
	}
	for _, family := range []string{"0.2.1", "0.3.1", "0.4.0", "0.5.4", "0.6.1", "0.7.3"} {
		if !seen[family] {
			t.Errorf("no report of guidellm %s", family)
		}
	}
}

// voids are the kinds of runs that leave a report of which nothing is believed,
// and the reason.
var voids = map[string]string{
	"all-500":        "requests succeeded: HTTP 500 Internal Server Error x",
	"connection-cut": "requests succeeded: RemoteProtocolError: peer closed connection",
	"no-token":       "none",
	"no-usage":       "the server sent no usage",
}
