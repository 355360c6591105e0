package stepcli

import (
	"math"
	"strings"
	"testing"

	"wfgen.dev/internal/point/measurement"
)

// FuzzWords: what the commands read of flags that a submitter may set, and of what step
// wait found out, is what they say it is, or refused in words.
func FuzzWords(f *testing.F) {
	for _, seed := range []string{`{"pod":"p","args":["--api-key","x"]}`, "{}", "null", "[", "A100=2,H100=4", "2.5", "A100=Inf", "=,=", "NaN", "itl=1%,ttft=3%", "itl=1%,itl=2%", "-1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if !strings.HasPrefix(text, "@") { // a file's name
			if _, err := instance(text); err != nil && !strings.Contains(err.Error(), "--server") {
				t.Error(err)
			}
		}
		if found, err := numbers(text); err == nil {
			for name, n := range found {
				if n < 1 {
					t.Errorf("%q: %d", name, n)
				}
			}
		}
		if found, err := prices(text); err == nil {
			for name, x := range found {
				if !(x >= 0) || math.IsInf(x, 0) {
					t.Errorf("%q: %v", name, x)
				}
			}
		}
		if w, err := measurement.ParseWanted(text); err == nil && (!w.Any() || !(w.ITL >= 0 && w.ITL < 1 && w.TTFT >= 0 && w.TTFT < 1)) {
			t.Errorf("%+v", w)
		}
	})
}
