// Package coverage tests the whole estimate, from the requests of simulated
// sweeps to the intervals of their parameters: do intervals of 95 % hold the truth
// 95 times in a hundred? It holds tests only. docs/statistics.md quotes what they
// print.
package coverage

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/llm/record"
	"wfgen.dev/internal/llm/simulate"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/run/reason"
	"wfgen.dev/internal/sweep"
)

// sweepsVariable asks for another number of sweeps of every server, and for the
// comparison that takes too long for every test run.
const sweepsVariable = "WFGEN_COVERAGE_SWEEPS"

// The simulations make much garbage and keep little: the collector may come later.
func TestMain(m *testing.M) {
	debug.SetGCPercent(800)
	os.Exit(m.Run())
}

// server is one whose sweeps are simulated.
type server struct {
	name    string
	config  simulate.Config
	loop    simulate.Loop // of every point, but for the streams
	batches []int
	widths  [4]float64 // half widths, percent, that intervals had which knew of no difference between runs; 0: not known
}

// The truths: the example of the two-run recipe, and the engine that fits public
// sweeps of Llama-3.1-8B. Both servers drift by 2 % with a memory of 64
// iterations, half a second and about a request long, and scatter by 5 % around that.
var (
	linear4 = simulate.Config{Alpha: 6.973, Beta: 0.027, Gamma: 14.825, Delta: 0.001364, Jitter: 0.05, Wander: 0.02}
	engine  = simulate.Config{Latency: simulate.Engine, Base: 6.72, Seq: 0.0215, Ctx: 5.37e-5, Pre: 0.0166, Pre2: 1.33e-6, Jitter: 0.05, Wander: 0.02}
)

var servers = []server{
	{"linear4", linear4, simulate.Loop{PromptTokens: 512, OutputTokens: 32, Duration: 12 * time.Second},
		[]int{1, 2, 4, 8, 16, 32, 64}, [4]float64{0.54, 6.43, 1.12, 1.49}},
	{"engine", engine, simulate.Loop{PromptTokens: 256, OutputTokens: 64, Spread: 0.5, Duration: 20 * time.Second, Pause: time.Millisecond},
		[]int{1, 2, 4, 8, 16, 32, 64}, [4]float64{0.47, 2.21, 1.36, 4.85}},
}

// runs are the batch sizes in the order in which a sweep measures them, the first again
// at its end.
func (s server) runs() []int {
	order := sweep.Order(s.batches)
	return append(order, order[0])
}

var names = [4]string{"alpha", "beta", "gamma", "delta"}

func parameters(f fit.Linear4) [4]fit.Parameter {
	return [4]fit.Parameter{f.Alpha, f.Beta, f.Gamma, f.Delta}
}

// reducer makes the client's witness of a point.
type reducer func(rows []record.Request, streams int) (measurement.Witness, error)

func reduced(rows []record.Request, streams int) (measurement.Witness, error) {
	w, _, err := measurement.Reduce(rows, streams)
	return w, err
}

// point simulates one point and reduces it in each way.
func (s server) point(streams int, config simulate.Config, duration time.Duration, reducers ...reducer) ([]fit.Point, error) {
	loop := s.loop
	loop.Streams, loop.Duration = streams, duration
	rows, err := simulate.Closed(config, loop)
	if err != nil {
		return nil, err
	}
	sample := func(e *measurement.Estimate) fit.Sample {
		return fit.Sample{MS: e.MeanMS, StandardError: e.StandardErrorMS, Blocks: e.Blocks}
	}
	points := make([]fit.Point, len(reducers))
	for i, reduce := range reducers {
		w, err := reduce(rows, streams)
		if err != nil {
			return nil, fmt.Errorf("%s, %d streams: %w", s.name, streams, err)
		}
		points[i] = fit.Point{
			Group: s.name, Label: fmt.Sprintf("batch %d", streams), Batch: w.Batch, PromptTokens: float64(loop.PromptTokens),
			ITL: sample(w.ITL), TTFT: sample(w.TTFT),
		}
	}
	return points, nil
}

