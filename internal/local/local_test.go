package local

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wfgen.dev/internal/cli/stepcli"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/llm/simulate"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/run/steps"
	"wfgen.dev/internal/run/store"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/config"
	"wfgen.dev/internal/sweep/plan"
)

// words collects what a run says.
type words struct {
	mu   sync.Mutex
	said []string
	done func(sweep.Point)
}

func (w *words) Say(line string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said = append(w.said, line)
}

func (w *words) Done(p sweep.Point, line string, _ time.Duration) {
	w.Say(line)
	if w.done != nil {
		w.done(p)
	}
}

// world is what the commands of step meet: servers that follow a law in virtual time.
// Wait and bench are played; aggregate is step's own.
type world struct {
	config  simulate.Config
	seconds int     // that a point measures; 0: as asked
	clock   float64 // of the points that know when they were
	benched []int   // batch sizes of the points that were measured, in their order
	calls   []steps.Call
	meet    func(call steps.Call) error // what happens to a call before it is done; nil: nothing
	mu      sync.Mutex
}

// value is what a call sets a flag to.
func value[T steps.Value](call steps.Call, flag steps.Flag[T]) string {
	for _, s := range call.Settings {
		if s.Variable() == flag.Variable() {
			return s.Value
		}
	}
	return ""
}

func (w *world) step(ctx context.Context, call steps.Call) (Result, error) {
	w.mu.Lock()
	w.calls = append(w.calls, call)
	w.mu.Unlock()
	if ctx.Err() != nil {
		return Result{}, ctx.Err()
	}
	if w.meet != nil {
		if err := w.meet(call); err != nil {
			return Result{}, exit.With(exit.Code(err), &stepError{err.Error()})
		}
	}
	switch call.Name {
	case steps.Wait.Name:
		return Result{Data: "serves it", Words: "warning: prefix caching is on\n"}, write(value(call, steps.Wait.Output), layout.OutServer.Key(), []byte(`{"pod":"p-0"}`))
	case steps.Bench.Name:
		return w.bench(call)
	}
	var stdout, stderr bytes.Buffer
	code := stepcli.Run(ctx, call.Args(), strings.NewReader(""), &stdout, &stderr)
	result := Result{stdout.String(), stderr.String()}
	if code != exit.Done {
		return result, exit.With(code, &stepError{stderr.String()})
	}
	return result, nil
}

// bench measures the point in virtual time and leaves what step bench leaves.
func (w *world) bench(call steps.Call) (Result, error) {
	b := steps.Bench
	number := func(text string) int {
		n, err := strconv.Atoi(text)
		if err != nil {
			panic(err)
		}
		return n
	}
	n, prompt, output := number(value(call, b.BatchSize)), number(value(call, b.PromptTokens)), number(value(call, b.OutputTokens))
	c := w.config
	c.Seed += int64(n)
	seconds, started := w.seconds, 0.0
	if seconds == 0 {
		seconds = number(value(call, b.MaxSeconds))
		w.mu.Lock()
		w.clock += float64(seconds) + 2
		w.benched = append(w.benched, n)
		started = 1e9 + w.clock
		c.Seed += 1000 * int64(w.clock)
		w.mu.Unlock()
	}
	rows, err := simulate.Closed(c, simulate.Loop{
		Streams: n, PromptTokens: prompt, OutputTokens: output, Spread: sweep.OutputSpread, Duration: time.Duration(seconds) * time.Second, Ramp: time.Second,
	})
	if err != nil {
		return Result{}, err
	}
	witness, requests, err := measurement.Reduce(rows, n)
	if err != nil {
		return Result{}, err
	}
	m := measurement.Measurement{
		Schema: measurement.Schema, Model: value(call, b.Model), Accelerator: value(call, b.Accelerator),
		Shape: sweep.Shape{PromptTokens: prompt, OutputTokens: output}, BatchSize: n, StartedAt: started, Seconds: float64(seconds),
		Driver: measurement.Driver{Name: value(call, b.Driver)}, Requests: requests, Client: &witness,
	}
	m.Taken = m.Weigh(measurement.Auto, measurement.Auto)
	data, err := measurement.Encode(m)
	if err != nil {
		return Result{}, err
	}
	out, report := value(call, b.Output), layout.ReportName(n, []int{1, 64})
	if err := write(out, layout.Reports+"/"+report+".json", []byte("{}")); err != nil {
		return Result{}, err
	}
	return Result{Data: m.Describe()}, write(out, layout.Measurement, data)
}

