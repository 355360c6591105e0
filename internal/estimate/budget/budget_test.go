package budget

import (
	"math"
	"strings"
	"testing"

	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/plan"
)

func fleet() sweep.Sweep {
	return sweep.Sweep{
		Model:        "m",
		Accelerators: []sweep.Accelerator{{Name: "A100", Count: 2, GPUCost: 2.5}, {Name: "H100", Count: 1}, {Name: "L4"}},
		Shapes:       []sweep.Shape{{PromptTokens: 128, OutputTokens: 128}},
		BatchSizes:   []int{8, 1},
		MaxSeconds:   60,
		Driver:       sweep.Native,
	}
}

func options(request float64) Options {
	return Options{Overhead: 1, PerNode: plan.NodeOverhead, RequestSeconds: func(string, sweep.Shape, int) float64 { return request }}
}

func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > 1e-9*math.Abs(want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func TestExpect(t *testing.T) {
	p := Expect(fleet(), options(2))
	point := 60.0 + 2 + 1 + plan.NodeOverhead    // load, last answers, driver, pod
	accelerator := 2*point + 2*plan.NodeOverhead // and the wait and the estimate
	near(t, "a point", p.Accelerators[0].Points[0].Seconds, point)
	near(t, "an accelerator", p.Accelerators[0].Seconds, accelerator)
	near(t, "GPU-minutes of two GPUs", p.Accelerators[0].GPUMinutes, 2*accelerator/60)
	near(t, "money", p.Accelerators[0].Money, 2*accelerator/3600*2.5)
	near(t, "side by side", p.Seconds, accelerator+plan.NodeOverhead)
	if p.Accelerators[0].Points[0].BatchSize != 1 || p.Points != 6 {
		t.Errorf("points %+v", p.Accelerators[0].Points)
	}
	shared := fleet()
	shared.Driver, shared.ShareProcess = sweep.Guidellm, true
	o := options(2)
	o.Overhead = 20
	near(t, "a point whose start is shared", Expect(shared, o).Accelerators[0].Points[0].Seconds, 60+2+(20+levelOverhead)/2+plan.NodeOverhead)
	o = options(2)
	o.SharePod = true
	near(t, "points in one pod", Expect(fleet(), o).Accelerators[0].Seconds, 2*(60+2+1)+3*plan.NodeOverhead)
	o = options(2)
	o.Parallel = 2
	near(t, "two at a time", Expect(fleet(), o).Seconds, 2*accelerator+plan.NodeOverhead)
}

func TestRequestsEndAPoint(t *testing.T) {
	s := fleet()
	s.MaxSeconds, s.MaxRequests = 0, 80
	p := Expect(s, options(2))
	near(t, "80 requests of 2 s, one at a time", p.Accelerators[0].Points[0].Seconds, 80*2+2+1+plan.NodeOverhead)
	near(t, "eight at a time", p.Accelerators[0].Points[1].Seconds, 80*2/8+2+1+plan.NodeOverhead)
	s.MaxSeconds = 30
	near(t, "the seconds end it first", Expect(s, options(2)).Accelerators[0].Points[0].Seconds, 30+2+1+plan.NodeOverhead)
	near(t, "three requests at least", Expect(s, options(20)).Accelerators[0].Points[0].Seconds, 60+20+1+plan.NodeOverhead)
}

func TestOverhead(t *testing.T) {
	for image, want := range map[string]float64{"guidellm:0.2.1": 8, "host:5000/guidellm:v0.3.1": 11, "g:v0.6.1@sha256:00": 20, "g": 12, "host:5000/g": 12} {
		if got := Overhead(sweep.Guidellm, image); got != want {
			t.Errorf("guidellm %q: %v s, want %v", image, got, want)
		}
	}
	if got := Overhead(sweep.Native, "v0.7.3"); got != 1 {
		t.Errorf("native: %v s", got)
	}
}

func TestPrevious(t *testing.T) {
	estimate := func(accelerator, driver string, overhead float64) parameters.Parameters {
		return parameters.Parameters{
			Model: "m", Accelerator: accelerator, Shape: sweep.Shape{PromptTokens: 128, OutputTokens: 128}, Verdict: fit.Verdict{Level: fit.Warned},
			Alpha: new(10.0), Beta: new(1.0), Gamma: new(100.0), Delta: new(0.5),
			Fit:        parameters.Fit{Points: make([]parameters.Point, 2)},
			Provenance: parameters.Provenance{Driver: parameters.Values{driver}, OverheadSeconds: overhead},
		}
	}
	s := parameters.Summary{Parameters: []parameters.Parameters{
		estimate("A100", "guidellm 0.7.3", 40), estimate("H100", "guidellm 0.7.3", 60), estimate("L4", "native", 1000),
	}}
	o := options(2).Previous(s, "m", sweep.Guidellm)
	near(t, "overhead of a point, the other driver's left out", o.Overhead, 25)
	near(t, "a request alone", o.RequestSeconds("A100", fleet().Shapes[0], 1), (100+0.5*128+127*11)/1000)
	near(t, "a request of eight", o.RequestSeconds("A100", fleet().Shapes[0], 8), (100+0.5*128*8+127*18)/1000)
	near(t, "a shape that was not measured", o.RequestSeconds("A100", sweep.Shape{PromptTokens: 1, OutputTokens: 2}, 8), 2)
	near(t, "an accelerator that was not", o.RequestSeconds("B200", fleet().Shapes[0], 8), 2)
	other := options(2).Previous(s, "another model", "other driver")
	near(t, "overhead of a driver that was not", other.Overhead, 1)
	near(t, "a request of another model", other.RequestSeconds("A100", fleet().Shapes[0], 1), 2)
}

func TestWrite(t *testing.T) {
	var b strings.Builder
	if err := Expect(fleet(), options(2)).Write(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"A100", "1  128/128  batch 1", "GPU-minutes", "0.20", "\nall", "-\n"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("missing %q in:\n%s", want, &b)
		}
	}
}
