package fit

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"wfgen.dev/internal/run/reason"
)

// truth is a server that follows linear4 exactly.
type truth struct{ alpha, beta, gamma, delta float64 }

var llama = truth{7, 0.03, 15, 0.0011}

// points are measurements of the server at the batches, without noise.
func (t truth) points(prompts float64, batches ...float64) []Point {
	var ps []Point
	for _, b := range batches {
		ps = append(ps, Point{
			Group: "m on A100, 128/128", Label: fmt.Sprintf("batch %v", b), Batch: b, PromptTokens: prompts,
			ITL:  Sample{MS: t.alpha + t.beta*b, StandardError: 0.001 * (t.alpha + t.beta*b), Blocks: 10},
			TTFT: Sample{MS: t.gamma + t.delta*prompts*b, StandardError: 0.005 * (t.gamma + t.delta*prompts*b), Blocks: 10},
		})
	}
	return ps
}

var sizes = []float64{1, 2, 4, 8, 16, 32, 64}

func TestTwoPointReproducesTheRecipe(t *testing.T) {
	points := []Point{
		{Label: "batch 64", Batch: 64, PromptTokens: 128, ITL: Sample{MS: 8.7}, TTFT: Sample{MS: 26}},
		{Label: "batch 1", Batch: 1, PromptTokens: 128, ITL: Sample{MS: 7}, TTFT: Sample{MS: 15}},
	}
	f := FitLinear4(points, Options{Method: TwoPoint})
	got := fmt.Sprintf("%.3f %.3f %.3f %.6f", f.Alpha.Value, f.Beta.Value, f.Gamma.Value, f.Delta.Value)
	if got != "6.973 0.027 14.825 0.001364" {
		t.Error(got)
	}
	if f.Verdict.Level != Warned || f.Alpha.HasInterval() || !says(f.Verdict, "no interval") {
		t.Errorf("%+v", f.Verdict)
	}
	// A point between is no part of it, but is predicted.
	f = FitLinear4(append(points, Point{Label: "batch 32", Batch: 32, PromptTokens: 128, ITL: Sample{MS: 10}, TTFT: Sample{MS: 20}}), Options{Method: TwoPoint})
	if fmt.Sprintf("%.3f", f.Alpha.Value) != "6.973" || len(f.ITL.Out) != 1 || f.ITL.Out[0].Index != 2 || math.Abs(f.ITL.Residuals[2]+0.2164) > 1e-3 {
		t.Errorf("%+v", f.ITL)
	}
}

func TestWLSFindsTheTruth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := truth{
			rapid.Float64Range(1, 200).Draw(t, "alpha"), rapid.Float64Range(0.01, 5).Draw(t, "beta"),
			rapid.Float64Range(5, 500).Draw(t, "gamma"), rapid.Float64Range(1e-4, 0.1).Draw(t, "delta"),
		}
		prompts := rapid.Float64Range(16, 8192).Draw(t, "prompts")
		points := want.points(prompts, sizes...)
		points = rapid.Permutation(points).Draw(t, "order")
		f := FitLinear4(points, Options{Method: WLS})
		for _, p := range []struct {
			name string
			got  Parameter
			want float64
		}{{"alpha", f.Alpha, want.alpha}, {"beta", f.Beta, want.beta}, {"gamma", f.Gamma, want.gamma}, {"delta", f.Delta, want.delta}} {
			if f.Gamma.ToldFromZero() && f.Delta.ToldFromZero() && math.Abs(p.got.Value/p.want-1) > 1e-6 || !(p.got.Low <= p.want*(1+1e-9) && p.want <= p.got.High*(1+1e-9)) {
				t.Fatalf("%s: %+v, want %v; %+v", p.name, p.got, p.want, f.Verdict)
			}
		}
		if len(f.ITL.Used) != 7 || len(f.TTFT.Used) != 6 || f.Verdict.Level == Refused {
			t.Fatalf("%+v, used %v %v", f.Verdict, f.ITL.Used, f.TTFT.Used)
		}
	})
}