// sweep simulates the points of one sweep, each with a server of its own, and
// returns them as each reducer sees them.
func (s server) sweep(seed uint64, reducers ...reducer) ([][]fit.Point, error) {
	seeds := rand.New(rand.NewPCG(seed, 1))
	sweeps := make([][]fit.Point, len(reducers))
	for at, streams := range s.runs() {
		config := s.config
		config.Seed = seeds.Int64()
		points, err := s.point(streams, config, s.loop.Duration, reducers...)
		if err != nil {
			return nil, err
		}
		for i, p := range points {
			p.At = 1e9 + float64(at)*s.loop.Duration.Seconds()
			sweeps[i] = append(sweeps[i], p)
		}
	}
	return sweeps, nil
}

// truth is what the intervals must hold: the parameters of the law, or for an
// engine, which has none, the same fit to long runs without noise. They are
// weighed as the sweeps' points are, by the given typical errors, because a line
// through points that are not quite on one depends on their weights.
func (s server) truth(tb testing.TB, typical []fit.Point) [4]float64 {
	tb.Helper()
	if c := s.config; c.Latency != simulate.Engine {
		return [4]float64{c.Alpha, c.Beta, c.Gamma, c.Delta}
	}
	points := slices.Clone(s.quiet(tb))
	for i := range points {
		p := &points[i]
		p.ITL.StandardError, p.ITL.Blocks = typical[i].ITL.StandardError, typical[i].ITL.Blocks
		p.TTFT.StandardError, p.TTFT.Blocks = typical[i].TTFT.StandardError, typical[i].TTFT.Blocks
	}
	var truth [4]float64
	for i, p := range parameters(fit.FitLinear4(points, fit.Options{Method: fit.WLS})) {
		truth[i] = p.Value
	}
	return truth
}

// quiets are the long runs of servers without noise, which take a while: by server.
var quiets sync.Map

// quiet are the points of a sweep of long runs without noise.
func (s server) quiet(tb testing.TB) []fit.Point {
	tb.Helper()
	key := fmt.Sprintf("%+v", s)
	if known, ok := quiets.Load(key); ok {
		return known.([]fit.Point)
	}
	config := s.config
	config.Jitter, config.Wander, config.Stalls = 0, 0, 0
	var points []fit.Point
	for _, streams := range s.runs() {
		long, err := s.point(streams, config, 100*s.loop.Duration, reduced)
		if err != nil {
			tb.Fatal(err)
		}
		points = append(points, long[0])
	}
	quiets.Store(key, points)
	return points
}

// result is what the intervals of many sweeps were worth.
type result struct {
	covered [4]float64 // percent of the sweeps
	bias    [4]float64 // mean distance from the truth, in standard errors of one sweep
	ratio   [4]float64 // mean standard error (quadratic) over the true scatter
	width   [4]float64 // median half width of the intervals, percent of the value

	predicted [2]float64 // percent of the points left out of ITL's and TTFT's line that lie inside its prediction

	accepted float64                 // percent of the sweeps
	codes    map[reason.Code]float64 // percent of the sweeps whose verdict has it
}

// simulated are so many sweeps, by reducer.
func (s server) simulated(tb testing.TB, sweeps int, reducers ...reducer) [][][]fit.Point {
	tb.Helper()
	began := time.Now()
	all := make([][][]fit.Point, sweeps)
	errs := make([]error, sweeps)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= sweeps {
					return
				}
				all[i], errs[i] = s.sweep(uint64(i), reducers...)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		tb.Fatal(err)
	}
	by := make([][][]fit.Point, len(reducers))
	for i := range reducers {
		for k := range all {
			by[i] = append(by[i], all[k][i])
		}
	}
	tb.Logf("%s: %d sweeps in %v", s.name, sweeps, time.Since(began).Round(10*time.Millisecond))
	return by
}

