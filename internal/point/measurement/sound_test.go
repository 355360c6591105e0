package measurement

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"wfgen.dev/internal/sweep"
)

// A number that is none costs what it is part of, and never the measurement; what the
// writer writes, the reader reads.
func TestWhatIsReportedDoesNotCostThePoint(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	m := Measurement{
		Model: "m", Accelerator: "A100", Shape: sweep.Shape{PromptTokens: 128, OutputTokens: 128}, BatchSize: 8,
		Taken:  Taken{ITL: &Value{MS: 7}, TTFT: &Value{MS: nan}, Batch: 8, ITLDifferencePercent: &inf},
		Client: &Witness{Basis: "rows", ITL: &Estimate{MeanMS: 7}, TTFT: &Estimate{MeanMS: nan}, Batch: 8},
		Server: &Witness{Basis: "histograms", ITL: &Estimate{MeanMS: 7}, Batch: inf, WaitingMean: &nan},
		Notes:  []string{strings.Repeat("x", 2*mostText), "bytes \xff"},
	}
	m.Provenance.ServerVersion = strings.Repeat("9", 3<<20)
	for range 100_000 {
		m.Provenance.Args = append(m.Provenance.Args, "--argument")
	}
	data, err := Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(bytes.NewReader(data), "file")
	if err != nil {
		t.Fatal(err)
	}
	if got.Taken.ITL == nil || got.Taken.TTFT != nil || got.Taken.ITLDifferencePercent != nil || got.Client.ITL == nil || got.Client.TTFT != nil ||
		got.Server == nil || got.Server.ITL == nil || got.Server.Batch != 0 || got.Server.WaitingMean != nil {
		t.Errorf("%+v", got)
	}
	last := got.Notes[len(got.Notes)-1]
	for _, name := range []string{"taken.ttft", "taken.itl_difference_percent", "client.ttft", "server.batch", "server.waiting_mean"} {
		if !strings.Contains(last, name) {
			t.Errorf("%s is not named in %q", name, last)
		}
	}
	if !math.IsNaN(m.Taken.TTFT.MS) || m.Server.WaitingMean == nil || len(m.Notes) != 2 {
		t.Error("the measurement that was given has changed")
	}
}
