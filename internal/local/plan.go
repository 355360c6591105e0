package local

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"reflect"
	"slices"
	"strings"
	"time"

	"wfgen.dev/internal/redact"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/run/store"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/plan"
	"wfgen.dev/internal/version"
)

// begun is what a run was started with; a run is resumed only with the same. What is
// absent was not recorded by the version that began the run.
type begun struct {
	Schema       string            `json:"schema"`
	Model        string            `json:"model"`
	Accelerators []string          `json:"accelerators"`
	Shapes       []sweep.Shape     `json:"shapes"`
	BatchSizes   []int             `json:"batch_sizes"`
	MaxSeconds   int               `json:"max_seconds"`
	MaxRequests  int               `json:"max_requests"`
	Driver       string            `json:"driver"`
	Precision    string            `json:"precision,omitempty"`       // asked for; empty: the points are fixed
	GPUMinutes   float64           `json:"max_gpu_minutes,omitempty"` // that rounds may take
	Targets      map[string]string `json:"targets,omitempty"`         // by accelerator; empty: a simulated server
	MaxNumSeqs   map[string]int    `json:"max_num_seqs,omitempty"`    // by accelerator; 0: not known
	Tokenizer    *string           `json:"tokenizer,omitempty"`
	Version      string            `json:"version,omitempty"` // of the program
}

const planSchema = "wfgen.dev/plan/v1"

func begunWith(p plan.Plan) begun {
	s := p.Sweep()
	r := begun{Schema: planSchema, Model: s.Model, Shapes: s.Shapes, BatchSizes: s.BatchSizes,
		MaxSeconds: s.MaxSeconds, MaxRequests: s.MaxRequests, Driver: s.Driver, Precision: p.Precision, GPUMinutes: p.MaxGPUMinutes,
		Targets: map[string]string{}, MaxNumSeqs: map[string]int{}, Tokenizer: &p.Tokenizer, Version: version.Version()}
	for _, a := range p.Accelerators {
		r.Accelerators = append(r.Accelerators, a.Name)
		r.Targets[a.Name], r.MaxNumSeqs[a.Name] = redact.URL(a.TargetURL), a.MaxNumSeqs
	}
	return r
}

// differences names what a run was begun with and is not wanted now. Points may be added
// to a run, which then has more of the same; what has been measured cannot be left out.
func (b begun) differences(wanted begun) []string {
	list := append(missing("accelerator", b.Accelerators, wanted.Accelerators), missing("shape", b.Shapes, wanted.Shapes)...)
	list = append(list, missing("batch size", b.BatchSizes, wanted.BatchSizes)...)
	if had, wants := slices.Max(append([]int{0}, b.BatchSizes...)), slices.Max(append([]int{0}, wanted.BatchSizes...)); wants > had {
		list = append(list, fmt.Sprintf("batch sizes up to %d, whose report is named %s, not %d", had, layout.ReportName(had, b.BatchSizes), wants))
	}
	differ := func(what string, had, wants any) {
		if !reflect.DeepEqual(had, wants) {
			list = append(list, fmt.Sprintf("%s %v, not %v", what, had, wants))
		}
	}
	differ("model", b.Model, wanted.Model)
	differ("driver", b.Driver, wanted.Driver)
	differ("max-seconds", b.MaxSeconds, wanted.MaxSeconds)
	differ("precision", fmt.Sprintf("%q", b.Precision), fmt.Sprintf("%q", wanted.Precision))
	differ("max-gpu-minutes", b.GPUMinutes, wanted.GPUMinutes)
	differ("max-requests", b.MaxRequests, wanted.MaxRequests)
	for _, a := range b.Accelerators {
		target, had := b.Targets[a]
		if wants, has := wanted.Targets[a]; had && has {
			differ("target of "+a, target, wants)
		}
		limit, had := b.MaxNumSeqs[a]
		if wants, has := wanted.MaxNumSeqs[a]; had && has {
			differ("max-num-seqs of "+a, limit, wants)
		}
	}
	if b.Tokenizer != nil && wanted.Tokenizer != nil {
		differ("tokenizer", fmt.Sprintf("%q", *b.Tokenizer), fmt.Sprintf("%q", *wanted.Tokenizer))
	}
	if b.Version != "" && wanted.Version != "" {
		differ("version", b.Version, wanted.Version)
	}
	return list
}

// missing names what was measured and is not wanted.
func missing[T comparable](what string, had, wants []T) (list []string) {
	for _, one := range had {
		if !slices.Contains(wants, one) {
			list = append(list, fmt.Sprintf("%s %v, which is no longer asked for", what, one))
		}
	}
	return list
}

// same tells a run of the same points.
func (b begun) same(wanted begun) bool {
	return len(b.differences(wanted)) == 0 && len(wanted.differences(b)) == 0
}

func (r *Runner) writePlan(ctx context.Context) error {
	data, err := layout.JSON(begunWith(r.Plan))
	if err != nil {
		return err
	}
	return r.Out.Put(ctx, path.Join(layout.Run(r.Run), layout.Plan), bytes.NewReader(data))
}

// NameRun decides which run this is. A name that was given is taken, unless that run was
// begun with anything else. Otherwise the newest run of the same plan that has no summary
// yet and that nobody holds is resumed; else a new one begins.
func NameRun(ctx context.Context, out store.Store, p plan.Plan, given string, now time.Time) (name string, resumed bool, err error) {
	wanted := begunWith(p)
	if given != "" {
		if strings.ContainsAny(given, "/\\ ") || given == "." || given == ".." || !redact.Plain(given) || len(given) > 200 {
			return "", false, exit.Errorf(exit.Usage, "--run: %q cannot name a directory", given)
		}
		have, err := readPlan(ctx, out, given)
		if errors.Is(err, fs.ErrNotExist) {
			return given, false, nil
		}
		if err != nil {
			return "", false, err
		}
		if list := have.differences(wanted); len(list) > 0 {
			return "", false, exit.Errorf(exit.Usage, "--run: %s was begun with %s; choose another name", given, strings.Join(list, "; "))
		}
		return given, true, nil
	}
	host, _ := os.Hostname()
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
		case layout.Plan:
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
		if have, err := readPlan(ctx, out, run); err == nil && have.same(wanted) && holder(ctx, out, run, "", host) == nil {
			return run, true, nil
		}
	}
	return now.UTC().Format("20060102-150405"), false, nil
}

func readPlan(ctx context.Context, out store.Store, run string) (begun, error) {
	var p begun
	key := path.Join(layout.Run(run), layout.Plan)
	f, err := out.Open(ctx, key)
	if err != nil {
		return p, err
	}
	defer f.Close()
	if err := json.NewDecoder(io.LimitReader(f, 1<<20)).Decode(&p); err != nil || p.Schema != planSchema {
		return p, exit.Errorf(exit.Refused, "%s in %s is not a plan of this version (%v)", key, out, fmt.Sprint(err))
	}
	return p, nil
}
