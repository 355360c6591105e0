package catalogue

import (
	"math"
	"strings"
	"testing"

	"wfgen.dev/internal/sweep"
)

func TestFind(t *testing.T) {
	for name, want := range map[string]string{"A100": "A100", "a100": "A100", "mi300x": "MI300X", "Gaudi2": "Gaudi2"} {
		if a, ok := Find(name); !ok || a.Name != want {
			t.Errorf("Find(%q) = %q, %v; want %q", name, a.Name, ok, want)
		}
	}
	for _, name := range []string{"", "A1000", "RTX4090"} {
		if a, ok := Find(name); ok {
			t.Errorf("Find(%q) found %q", name, a.Name)
		}
	}
}

func TestNearest(t *testing.T) {
	for name, want := range map[string]string{
		"A1000": "A100", "H10": "H100", "L40": "L40S", "MI300": "MI300X", "Gaudi4": "Gaudi2", "GB20": "GB200", "abacus": "", "": "",
	} {
		if got := Nearest(name); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestEntriesAreWhole(t *testing.T) {
	slugs := map[string]bool{}
	for _, name := range Names() {
		a, ok := Find(name)
		if !ok || a.Name != name {
			t.Errorf("%s: found %q", name, a.Name)
		}
		if slugs[sweep.Slug(name)] {
			t.Errorf("%s: its slug is taken", name)
		}
		slugs[sweep.Slug(name)] = true
		if !strings.Contains(a.Resource, "/") || !strings.Contains(a.Label, "/") || a.Value == "" || len(a.Value) > 63 || a.MemoryGB < 8 {
			t.Errorf("%s: incomplete: %+v", name, a)
		}
		p := a.Simulated()
		for _, x := range []float64{p.Alpha, p.Beta, p.Gamma, p.Delta} {
			if !(x > 0) || math.IsInf(x, 0) {
				t.Errorf("%s: simulated %+v", name, p)
			}
		}
	}
}

func TestSimulatedScalesTheReference(t *testing.T) {
	near := func(got, want float64) bool { return math.Abs(got/want-1) < 1e-3 }
	h100, _ := Find("H100")
	if p := h100.Simulated(); !near(p.Alpha, 6.973) || !near(p.Beta, 0.027) || !near(p.Gamma, 14.825) || !near(p.Delta, 0.001364) {
		t.Errorf("H100 is the reference, got %+v", p)
	}
	a100, _ := Find("A100")
	if p := a100.Simulated(); !near(p.Alpha, 6.973*3.35/2.04) || !near(p.Delta, 0.001364*989/312) {
		t.Errorf("A100: got %+v", p)
	}
}
