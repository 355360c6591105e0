package capacity

import (
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wfgen.dev/internal/estimate/aggregate"
	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/llm/record"
	"wfgen.dev/internal/llm/simulate"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/slo"
)

// sweepsVariable asks for the whole table of docs/capacity.md, with intervals from so many
// simulated sweeps.
const sweepsVariable = "WFGEN_CAPACITY_SWEEPS"

// reality is a server that is swept: the engine that fits public sweeps of Llama-3.1-8B,
// whose iterations scatter and whose speed drifts.
type reality simulate.Config

func llama(jitter, wander float64) reality {
	return reality{
		Latency: simulate.Engine, Base: 6.72, Seq: 0.0215, Ctx: 5.37e-5, Pre: 0.0166, Pre2: 1.33e-6,
		MaxNumSeqs: 128, Jitter: jitter, Wander: wander,
	}
}

var (
	quiet = llama(0.02, 0.01)
	noisy = llama(0.05, 0.02)
)

func (c reality) seeded(seed int64) simulate.Config {
	c.Seed = seed
	return simulate.Config(c)
}

const spread = 0.2

// point measures one batch size in virtual time, as the native driver would.
func (c reality) point(shape sweep.Shape, streams int, duration time.Duration, seed int64) (aggregate.Source, error) {
	rows, err := simulate.Closed(c.seeded(seed), simulate.Loop{
		Streams: streams, PromptTokens: shape.PromptTokens, OutputTokens: shape.OutputTokens,
		Spread: spread, Ramp: time.Second, Duration: duration, Pause: time.Millisecond,
	})
	if err != nil {
		return aggregate.Source{}, err
	}
	w, counts, err := measurement.Reduce(rows, streams)
	if err != nil {
		return aggregate.Source{}, err
	}
	m := measurement.Measurement{
		Schema: measurement.Schema, Model: "llama", Accelerator: "A100", Shape: shape, BatchSize: streams,
		Client: &w, Requests: counts, PromptTokens: float64(shape.PromptTokens), OutputTokens: float64(shape.OutputTokens),
		Driver: measurement.Driver{Name: sweep.Native}, StartedAt: 1, Seconds: duration.Seconds(),
	}
	m.Taken = m.Weigh(measurement.Auto, measurement.Auto)
	return aggregate.Source{Measurement: m, File: fmt.Sprintf("b%d.json", streams)}, nil
}

// swept is the summary of one simulated sweep.
func (c reality) swept(shapes []sweep.Shape, duration time.Duration, seed int64) (parameters.Summary, error) {
	var in aggregate.Inputs
	for _, shape := range shapes {
		for _, streams := range []int{1, 2, 4, 8, 16, 32, 64, 96} {
			seed++
			p, err := c.point(shape, streams, max(duration, 8*time.Duration(shape.OutputTokens*20)*time.Millisecond), seed*7919)
			if err != nil {
				return parameters.Summary{}, err
			}
			in.Measurements = append(in.Measurements, p)
		}
	}
	return aggregate.Estimate(in, aggregate.Options{Method: fit.WLS, Source: measurement.Auto, TTFT: measurement.Auto, Batch: measurement.Auto}), nil
}

// served is what a long open run of the real server shows at a rate per second.
func (c reality) served(shape sweep.Shape, rate float64, requests int, seed int64) (observed, error) {
	d := float64(requests) / rate
	rows, err := simulate.Open(c.seeded(seed), simulate.Arrivals{
		Rate: rate, PromptTokens: shape.PromptTokens, OutputTokens: shape.OutputTokens, Spread: spread, Duration: time.Duration(d * float64(time.Second)),
	})
	if err != nil {
		return observed{}, err
	}
	var o observed
	decode, gaps := 0.0, 0.0
	for _, q := range rows {
		if q.Status != record.Successful || q.Start < 1+0.05*d || q.Start > 1+0.95*d {
			continue
		}
		o.ttft = append(o.ttft, 1000*(q.FirstToken-q.Start))
		o.e2e = append(o.e2e, 1000*(q.LastToken-q.Start))
		o.itl = append(o.itl, 1000*(q.LastToken-q.FirstToken)/float64(q.OutputTokens-1))
		decode += 1000 * (q.LastToken - q.FirstToken)
		gaps += float64(q.OutputTokens - 1)
	}
	o.meanITL = decode / gaps
	o.inFlight = rate * mean(o.e2e) / 1000
	return o, nil
}