// cover simulates sweeps and counts whose intervals hold the truth, for each way to
// reduce them.
func (s server) cover(tb testing.TB, sweeps int, reducers ...reducer) []result {
	tb.Helper()
	var results []result
	for _, all := range s.simulated(tb, sweeps, reducers...) {
		results = append(results, s.judge(tb, all, disturbance{}))
	}
	return results
}

// disturbance is what no point knows of: all latencies of a run are scaled.
type disturbance struct {
	name    string
	between float64 // standard deviation of the factor of each run
	heat    float64 // by how much the server is slower at the end of the sweep than at its begin
}

// of returns the points of a sweep as the disturbance leaves them. The truth is the
// server in the middle of the sweep.
func (d disturbance) of(points []fit.Point, random *rand.Rand) []fit.Point {
	points = slices.Clone(points)
	for i := range points {
		factor := 1 + d.between*random.NormFloat64() + d.heat*(float64(i)/float64(len(points)-1)-0.5)
		for _, s := range []*fit.Sample{&points[i].ITL, &points[i].TTFT} {
			s.MS *= factor
			s.StandardError *= factor
		}
	}
	return points
}

func (s server) judge(tb testing.TB, all [][]fit.Point, d disturbance) result {
	tb.Helper()
	sweeps := len(all)
	typical := slices.Clone(all[0])
	for i := range typical {
		itl, ttft := 0.0, 0.0
		for _, points := range all {
			itl += points[i].ITL.StandardError * points[i].ITL.StandardError
			ttft += points[i].TTFT.StandardError * points[i].TTFT.StandardError
		}
		typical[i].ITL.StandardError = math.Sqrt(itl / float64(sweeps))
		typical[i].TTFT.StandardError = math.Sqrt(ttft / float64(sweeps))
	}
	truth := s.truth(tb, typical)

	r := result{codes: map[reason.Code]float64{}}
	var inside, off, squares, claimed [4]float64
	widths := [4][]float64{}
	random := rand.New(rand.NewPCG(uint64(sweeps), 3))
	for k, points := range all {
		points = d.of(points, random)
		f := fit.FitLinear4(points, fit.Options{Method: fit.WLS})
		r.count(f.Verdict, sweeps)
		r.predict(points, 1+k%(len(points)-2), sweeps)
		for j, p := range parameters(f) {
			if p.Low <= truth[j] && truth[j] <= p.High {
				inside[j]++
			}
			d := p.Value - truth[j]
			off[j] += d / float64(sweeps)
			squares[j] += d * d / float64(sweeps)
			claimed[j] += p.StandardError * p.StandardError / float64(sweeps)
			widths[j] = append(widths[j], 50*(p.High-p.Low)/p.Value)
		}
	}
	for j := range truth {
		r.covered[j] = 100 * inside[j] / float64(sweeps)
		scatter := math.Sqrt(squares[j] - off[j]*off[j])
		r.bias[j] = off[j] / scatter
		r.ratio[j] = math.Sqrt(claimed[j]) / scatter
		slices.Sort(widths[j])
		r.width[j] = widths[j][sweeps/2]
	}
	return r
}

// predict fits without one point that lies within the range, and adds whether it is where
// the lines predict it, to so many.
func (r *result) predict(points []fit.Point, left, of int) {
	p := points[left]
	f := fit.FitLinear4(slices.Delete(slices.Clone(points), left, left+1), fit.Options{Method: fit.WLS})
	for i, l := range []struct {
		line *fit.Line
		x    float64
		ms   float64
	}{{f.ITL, p.Batch, p.ITL.MS}, {f.TTFT, p.Batch * p.PromptTokens, p.TTFT.MS}} {
		if _, low, high := l.line.Predict(l.x); low <= l.ms && l.ms <= high {
			r.predicted[i] += 100 / float64(of)
		}
	}
}

