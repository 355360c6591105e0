package stepcli

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"wfgen.dev/internal/cluster/kube"
	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/estimate/page"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/estimate/prefill"
	"wfgen.dev/internal/estimate/render"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/run/steps"
	"wfgen.dev/internal/run/store"
	"wfgen.dev/internal/sweep"
)

// publish writes what consumers read: beside the results, and into --configmap, unless api
// is nil.
func publish(c *cli.Context, api *kube.Client, s parameters.Summary, content page.Content, prefills []prefill.Record, out store.Store) error {
	files, err := renderedFor(c, s, content, prefills)
	if err != nil {
		return err
	}
	for name, text := range files {
		if text == nil {
			continue
		}
		if err := out.Put(c.Context, layout.Rendered+"/"+name, bytes.NewReader(text)); err != nil {
			return err
		}
	}
	if api == nil {
		return nil
	}
	return keepInConfigMap(c, api, s, files)
}

// renderedFor are the results in the formats of --formats, by the name of a file each. One
// that cannot be made of them is said, and has no text. Where something drifted none is
// made: what consumers read stays what was accepted.
func renderedFor(c *cli.Context, s parameters.Summary, content page.Content, prefills []prefill.Record) (map[string][]byte, error) {
	formats := sweep.Items(steps.Aggregate.Formats.In(c))
	if len(formats) == 0 {
		return nil, nil
	}
	if len(s.Drift.Moved()) > 0 {
		fmt.Fprintf(c.App.ErrWriter, "%s: left as they are, since something moved\n", strings.Join(formats, ", "))
		return nil, nil
	}
	o := render.Options{
		ScaleTarget: steps.Aggregate.ScaleTarget.In(c), Metrics: steps.Aggregate.Metrics.In(c), Prometheus: steps.Aggregate.Prometheus.In(c),
		MostReplicas: steps.Aggregate.MaxReplicas.In(c), Namespace: steps.Aggregate.TargetNamespace.In(c),
		Joint: s.Joint, Points: content.Measurements, Prefills: prefills,
		Note: func(text string) { fmt.Fprintln(c.App.ErrWriter, text) },
	}
	for _, one := range content.Capacity {
		if one.Rate != nil && one.Verdict.Level != fit.Refused {
			o.Capacities = append(o.Capacities, one)
		}
	}
	var published []parameters.Parameters
	for _, p := range s.Parameters {
		if p.Published() {
			published = append(published, p)
		}
	}
	if shapes := sweep.Items(steps.Aggregate.Shapes.In(c)); len(shapes) > 0 { // the first is the one that scalers take
		first, err := sweep.ParseShape(shapes[0])
		if err != nil {
			return nil, err
		}
		o.Shape = &first
	}
	files := map[string][]byte{}
	for _, format := range formats {
		text, err := inFormat(format, published, o)
		if err != nil {
			fmt.Fprintf(c.App.ErrWriter, "%s: not made: %v\n", format, err)
			text = nil
		}
		files[render.File(format)] = text
	}
	return files, nil
}

func inFormat(format string, ps []parameters.Parameters, o render.Options) ([]byte, error) {
	switch {
	case render.TakesCapacity(format) && len(o.Capacities) == 0:
		return nil, errors.New("no capacity is known; give the sweep an slo")
	case render.TakesCapacity(format):
		return render.Capacity(format, o.Capacities, o)
	case len(ps) == 0:
		return nil, errors.New("no parameters that may be published")
	}
	return render.Render(format, ps, o)
}

// publishMistakes are those of the flags above.
func publishMistakes(c *cli.Context) error {
	var errs []error
	for _, format := range sweep.Items(steps.Aggregate.Formats.In(c)) {
		if err := render.Publishable(format); err != nil {
			errs = append(errs, fmt.Errorf("--formats: %w", err))
		}
	}
	return errors.Join(errs...)
}
