package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"time"

	"wfgen.dev/internal/point/driver"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/run/store"
	"wfgen.dev/internal/sweep"
)

// Several are points that one process runs one after another, so that the server does
// not wait for the next one's pod. Options say what they have in common.
type Several struct {
	Options
	Points []sweep.Point

	// Done are the places where a measurement of one of them may lie already, relative to
	// which its key is layout.MeasurementIn.
	Done []store.Store

	// Attempt runs a point, again while a later attempt may succeed.
	Attempt func(p sweep.Point, try func() error) error

	// Said is told what became of each: a measurement whose Schema is empty where there is none.
	Said func(p sweep.Point, m measurement.Measurement, err error)
}

// RunSeveral runs the points of s, but for those that are done. Each is a point of its
// own, whose failure is its own: what Run leaves of it lies where a run keeps it, below
// out, the measurement last. One at which a later attempt may succeed leaves no
// measurement, so that whoever runs the same again tries it again. The error is that of
// all that failed: exit.TryAgain if that is one's, and otherwise the first one's.
func RunSeveral(ctx context.Context, d driver.Driver, out store.Store, s Several) error {
	if err := store.Check(ctx, out); err != nil {
		return err
	}
	var failed failures
	for i, p := range s.Points {
		done, err := s.done(ctx, p)
		if err != nil {
			return err
		}
		if done {
			continue
		}
		o := s.Options
		o.Shape, o.BatchSize, o.Part, o.Parts = p.Shape, p.BatchSize, i, len(s.Points)
		if p.Seconds > 0 {
			o.MaxSeconds = float64(p.Seconds)
		}
		to := &placed{Store: out, point: p}
		var m measurement.Measurement
		err = s.Attempt(p, func() (err error) {
			to.measurement = nil
			s.Seed++ // the server would answer prompts that it has seen from its cache
			o.Seed = s.Seed
			m, err = Run(ctx, d, to, o)
			return err
		})
		s.Begin = time.Time{} // the start of the process was the first one's
		if exit.Code(err) != exit.TryAgain {
			if kept := to.keep(ctx); kept != nil {
				return kept
			}
		}
		s.Said(p, m, err)
		failed.add(p.Name(), err)
		if ctx.Err() != nil {
			break
		}
	}
	return failed.join()
}

// done tells whether a point's measurement lies in one of the places.
func (s Several) done(ctx context.Context, p sweep.Point) (bool, error) {
	for _, place := range s.Done {
		f, err := place.Open(ctx, layout.MeasurementIn(p))
		if err == nil {
			return true, f.Close()
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	return false, nil
}

// placed is a store that has what Run leaves of a point at its place among others.
type placed struct {
	store.Store
	point       sweep.Point
	measurement []byte // held back until it is known whether it counts
}

func (s *placed) Put(ctx context.Context, key string, r io.Reader) (err error) {
	switch dir, name := path.Split(key); {
	case key == layout.Measurement:
		s.measurement, err = io.ReadAll(r)
		return err
	case path.Clean(dir) == layout.Reports:
		return s.Store.Put(ctx, path.Join(layout.ReportsIn(s.point), name), r)
	}
	return nil // values of one point, for whoever asked for one alone
}

// keep puts the measurement to its place, if there is one.
func (s *placed) keep(ctx context.Context) error {
	if s.measurement == nil {
		return nil
	}
	return s.Store.Put(context.WithoutCancel(ctx), layout.MeasurementIn(s.point), bytes.NewReader(s.measurement))
}

// failures are those of several points.
type failures struct {
	errs []error
	code int
}

func (f *failures) add(of string, err error) {
	if err == nil {
		return
	}
	f.errs = append(f.errs, fmt.Errorf("%s: %w", of, err))
	if c := exit.Code(err); f.code == 0 || c == exit.TryAgain {
		f.code = c
	}
}

// join is one error of all, nil where there are none. It is worth another attempt if one
// of them is.
func (f *failures) join() error {
	if len(f.errs) == 0 {
		return nil
	}
	return exit.Errorf(f.code, "%w", errors.Join(f.errs...))
}
