package bench

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"wfgen.dev/internal/point/driver"
	"wfgen.dev/internal/point/driver/native"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/run/store"
	"wfgen.dev/internal/sweep"
)

// told is the native driver, which may fail before it begins.
type told struct {
	native.Driver
	began func(o driver.Options) error
}

func (d told) Run(ctx context.Context, o driver.Options) error {
	if err := d.began(o); err != nil {
		return err
	}
	return d.Driver.Run(ctx, o)
}

// several are points of two lengths, the first measured again.
func several(o Options) []sweep.Point {
	at := func(batch, again, seconds int) sweep.Point {
		return sweep.Point{Accelerator: o.Accelerator, Shape: o.Shape, BatchSize: batch, Again: again, Seconds: seconds}
	}
	return []sweep.Point{at(1, 0, 30), at(4, 0, 0), at(2, 0, 20), at(1, 1, 30)}
}

// runSeveral runs them into dir, each tried twice, and says which the driver was given,
// with what seeds, and what was said of each.
func runSeveral(ctx context.Context, t *testing.T, dir, target string, began func(batch int) error) (given []driver.Options, said []string, err error) {
	t.Helper()
	out, err := store.New(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	o := options(target)
	o.MaxSeconds = 25
	s := Several{Options: o, Points: several(o), Done: []store.Store{out},
		Attempt: func(_ sweep.Point, try func() error) error {
			err := try()
			if exit.Code(err) == exit.TryAgain {
				err = try()
			}
			return err
		},
		Said: func(p sweep.Point, m measurement.Measurement, err error) {
			text := p.Name()
			if err != nil {
				text += " failed"
			}
			said = append(said, text)
		},
	}
	err = RunSeveral(ctx, told{began: func(o driver.Options) error {
		given = append(given, o)
		return began(o.BatchSize)
	}}, out, s)
	return given, said, err
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	out, err := store.New(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := out.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(keys, layout.BesideReport)
}

func sizes(given []driver.Options) (all []int) {
	for _, o := range given {
		all = append(all, o.BatchSize)
	}
	return all
}

// Points that share a process are points of their own: each as long as it is asked to be,
// with prompts of its own, its files where a run keeps them; what fails fails alone, is
// tried again alone, and the next time that the same is asked for it is all that is run.
func TestSeveralPoints(t *testing.T) {
	virtually(t, func(t *testing.T) {
		target, dir, failures := serve(t, handler(t, law())), t.TempDir(), 0
		lost := exit.Errorf(exit.TryAgain, "connection lost")
		given, said, err := runSeveral(t.Context(), t, dir, target, func(batch int) error {
			if batch == 4 {
				failures++
				return lost
			}
			return nil
		})
		if got := sizes(given); !slices.Equal(got, []int{1, 4, 4, 2, 1}) {
			t.Errorf("ran %v", got)
		}
		seeds := map[int64]bool{}
		for _, o := range given {
			seeds[o.Seed] = true
		}
		if len(seeds) != len(given) || given[0].MaxSeconds != 30 || given[1].MaxSeconds != 25 || given[3].MaxSeconds != 20 {
			t.Errorf("seeds %v; %v, %v and %v s", slices.Collect(maps.Keys(seeds)), given[0].MaxSeconds, given[1].MaxSeconds, given[3].MaxSeconds)
		}
		if exit.Code(err) != exit.TryAgain || !strings.Contains(err.Error(), "40-16-b4: connection lost") || strings.Contains(err.Error(), "b2") {
			t.Errorf("exit code %d: %v", exit.Code(err), err)
		}
		if want := []string{"40-16-b1", "40-16-b4 failed", "40-16-b2", "40-16-b1-again"}; !slices.Equal(said, want) {
			t.Errorf("said %q, want %q", said, want)
		}
		want := []string{
			"measurements/40-16-b1-again.json", "measurements/40-16-b1.json", "measurements/40-16-b2.json",
			"reports/40-16/40-16-b1-again/synchronous.json", "reports/40-16/b2.json", "reports/40-16/synchronous.json",
		}
		if got := files(t, dir); !slices.Equal(got, want) {
			t.Errorf("left %q, want %q", got, want)
		}
		f, err := os.Open(filepath.Join(dir, "measurements", "40-16-b2.json"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if m, err := measurement.Decode(f, "b2"); err != nil || m.BatchSize != 2 || m.Taken.ITL == nil || m.OverheadSeconds < 0 {
			t.Errorf("%+v, %v", m.Taken, err)
		}

		given, _, err = runSeveral(t.Context(), t, dir, target, func(int) error { return nil })
		if err != nil || !slices.Equal(sizes(given), []int{4}) {
			t.Errorf("the second time ran %v: %v", sizes(given), err)
		}
		if given, _, err = runSeveral(t.Context(), t, dir, target, func(int) error { return nil }); err != nil || len(given) > 0 {
			t.Errorf("the third time ran %v: %v", sizes(given), err)
		}
	})
}

// An interruption keeps what was measured, and begins no other point.
func TestSeveralPointsAreInterrupted(t *testing.T) {
	virtually(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		dir := t.TempDir()
		given, _, err := runSeveral(ctx, t, dir, serve(t, handler(t, law())), func(batch int) error {
			if batch == 4 {
				cancel()
				return ctx.Err()
			}
			return nil
		})
		if exit.Code(err) != exit.TryAgain || !errors.Is(err, context.Canceled) || !slices.Contains(sizes(given), 4) || slices.Contains(sizes(given), 2) {
			t.Errorf("ran %v: exit code %d, %v", sizes(given), exit.Code(err), err)
		}
		if got := files(t, dir); !slices.Contains(got, "measurements/40-16-b1.json") || slices.Contains(got, "measurements/40-16-b4.json") {
			t.Errorf("left %q", got)
		}
	})
}