// saturated is the real rate, per second, at which the server saturates.
func (c reality) saturated(shape sweep.Shape) (float64, error) {
	d := time.Duration(60*shape.OutputTokens*30) * time.Millisecond
	rows, err := simulate.Closed(c.seeded(0), simulate.Loop{
		Streams: c.MaxNumSeqs, PromptTokens: shape.PromptTokens, OutputTokens: shape.OutputTokens, Spread: spread, Ramp: time.Second, Duration: d,
	})
	if err != nil {
		return 0, err
	}
	n := 0.0
	for _, q := range rows {
		if q.Status == record.Successful && q.End > 1+0.2*d.Seconds() {
			n++
		}
	}
	return n / (0.8 * d.Seconds()), nil
}

// truth is an objective and the rate at which the real server just meets it: its bound is
// what long runs at that rate show.
type truth struct {
	shape sweep.Shape
	load  float64 // of saturation
	slo   slo.Objective
	rate  float64 // per second
}

func (c reality) truths(shape sweep.Shape, loads []float64, requests int) ([]truth, error) {
	most, err := c.saturated(shape)
	if err != nil {
		return nil, err
	}
	var out []truth
	for i, load := range loads {
		o, err := c.served(shape, load*most, requests, int64(100+i))
		if err != nil {
			return nil, err
		}
		for _, s := range []slo.Objective{{Metric: slo.ITL, Statistic: "mean"}, {Metric: slo.ITL, Statistic: "p90"}, {Metric: slo.TTFT, Statistic: "mean"}, {Metric: slo.TTFT, Statistic: "p90"}} {
			s.MS = statistic(s, &o)
			out = append(out, truth{shape, load, s, load * most})
		}
	}
	return out, nil
}

func find(s parameters.Summary, shape sweep.Shape) *parameters.Parameters {
	i := slices.IndexFunc(s.Parameters, func(p parameters.Parameters) bool { return p.Shape == shape })
	return &s.Parameters[i]
}

// claim is what a sweep says of a truth: its rate, the ends of its interval, and what
// binds; all relative to the truth, and 0 where it is refused.
type claim struct {
	off, low, high float64
	binding        string
	used           Objective
}

func (x truth) claimed(s parameters.Summary) claim {
	c := one(find(s, x.shape), s.Joint, Options{SLOs: []slo.Objective{x.slo}, MaxNumSeqs: map[string]int{"": quiet.MaxNumSeqs}, Spread: spread})
	if c.Rate == nil {
		return claim{off: -1}
	}
	return claim{c.Rate.Value/x.rate - 1, *c.Rate.Low / x.rate, *c.Rate.High / x.rate, c.Binding, c.Objectives[0]}
}

// The claimed rate must be the true one. A few cases always run; all of them, over many
// sweeps, where sweepsVariable says how many.
func TestClaimsHoldTheTruth(t *testing.T) {
	if n, err := strconv.Atoi(os.Getenv(sweepsVariable)); err == nil {
		t.Run("quiet", func(t *testing.T) { quiet.table(t, n) })
		t.Run("noisy", func(t *testing.T) { noisy.table(t, n) })
		return
	}
	one := []sweep.Shape{{PromptTokens: 256, OutputTokens: 64}}
	s, err := quiet.swept(one, 30*time.Second, 1)
	if err != nil {
		t.Fatal(err)
	}
	all, err := quiet.truths(one[0], []float64{0.5, 0.8}, 100_000)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range all {
		c := x.claimed(s)
		t.Logf("%s at %.0f %%, %s: %.2f/s, claimed %+.1f %% [%.2f, %.2f]", x.shape, 100*x.load, x.slo, x.rate, 100*c.off, c.low, c.high)
		if math.Abs(c.off) > 0.05 || c.binding != x.slo.Name() {
			t.Errorf("%s at %.0f %%, %s: %+.1f %% off, bound by %s", x.shape, 100*x.load, x.slo, 100*c.off, c.binding)
			continue
		}
		if x.load < 0.8 || x.slo.Statistic == slo.Mean {
			continue
		}
		// What it measures at that rate is as near to its bound as is said.
		o, err := quiet.served(x.shape, (1+c.off)*x.rate, 100_000, 5)
		if err != nil {
			t.Fatal(err)
		}
		if used := statistic(x.slo, &o) / x.slo.MS; used < *c.used.UsedLow || used > *c.used.UsedHigh {
			t.Errorf("%s at %.0f %%, %s: %.3f of the bound at the claimed rate, said to be [%.3f, %.3f]", x.shape, 100*x.load, x.slo, used, *c.used.UsedLow, *c.used.UsedHigh)
		}
	}
}

