package retry

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"wfgen.dev/internal/run/exit"
)

func TestPolicy(t *testing.T) {
	passing := exit.Errorf(exit.TryAgain, "connection lost")
	for _, test := range []struct {
		name     string
		attempts int
		results  []error
		calls    int
		took     time.Duration
	}{
		{"success at once", 3, []error{nil}, 1, 0},
		{"success later", 3, []error{passing, passing, nil}, 3, 40 * time.Second},
		{"never", 3, []error{passing, passing, passing, nil}, 3, 40 * time.Second},
		{"for good", 3, []error{passing, exit.Errorf(exit.Unusable, "other model")}, 2, 10 * time.Second},
		{"once", 0, []error{passing, nil}, 1, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin, calls, said := time.Now(), 0, 0
				err := Policy{Attempts: test.attempts}.Do(t.Context(), func() error { calls++; return test.results[calls-1] },
					func(int, error, time.Duration) { said++ })
				if calls != test.calls || said != calls-1 || !errors.Is(err, test.results[calls-1]) || time.Since(begin) != test.took {
					t.Errorf("%d attempts, %d said, in %s, ended with %v; want %d in %s", calls, said, time.Since(begin), err, test.calls, test.took)
				}
			})
		})
	}
}

func TestPolicyEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		begin := time.Now()
		err := Policy{Attempts: 9}.Do(ctx, func() error { return exit.Errorf(exit.TryAgain, "lost") }, func(int, error, time.Duration) {})
		if exit.Code(err) != exit.TryAgain || time.Since(begin) != 3*time.Second {
			t.Errorf("ended after %s with %v", time.Since(begin), err)
		}
	})
}
