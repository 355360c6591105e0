//go:build guidellm

package guidellm

import (
	"math"
	"testing"
	"time"

	"wfgen.dev/internal/bench"
	"wfgen.dev/internal/driver/native"
	"wfgen.dev/internal/measurement"
	"wfgen.dev/internal/simulate"
	"wfgen.dev/internal/store"
)

// Where the server's /metrics are missing, TTFT is that of a probe, and how far
// guidellm's own is off is known.
func TestRealProbe(t *testing.T) {
	everyVersion(t, func(t *testing.T, g *Guidellm) {
		for _, blind := range []bool{true, false} {
			srv := serve(t, simulate.Config{NoMetrics: blind, MaxNumSeqs: 16})
			o, log, files := point(t, srv)
			o.BatchSize, o.MaxRequests, o.MaxSeconds = 4, 0, 6
			if !blind {
				o.BatchSize = 12 // as many worker processes test the connection before 0.4
			}
			out, err := store.New(t.Context(), files)
			if err != nil {
				t.Fatal(err)
			}
			m, err := bench.Run(t.Context(), g, out, bench.Options{
				Options: o, Accelerator: "X", Margin: 4 * time.Minute, Stderr: log,
				Probe: native.Driver{Tool: "test"}, ProbeSeconds: 3,
			})
			if err != nil {
				t.Fatalf("%v\n%s", err, log)
			}
			noneLeft(t)
			want := measurement.Server
			if blind {
				want = measurement.Probe
			}
			truth := 40 + 0.02*64*m.Taken.Batch // what serve's law says
			off := m.Taken.TTFT.MS/truth - 1
			if m.Taken.TTFT.From != want || math.Abs(off) > 0.1 {
				t.Errorf("TTFT %.1f ms from %s, %+.1f %% off %.1f; want it from %s", m.Taken.TTFT.MS, m.Taken.TTFT.From, 100*off, truth, want)
			}
			if (m.Probe != nil) != blind || m.Taken.TTFTDifferencePercent == nil || m.Taken.ITL.From != measurement.Client {
				t.Errorf("probe %v, ITL from %s, difference %v", m.Probe, m.Taken.ITL.From, m.Taken.TTFTDifferencePercent)
			}
			t.Logf("TTFT %.2f ms from %s, truth %.2f, guidellm's %+.1f %%; overhead %.1f s", m.Taken.TTFT.MS, m.Taken.TTFT.From, truth, *m.Taken.TTFTDifferencePercent, m.OverheadSeconds)
		}
	})
}
