// Package retry is the one policy by which something is tried again: in a workflow,
// in a Job, by step itself and by a run on one machine.
package retry

import (
	"context"
	"time"

	"wfgen.dev/internal/run/exit"
)

// The pauses between attempts: First, and each further one Factor times as long. They
// are short, because Argo judges whether another attempt is worth it only after the
// pause, for which a failure for good waits as well.
const (
	First  = 10 * time.Second
	Factor = 3
)

// Policy says how often something is tried.
type Policy struct {
	Attempts int // all together; below 1: one
}

// Do runs try until it succeeds, fails with a code other than exit.TryAgain, has been
// tried often enough or the context ends, and returns its last error. say is told of
// each attempt, counted from 1, that another one follows after a pause.
func (p Policy) Do(ctx context.Context, try func() error, say func(attempt int, err error, pause time.Duration)) error {
	pause := First
	for n := 1; ; n++ {
		err := try()
		if exit.Code(err) != exit.TryAgain || n >= p.Attempts || ctx.Err() != nil {
			return err
		}
		say(n, err, pause)
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
		pause *= Factor
	}
}
