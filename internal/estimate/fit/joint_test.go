package fit

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"wfgen.dev/internal/run/reason"
)

// wide is a set of shapes that tells all terms apart.
var wide = [][2]float64{{64, 64}, {64, 1024}, {256, 256}, {1024, 64}, {1024, 1024}, {2048, 256}, {4096, 128}, {4096, 1024}, {512, 2048}}

// engineTruth are terms of the order of a real GPU's.
var engineTruth = []float64{base: 6.7, seq: 0.02, ctx: 5.4e-5, pre: 0.017, pre2: 1.4e-6, first: 9, firstPre: 0.02, firstPre2: 1e-6, firstWait: 1.2}

// follow are points of the shapes that follow a law; noise is relative, its size known.
func follow(l law, terms []float64, shapes [][2]float64, batches []float64, noise float64, rng *rand.Rand) []Point {
	var ps []Point
	for _, s := range shapes {
		for _, b := range batches {
			p := Point{
				Pair: "m on A100", Group: fmt.Sprintf("m on A100, %v/%v", s[0], s[1]), Label: fmt.Sprintf("%v/%v batch %v", s[0], s[1], b),
				Batch: b, PromptTokens: s[0], OutputTokens: s[1],
			}
			itl, ttft := l(terms, p.work(), 0)
			sample := func(ms float64) Sample {
				const blocks = 10
				if noise == 0 {
					return Sample{MS: ms, StandardError: 0.001 * ms, Blocks: blocks}
				}
				square := 0.0
				for range blocks - 1 {
					x := rng.NormFloat64()
					square += x * x / (blocks - 1)
				}
				return Sample{MS: ms * (1 + noise*rng.NormFloat64()), StandardError: ms * noise * math.Sqrt(square), Blocks: blocks}
			}
			p.ITL, p.TTFT = sample(itl), sample(ttft)
			ps = append(ps, p)
		}
	}
	return ps
}

func TestIteration3FindsTheTruth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := []float64{
			rapid.Float64Range(1, 100).Draw(t, "alpha"), rapid.Float64Range(0.005, 0.5).Draw(t, "beta"), rapid.Float64Range(4e-5, 1e-3).Draw(t, "gamma"),
		}
		points := rapid.Permutation(follow(iteration3, want, wide, sizes, 0, nil)).Draw(t, "order")
		j := FitIteration3(points)
		for i, term := range j.Terms {
			if math.Abs(term.Value/want[i]-1) > 1e-6 || !(term.Low <= want[i] && want[i] <= term.High) {
				t.Fatalf("%+v, want %v; %+v", term, want[i], j.Verdict)
			}
		}
		if j.Verdict.Level == Refused || j.Shapes != len(wide) || j.MeanError > 1e-6 || j.LeftOut > 1e-6 || j.MeanTTFT > 1e-6 {
			t.Fatalf("%+v", j)
		}
	})
}

func TestEngineFindsTheTruth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := make([]float64, len(engineTruth))
		for i, v := range engineTruth {
			want[i] = v * rapid.Float64Range(0.5, 2).Draw(t, fmt.Sprint(i))
		}
		j := FitEngine(rapid.Permutation(follow(engine, want, wide, []float64{1, 4, 8, 16, 24, 32}, 0, nil)).Draw(t, "order"))
		for i, term := range j.Terms[:first] {
			if term.Dropped != "" || math.Abs(term.Value/want[i]-1) > 1e-5 {
				t.Fatalf("%+v, want %v; %+v", term, want[i], j.Verdict)
			}
		}
		if j.Verdict.Level == Refused || j.MeanError > 1e-6 || j.MeanTTFT > 0.1 { // a term of TTFT may be too small to be told apart
			t.Fatalf("%v %v %v", j.Verdict, j.MeanError, j.MeanTTFT)
		}
	})
}