// table holds the claims of n sweeps against the truth, for all shapes, loads and
// objectives, and prints the table of docs/capacity.md.
func (c reality) table(t *testing.T, n int) {
	shapes := []sweep.Shape{{PromptTokens: 128, OutputTokens: 128}, {PromptTokens: 256, OutputTokens: 64}, {PromptTokens: 1024, OutputTokens: 256}, {PromptTokens: 4096, OutputTokens: 256}}
	var all []truth
	for _, shape := range shapes {
		of, err := c.truths(shape, []float64{0.2, 0.5, 0.8}, 500_000)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, of...)
	}
	results := make([][]claim, n)
	errs := make([]error, n)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				s, err := c.swept(shapes, 60*time.Second, int64(1000*i))
				if errs[i] = err; err != nil {
					continue
				}
				for _, x := range all {
					results[i] = append(results[i], x.claimed(s))
				}
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	total, inside := 0, 0
	for k, x := range all {
		var offs []float64
		covered, width := 0, 0.0
		for i := range n {
			r := results[i][k]
			offs = append(offs, r.off)
			if r.low <= 1 && 1 <= r.high {
				covered++
			}
			width += 100 * (r.high - r.low) / 2 / float64(n)
		}
		total, inside = total+n, inside+covered
		sd := 0.0
		for _, o := range offs {
			sd += square(o-mean(offs)) / float64(n)
		}
		fmt.Printf("| %s | %.0f %% | %s | %.3f | %+.1f %% | %.1f %% | ± %.0f %% | %.0f %% |\n",
			x.shape, 100*x.load, x.slo.Name(), x.rate, 100*mean(offs), 100*math.Sqrt(sd), width, 100*float64(covered)/float64(n))
		if off := mean(offs); math.Abs(off) > 0.05 {
			t.Errorf("%s at %.0f %%, %s: %+.1f %% off", x.shape, 100*x.load, x.slo, 100*off)
		}
		if float64(covered) < 0.9*float64(n) {
			t.Errorf("%s at %.0f %%, %s: the intervals hold the truth in %d of %d sweeps", x.shape, 100*x.load, x.slo, covered, n)
		}
	}
	t.Logf("the intervals hold the truth in %.1f %%", 100*float64(inside)/float64(total))
}

// What chance does in an open run must be typical: the run that everything is judged by
// says what one of many times its length says.
func TestDrawsAreTypical(t *testing.T) {
	p := sample("A100", sweep.Shape{PromptTokens: 1024, OutputTokens: 256}, 6.65, 0.154, 25)
	s := setup{chunk: 2048, maxInFlight: 128, spread: spread}
	m, _ := measuredOf(&p, nil, s)
	r := replicaOf(m.calibrate(s), s)
	saturated := r.closedLoop(s.maxInFlight).requestsPerMS
	for _, load := range []float64{0.5, 0.8} {
		long := []float64{0, 0, 0, 0}
		const runs = 5
		for seed := range uint64(runs) {
			o := r.with(size{2000, 100_000, 1000 + seed}.draw(), load*saturated, size{warm: 2000, count: 100_000})
			for i, x := range statistics(&o) {
				long[i] += x / runs
			}
		}
		for _, z := range []struct {
			size
			within float64
		}{{fine, 0.02}, {coarse, 0.05}} {
			o := r.open(load*saturated, z.size)
			for i, x := range statistics(&o) {
				if math.Abs(x/long[i]-1) > z.within {
					t.Errorf("at %.0f %%, %d requests: statistic %d is %.4g, that of many %.4g", 100*load, z.count, i, x, long[i])
				}
			}
		}
	}
}

func statistics(o *observed) []float64 {
	return []float64{o.inFlight, o.meanITL, quantile(o.itl, 0.9), quantile(o.ttft, 0.9)}
}

// A server whose first token takes longer than its engine has reason to, such as one behind
// a slow tokenizer, is claimed too much of, and the interval knows it.
func TestTheTimeOutsideIsKnown(t *testing.T) {
	formula := reality{Latency: simulate.Linear4, Alpha: 24, Beta: 1, Gamma: 90, Delta: 0.15, MaxNumSeqs: 64, Jitter: 0.02}
	shape := sweep.Shape{PromptTokens: 64, OutputTokens: 16}
	s, err := formula.swept([]sweep.Shape{shape}, 30*time.Second, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, rate := range []float64{8, 17.5, 25} {
		o, err := formula.served(shape, rate, 50_000, 7)
		if err != nil {
			t.Fatal(err)
		}
		x := truth{shape: shape, slo: slo.Objective{Metric: slo.ITL, Statistic: slo.Mean, MS: o.meanITL}, rate: rate}
		if c := x.claimed(s); c.low > 1 || c.high < 1 || c.low < 0.6 {
			t.Errorf("an ITL of %.2f ms: claimed %+.1f %% [%.2f, %.2f] of %v/s", o.meanITL, 100*c.off, c.low, c.high, rate)
		}
	}
}