// Any input at all yields a verdict, and no number that a consumer chokes on.
func TestNothingBadIsEverPublished(t *testing.T) {
	nasty := rapid.OneOf(rapid.SampledFrom([]float64{0, -1, math.NaN(), math.Inf(1), 1e-300, 1e300, 7, 8}), rapid.Float64Range(-10, 1e4))
	rapid.Check(t, func(t *rapid.T) {
		points := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Point {
			sample := func(name string) Sample {
				return Sample{MS: nasty.Draw(t, name), StandardError: rapid.SampledFrom([]float64{0, 0.01, 5}).Draw(t, "se"), Blocks: rapid.IntRange(0, 12).Draw(t, "blocks")}
			}
			return Point{Batch: nasty.Draw(t, "batch"), PromptTokens: nasty.Draw(t, "prompts"), ITL: sample("itl"), TTFT: sample("ttft"),
				VoidTTFT: rapid.SampledFrom([]*reason.Reason{nil, nil, nil, why("queued")}).Draw(t, "void")}
		}), 0, 12).Draw(t, "points")
		for _, method := range []string{WLS, TwoPoint} {
			f := FitLinear4(points, Options{Method: method})
			if f.Verdict.Level == Refused {
				if len(f.Verdict.Reasons) == 0 {
					t.Fatal("refused without a reason")
				}
				continue
			}
			all := []Parameter{f.Alpha, f.Beta, f.Gamma, f.Delta}
			for i, p := range all {
				if pair := all[i/2*2 : i/2*2+2]; math.IsNaN(pair[0].Value) && math.IsNaN(pair[1].Value) && f.Verdict.Level == Warned {
					continue // refused, and named
				}
				if !(p.Value > 0) || math.IsInf(p.Value, 0) || p.HasInterval() && !(p.Low <= p.Value && p.Value <= p.High) {
					t.Fatalf("%s published: %+v, %+v", method, p, f.Verdict)
				}
			}
		}
	})
}

func TestVerdicts(t *testing.T) {
	scale := func(f float64) func([]Point) []Point {
		return func(ps []Point) []Point {
			for i := range ps {
				ps[i].ITL.MS *= f
				ps[i].TTFT.MS *= f
				ps[i].ITL.StandardError *= f
				ps[i].TTFT.StandardError *= f
			}
			return ps
		}
	}
	for _, c := range []struct {
		name  string
		edit  func([]Point) []Point
		level Level
		says  string
	}{
		{"good", func(ps []Point) []Point { return ps }, Accepted, ""},
		{"no points", func([]Point) []Point { return nil }, Refused, "no point"},
		{"one point", func(ps []Point) []Point { return ps[:1] }, Refused, "alpha, beta, gamma, delta: only one point"},
		{"equal batches", func(ps []Point) []Point { return []Point{ps[3], ps[3], ps[3]} }, Refused, "at one batch size"},
		{"four points", func(ps []Point) []Point { return ps[2:6] }, Warned, "4 points"},
		{"all void", func(ps []Point) []Point {
			for i := range ps {
				ps[i].Void = why("all requests failed")
			}
			return ps
		}, Refused, "all requests failed"},
		{"TTFT void", func(ps []Point) []Point {
			for i := range ps {
				ps[i].VoidTTFT = why("requests queued")
			}
			return ps
		}, Warned, "gamma, delta are refused: no point can be used; 7 left out, the first because: requests queued"},
		{"zeros", scale(0), Refused, "0 ms"},
		{"seconds", scale(0.001), Refused, "looks like seconds"},
		{"microseconds", scale(1e7), Refused, "looks like microseconds"},
		{"NaN", scale(math.NaN()), Refused, "NaN"},
		{"infinite", scale(math.Inf(1)), Refused, "Inf"},
		{"no variance", func(ps []Point) []Point {
			for i := range ps {
				ps[i].ITL.MS = 7
			}
			return ps
		}, Accepted, ""},
		{"falling", func(ps []Point) []Point {
			for i := range ps {
				ps[i].ITL.MS = 20 - 0.1*ps[i].Batch
			}
			return ps
		}, Warned, "alpha, beta are refused: beta is -0.1 "},
		{"mixed", func(ps []Point) []Point { ps[3].Group = "m on H100, 128/128"; return ps }, Refused, "mixed"},
		{"one bad point in the middle", func(ps []Point) []Point { ps[4].ITL.MS *= 1.2; return ps }, Warned, "batch 16"},
		{"noisy", func(ps []Point) []Point {
			for i := range ps {
				ps[i].TTFT.StandardError *= 20
			}
			return ps
		}, Warned, "TTFT is predicted within ±1"},
		{"scatter that leaves predictions good", func(ps []Point) []Point {
			for i := range ps {
				ps[i].ITL.MS *= 1 + 0.02*float64(1-i%3)
			}
			return ps
		}, Accepted, ""},
	} {
		f := FitLinear4(c.edit(llama.points(1024, sizes...)), Options{Method: WLS})
		if f.Verdict.Level != c.level || c.says != "" && !says(f.Verdict, c.says) {
			t.Errorf("%s: %s %q", c.name, f.Verdict.Level, f.Verdict.Reasons)
		}
	}
}