// The closed form solves the equations that define the model.
func TestEngineSolvesItsOwnEquations(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		terms := make([]float64, len(engineTruth))
		for i, v := range engineTruth {
			terms[i] = v * rapid.SampledFrom([]float64{0, 0.01, 1, 1, 1, 100}).Draw(t, fmt.Sprint(i))
		}
		terms[base] = rapid.Float64Range(0.1, 100).Draw(t, "base")
		w := Work{
			Batch: rapid.Float64Range(1, 500).Draw(t, "n"), PromptTokens: rapid.Float64Range(1, 1e5).Draw(t, "in"),
			OutputTokens: rapid.Float64Range(2, 1e4).Draw(t, "out"), Open: rapid.Bool().Draw(t, "open"),
		}
		known := rapid.SampledFrom([]float64{0, 1, 50, 1e5}).Draw(t, "ttft")
		itl, ttft := engine(terms, w, known)
		if known > 0 && ttft != known {
			t.Fatalf("TTFT %v, given %v", ttft, known)
		}
		if wants := terms[first] + terms[firstPre]*w.PromptTokens + terms[firstPre2]*w.PromptTokens*w.PromptTokens + terms[firstWait]*itl; known == 0 && math.Abs(ttft-wants) > 1e-9*wants {
			t.Fatalf("TTFT %v, want %v", ttft, wants)
		}
		decoding, arrivals := w.load(itl, ttft)
		in := w.PromptTokens
		right := terms[base] + decoding*(terms[seq]+terms[ctx]*w.context()) + arrivals*(terms[pre]*in+terms[pre2]*in*in)
		if !(itl > 0) || math.Abs(itl-right) > 1e-6*right {
			t.Fatalf("ITL %v, the equation says %v", itl, right)
		}
	})
}

func TestJointRefusals(t *testing.T) {
	all := func(edit func(int, *Point)) []Point {
		ps := follow(engine, engineTruth, wide, []float64{1, 4, 8, 16, 24, 32}, 0, nil)
		for i := range ps {
			edit(i, &ps[i])
		}
		return ps
	}
	for _, c := range []struct {
		name   string
		points []Point
		says   string
	}{
		{"nothing", nil, "points of 0 shapes"},
		{"one shape", follow(engine, engineTruth, wide[:1], sizes, 0, nil), "of one shape"},
		{"one point", follow(engine, engineTruth, wide[:1], sizes[:1], 0, nil), "of one shape"},
		{"two shapes alike", follow(engine, engineTruth, [][2]float64{{128, 128}, {129, 128}}, sizes, 0, nil), "add a shape of quite another prompt length"},
		{"two points", follow(engine, engineTruth, wide[:2], sizes[:1], 0, nil), "2 points for"},
		{"two accelerators", all(func(i int, p *Point) {
			if i > 20 {
				p.Pair = "m on H100"
			}
		}), "m on A100 and of m on H100 are mixed"},
		{"seconds", all(func(_ int, p *Point) { p.ITL.MS /= 1000; p.TTFT.MS /= 1000 }), "looks like seconds"},
		{"microseconds", all(func(_ int, p *Point) { p.ITL.MS *= 1e6; p.TTFT.MS *= 1e6 }), "looks like microseconds"},
		{"not a number", all(func(_ int, p *Point) { p.ITL.MS = math.NaN() }), "its ITL is NaN"},
		{"no output", all(func(_ int, p *Point) { p.OutputTokens = 1 }), "its output length is 1"},
		{"void", all(func(_ int, p *Point) { p.Void = why("all requests failed") }), "all requests failed"},
	} {
		for _, fit := range []func([]Point) Joint{FitIteration3, FitEngine} {
			if j := fit(c.points); j.Verdict.Level != Refused || !says(j.Verdict, c.says) {
				t.Errorf("%s, %s: %s %q", c.name, j.Model, j.Verdict.Level, j.Verdict.Reasons)
			}
		}
	}
	if j := FitIteration3(all(func(_ int, p *Point) { p.ITL = Sample{MS: 7, StandardError: 0.01, Blocks: 10} })); j.Verdict.Level != Refused || !says(j.Verdict, "the points do not follow the model") {
		t.Errorf("no variance: %+v", j.Verdict)
	}
	j := FitEngine(all(func(_ int, p *Point) { p.VoidTTFT = why("requests queued") }))
	if j.Verdict.Level != Refused || !says(j.Verdict, "requests queued") {
		t.Errorf("engine without TTFT: %+v", j.Verdict)
	}
	if j := FitIteration3(all(func(_ int, p *Point) { p.VoidTTFT = why("requests queued") })); len(j.Used) == 0 || !math.IsNaN(j.MeanTTFT) {
		t.Errorf("iteration3 needs no TTFT: %+v", j.Verdict)
	}
}

