package bench

import (
	"context"
	"fmt"
	"time"

	"wfgen.dev/internal/point/driver"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/run/store"
)

// Outcome is what became of one of the points that shared a process.
type Outcome struct {
	BatchSize   int
	Measurement measurement.Measurement // its Schema is empty where there is none
	Err         error                   // as that of Run
}

// RunShared runs the batch sizes o.Levels of one shape in one process of the driver,
// so that its start is paid for once. Each is a point of its own: what Run leaves of
// one lies in b<N>/ below out, but report, log and scrapes, which are common and named
// shared. A batch size that failed voids its own point alone. The error is what they
// have in common: the driver died, and with it all that it had measured, or the store
// did; where it is not nil there are no outcomes.
func RunShared(ctx context.Context, d driver.Driver, out store.Store, o Options) ([]Outcome, error) {
	r, err := start(ctx, d, out, o, layout.SharedReport)
	if err != nil {
		return nil, err
	}
	defer r.close()
	if r.failure != nil {
		return nil, r.failure
	}
	all, err := readReport(r.Options, r.key)
	if err != nil {
		return nil, err
	}
	measured := map[int]measurement.Measurement{}
	overhead := time.Since(r.Begin).Seconds()
	for _, m := range all {
		measured[m.BatchSize] = m
		overhead -= m.Seconds
	}
	overhead /= float64(len(o.Levels))
	var outcomes []Outcome
	for _, size := range o.Levels {
		one := Outcome{BatchSize: size}
		if m, ok := measured[size]; ok {
			m.Notes = append(m.Notes, fmt.Sprintf("measured in one process of %s with the batch sizes %v", d.Name(), o.Levels))
			one.Measurement, one.Err = r.point(ctx, m, layout.SharedPoint(size), overhead)
		} else {
			one.Err = exit.Errorf(exit.TryAgain, "%s reported nothing of batch size %d", d.Name(), size)
		}
		outcomes = append(outcomes, one)
	}
	return outcomes, nil
}

// Join is one error of all that failed, nil when none did. It is worth another attempt
// if one of them is.
func Join(outcomes []Outcome) error {
	var failed failures
	for _, one := range outcomes {
		failed.add(fmt.Sprintf("batch size %d", one.BatchSize), one.Err)
	}
	return failed.join()
}
