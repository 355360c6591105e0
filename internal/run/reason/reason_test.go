package reason

import "testing"

func TestReason(t *testing.T) {
	r := New(Bend, "batch %d lies off the line", 64)
	if got := r.String(); got != "batch 64 lies off the line" {
		t.Errorf("%q", got)
	}
	if got := r.Cured("give --range 1..%d", 32).String(); got != "batch 64 lies off the line; give --range 1..32" || r.Cure != "" {
		t.Errorf("%q, and the reason itself has the cure %q", got, r.Cure)
	}
}
