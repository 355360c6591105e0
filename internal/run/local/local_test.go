package local

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/run/store"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/catalogue"
)

var step string // the program, built once

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "step-")
	if err != nil {
		panic(err)
	}
	step = filepath.Join(dir, "step")
	out, err := exec.Command("go", "build", "-o", step, "wfgen.dev/cmd/step").CombinedOutput()
	if err != nil {
		panic(string(out))
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// words collects what a run says.
type words struct {
	said []string
	done func(sweep.Point)
}

func (w *words) Say(line string) { w.said = append(w.said, line) }
func (w *words) Done(p sweep.Point, line string, _ time.Duration) {
	w.said = append(w.said, line)
	if w.done != nil {
		w.done(p)
	}
}

func runner(t *testing.T, s sweep.Sweep) (*Runner, *words, *strings.Builder) {
	t.Helper()
	out, err := store.New(context.Background(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w, stdout := &words{}, &strings.Builder{}
	return &Runner{Sweep: s, Step: step, Out: out, Run: "r", Parallel: 1, Method: "wls", WaitTimeout: 20 * time.Second, Stdout: stdout, Progress: w}, w, stdout
}

// serve starts a simulated server that follows the law.
func serve(t *testing.T, law catalogue.Linear4, seqs int) string {
	t.Helper()
	url, stop, err := Simulate(context.Background(), step, "m", law, seqs, 512, 0.02, 3)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return url
}

var (
	// truth is large enough that the noise of a shared machine does not decide
	// about what is recovered; quick is for what does not depend on it.
	truth = catalogue.Linear4{Alpha: 40, Beta: 0.5, Gamma: 240, Delta: 0.05}
	quick = catalogue.Linear4{Alpha: 4, Beta: 0.2, Gamma: 10, Delta: 0.02}
)

func small(url string) sweep.Sweep {
	return sweep.Sweep{
		Model: "m", Accelerators: []sweep.Accelerator{{Name: "A100", TargetURL: url}},
		Shapes: []sweep.Shape{{PromptTokens: 16, OutputTokens: 4}}, BatchSizes: []int{4, 1, 2}, MaxRequests: 40, Driver: sweep.Native,
	}
}

func measure(ctx context.Context, t *testing.T, r *Runner) (failures []string, err error) {
	t.Helper()
	pending, err := r.Pending(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return r.Measure(ctx, pending)
}

func estimate(t *testing.T, r *Runner, accelerator string, shape sweep.Shape) parameters.Parameters {
	t.Helper()
	key := layout.Run(r.Run) + "/" + layout.ParametersOf(accelerator, shape)
	f, err := r.Out.Open(context.Background(), key)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, err := parameters.Decode(f, key)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// The default batch sizes against a server with known parameters give them back:
// alpha within 1 %, beta within 5 %, gamma within 3 %, delta within 5 %, always.
// The truth lies inside the 95 % interval of one sweep; since that may by right
// miss once in twenty times, a miss must not repeat itself in a second sweep.
func TestRecovery(t *testing.T) {
	if testing.Short() {
		t.Skip("measures for a minute")
	}
	s := small(serve(t, truth, 64))
	s.Shapes = []sweep.Shape{{PromptTokens: 128, OutputTokens: 20}}
	s.BatchSizes, s.MaxRequests, s.MaxSeconds = []int{1, 2, 4, 8, 16, 32, 64}, 0, 6
	missed := recover4(t, s)
	if len(missed) == 0 {
		return
	}
	again := recover4(t, s)
	for name, first := range missed {
		if second, too := again[name]; too {
			t.Errorf("%s: the truth is outside %s and outside %s", name, first, second)
		}
	}
}

// recover4 sweeps once, checks the estimates, and returns the intervals that miss
// the truth.
func recover4(t *testing.T, s sweep.Sweep) map[string]string {
	t.Helper()
	r, _, stdout := runner(t, s)
	failures, err := measure(context.Background(), t, r)
	if err != nil || len(failures) > 0 {
		t.Fatal(failures, err)
	}
	if err := r.Aggregate(context.Background()); err != nil {
		t.Fatalf("%v\n%s", err, stdout)
	}
	p := estimate(t, r, "A100", s.Shapes[0])
	missed := map[string]string{}
	for _, want := range []struct {
		name      string
		truth     float64
		tolerance float64
	}{{"alpha", truth.Alpha, 0.01}, {"beta", truth.Beta, 0.05}, {"gamma", truth.Gamma, 0.03}, {"delta", truth.Delta, 0.05}} {
		value, low, high, ok := p.Parameter(want.name)
		if !ok || value < want.truth*(1-want.tolerance) || value > want.truth*(1+want.tolerance) {
			t.Errorf("%s is %.5g, truth %.5g\n%s", want.name, value, want.truth, stdout)
		}
		if !(low <= want.truth && want.truth <= high) {
			missed[want.name] = fmt.Sprintf("[%.5g, %.5g]", low, high)
			t.Logf("%s: the truth %.5g is outside %s", want.name, want.truth, missed[want.name])
		}
	}
	return missed
}

func TestARunIsLaidOutAndResumed(t *testing.T) {
	ctx := context.Background()
	r, w, stdout := runner(t, small(serve(t, quick, 8)))
	failures, err := measure(ctx, t, r)
	if err != nil || len(failures) > 0 {
		t.Fatal(failures, err)
	}
	if err := r.Aggregate(ctx); err != nil && exit.Code(err) != exit.Refused { // a verdict about so short a run is not the point here
		t.Fatal(err)
	}
	keys, err := r.Out.List(ctx, "runs/r")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"runs/r/plan.json", "runs/r/summary.json", "runs/r/A100/measurements/16-4-b1.json", "runs/r/A100/measurements/16-4-b4.json",
		"runs/r/A100/reports/16-4/synchronous.json", "runs/r/A100/reports/16-4/synchronous-log.txt", "runs/r/A100/reports/16-4/b2.json",
		"runs/r/A100/reports/16-4/throughput.json", "runs/r/A100/reports/16-4/throughput-server.json", "runs/r/A100/parameters/16-4.json",
	} {
		if !slices.Contains(keys, want) {
			t.Errorf("%s is missing in %q", want, keys)
		}
	}
	if !strings.Contains(stdout.String(), "alpha") {
		t.Errorf("no table: %s", stdout)
	}
	if order := strings.Join(w.said, "\n"); strings.Index(order, "batch 1 ") > strings.Index(order, "batch 2 ") || strings.Index(order, "batch 2 ") > strings.Index(order, "batch 4 ") {
		t.Errorf("points are not in ascending order:\n%s", order)
	}

	pending, err := r.Pending(ctx)
	if err != nil || len(pending) != 0 {
		t.Errorf("pending after all is measured: %v, %v", pending, err)
	}
	r.Force = true
	if pending, err = r.Pending(ctx); err != nil || len(pending["A100"]) != 3 {
		t.Errorf("forced: %v, %v", pending, err)
	}
}

func TestInterruptionKeepsWhatIsMeasured(t *testing.T) {
	r, w, _ := runner(t, small(serve(t, quick, 8)))
	ctx, cancel := context.WithCancel(context.Background())
	w.done = func(sweep.Point) { cancel() } // after the first point
	if _, err := measure(ctx, t, r); err == nil {
		t.Fatal("no error")
	}
	pending, err := r.Pending(context.Background())
	if err != nil || len(pending["A100"]) != 2 {
		t.Errorf("pending %v, %v; the first point is measured", pending, err)
	}
	name, resumed, err := NameRun(context.Background(), r.Out, r.Sweep, "", time.Now())
	if err != nil || name != "r" || !resumed {
		t.Errorf("the next run is %q, resumed %v, %v", name, resumed, err)
	}
	other := r.Sweep
	other.Model = "another"
	if name, resumed, err = NameRun(context.Background(), r.Out, other, "", time.Now()); err != nil || name == "r" || resumed {
		t.Errorf("another model goes on with %q, resumed %v, %v", name, resumed, err)
	}
	if _, _, err = NameRun(context.Background(), r.Out, other, "r", time.Now()); exit.Code(err) != exit.Usage {
		t.Errorf("another model in the same run: %v", err)
	}
}

func TestOneAcceleratorThatFailsDoesNotLoseTheOther(t *testing.T) {
	s := small(serve(t, quick, 8))
	s.Accelerators = append([]sweep.Accelerator{{Name: "DEAD", TargetURL: "http://127.0.0.1:1"}}, s.Accelerators...)
	s.MaxRequests = 60
	s.BatchSizes = append(s.BatchSizes, 16) // above what the server runs at once: TTFT is void, the point is not lost
	r, _, stdout := runner(t, s)
	r.WaitTimeout = time.Second
	failures, err := measure(context.Background(), t, r)
	if err != nil {
		t.Fatal(err)
	}
	if len(failures) != 1 || !strings.Contains(failures[0], "DEAD") || !strings.Contains(failures[0], "not ready") {
		t.Errorf("failures %q", failures)
	}
	if err := r.Aggregate(context.Background()); exit.Code(err) != exit.Refused {
		t.Errorf("an accelerator without parameters, yet exit %d: %v", exit.Code(err), err)
	}
	if !strings.Contains(stdout.String(), "DEAD") || !strings.Contains(stdout.String(), "A100") {
		t.Errorf("the table names not both:\n%s", stdout)
	}
}

func TestARefusedPointIsTriedOnce(t *testing.T) {
	s := small(serve(t, quick, 8))
	s.Accelerators[0].MaxNumSeqs = 2
	r, w, _ := runner(t, s)
	r.Retries = 3
	failures, err := measure(context.Background(), t, r)
	if err != nil || len(failures) != 1 || !strings.Contains(failures[0], "max-num-seqs") {
		t.Errorf("failures %q, %v", failures, err)
	}
	if strings.Contains(strings.Join(w.said, "\n"), "trying again") {
		t.Errorf("what cannot heal was tried again: %q", w.said)
	}
}

// A point that failed in passing is tried again when the run is gone on with,
// although what it left tells how it failed.
func TestAPointThatFailedInPassingStaysPending(t *testing.T) {
	url, stop, err := Simulate(context.Background(), step, "m", quick, 8, 512, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	s := small(url)
	s.BatchSizes, s.MaxRequests, s.MaxSeconds = []int{1}, 0, 60
	r, _, _ := runner(t, s)
	time.AfterFunc(3*time.Second, stop)
	failures, err := measure(context.Background(), t, r)
	if err != nil || len(failures) != 1 {
		t.Fatalf("failures %q, %v", failures, err)
	}
	pending, err := r.Pending(context.Background())
	if err != nil || len(pending["A100"]) != 1 {
		t.Errorf("pending %v, %v", pending, err)
	}
}

// guidellm ends well with nothing answered: step bench then leaves a measurement
// that says so, and asks for another attempt.
func TestAMeasurementThatDoesNotCountIsNotPublished(t *testing.T) {
	r, _, _ := runner(t, small("http://127.0.0.1:1"))
	p := r.Sweep.Points("A100")[0]
	work := t.TempDir()
	if err := os.WriteFile(filepath.Join(work, layout.Measurement), []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, counts := range []bool{false, true} {
		if err := r.publish(context.Background(), work, p, counts); err != nil {
			t.Fatal(err)
		}
		have, err := r.measured(context.Background())
		if err != nil || have[layout.MeasurementOf(r.Run, p)] != counts {
			t.Errorf("counts %v: the run holds %v, %v", counts, have, err)
		}
	}
}

func TestRunNames(t *testing.T) {
	r, _, _ := runner(t, small("http://127.0.0.1:1"))
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	if name, resumed, err := NameRun(context.Background(), r.Out, r.Sweep, "", now); err != nil || name != "20260102-030405" || resumed {
		t.Errorf("%q, %v, %v", name, resumed, err)
	}
	for _, name := range []string{"a/b", "..", "a b"} {
		if _, _, err := NameRun(context.Background(), r.Out, r.Sweep, name, now); exit.Code(err) != exit.Usage {
			t.Errorf("%q is taken: %v", name, err)
		}
	}
}
