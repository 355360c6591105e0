package plan

import (
	"testing"
	"time"

	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/config"
)

func base(names ...string) config.Config {
	c := config.Default().InCluster()
	for _, name := range names {
		c.Accelerators = append(c.Accelerators, config.Accelerator{Name: name})
	}
	return c
}

func TestDeadlines(t *testing.T) {
	c := base("A100")
	for seconds, want := range map[int]int{0: 14400, 1: 1802, 120: 2040, 360: 2520} {
		c.MaxSeconds = seconds
		if got := Of(c).PointDeadline(); got != want {
			t.Errorf("max-seconds %d: %d, want %d", seconds, got, want)
		}
	}
	c.MaxSeconds, c.BatchSizes = 10, []int{1, 8}
	if got := time.Duration(Of(c).Deadline()) * time.Second; got != 24*time.Hour {
		t.Errorf("a short sweep: %s", got)
	}
	c.MaxSeconds, c.ParallelAccelerators = 3600, 1
	long := Of(c).Deadline()
	if work := int64(len(c.BatchSizes)) * 3600; long < 2*work {
		t.Errorf("%d s are too few for %d s of points", long, work)
	}
	c.Accelerators = append(c.Accelerators, config.Accelerator{Name: "H100"})
	if two := Of(c).Deadline(); two != 2*long {
		t.Errorf("two accelerators one after another: %d, one: %d", two, long)
	}
}

func TestAcceleratorsAreResolved(t *testing.T) {
	c := base("A100", "MI300X", "L4")
	c.Accelerators[1].TargetURL = "http://own:1"
	c.Accelerators[2].Count, c.Accelerators[2].MaxNumSeqs = 4, 96
	c.MaxNumSeqs = 64
	p := Of(c)
	for i, want := range []struct {
		target, resource string
		own              bool
		limit, gpus      int
	}{
		{"http://vllm-a100:8000", "nvidia.com/gpu", false, 64, 1},
		{"http://own:1", "amd.com/gpu", true, 64, 1},
		{"http://vllm-l4:8000", "nvidia.com/gpu", false, 96, 4},
	} {
		a := p.Accelerators[i]
		if a.TargetURL != want.target || a.Resource != want.resource || a.Own != want.own || a.MaxNumSeqs != want.limit || a.Count != want.gpus ||
			a.Deployed || len(a.Nodes) != 1 || len(a.Points) != len(c.BatchSizes)+1 { // the first again
			t.Errorf("%s: %+v, want %+v", a.Name, a, want)
		}
	}
	if n := len(p.Shared()); n != 2 {
		t.Errorf("%d accelerators share the target, want 2", n)
	}

	c.Deploy = true
	p = Of(c)
	if n := len(p.Deployed()); n != 2 || p.Accelerators[1].Deployed {
		t.Errorf("%d servers are deployed, want 2, and not one that there is", n)
	}
	c.MaxNumSeqs = 0
	if p = Of(c); p.ServerLimit(p.Accelerators[0]) != 64 || p.ServerLimit(p.Accelerators[2]) != 96 {
		t.Errorf("servers run %d and %d, want the largest batch, and the accelerator's own", p.ServerLimit(p.Accelerators[0]), p.ServerLimit(p.Accelerators[2]))
	}

	only := base("A100")
	only.Accelerators[0].TargetURL = "http://one:1"
	if p := Of(only); p.Accelerators[0].Own || p.TargetURL != "http://one:1" || p.Accelerators[0].TargetURL != "http://one:1" {
		t.Errorf("of a single accelerator the common target is its own: %+v", p.Accelerators[0])
	}
}

func TestServersAlike(t *testing.T) {
	c := base("A100", "H100", "L4")
	c.Deploy = true
	c.Accelerators[2].Count = 2
	groups := Of(c).Alike()
	if len(groups) != 2 || len(groups[0]) != 2 || groups[0][1].Name != "H100" || groups[1][0].Count != 2 {
		t.Errorf("%+v", groups)
	}
}

func TestLongestRequest(t *testing.T) {
	shapes := []config.Shape{{Shape: sweep.Shape{PromptTokens: 128, OutputTokens: 128}}, {Shape: sweep.Shape{PromptTokens: 4000, OutputTokens: 100}}}
	if got := LongestRequest(shapes...); got != 4000+120+sweep.ModelMargin {
		t.Errorf("%d tokens", got)
	}
}