func write(dir, name string, data []byte) error {
	path := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}

func small() config.Config {
	c := config.Default()
	c.Model, c.Driver = "m", sweep.Native
	c.Accelerators = []config.Accelerator{{Name: "A100", TargetURL: "http://a100:1"}}
	c.Shapes = []config.Shape{{Shape: sweep.Shape{PromptTokens: 16, OutputTokens: 8}}}
	c.BatchSizes = []int{4, 1, 2}
	return c
}

func runner(t *testing.T, c config.Config) (*Runner, *world, *words, *strings.Builder) {
	t.Helper()
	out, err := store.New(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{config: simulate.Config{Alpha: 4, Beta: 0.2, Gamma: 10, Delta: 0.02, Jitter: 0.02, Seed: 3}, seconds: 4}
	said, stdout := &words{}, &strings.Builder{}
	return &Runner{Plan: plan.Of(c), Step: w.step, Out: out, Run: "r", Parallel: 1, Stdout: stdout, Progress: said}, w, said, stdout
}

func measure(ctx context.Context, t *testing.T, r *Runner) (failures []string, err error) {
	t.Helper()
	pending, err := r.Pending(ctx)
	if err != nil {
		t.Fatal(err)
	}
	ctx, release, err := r.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	return r.Measure(ctx, pending)
}

func estimate(t *testing.T, r *Runner) parameters.Parameters {
	t.Helper()
	key := layout.Run(r.Run) + "/" + layout.ParametersOf("A100", r.Plan.Shapes[0].Shape)
	f, err := r.Out.Open(t.Context(), key)
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

// The default batch sizes against a server with known parameters give them back, the
// whole way from the plan to parameters.json: alpha within 1 %, beta within 5 %, gamma
// within 3 %, delta within 5 %, in every sweep. The intervals are counted over
// thousands of sweeps in tests/coverage; here they must hold most of the truths.
func TestRecovery(t *testing.T) {
	c := small()
	c.Shapes = []config.Shape{{Shape: sweep.Shape{PromptTokens: 128, OutputTokens: 20}}}
	c.BatchSizes = config.Default().BatchSizes
	truth := map[string]float64{"alpha": 40, "beta": 0.5, "gamma": 240, "delta": 0.05}
	tolerance := map[string]float64{"alpha": 0.01, "beta": 0.05, "gamma": 0.03, "delta": 0.05}
	missed, all := 0, 0
	for seed := range int64(5) {
		r, w, _, stdout := runner(t, c)
		w.config = simulate.Config{Alpha: truth["alpha"], Beta: truth["beta"], Gamma: truth["gamma"], Delta: truth["delta"], Jitter: 0.02, Seed: 100 * seed}
		w.seconds = 60
		if failures, err := measure(t.Context(), t, r); err != nil || len(failures) > 0 {
			t.Fatal(failures, err)
		}
		if err := r.Aggregate(t.Context()); err != nil {
			t.Fatalf("%v\n%s", err, stdout)
		}
		p := estimate(t, r)
		for _, name := range slices.Sorted(maps.Keys(truth)) {
			got, low, high, ok := p.Parameter(name)
			if want := truth[name]; !ok || got < want*(1-tolerance[name]) || got > want*(1+tolerance[name]) {
				t.Errorf("seed %d: %s is %.5g, truth %.5g\n%s", seed, name, got, want, stdout)
			}
			all++
			if !(low <= truth[name] && truth[name] <= high) {
				missed++
			}
		}
	}
	if missed > all/4 {
		t.Errorf("%d of %d intervals miss the truth", missed, all)
	}
}

func TestARunIsLaidOutAndResumed(t *testing.T) {
	r, w, said, stdout := runner(t, small())
	failures, err := measure(t.Context(), t, r)
	if err != nil || len(failures) > 0 {
		t.Fatal(failures, err)
	}
	if err := r.Aggregate(t.Context()); err != nil && exit.Code(err) != exit.Refused { // a verdict about so short a run is not the point here
		t.Fatal(err)
	}
	keys, err := r.Out.List(t.Context(), "runs/r")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"runs/r/plan.json", "runs/r/summary.json", "runs/r/report/index.html", "runs/r/A100/measurements/16-8-b1.json", "runs/r/A100/measurements/16-8-b4.json",
		"runs/r/A100/reports/16-8/synchronous.json", "runs/r/A100/reports/16-8/b2.json", "runs/r/A100/parameters/16-8.json",
	} {
		if !slices.Contains(keys, want) {
			t.Errorf("%s is missing in %q", want, keys)
		}
	}
	if !strings.Contains(stdout.String(), "alpha") {
		t.Errorf("no table: %s", stdout)
	}
	if !slices.Contains(said.said, "A100: warning: prefix caching is on") {
		t.Errorf("a warning of a step that succeeded is lost: %q", said.said)
	}
	var order []string
	for _, call := range w.calls {
		order = append(order, strings.TrimSpace(call.Name+" "+value(call, steps.Bench.BatchSize)))
	}
	var want []string
	for _, p := range r.Plan.Accelerators[0].Points {
		want = append(want, fmt.Sprintf("bench %d", p.BatchSize))
	}
	if want = append(append([]string{"wait"}, want...), "aggregate"); !slices.Equal(order, want) {
		t.Errorf("ran %q, want %q", order, want)
	}

	pending, err := r.Pending(t.Context())
	if err != nil || len(pending) != 0 {
		t.Errorf("pending after all is measured: %v, %v", pending, err)
	}
	r.Force = true
	if pending, err = r.Pending(t.Context()); err != nil || len(pending["A100"]) != len(r.Plan.Accelerators[0].Points) {
		t.Errorf("forced: %v, %v", pending, err)
	}
}

// The third run into a directory tells what another would have, by the two accepted before.
func TestEarlierRunsTellOfAnother(t *testing.T) {
	c := small()
	c.BatchSizes, c.MaxSeconds = []int{1, 2, 4, 8, 16}, 12
	r, w, _, stdout := runner(t, c)
	w.config, w.seconds = simulate.Config{Alpha: 40, Beta: 0.5, Gamma: 240, Delta: 0.05, Jitter: 0.02}, 0
	for i := range 3 {
		r.Run = fmt.Sprint("r", i)
		if failures, err := measure(t.Context(), t, r); err != nil || len(failures) > 0 {
			t.Fatal(failures, err)
		}
		if err := r.Aggregate(t.Context()); err != nil {
			t.Fatalf("%v\n%s", err, stdout)
		}
		across := estimate(t, r).Fit.Across
		if i == 0 {
			if len(across) != 0 {
				t.Errorf("the first run knows of others: %+v", across)
			}
			continue
		}
		if len(across) != 4 || across[0].Runs != i+1 || len(across[0].Earlier) != i || !(across[0].Low < 40 && across[0].High > 40) {
			t.Errorf("run %d: %+v", i, across)
		}
	}
	if !strings.Contains(stdout.String(), "Another run would have alpha") || !strings.Contains(stdout.String(), "(3 runs, ") {
		t.Errorf("the table does not say:\n%s", stdout)
	}
}

// A run on one machine asks a server what a workflow asks it, and tells the points what
// it was told.
func TestTheServerIsAskedAsInAWorkflow(t *testing.T) {
	c := small()
	c.MaxNumSeqs = 8
	r, w, _, _ := runner(t, c)
	if failures, err := measure(t.Context(), t, r); err != nil || len(failures) > 0 {
		t.Fatal(failures, err)
	}
	wait, bench := w.calls[0], w.calls[1]
	for _, got := range []struct{ what, value, want string }{
		{"shapes", value(wait, steps.Wait.Shapes), "16/8"}, {"batch sizes", value(wait, steps.Wait.BatchSizes), "4,1,2"}, {"limit", value(wait, steps.Wait.MaxNumSeqs), "8"},
		{"server", value(bench, steps.Bench.Server), `{"pod":"p-0"}`}, {"limit of a point", value(bench, steps.Bench.MaxNumSeqs), "8"},
		{"target", value(bench, steps.Bench.Target), "http://a100:1"},
	} {
		if got.value != got.want {
			t.Errorf("%s: %q, want %q", got.what, got.value, got.want)
		}
	}
}

// The prefill rate is asked for after the points, of the same server, and again only where
// the run has no record of it. One that is refused is said, and keeps nobody from the estimate.
func TestThePrefillRateIsMeasuredOnce(t *testing.T) {
	c := small()
	c.PrefillChunk = 256
	r, w, _, _ := runner(t, c)
	w.meet = func(call steps.Call) error {
		if call.Name == steps.Prefill.Name {
			return exit.Errorf(exit.Refused, "the median is wide")
		}
		return nil
	}
	failures, err := measure(t.Context(), t, r)
	if err != nil || len(failures) != 1 || !strings.Contains(failures[0], "A100: prefill rate: the median is wide") {
		t.Fatal(failures, err)
	}
	k, last := steps.Prefill, w.calls[len(w.calls)-1]
	for _, got := range []struct{ what, value, want string }{
		{"command", last.Name, k.Name}, {"chunk", value(last, k.ChunkTokens), "256"}, {"server", value(last, k.Server), `{"pod":"p-0"}`},
		{"target", value(last, k.Target), "http://a100:1"}, {"place", value(last, k.Output), r.at(layout.Accelerator(r.Run, "A100"))},
	} {
		if got.value != got.want {
			t.Errorf("%s: %q, want %q", got.what, got.value, got.want)
		}
	}
	asked := len(w.calls)
	if _, err := measure(t.Context(), t, r); err != nil || len(w.calls) != asked+2 { // wait, and the probe
		t.Errorf("%v, %d calls more", err, len(w.calls)-asked)
	}
	if err := r.Out.Put(t.Context(), layout.PrefillOf(r.Run, "A100"), strings.NewReader("{}")); err != nil {
		t.Fatal(err)
	}
	asked = len(w.calls)
	if _, err := measure(t.Context(), t, r); err != nil || len(w.calls) != asked {
		t.Errorf("%v, %d calls more", err, len(w.calls)-asked)
	}
}

func TestInterruptionKeepsWhatIsMeasured(t *testing.T) {
	r, _, said, _ := runner(t, small())
	ctx, cancel := context.WithCancel(t.Context())
	said.done = func(sweep.Point) { cancel() } // after the first point
	if _, err := measure(ctx, t, r); err == nil {
		t.Fatal("no error")
	}
	pending, err := r.Pending(t.Context())
	if want := len(r.Plan.Accelerators[0].Points) - 1; err != nil || len(pending["A100"]) != want {
		t.Errorf("pending %v, %v; the first point is measured", pending, err)
	}
	name, resumed, err := NameRun(t.Context(), r.Out, r.Plan, "", time.Now())
	if err != nil || name != "r" || !resumed {
		t.Errorf("the next run is %q, resumed %v, %v", name, resumed, err)
	}
	other := r.Plan
	other.Model = "another"
	if name, resumed, err = NameRun(t.Context(), r.Out, other, "", time.Now()); err != nil || name == "r" || resumed {
		t.Errorf("another model resumes %q, resumed %v, %v", name, resumed, err)
	}
	if _, _, err = NameRun(t.Context(), r.Out, other, "r", time.Now()); exit.Code(err) != exit.Usage {
		t.Errorf("another model in the same run: %v", err)
	}
}

func TestOneAcceleratorThatFailsDoesNotLoseTheOther(t *testing.T) {
	c := small()
	c.Accelerators = append([]config.Accelerator{{Name: "DEAD", TargetURL: "http://dead:1"}}, c.Accelerators...)
	r, w, _, stdout := runner(t, c)
	w.meet = func(call steps.Call) error {
		if call.Name == steps.Wait.Name && value(call, steps.Wait.Target) == "http://dead:1" {
			return exit.Errorf(exit.TryAgain, "http://dead:1 is not ready")
		}
		return nil
	}
	failures, err := measure(t.Context(), t, r)
	if err != nil {
		t.Fatal(err)
	}
	if len(failures) != 1 || !strings.Contains(failures[0], "DEAD") || !strings.Contains(failures[0], "not ready") {
		t.Errorf("failures %q", failures)
	}
	for _, call := range w.calls {
		if target := value(call, steps.Bench.Target); call.Name == steps.Bench.Name && target != "http://a100:1" {
			t.Errorf("a point of %s is measured at %s", value(call, steps.Bench.Accelerator), target)
		}
	}
	if err := r.Aggregate(t.Context()); exit.Code(err) != exit.Refused {
		t.Errorf("an accelerator without parameters, yet exit %d: %v", exit.Code(err), err)
	}
	if !strings.Contains(stdout.String(), "DEAD") || !strings.Contains(stdout.String(), "A100") {
		t.Errorf("the table names not both:\n%s", stdout)
	}
}

// What failed in passing is tried again, with pauses, as often as the plan says, and
// stays pending; what cannot heal is tried once.
func TestAPointIsTriedAgainWhileThatMayHelp(t *testing.T) {
	for _, test := range []struct {
		name    string
		err     error
		failing int // of the first attempts at a point
		tried   int
		pending bool
		failed  bool
	}{
		{"once", exit.Errorf(exit.TryAgain, "connection lost"), 1, 2, false, false},
		{"always", exit.Errorf(exit.TryAgain, "connection lost"), 9, 3, true, true},
		{"for good", exit.Errorf(exit.Unusable, "batch size 4 is above max-num-seqs 2"), 9, 1, true, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := small()
			c.BatchSizes = []int{4}
			c.Retries = 2
			r, w, said, _ := runner(t, c)
			tried := 0
			w.meet = func(call steps.Call) error {
				if call.Name != steps.Bench.Name {
					return nil
				}
				if tried++; tried <= test.failing {
					return test.err
				}
				return nil
			}
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now()
				failures, err := measure(t.Context(), t, r)
				if err != nil || (len(failures) > 0) != test.failed {
					t.Fatalf("failures %q, %v", failures, err)
				}
				if pauses := time.Duration(0); test.tried > 1 && time.Since(begin) == pauses {
					t.Error("no pause between attempts")
				}
			})
			if tried != test.tried {
				t.Errorf("tried %d times, want %d: %q", tried, test.tried, said.said)
			}
			pending, err := r.Pending(t.Context())
			if err != nil || (len(pending["A100"]) > 0) != test.pending {
				t.Errorf("pending %v, %v", pending, err)
			}
		})
	}
}