// Any input yields a verdict, and no number that a consumer chokes on.
func TestNothingBadIsEverPublishedJointly(t *testing.T) {
	nasty := rapid.OneOf(rapid.SampledFrom([]float64{0, -1, math.NaN(), math.Inf(1), 1e-300, 1e300, 7, 8}), rapid.Float64Range(-10, 1e4))
	rapid.Check(t, func(t *rapid.T) {
		points := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Point {
			sample := func(name string) Sample {
				return Sample{MS: nasty.Draw(t, name), StandardError: rapid.SampledFrom([]float64{0, 0.01, 5}).Draw(t, "se"), Blocks: rapid.IntRange(0, 12).Draw(t, "blocks")}
			}
			return Point{Group: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "group"), Batch: nasty.Draw(t, "batch"), PromptTokens: nasty.Draw(t, "prompts"),
				OutputTokens: nasty.Draw(t, "outputs"), ITL: sample("itl"), TTFT: sample("ttft"), Open: rapid.Bool().Draw(t, "open")}
		}), 0, 20).Draw(t, "points")
		for _, fit := range []func([]Point) Joint{FitIteration3, FitEngine} {
			j := fit(points)
			if j.Verdict.Level == Refused {
				if len(j.Verdict.Reasons) == 0 {
					t.Fatal("refused without a reason")
				}
				continue
			}
			for _, p := range j.Terms {
				if p.Dropped == "" && (!(p.Value > 0) || math.IsInf(p.Value, 0)) || p.Dropped != "" && p.Value != 0 {
					t.Fatalf("%s published: %+v, %+v", j.Model, p, j.Verdict)
				}
			}
		}
	})
}

// A server without a quadratic part of prefill gets none.
func TestEngineDropsWhatIsNotThere(t *testing.T) {
	terms := append([]float64(nil), engineTruth...)
	terms[pre2], terms[firstPre2] = 0, 0
	kept := 0
	for seed := range uint64(40) {
		j := FitEngine(follow(engine, terms, wide, []float64{1, 4, 8, 16, 24, 32}, 0.01, rand.New(rand.NewPCG(seed, 1))))
		if j.Verdict.Level == Refused || j.MeanError > 0.02 {
			t.Fatalf("%+v", j.Verdict)
		}
		if j.Terms[pre2].Dropped == "" {
			kept++
		}
	}
	if kept > 10 {
		t.Errorf("pre2 was kept in %d of 40 sweeps without one", kept)
	}
}

func TestJointIntervalsCover(t *testing.T) {
	if testing.Short() {
		t.Skip("simulates many sweeps")
	}
	const sweeps = 200
	batches := []float64{1, 4, 8, 16, 24, 32}
	for _, c := range []struct {
		name  string
		law   law
		terms []float64
		fit   func([]Point) Joint
		count int
	}{
		{"iteration3", iteration3, []float64{6.5, 0.02, 5.5e-5}, FitIteration3, 3},
		{"engine", engine, engineTruth, FitEngine, first},
	} {
		inside := make([]int, c.count)
		rng := rand.New(rand.NewPCG(3, 4))
		for range sweeps {
			j := c.fit(follow(c.law, c.terms, wide, batches, 0.004, rng))
			for i := range inside {
				if p := j.Terms[i]; p.Low <= c.terms[i] && c.terms[i] <= p.High {
					inside[i]++
				}
			}
		}
		for i, n := range inside {
			percent := 100 * float64(n) / sweeps
			t.Logf("%s: %s %.1f %%", c.name, c.fit(nil).Terms[i].Name, percent)
			if percent < 91 {
				t.Errorf("%s: the interval of term %d holds the truth in %.1f %% of %d sweeps", c.name, i, percent, sweeps)
			}
		}
	}
}

// iteration3 is linear in the batch, so the line at a shape is known in closed
// form, and so are its errors.
func TestLinear4OfAShape(t *testing.T) {
	j := FitIteration3(follow(iteration3, []float64{6.5, 0.02, 5.5e-5}, wide, sizes, 0.003, rand.New(rand.NewPCG(1, 1))))
	v := j.values()
	const in, out = 700.0, 300.0
	alpha, beta, gamma, delta := j.Linear4At(in, out, 1, 64)
	for _, c := range []struct {
		name  string
		got   Parameter
		slope []float64
	}{
		{"alpha", alpha, []float64{1, 1, in + (out+1)/2}},
		{"beta", beta, []float64{0, (in + out) / (out + 1), in + out/2}},
		{"gamma", gamma, []float64{1, in, in}},
		{"delta", delta, []float64{0, (in + out) / (out + 1) / in, (in + out/2) / in}},
	} {
		want, variance := 0.0, 0.0
		for a := range v {
			want += c.slope[a] * v[a]
			for b := range v {
				variance += c.slope[a] * c.slope[b] * j.Covariance.At(a, b)
			}
		}
		if math.Abs(c.got.Value/want-1) > 1e-9 || math.Abs(c.got.StandardError/math.Sqrt(variance)-1) > 1e-4 {
			t.Errorf("%s: %+v, want %v +- %v", c.name, c.got, want, math.Sqrt(variance))
		}
	}
}

