//go:build guidellm

package guidellm_test

import (
	"bytes"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wfgen.dev/internal/cli/wfgencli"
	"wfgen.dev/internal/point/measurement"
)

// wfgen run with one guidellm for all batch sizes: each is a point of its own, with
// its own part of the server's counts.
func TestRealShared(t *testing.T) {
	for _, version := range installed(t) {
		if before(version, "0.4.0") {
			continue // refused: TestRealSharedDies
		}
		t.Run(version, func(t *testing.T) {
			srv := serve(t, law(), nil)
			out, said, code := share(t, version, srv, "--max-seconds", "8")
			if code != 0 {
				t.Fatalf("exit %d\n%s", code, said)
			}
			var starts []float64
			for _, batch := range []string{"1", "12", "4"} {
				m := readMeasurement(t, filepath.Join(out, "runs/r/X/measurements/64-16-b"+batch+".json"))
				truth := trueITL(m.Taken.Batch)
				if m.Client == nil || m.Server == nil || math.Abs(m.Taken.Batch/float64(m.BatchSize)-1) > 0.25 || math.Abs(m.Taken.ITL.MS/truth-1) > 0.1 {
					t.Errorf("batch %s: %+v, truth %.2f ms", batch, m.Taken, truth)
					continue
				}
				if m.Taken.TTFT.From != measurement.Server || m.Provenance.Report != "reports/shared.json" {
					t.Errorf("batch %s: TTFT from %s, report %s", batch, m.Taken.TTFT.From, m.Provenance.Report)
				}
				starts = append(starts, m.StartedAt)
				t.Logf("batch %s: %d requests, the server counted %d; overhead %.1f s", batch, m.Client.Requests, m.Server.Requests, m.OverheadSeconds)
			}
			for i := range starts {
				if i > 0 && starts[i] < starts[i-1]+8 {
					t.Errorf("points began at %.1f, which overlap", starts)
				}
			}
			if _, err := os.Stat(filepath.Join(out, "runs/r/X/reports/64-16/shared.json")); err != nil {
				t.Error(err)
			}
			seen := map[string]bool{}
			for _, q := range srv.asked() {
				if seen[q.Prompt] {
					t.Fatalf("a prompt was sent twice: the second time a prefix cache may answer")
				}
				seen[q.Prompt] = true
			}
		})
	}
}

// A guidellm that dies takes all of its points with it: they are tried one by one.
func TestRealSharedDies(t *testing.T) {
	version := installed(t)[0]
	srv := serve(t, law(), nil)
	out, said, code := share(t, version, srv, "--max-seconds", "3", "--tokenizer", "/no/such/tokenizer")
	if code == 0 || !strings.Contains(said, "batch sizes 1,12,4 are tried one by one") || strings.Count(said, "/no/such/tokenizer") < 4 {
		t.Errorf("exit %d\n%s", code, said)
	}
	if err := filepath.WalkDir(out, func(name string, _ fs.DirEntry, err error) error {
		if filepath.Base(filepath.Dir(name)) == "measurements" {
			t.Errorf("left %s", name)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// share runs wfgen, this test binary being step.
func share(t *testing.T, version string, srv *target, more ...string) (out, said string, code int) {
	t.Helper()
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out = t.TempDir()
	t.Setenv(asStep, "1")
	t.Setenv("PATH", filepath.Join(installation(t), version, "bin")+":"+os.Getenv("PATH"))
	t.Setenv("HF_HUB_OFFLINE", "1")
	t.Setenv("HF_HOME", t.TempDir())
	t.Setenv("TMPDIR", t.TempDir())
	var words bytes.Buffer
	args := append([]string{"run", "--step", own, "--accelerators", "X", "--target", srv.URL, "--model", "simulated", "--driver", "guidellm", "--share-process",
		"--batch-sizes", "1,4,12", "--shapes", "64/16", "--run", "r", "--output", out, "--tokenizer", filepath.Join(installation(t), "tokenizer")}, more...)
	code = wfgencli.Run(t.Context(), args, nil, &words, &words)
	return out, words.String(), code
}

func readMeasurement(t *testing.T, name string) measurement.Measurement {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := measurement.Decode(f, name)
	if err != nil {
		t.Fatal(err)
	}
	return m
}