func TestIdleServerIsKeptOutOfTheTTFTLine(t *testing.T) {
	points := llama.points(1024, sizes...)
	points[0].TTFT.MS -= 5
	f := FitLinear4(points, Options{Method: WLS})
	if math.Abs(f.Gamma.Value-15) > 1e-6 || len(f.TTFT.Out) != 1 || !strings.Contains(f.TTFT.Out[0].Why.Text, "idle server") || f.Verdict.Level != Accepted {
		t.Errorf("%+v %+v", f.TTFT, f.Verdict)
	}
	// With two busier points it is needed.
	if f := FitLinear4(llama.points(1024, 1, 8, 64), Options{Method: WLS}); len(f.TTFT.Used) != 3 {
		t.Errorf("%+v", f.TTFT)
	}
}

func TestTheBendIsFound(t *testing.T) {
	batches := []float64{1, 2, 4, 8, 16, 32, 64, 96, 128, 192, 256}
	for _, errors := range []bool{true, false} {
		points := llama.points(128, batches...)
		for i := range points {
			if over := points[i].Batch - 128; over > 0 {
				points[i].ITL.MS += 0.05 * over
			}
			points[i].ITL.MS *= 1 + 0.002*float64(i%3-1)
			if !errors {
				points[i].ITL.StandardError, points[i].TTFT.StandardError = 0, 0
			}
		}
		f := FitLinear4(points, Options{Method: WLS})
		if f.ITL.BendFrom == nil || *f.ITL.BendFrom != 192 || f.ITL.LinearTo != 128 || len(f.ITL.Out) != 2 {
			t.Fatalf("errors known %v: %+v", errors, f.ITL)
		}
		if !strings.Contains(f.ITL.Out[0].Why.Text, "batch 192 lies +") || math.Abs(f.Beta.Value/0.03-1) > 0.05 {
			t.Errorf("beta %v; %s", f.Beta.Value, f.ITL.Out[0].Why.Text)
		}
		if len(f.TTFT.Used)+len(f.TTFT.Out) != len(points) || len(f.TTFT.Out) != 3 {
			t.Errorf("TTFT out %+v", f.TTFT.Out)
		}
	}
}

