package native

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"wfgen.dev/internal/llm/simulate"
	"wfgen.dev/internal/point/driver"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/point/report"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/tests/pipes"
)

// Requests arrive as evenly as they are asked to, all are answered, and the report says how
// they came.
func TestOpenLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim, err := simulate.NewVirtual(simulate.Config{Alpha: 1, Gamma: 2})
		if err != nil {
			t.Fatal(err)
		}
		defer sim.Close()
		server := pipes.Serve(t, sim.Handler())
		name := filepath.Join(t.TempDir(), "report.json")
		err = Driver{Tool: "test"}.Run(context.Background(), driver.Options{
			Target: server.URL, Model: simulate.DefaultModel, Shape: sweep.Shape{PromptTokens: 8, OutputTokens: 8},
			Rate: 100, Arrivals: sweep.Constant, MaxSeconds: 0.8, Report: name, Log: io.Discard, Deadline: time.Minute,
		})
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		all, err := report.Read(f, name, report.Options{Accelerator: "sim"})
		if err != nil || len(all) != 1 {
			t.Fatal(all, err)
		}
		m := all[0]
		if n := m.Requests.Successful; n < 79 || n > 80 || m.Open == nil || m.Open.Rate != 100 || m.Open.Arrivals != sweep.Constant || len(m.Taken.Void) > 0 {
			t.Errorf("%d requests, %+v, void %q", n, m.Open, m.Taken.Void)
		}
		if _, err := measurement.Encode(m); err != nil {
			t.Error(err)
		}
	})
}
