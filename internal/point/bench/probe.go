package bench

import (
	"context"
	"fmt"
	"path"
	"path/filepath"
	"strings"
	"time"

	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/sweep"
)

// probe runs the point again for a moment with r.Probe, whose own delays are small,
// where nobody but the client can tell TTFT, and weighs again. It runs after the last
// scrape, so that the point's counts stay the point's, and leaves its report below
// dir. A probe that fails costs only what it would have told; the error is the store's.
func (r *process) probe(ctx context.Context, dir string, m *measurement.Measurement) error {
	o := r.Options
	if o.Probe == nil || o.ProbeSeconds <= 0 || !m.WantsProbe() {
		return nil
	}
	without := func(why error) {
		m.Notes = append(m.Notes, fmt.Sprintf("no probe, so nothing says how much of TTFT is %s's own delay: %v", m.Driver.Name, why))
	}
	request := (m.Taken.TTFT.MS + float64(o.Shape.OutputTokens-1)*m.Taken.ITL.MS) / 1000
	seconds := max(o.ProbeSeconds, sweep.MinPerStream*request)
	if seconds > max(o.ProbeSeconds, m.Seconds) {
		without(fmt.Errorf("a request takes %.3g s, so it would last longer than the point, which had %.3g s", request, m.Seconds))
		return nil
	}
	o.BatchSize, o.Levels = m.BatchSize, nil
	o.MaxSeconds, o.MaxRequests, o.Deadline = seconds, 0, time.Duration((2*seconds+30)*float64(time.Second))
	o.Seed++ // its prompts are not those of a run with this seed
	o.Log, o.Progress = o.Stderr, nil
	o.Report = filepath.Join(r.work, "probe.json")
	if err := o.Probe.Run(ctx, o.Options); err != nil {
		without(err)
		return nil
	}
	key := path.Join(dir, layout.Probe(layout.ReportName(m.BatchSize, o.BatchSizes)))
	all, err := readReport(o, key)
	switch {
	case err != nil:
		without(err)
		return nil
	case len(all) != 1:
		without(fmt.Errorf("its report holds %d benchmarks", len(all)))
		return nil
	case all[0].Client == nil:
		without(fmt.Errorf("it measured nothing: %s", strings.Join(all[0].Taken.Void, "; ")))
		return nil
	}
	m.Probe = all[0].Client
	m.Probe.Plain = nil // of a few seconds it says nothing
	m.Taken = m.Weigh(measurement.Auto, measurement.Auto)
	return putFile(context.WithoutCancel(ctx), r.out, key, o.Report)
}