func TestOutsideWhatWasMeasured(t *testing.T) {
	j := FitEngine(follow(engine, engineTruth, wide, []float64{1, 4, 8, 16, 24, 32}, 0, nil))
	for _, c := range []struct {
		work Work
		n    int
	}{
		{Work{Batch: 16, PromptTokens: 700, OutputTokens: 300}, 0},
		{Work{Batch: 100, PromptTokens: 700, OutputTokens: 300}, 1},
		{Work{Batch: 16, PromptTokens: 16, OutputTokens: 300}, 1},
		{Work{Batch: 64, PromptTokens: 8192, OutputTokens: 64}, 4},
	} {
		if beyond := j.Outside(c.work); len(beyond) != c.n {
			t.Errorf("%+v: %q", c.work, beyond)
		}
	}
}

func BenchmarkJointFitOf10000Points(b *testing.B) {
	var batches []float64
	for i := range 10000 / len(wide) {
		batches = append(batches, 1+float64(i)*0.05)
	}
	points := follow(engine, engineTruth, wide, batches, 0.01, rand.New(rand.NewPCG(1, 1)))
	for _, c := range []struct {
		name string
		fit  func([]Point) Joint
	}{{Iteration3, FitIteration3}, {Engine, FitEngine}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.fit(points)
			}
		})
	}
}

// Terms that are hardly told apart keep no good prediction from being published.
func TestWhatPredictsIsPublished(t *testing.T) {
	alike := [][2]float64{{128, 128}, {256, 128}, {128, 256}, {256, 64}}
	rng := rand.New(rand.NewPCG(1, 1))
	j := FitEngine(follow(engine, engineTruth, alike, []float64{1, 4, 8, 16, 32}, 0.003, rng))
	if j.Condition < mostJointCondition || j.Verdict.Level != Warned || !says(j.Verdict, "hardly tell its terms apart") || j.LeftOut > 0.01 {
		t.Errorf("condition number %.1f, left out %.4f, %+v", j.Condition, j.LeftOut, j.Verdict)
	}
	w := Work{Batch: 24, PromptTokens: 200, OutputTokens: 150}
	want, _ := engine(engineTruth, w, 0)
	interval, _ := j.Interval(w, 0)
	if got, _ := j.Predict(w); math.Abs(got/want-1) > 0.01 || want < interval[0] || want > interval[1] {
		t.Errorf("%.4f %v ms, want %.4f", got, interval, want)
	}
	// A model that does not even describe its own points is refused.
	points := follow(engine, engineTruth, wide, []float64{1, 4, 8, 16, 32}, 0.003, rng)
	for i := range points {
		points[i].ITL.MS *= 1 + 0.5*float64(i%2)
	}
	if j := FitIteration3(points); j.Verdict.Level != Refused || !says(j.Verdict, "misses its own points") {
		t.Errorf("%+v", j.Verdict)
	}
}

// What queues is no point of a joint model either, whoever says so.
func TestQueuedPointsStayOutOfJointModels(t *testing.T) {
	const slots = 12
	points := follow(engine, engineTruth, wide, []float64{1, 4, 8, slots, 24, 48}, 0.002, rand.New(rand.NewPCG(2, 1)))
	queued := 0
	for i := range points {
		p := &points[i]
		if p.Batch <= slots {
			continue
		}
		queued++
		w := p.work()
		w.Batch = slots
		itl, ttft := engine(engineTruth, w, 0)
		p.ITL.MS = itl
		p.TTFT.MS = ttft + (p.Batch/slots-1)*(ttft+(p.OutputTokens-1)*itl)
	}
	for _, fit := range []func([]Point) Joint{FitIteration3, FitEngine} {
		j := fit(points)
		out := 0
		for _, o := range j.Out {
			if o.Why.Code == reason.Queue {
				out++
			}
		}
		if out != queued {
			t.Errorf("%s: %d of %d points that queued are left out", j.Model, out, queued)
		}
	}
	j := FitEngine(points)
	if j.MeanError > 0.01 || math.Abs(j.Terms[base].Value/engineTruth[base]-1) > 0.01 {
		t.Errorf("mean error %.4f, %+v", j.MeanError, j.Terms[base])
	}
}
