package local

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"syscall"
	"time"

	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/run/store"
)

// claim says that a process holds a run. Each has a file of its own: who has written it
// and then sees another one that is alive gives way, so that of two at once never both
// go on.
type claim struct {
	Schema   string `json:"schema"`
	Host     string `json:"host"`
	PID      int    `json:"pid"`
	Since    int64  `json:"since"`    // Unix seconds
	Beat     int64  `json:"beat"`     // Unix seconds of the last sign of life
	Released bool   `json:"released"` // the process has let go of the run
}

const (
	claimSchema = "wfgen.dev/claim/v1"

	// A process tells every beat that it is alive, and is taken for dead after silence.
	beat    = 20 * time.Second
	silence = 2 * time.Minute
)

// alive tells whether the claim still holds. A process of this machine is looked for;
// one elsewhere is believed for a while.
func (c claim) alive(host string, now time.Time) bool {
	if c.Released || now.Sub(time.Unix(c.Beat, 0)) > silence {
		return false
	}
	return c.Host != host || c.PID == os.Getpid() || !errors.Is(syscall.Kill(c.PID, 0), syscall.ESRCH)
}

// Hold takes a run for this process until release is called. The context ends when
// another process has taken it, as one may when this one was silent for minutes. The
// error says who holds the run.
func Hold(ctx context.Context, out store.Store, run string) (held context.Context, release func(), err error) {
	host, _ := os.Hostname()
	now := time.Now().Unix()
	own := claim{Schema: claimSchema, Host: host, PID: os.Getpid(), Since: now, Beat: now}
	key := path.Join(layout.ClaimsOf(run), rand.Text()+".json")
	put := func() error {
		data, err := json.Marshal(own)
		if err != nil {
			return err
		}
		return out.Put(context.WithoutCancel(ctx), key, bytes.NewReader(append(data, '\n')))
	}
	letGo := func() {
		own.Released = true
		_ = put() // others take it for dead in a while
	}
	if err := holder(ctx, out, run, key, host); err != nil { // before a file is left in a run of others
		return nil, nil, err
	}
	if err := put(); err != nil {
		return nil, nil, err
	}
	if err := holder(ctx, out, run, key, host); err != nil {
		letGo()
		return nil, nil, err
	}
	held, lose := context.WithCancelCause(ctx)
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(beat)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			var other *heldError
			if err := holder(held, out, run, key, host); errors.As(err, &other) {
				lose(err)
				continue
			}
			own.Beat = time.Now().Unix()
			_ = put() // the next one may succeed
		}
	}()
	return held, func() {
		close(stop)
		<-ended
		lose(nil)
		letGo()
	}, nil
}

// heldError is a run that somebody else holds.
type heldError struct{ claim }

func (e *heldError) Error() string {
	return fmt.Sprintf("process %d on %s holds it since %s", e.PID, e.Host, time.Unix(e.Since, 0).UTC().Format(time.RFC3339))
}

// holder is an error that names the other process which holds the run, nil where none
// does.
func holder(ctx context.Context, out store.Store, run, own, host string) error {
	keys, err := out.List(ctx, layout.ClaimsOf(run))
	if err != nil {
		return err
	}
	for _, key := range keys {
		if key == own {
			continue
		}
		var c claim
		f, err := out.Open(ctx, key)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		err = json.NewDecoder(f).Decode(&c)
		f.Close()
		if err == nil && c.Schema == claimSchema && c.alive(host, time.Now()) {
			return exit.Errorf(exit.TryAgain, "run %s: %w; wait for it, or choose another name with --run", run, &heldError{c})
		}
	}
	return nil
}