// count adds one verdict of so many.
func (r *result) count(v fit.Verdict, of int) {
	share := 100 / float64(of)
	if v.Level == fit.Accepted {
		r.accepted += share
	}
	seen := map[reason.Code]bool{}
	for _, f := range v.Findings {
		if !seen[f.Code] {
			seen[f.Code] = true
			r.codes[f.Code] += share
		}
	}
}

func (r result) log(tb testing.TB, name string) {
	for j := range names {
		tb.Logf("%-28s %-5s covered %.1f %%  interval +-%.2f %%  bias %+.2f standard errors  claimed/true error %.2f", name, names[j], r.covered[j], r.width[j], r.bias[j], r.ratio[j])
	}
}

// sweeps is how many to simulate of every server, and whether that was asked for.
func sweeps(tb testing.TB, otherwise int) (n int, asked bool) {
	tb.Helper()
	text := os.Getenv(sweepsVariable)
	if text == "" {
		return otherwise, false
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 100 {
		tb.Fatalf("%s=%q: give a number of sweeps, 100 or more", sweepsVariable, text)
	}
	return n, true
}

var disturbances = []disturbance{
	{name: "none"},
	{name: "runs differ by 0.5 %", between: 0.005},
	{name: "runs differ by 1 %", between: 0.01},
	{name: "heats by 2 %", heat: 0.02},
}

// widest is how much wider intervals may be than those that knew of no difference
// between runs, where there is none.
const widest = 1.3

func TestIntervalsHoldTheTruth(t *testing.T) {
	if testing.Short() {
		t.Skip("simulates many sweeps")
	}
	n, _ := sweeps(t, 250)
	// What chance does to a coverage of 95 % over the sweeps of one server, three
	// standard deviations, in percent.
	chance := 300 * math.Sqrt(0.95*0.05/float64(n))
	stalling := servers[0]
	stalling.name, stalling.config.Stalls, stalling.widths = "linear4, stalls of 0.3 %", 0.003, [4]float64{}
	for _, s := range append(slices.Clone(servers), stalling) {
		disturbances := disturbances
		if s.config.Stalls > 0 {
			disturbances = disturbances[:1]
		}
		all := s.simulated(t, n, reduced)[0]
		for _, d := range disturbances {
			r := s.judge(t, all, d)
			r.log(t, s.name+", "+d.name)
			t.Logf("%s, %s: accepted %.1f %%, predicted ITL %.1f %%, TTFT %.1f %%, findings %v", s.name, d.name, r.accepted, r.predicted[0], r.predicted[1], r.codes)
			for i, percent := range r.predicted {
				if percent < 92-chance/2 || percent > 98+chance/2 {
					t.Errorf("%s, %s: %.1f %% of the points left out lie inside the prediction of %s, want 92 to 98", s.name, d.name, percent, []string{"ITL", "TTFT"}[i])
				}
			}
			for j, percent := range r.covered {
				if percent < 93-chance/2 || percent > 97+chance/2 {
					t.Errorf("%s, %s: the interval of %s holds the truth in %.1f %% of the sweeps, want 93 to 97", s.name, d.name, names[j], percent)
				}
				if before := s.widths[j]; d == disturbances[0] && before > 0 && r.width[j] > widest*before {
					t.Errorf("%s: the interval of %s is ±%.2f %%, and ±%.2f %% for who knows that runs do not differ", s.name, names[j], r.width[j], before)
				}
			}
			if r.accepted < 90-chance && d.heat == 0 {
				t.Errorf("%s, %s: %.1f %% of the sweeps are accepted, want 90", s.name, d.name, r.accepted)
			}
			if r.codes[reason.Drift] > 5+chance/2 && d.heat == 0 {
				t.Errorf("%s, %s: %.1f %% of the sweeps are taken for drifting", s.name, d.name, r.codes[reason.Drift])
			}
		}
	}
}
