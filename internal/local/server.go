package local

import (
	"context"
	"fmt"
	"path"
	"strings"

	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/sweep"
)

// sameServer refuses a measurement in work that was made of another server than the
// earlier ones of its accelerator in this run, or by another driver: one estimate would
// mix the two. What neither says is not compared.
func (r *Runner) sameServer(ctx context.Context, work string, p sweep.Point) error {
	m, found, err := readMeasurement(work)
	if err != nil || !found {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.servers == nil {
		r.servers = map[string]measurement.Measurement{}
	}
	first, known := r.servers[p.Accelerator]
	if !known && !r.Force {
		if first, known, err = r.firstMeasured(ctx, p); err != nil {
			return err
		}
	}
	if !known {
		first = m
	}
	r.servers[p.Accelerator] = first
	var differ []string
	for _, f := range []struct{ what, had, has string }{
		{"version", first.Provenance.ServerVersion, m.Provenance.ServerVersion},
		{"max-model-len", text(first.Provenance.MaxModelLen), text(m.Provenance.MaxModelLen)},
		{"image", first.Provenance.ImageDigest, m.Provenance.ImageDigest},
		{"GPU", first.Provenance.GPU, m.Provenance.GPU},
		{"GPU driver", first.Provenance.GPUDriver, m.Provenance.GPUDriver},
		{"load generator", first.Driver.Name + " " + first.Driver.Version, m.Driver.Name + " " + m.Driver.Version},
	} {
		if f.had != "" && f.has != "" && f.had != f.has {
			differ = append(differ, fmt.Sprintf("%s %s, not %s", f.what, f.has, f.had))
		}
	}
	if len(differ) > 0 {
		return exit.Errorf(exit.Refused, "%s %s batch %d: another server, or another driver, than that of the points before: %s; their numbers do not belong together: begin another run with --run NAME",
			p.Accelerator, p.Shape, p.BatchSize, strings.Join(differ, "; "))
	}
	return nil
}

func text(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

// firstMeasured is a measurement that the run has of the point's accelerator.
func (r *Runner) firstMeasured(ctx context.Context, p sweep.Point) (m measurement.Measurement, found bool, err error) {
	keys, err := r.Out.List(ctx, path.Dir(layout.MeasurementOf(r.Run, p)))
	if err != nil || len(keys) == 0 {
		return m, false, err
	}
	f, err := r.Out.Open(ctx, keys[0])
	if err != nil {
		return m, false, err
	}
	defer f.Close()
	m, err = measurement.Decode(f, keys[0])
	return m, err == nil, err
}
