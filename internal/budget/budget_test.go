package budget

import (
	"math"
	"strings"
	"testing"

	"wfgen.dev/internal/sweep"
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
	return Options{PerNode: PodOverhead, RequestSeconds: func(string, sweep.Shape, int) float64 { return request }}
}

func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > 1e-9*math.Abs(want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func TestExpect(t *testing.T) {
	p := Expect(fleet(), options(2))
	point := 60.0 + 2 + 1 + PodOverhead    // load, last answers, driver, pod
	accelerator := 2*point + 2*PodOverhead // and the wait and the estimate
	near(t, "a point", p.Accelerators[0].Points[0].Seconds, point)
	near(t, "an accelerator", p.Accelerators[0].Seconds, accelerator)
	near(t, "GPU-minutes of two GPUs", p.Accelerators[0].GPUMinutes, 2*accelerator/60)
	near(t, "money", p.Accelerators[0].Money, 2*accelerator/3600*2.5)
	near(t, "side by side", p.Seconds, accelerator+PodOverhead)
	if p.Accelerators[0].Points[0].BatchSize != 1 || p.Points != 6 {
		t.Errorf("points %+v", p.Accelerators[0].Points)
	}
	o := options(2)
	o.Parallel = 2
	near(t, "two at a time", Expect(fleet(), o).Seconds, 2*accelerator+PodOverhead)
}

func TestRequestsEndAPoint(t *testing.T) {
	s := fleet()
	s.MaxSeconds, s.MaxRequests = 0, 80
	p := Expect(s, options(2))
	near(t, "80 requests of 2 s, one at a time", p.Accelerators[0].Points[0].Seconds, 80*2+2+1+PodOverhead)
	near(t, "eight at a time", p.Accelerators[0].Points[1].Seconds, 80*2/8+2+1+PodOverhead)
	s.MaxSeconds = 30
	near(t, "the seconds end it first", Expect(s, options(2)).Accelerators[0].Points[0].Seconds, 30+2+1+PodOverhead)
	near(t, "three requests at least", Expect(s, options(20)).Accelerators[0].Points[0].Seconds, 60+20+1+PodOverhead)
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
