package local

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"reflect"
	"slices"
	"strings"
	"time"

	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/run/store"
	"wfgen.dev/internal/sweep"
)

const planFile = "plan.json"

// record is what a run was started with; a run is resumed only with the same.
type record struct {
	Schema       string        `json:"schema"`
	Model        string        `json:"model"`
	Accelerators []string      `json:"accelerators"`
	Shapes       []sweep.Shape `json:"shapes"`
	BatchSizes   []int         `json:"batch_sizes"`
	MaxSeconds   int           `json:"max_seconds"`
	MaxRequests  int           `json:"max_requests"`
	Driver       string        `json:"driver"`
}

const planSchema = "wfgen.dev/plan/v1"

func recordOf(s sweep.Sweep) record {
	p := record{Schema: planSchema, Model: s.Model, Shapes: s.Shapes, BatchSizes: s.BatchSizes,
		MaxSeconds: s.MaxSeconds, MaxRequests: s.MaxRequests, Driver: s.Driver}
	for _, a := range s.Accelerators {
		p.Accelerators = append(p.Accelerators, a.Name)
	}
	return p
}

func (r *Runner) writePlan(ctx context.Context) error {
	data, err := json.MarshalIndent(recordOf(r.Plan.Sweep()), "", "  ")
	if err != nil {
		return err
	}
	return r.Out.Put(ctx, path.Join(layout.Run(r.Run), planFile), bytes.NewReader(append(data, '\n')))
}

// NameRun decides which run this is. A name that was given is taken, unless that
// run measured another model or with another driver. Otherwise the newest run of
// the same plan that has no summary yet is gone on with; else a new one begins.
func NameRun(ctx context.Context, out store.Store, s sweep.Sweep, given string, now time.Time) (name string, resumed bool, err error) {
	wanted := recordOf(s)
	if given != "" {
		if strings.ContainsAny(given, "/\\ ") || given == "." || given == ".." {
			return "", false, exit.Errorf(exit.Usage, "--run: %q cannot name a directory", given)
		}
		have, err := readPlan(ctx, out, given)
		if errors.Is(err, fs.ErrNotExist) {
			return given, false, nil
		}
		if err != nil {
			return "", false, err
		}
		if have.Model != wanted.Model || have.Driver != wanted.Driver {
			return "", false, exit.Errorf(exit.Usage, "--run: %s measured %s with driver %s, not %s with %s; choose another name",
				given, have.Model, have.Driver, wanted.Model, wanted.Driver)
		}
		return given, true, nil
	}
	keys, err := out.List(ctx, "runs")
	if err != nil {
		return "", false, err
	}
	finished := map[string]bool{}
	var runs []string
	for _, key := range keys {
		parts := strings.Split(key, "/")
		if len(parts) != 3 {
			continue
		}
		switch parts[2] {
		case planFile:
			runs = append(runs, parts[1])
		case layout.Summary:
			finished[parts[1]] = true
		}
	}
	slices.Sort(runs)
	for _, run := range slices.Backward(runs) {
		if finished[run] {
			continue
		}
		if have, err := readPlan(ctx, out, run); err == nil && reflect.DeepEqual(have, wanted) {
			return run, true, nil
		}
	}
	return now.UTC().Format("20060102-150405"), false, nil
}

func readPlan(ctx context.Context, out store.Store, run string) (record, error) {
	var p record
	key := path.Join(layout.Run(run), planFile)
	f, err := out.Open(ctx, key)
	if err != nil {
		return p, err
	}
	defer f.Close()
	if err := json.NewDecoder(f).Decode(&p); err != nil || p.Schema != planSchema {
		return p, exit.Errorf(exit.Refused, "%s in %s is not a plan of this version (%v)", key, out, fmt.Sprint(err))
	}
	return p, nil
}