// The heart of the matter: intervals that hold the truth as often as they say,
// whatever the errors look like and though each point knows its own only from a
// few blocks.
func TestIntervalsCover(t *testing.T) {
	if testing.Short() {
		t.Skip("simulates many sweeps")
	}
	even := []float64{0.004, 0.004, 0.004, 0.004, 0.004, 0.004, 0.004}
	falling := []float64{0.01, 0.008, 0.006, 0.004, 0.003, 0.002, 0.0015} // more requests, smaller error
	for _, c := range []struct {
		name      string
		batches   []float64
		relative  []float64
		blocks    int
		between   float64 // run-to-run differences that no point can know of, relative
		low, high float64
	}{
		{"even errors", sizes, even, 10, 0, 93, 97},
		{"few blocks", sizes, even, 4, 0, 93, 97.5},
		{"falling errors", sizes, falling, 10, 0, 93, 97},
		// Four points cannot show by how much runs differ: it is supposed.
		{"four points", []float64{1, 8, 32, 64}, even, 10, 0, 95, 100},
		{"errors unknown", sizes, even, 0, 0, 93, 97},
		{"runs differ", sizes, even, 10, 0.005, 93, 97},
		{"runs differ much", sizes, even, 10, 0.012, 93, 97},
	} {
		rng := rand.New(rand.NewPCG(7, uint64(len(c.name))))
		const sweeps = 1000
		var inside [4]int
		for range sweeps {
			points := llama.points(512, c.batches...)
			for i := range points {
				for _, s := range []*Sample{&points[i].ITL, &points[i].TTFT} {
					sigma := c.relative[i] * s.MS
					s.MS += rng.NormFloat64() * math.Hypot(sigma, c.between*s.MS)
					s.Blocks, s.StandardError = c.blocks, 0
					for range c.blocks - 1 {
						x := rng.NormFloat64()
						s.StandardError += x * x * sigma * sigma / float64(c.blocks-1)
					}
					s.StandardError = math.Sqrt(s.StandardError)
				}
			}
			f := FitLinear4(points, Options{Method: WLS})
			for i, p := range []struct {
				Parameter
				want float64
			}{{f.Alpha, llama.alpha}, {f.Beta, llama.beta}, {f.Gamma, llama.gamma}, {f.Delta, llama.delta}} {
				if p.Low <= p.want && p.want <= p.High {
					inside[i]++
				}
			}
		}
		for i, name := range []string{"alpha", "beta", "gamma", "delta"} {
			percent := 100 * float64(inside[i]) / sweeps
			t.Logf("%s: %s %.1f %%", c.name, name, percent)
			if percent < c.low || percent > c.high {
				t.Errorf("%s: the interval of %s holds the truth in %.1f %% of %d sweeps, want %v to %v", c.name, name, percent, sweeps, c.low, c.high)
			}
		}
	}
}

func BenchmarkFitOf10000Points(b *testing.B) {
	var batches []float64
	for i := range 10000 {
		batches = append(batches, 1+float64(i)*0.0127)
	}
	points := llama.points(128, batches...)
	b.ReportAllocs()
	for b.Loop() {
		FitLinear4(points, Options{Method: WLS})
	}
}

func says(v Verdict, text string) bool {
	for _, r := range v.Reasons {
		if strings.Contains(r, text) {
			return true
		}
	}
	return false
}

func why(text string) *reason.Reason { return new(reason.New(reason.Void, "%s", text)) }

// Points off the line are the server's own where repeats agree, and different conditions
// where they do not.
func TestLackOfFit(t *testing.T) {
	for _, c := range []struct {
		name    string
		steps   float64 // of the server, at every second batch size, relative
		repeats float64 // of every second run, relative
		code    reason.Code
	}{
		{"a server of steps", 0.3, 0.002, reason.Misfit},
		{"a server that somebody else used", 0, 0.3, reason.Scatter},
	} {
		var points []Point
		for run := range 2 {
			for i, p := range llama.points(512, sizes...) {
				factor := 1 + c.repeats*float64((run+i/2)%2)
				if i%2 == 1 {
					factor *= 1 + c.steps
				}
				p.ITL.MS *= factor
				points = append(points, p)
			}
		}
		f := FitLinear4(points, Options{Method: WLS})
		other := map[reason.Code]reason.Code{reason.Misfit: reason.Scatter, reason.Scatter: reason.Misfit}[c.code]
		if !f.Verdict.Has(c.code) || f.Verdict.Has(other) {
			t.Errorf("%s: %q", c.name, f.Verdict.Reasons)
		}
	}
}

// Streams that march in step are the cause of what is uncertain, not too short points.
func TestStreamsInStepAreNamed(t *testing.T) {
	points := llama.points(1024, sizes...)
	for i := range points {
		points[i].TTFT.MS *= 1 + 0.1*float64(1-i%3)
		points[i].InStep = i > 0
	}
	f := FitLinear4(points, Options{Method: WLS})
	if !f.Verdict.Has(reason.InStep) || f.Verdict.Has(reason.Wide) || f.Verdict.Has(reason.Scatter) || f.Verdict.Has(reason.Misfit) {
		t.Errorf("%q", f.Verdict.Reasons)
	}
}