// guidellm ends well with nothing answered: step bench then leaves a measurement that
// says so, and asks for another attempt.
func TestAMeasurementThatDoesNotCountIsNotPublished(t *testing.T) {
	r, _, _, _ := runner(t, small())
	p := r.Plan.Accelerators[0].Points[0]
	work := t.TempDir()
	put := func(version string) {
		m := measurement.Measurement{Model: "m", Accelerator: p.Accelerator, Shape: p.Shape, BatchSize: p.BatchSize}
		m.Provenance.ServerVersion = version
		data, err := measurement.Encode(m)
		if err == nil {
			err = write(work, layout.Measurement, data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	put("0.9")
	for _, counts := range []bool{false, true} {
		if err := r.publish(t.Context(), work, p, counts); err != nil {
			t.Fatal(err)
		}
		have, err := r.measured(t.Context())
		if err != nil || have[layout.MeasurementOf(r.Run, p)] != counts {
			t.Errorf("counts %v: the run holds %v, %v", counts, have, err)
		}
	}
	// The points after it, in this process or another, are of the same server.
	put("0.10")
	r.servers = nil
	if err := r.publish(t.Context(), work, r.Plan.Accelerators[0].Points[1], true); exit.Code(err) != exit.Refused || !strings.Contains(err.Error(), "version 0.10, not 0.9") {
		t.Errorf("a point of another server: exit %d, %v", exit.Code(err), err)
	}
}

func TestRunNames(t *testing.T) {
	r, _, _, _ := runner(t, small())
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	if name, resumed, err := NameRun(t.Context(), r.Out, r.Plan, "", now); err != nil || name != "20260102-030405" || resumed {
		t.Errorf("%q, %v, %v", name, resumed, err)
	}
	for _, name := range []string{"a/b", "..", "a b"} {
		if _, _, err := NameRun(t.Context(), r.Out, r.Plan, name, now); exit.Code(err) != exit.Usage {
			t.Errorf("%q is taken: %v", name, err)
		}
	}
}

// A run is held by one process; what a dead one left does not hold it.
func TestARunIsHeldByOneProcess(t *testing.T) {
	r, _, _, _ := runner(t, small())
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	_, release, err := Hold(t.Context(), r.Out, r.Run)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := Hold(t.Context(), r.Out, r.Run); exit.Code(err) != exit.TryAgain || !strings.Contains(err.Error(), fmt.Sprintf("process %d on %s", os.Getpid(), host)) {
		t.Errorf("held twice: %v", err)
	}
	if err := r.writePlan(t.Context()); err != nil {
		t.Fatal(err)
	}
	if name, resumed, err := NameRun(t.Context(), r.Out, r.Plan, "", time.Now()); err != nil || resumed {
		t.Errorf("%s, which is held, is resumed: %v", name, err)
	}
	release()

	now := time.Now().Unix()
	ended := exec.Command("true")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		what string
		claim
		holds bool
	}{
		{"a dead process here", claim{Host: host, PID: ended.Process.Pid, Beat: now}, false},
		{"a silent one elsewhere", claim{Host: "elsewhere", PID: 1, Beat: now - 3600}, false},
		{"one that let go", claim{Host: "elsewhere", PID: 1, Beat: now, Released: true}, false},
		{"one elsewhere", claim{Host: "elsewhere", PID: 1, Beat: now}, true},
	} {
		tc.Schema = claimSchema
		data, err := json.Marshal(tc.claim)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Out.Put(t.Context(), layout.ClaimsOf(r.Run)+"/other.json", bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
		_, release, err := Hold(t.Context(), r.Out, r.Run)
		if (err != nil) != tc.holds {
			t.Errorf("%s: %v", tc.what, err)
		}
		if err == nil {
			release()
		}
	}
}

// Whatever tells data apart is in the plan; what an older version did not record is not
// compared.
func TestARunIsNotMixedWithAnother(t *testing.T) {
	r, _, _, _ := runner(t, small())
	if _, err := measure(t.Context(), t, r); err != nil {
		t.Fatal(err)
	}
	for what, edit := range map[string]func(*plan.Plan){
		"model":                func(p *plan.Plan) { p.Model = "another" },
		"max-seconds":          func(p *plan.Plan) { p.MaxSeconds++ },
		"shape":                func(p *plan.Plan) { p.Shapes = []config.Shape{{Shape: sweep.Shape{PromptTokens: 32, OutputTokens: 8}}} },
		"batch size":           func(p *plan.Plan) { p.BatchSizes = []int{1, 4} },
		"batch sizes":          func(p *plan.Plan) { p.BatchSizes = []int{1, 2, 4, 8} },
		"tokenizer":            func(p *plan.Plan) { p.Tokenizer = "other" },
		"target of A100":       func(p *plan.Plan) { p.Accelerators[0].TargetURL = "http://other:1" },
		"max-num-seqs of A100": func(p *plan.Plan) { p.Accelerators[0].MaxNumSeqs = 77 },
	} {
		p := r.Plan
		p.Accelerators = slices.Clone(p.Accelerators)
		edit(&p)
		if _, _, err := NameRun(t.Context(), r.Out, p, r.Run, time.Now()); exit.Code(err) != exit.Usage || !strings.Contains(err.Error(), what+" ") {
			t.Errorf("%s: %v", what, err)
		}
		if name, resumed, err := NameRun(t.Context(), r.Out, p, "", time.Now()); err != nil || resumed {
			t.Errorf("%s: %s is resumed, %v", what, name, err)
		}
	}
	old := begunWith(r.Plan)
	old.Targets, old.MaxNumSeqs, old.Tokenizer, old.Version = nil, nil, nil, ""
	if list := old.differences(begunWith(r.Plan)); len(list) > 0 {
		t.Errorf("a plan of the version before: %q", list)
	}
}
