package aggregate

import (
	"bytes"
	"encoding/binary"
	"math"
	"testing"

	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/sweep"
)

// FuzzEstimate: whatever numbers the points have that a measurement may hold, each of the
// estimates (linear4, iteration3, engine) ends with a summary that can be written and read
// again: nothing that is not finite is published.
func FuzzEstimate(f *testing.F) {
	seed := func(values ...float32) {
		var b []byte
		for _, v := range values {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
		}
		f.Add(b, true)
		f.Add(b, false)
	}
	seed(1, 7, 15, 8, 7.2, 16.4, 16, 7.4, 17.8, 32, 7.8, 20.6, 64, 8.7, 26)
	seed(1, 1e30, 1e-30, 2, 0, 0, 3, 1, 1)
	seed(1, 7, 15, 1, 7, 15, 1, 7, 15)
	f.Fuzz(func(t *testing.T, data []byte, several bool) {
		var in Inputs
		for i := 0; len(data) >= 12 && i < 24; i++ {
			number := func(at int) float64 { return float64(math.Float32frombits(binary.LittleEndian.Uint32(data[4*at:]))) }
			batch, itl, ttft := number(0), number(1), number(2)
			data = data[12:]
			m := measurement.Measurement{
				Schema: measurement.Schema, Model: "m", Accelerator: "A100", Shape: sweep.Shape{PromptTokens: 128, OutputTokens: 128},
				BatchSize: int(max(1, min(batch, 1e5))), PromptTokens: 128, OutputTokens: 128, StartedAt: 1e9 + float64(i), Seconds: 60,
				Requests: measurement.Requests{Successful: 100, InWindow: 80},
				Client: &measurement.Witness{Basis: "rows", Batch: batch, Requests: 100, WindowStart: 1e9, WindowSeconds: 50,
					ITL:  &measurement.Estimate{MeanMS: itl, MedianMS: itl, StandardErrorMS: itl / 1000, Blocks: 10, Samples: 80},
					TTFT: &measurement.Estimate{MeanMS: ttft, MedianMS: ttft, StandardErrorMS: ttft / 100, Blocks: 10, Samples: 80}},
			}
			if several && i%2 == 1 {
				m.Shape.PromptTokens, m.PromptTokens = 1024, 1024
			}
			m.Taken = m.Weigh(measurement.Auto, measurement.Auto)
			written, err := measurement.Encode(m)
			if err != nil {
				continue // what no measurement holds
			}
			read, err := measurement.Decode(bytes.NewReader(written), "f")
			if err != nil {
				t.Fatal(err)
			}
			in.Measurements = append(in.Measurements, Source{Measurement: read, File: "f"})
		}
		if len(in.Measurements) == 0 {
			return
		}
		for _, method := range []string{fit.WLS, fit.TwoPoint} {
			s := Estimate(in, Options{Method: method, Source: measurement.Auto, TTFT: measurement.Auto, Batch: measurement.Auto})
			written, err := s.Encode()
			if err != nil {
				t.Fatalf("%s: %v", method, err)
			}
			if _, err := parameters.DecodeSummary(bytes.NewReader(written), "f"); err != nil {
				t.Fatalf("%s: %v", method, err)
			}
		}
	})
}
