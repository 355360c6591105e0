package stepcli

import (
	"strings"
	"testing"

	"wfgen.dev/internal/run/exit"
)

func TestPlanPoints(t *testing.T) {
	run := swept(t, 0.02, "")
	for _, c := range []struct {
		args string
		code int
		says []string
	}{
		{"--for-precision 5%", exit.Done, []string{"linear4 of 128/128: ", "--shapes 128/128 --batch-sizes 2,", "--max-seconds ", "expected: alpha ±"}},
		{"--for-precision 5% --shapes 1024/128,64/64 --max-batch 128", exit.Done, []string{"linear4 of 1024/128: ", "linear4 of 64/64: ", ",128 --max-seconds"}},
		{"--for-precision 5% --fit iteration3", exit.Done, []string{"iteration3 of all shapes together: ", "--shapes 4096/", "gamma ±"}},
		{run + " --for-precision 5% --least-points 6", exit.Done, []string{"linear4 of 128/128: ", "linear4 of 1024/128: ", "linear4 of 128/1024: "}},
		{run + " --for-precision 5% --fit iteration3", exit.Done, []string{"--shapes 128/1024"}},
		{"--for-precision 0.1% --max-batch 16", exit.Refused, []string{"0.1 % is out of reach"}},
		{"--for-precision much --fit engine --max-batch 1 --shapes 3 a b", exit.Usage, []string{"--for-precision", "--fit", "--max-batch 1", "--shapes", "found 2 arguments"}},
	} {
		code, stdout, stderr := step(append([]string{"plan-points"}, strings.Fields(c.args)...)...)
		if code != c.code {
			t.Errorf("%s: code %d: %s", c.args, code, stderr)
		}
		for _, want := range c.says {
			if !strings.Contains(stdout+stderr, want) {
				t.Errorf("%s: does not say %q:\n%s%s", c.args, want, stdout, stderr)
			}
		}
	}
}
