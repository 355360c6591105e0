package measurement

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"wfgen.dev/internal/llm/record"
	"wfgen.dev/internal/run/reason"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/slo"
)

// arrivals are requests that arrive at random at a rate per second for so long: 20 ms to
// the first token, 9 gaps of a time that depends on when it arrived, ms.
func arrivals(rate, seconds float64, gap func(at float64) float64) []Request {
	random := rand.New(rand.NewPCG(1, 2))
	var rows []Request
	for at := random.ExpFloat64() / rate; at < seconds; at += random.ExpFloat64() / rate {
		first := 1e9 + at + 0.02
		last := first + 9*gap(at)/1000
		rows = append(rows, Request{Start: 1e9 + at, FirstToken: first, LastToken: last, End: last, PromptTokens: 8, OutputTokens: 10})
	}
	return rows
}

func objectives(t *testing.T, text string) []slo.Objective {
	t.Helper()
	list, err := slo.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestReduceOpen(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	rows := arrivals(20, 120, func(float64) float64 { return 10 + 10*random.Float64() })
	w, counts, o, err := ReduceOpen(rows, sweep.Poisson, 20, objectives(t, "itl=15.5ms,p90.itl=18ms,ttft=19ms,p99.e2e=1s"))
	if err != nil {
		t.Fatal(err)
	}
	// 20 arrive a second and stay for 20 + 9*15 ms.
	if math.Abs(w.ITL.MeanMS-15) > 0.3 || math.Abs(w.TTFT.MeanMS-20) > 1e-3 || math.Abs(w.Batch-o.Sent*0.155) > 0.05 || w.Requests != len(rows) || counts.InWindow < 2200 {
		t.Errorf("ITL %v, TTFT %v, batch %v, %+v", w.ITL.MeanMS, w.TTFT.MeanMS, w.Batch, counts)
	}
	if math.Abs(o.Sent/20-1) > 0.1 || math.Abs(o.Answered/o.Sent-1) > 0.01 || o.Behind {
		t.Errorf("%+v", o)
	}
	want := []struct {
		met         bool
		ms, share   float64
		within, err float64
	}{{true, 15, 0.55, 0.4, 0.05}, {false, 19, 0.8, 0.3, 0.05}, {false, 20, 0, 0.01, 0.01}, {true, 199, 1, 3, 0.01}}
	for i, x := range want {
		a := o.Objectives[i]
		if a.Met != x.met || math.Abs(a.AttainedMS-x.ms) > x.within || math.Abs(a.Share-x.share) > x.err {
			t.Errorf("%+v, want %+v", a, x)
		}
	}
	// A request that fails is within no bound.
	for i := range rows {
		if i%2 == 0 {
			rows[i].Status = record.Errored
		}
	}
	if _, _, o, err := ReduceOpen(rows, sweep.Poisson, 20, objectives(t, "p99.e2e=1s")); err != nil || math.Abs(o.Objectives[0].Share-0.5) > 0.02 {
		t.Errorf("half of them failed: %+v, %v", o, err)
	}
}

func TestAServerThatFallsBehind(t *testing.T) {
	grows := arrivals(20, 60, func(at float64) float64 { return 10 + at*2 })
	_, _, o, err := ReduceOpen(grows, sweep.Constant, 20, nil)
	if err != nil || !o.Behind {
		t.Fatalf("%+v, %v", o, err)
	}
	m := sample()
	o.Judge(&m)
	if taken := m.Weigh(Auto, Auto); !taken.Has(reason.Queue) || !strings.Contains(taken.Void[0], "falls behind 20 requests/s") {
		t.Errorf("%+v", taken)
	}
	for seed := range uint64(200) { // chance alone is not behind
		random := rand.New(rand.NewPCG(seed, 5))
		rows := arrivals(20, 30+20*random.Float64(), func(float64) float64 { return 60 + 10*random.Float64() })
		if _, _, o, err := ReduceOpen(rows, sweep.Poisson, 20, nil); err != nil || o.Behind {
			t.Errorf("seed %d: %+v, %v", seed, o, err)
		}
	}
	_, counts, o, err := ReduceOpen(grows[:15], sweep.Poisson, 20, nil)
	if err == nil || !strings.Contains(err.Error(), "20 are needed") || counts.Successful != 15 || o.Rate != 20 {
		t.Errorf("%+v, %+v, %v", counts, o, err)
	}
}

// guidellm 0.5 to 0.8 adds to one clock in each of its processes gaps of a generator of
// its own, all of one seed: every gap comes as often as there are processes.
func clumps(processes, requests int, rate float64, seed uint64) []Request {
	generators := make([]*rand.Rand, processes)
	for i := range generators {
		generators[i] = rand.New(rand.NewPCG(seed, 6))
	}
	at := 1e9
	rows := make([]Request, requests)
	for i := range rows {
		at += generators[i%processes].ExpFloat64() / rate
		rows[i] = Request{Start: at, FirstToken: at + 0.02, LastToken: at + 0.1, End: at + 0.1, PromptTokens: 8, OutputTokens: 10}
	}
	return rows
}

func TestRequestsInClumpsAreSeen(t *testing.T) {
	seen, mistaken := 0, 0
	const sweeps = 2000
	for seed := range uint64(sweeps) {
		if _, _, o, err := ReduceOpen(clumps(10, 300, 8, seed), sweep.Poisson, 8, nil); err == nil && o.Clumped {
			seen++
		}
		_, _, o, err := ReduceOpen(clumps(1, 300, 8, seed), sweep.Poisson, 8, nil)
		if err != nil {
			t.Fatal(err)
		}
		if o.Clumped {
			mistaken++
		}
	}
	if seen < 0.98*sweeps || mistaken > 0.004*sweeps {
		t.Errorf("of %d, %d are taken for clumps, and %d of those at random", sweeps, seen, mistaken)
	}
	rows := clumps(10, 300, 8, 1)
	w, counts, o, err := ReduceOpen(rows, sweep.Poisson, 8, nil)
	if err != nil {
		t.Fatal(err)
	}
	m := Measurement{Client: &w, Requests: counts, Open: o, Shape: sweep.Shape{PromptTokens: 8, OutputTokens: 10}, PromptTokens: 8, OutputTokens: 10}
	if taken := m.Weigh(Auto, Auto); len(taken.Void) > 0 || !taken.Has(reason.Arrivals) {
		t.Errorf("%+v", taken)
	}
	for i := range rows {
		shift := 1e9 + float64(i)/8 - rows[i].Start
		rows[i].Start, rows[i].FirstToken, rows[i].LastToken, rows[i].End = rows[i].Start+shift, rows[i].FirstToken+shift, rows[i].LastToken+shift, rows[i].End+shift
	}
	if _, _, o, err := ReduceOpen(rows, sweep.Constant, 8, nil); err != nil || o.Dispersion > 0.2 || o.Clumped {
		t.Errorf("at even intervals: %+v, %v", o, err)
	}
}

func TestAnotherNumberOfRequestsIsSeen(t *testing.T) {
	w, counts, o, err := ReduceOpen(clumps(1, 300, 4, 1), sweep.Poisson, 8, nil) // half of those that were asked for
	if err != nil {
		t.Fatal(err)
	}
	m := Measurement{Client: &w, Requests: counts, Open: o, Shape: sweep.Shape{PromptTokens: 8, OutputTokens: 10}, PromptTokens: 8, OutputTokens: 10}
	if taken := m.Weigh(Auto, Auto); math.Abs(m.Astray()+0.5) > 0.1 || len(taken.Void) > 0 || !taken.Has(reason.Arrivals) {
		t.Errorf("%v: %+v", m.Astray(), taken)
	}
	for _, x := range []struct {
		sent, window float64
		astray       bool
	}{{8.3, 1e6, false}, {8.5, 1e6, true}, {4, 1, false}, {7.5, 1e6, true}, {0, 60, false}} {
		m := Measurement{Open: &Open{Rate: 8, Sent: x.sent}, Client: &Witness{WindowSeconds: x.window}}
		if (m.Astray() != 0) != x.astray {
			t.Errorf("%+v: %v", x, m.Astray())
		}
	}
}

// Who comes at random waits at times, and the wait is part of what is measured: it voids
// nothing, and who waits is in flight.
func TestToWaitIsPartOfAnOpenLoop(t *testing.T) {
	rows := arrivals(20, 120, func(float64) float64 { return 15 })
	w, counts, o, err := ReduceOpen(rows, sweep.Poisson, 20, objectives(t, "ttft=60ms"))
	if err != nil {
		t.Fatal(err)
	}
	m := Measurement{
		Schema: Schema, Model: "m", Accelerator: "A100", Shape: sweep.Shape{PromptTokens: 32, OutputTokens: 10}, Client: &w, Requests: counts, Open: o,
		PromptTokens: 32, OutputTokens: 10, Driver: Driver{Name: sweep.Native}, StartedAt: 1, Seconds: 120,
		Server: &Witness{ITL: w.ITL, TTFT: w.TTFT, Batch: w.Batch / 2, Requests: w.Requests, QueueMS: new(10.0)},
	}
	m.Taken = m.Weigh(Auto, Auto)
	if len(m.Taken.VoidTTFT) > 0 || m.Taken.TTFT == nil || m.Taken.Batch != w.Batch {
		t.Errorf("%+v, of %v in flight", m.Taken, w.Batch)
	}
}
