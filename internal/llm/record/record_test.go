package record

import (
	"math"
	"testing"
	"time"
)

func TestUnix(t *testing.T) {
	a := time.Now()
	b := a.Add(1500 * time.Millisecond)
	if d := Unix(b) - Unix(a); math.Abs(d-1.5) > 2e-6 {
		t.Errorf("%v", d)
	}
	if d := Unix(a) - float64(a.UnixMicro())/1e6; math.Abs(d) > 5 {
		t.Errorf("%v s from the machine's clock", d)
	}
}
