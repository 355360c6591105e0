package measurement

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"wfgen.dev/internal/llm/record"
)

// closedLoop makes the rows of streams that send their next request when the
// last is answered, until a number of seconds; what is in flight then is cut off.
// Request i of a stream takes ttft(i) ms and out tokens of itl(time) ms.
func closedLoop(streams, out int, seconds float64, ttft func(i int) float64, itl func(t float64) float64) []Request {
	const epoch = 1.7e9
	var rows []Request
	for range streams {
		now := epoch
		for i := 0; now < epoch+seconds; i++ {
			r := Request{Start: now, PromptTokens: 128, OutputTokens: out}
			r.FirstToken = now + ttft(i)/1000
			r.LastToken = r.FirstToken + float64(out-1)*itl(r.FirstToken-epoch)/1000
			r.End = r.LastToken + 1e-4
			now = r.End + 1e-4
			if r.End > epoch+seconds {
				r.End, r.LastToken, r.Status = epoch+seconds, 0, record.Incomplete
			}
			rows = append(rows, r)
		}
	}
	return rows
}

func constant(x float64) func(float64) float64 { return func(float64) float64 { return x } }

func TestReduceKeepsTheSteadyWindow(t *testing.T) {
	// The first request of each stream waits 500 ms, the others 20 ms.
	rows := closedLoop(8, 64, 20, func(i int) float64 {
		if i == 0 {
			return 500
		}
		return 20
	}, constant(10))
	w, counts, err := Reduce(rows, 8)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "ITL", w.ITL.MeanMS, 10, 1e-3)
	near(t, "TTFT", w.TTFT.MeanMS, 20, 1e-3)
	near(t, "median TTFT", w.TTFT.MedianMS, 20, 1e-3)
	near(t, "batch", w.Batch, 8, 0.01)
	near(t, "window start", w.WindowStart, 1.7e9+0.5, 1e-3)
	if counts.Incomplete != 8 || counts.Successful != len(rows)-8 || counts.InWindow >= counts.Successful {
		t.Errorf("counts %+v of %d rows", counts, len(rows))
	}
	if w.Requests != counts.Successful || w.Basis != BasisRows {
		t.Errorf("witness %+v", w)
	}
}

func TestReduceCountsWhatIsBad(t *testing.T) {
	rows := closedLoop(1, 16, 10, func(int) float64 { return 20 }, constant(10))
	rows[3].FirstToken, rows[3].LastToken = 0, 0
	rows[4].FirstToken = rows[4].Start - 5
	rows[5].LastToken = rows[5].FirstToken
	rows[6].Status = record.Errored
	rows[7].End = math.NaN()
	rows = append(rows, Request{Status: record.Incomplete}) // never sent
	w, counts, err := Reduce(rows, 1)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "TTFT", w.TTFT.MeanMS, 20, 1e-3)
	if counts.Errored != 5 || counts.Errors[noToken] != 1 || counts.Errors[impossibleTimes] != 2 || counts.Errors[allAtOnce] != 1 {
		t.Errorf("counts %+v", counts)
	}
}

func TestReduceRefusesWithTheLengthNeeded(t *testing.T) {
	short := closedLoop(4, 64, 1.2, func(int) float64 { return 20 }, constant(10))
	failed := closedLoop(2, 64, 20, func(int) float64 { return 20 }, constant(10))
	for i := range failed {
		failed[i].Status = record.Errored
	}
	noUsage := closedLoop(2, 64, 20, func(int) float64 { return 20 }, constant(10))
	for i := range noUsage {
		noUsage[i].OutputTokens = 0
	}
	for _, c := range []struct {
		name    string
		rows    []Request
		streams int
		want    string
	}{
		{"one request per stream", short, 4, "at least 2"},
		{"more streams than requests", short[:2], 4, "only 2 requests were sent in 4 streams"},
		{"all failed", failed, 2, "none of 62 requests was successful"},
		{"no rows", nil, 2, "none of 0 requests"},
		{"no usage", noUsage, 2, "does the server report usage"},
		{"no streams", short, 0, "streams: 0"},
	} {
		_, _, err := Reduce(c.rows, c.streams)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		}
	}
}

// The standard error must see that all requests share the server's condition:
// it is compared with the scatter of the mean over repeated runs.
func TestReduceStandardErrorRespectsCorrelation(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var means, variances []float64
	for range 300 {
		// The server's speed wanders with a memory of a second.
		speed := make([]float64, 400)
		x := rng.NormFloat64()
		for i := range speed {
			x = 0.9*x + math.Sqrt(1-0.81)*rng.NormFloat64()
			speed[i] = 10 + 0.5*x
		}
		at := func(s float64) float64 { return speed[min(len(speed)-1, int(s*10))] }
		rows := closedLoop(16, 64, 30, func(int) float64 { return 20 + rng.Float64() }, at)
		w, _, err := Reduce(rows, 16)
		if err != nil {
			t.Fatal(err)
		}
		means = append(means, w.ITL.MeanMS)
		variances = append(variances, w.ITL.StandardErrorMS*w.ITL.StandardErrorMS)
	}
	scatter := 0.0
	for _, m := range means {
		scatter += (m - mean(means)) * (m - mean(means)) / float64(len(means)-1)
	}
	if ratio := math.Sqrt(mean(variances) / scatter); ratio < 0.8 || ratio > 1.2 {
		t.Errorf("standard errors are %.2f of the true scatter", ratio)
	}
}

// A drift that outlives a block must not make the error much too small: the
// scatter of the blocks alone would give 0.65 of it where 0.4 is kept.
func TestEstimateAllowsForDependentBlocks(t *testing.T) {
	for _, keep := range []float64{0, 0.2, 0.4} {
		rng := rand.New(rand.NewPCG(3, 4))
		var means, claimed []float64
		for range 4000 {
			blocks := make([]tally, mostBlocks)
			x := rng.NormFloat64()
			for i := range blocks {
				blocks[i].add(100*(10+x), 100)
				x = keep*x + math.Sqrt(1-keep*keep)*rng.NormFloat64()
			}
			e := estimate(blocks, 1)
			means = append(means, (e.MeanMS-10)*(e.MeanMS-10))
			claimed = append(claimed, e.StandardErrorMS*e.StandardErrorMS)
			if e.Blocks != 1+mostBlocks/worth {
				t.Fatalf("%d blocks claimed", e.Blocks)
			}
		}
		if ratio := math.Sqrt(mean(claimed) / mean(means)); ratio < 0.82 || ratio > 1.08 {
			t.Errorf("of what one block has, the next keeps %v: the standard error is %.2f of the true one", keep, ratio)
		}
	}
}

func TestReduceProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		streams := rapid.IntRange(1, 20).Draw(t, "streams")
		out := rapid.IntRange(2, 50).Draw(t, "out")
		ttft := rapid.Float64Range(1, 200).Draw(t, "ttft")
		itl := rapid.Float64Range(1, 50).Draw(t, "itl")
		request := (ttft + float64(out-1)*itl) / 1000
		rows := closedLoop(streams, out, 5.5*request+0.01, func(int) float64 { return ttft }, constant(itl))
		rows = rapid.Permutation(rows).Draw(t, "order")
		w, counts, err := Reduce(rows, streams)
		if err != nil {
			t.Fatal(err)
		}
		if math.Abs(w.ITL.MeanMS/itl-1) > 1e-3 || math.Abs(w.TTFT.MeanMS/ttft-1) > 1e-3 {
			t.Fatalf("ITL %v for %v, TTFT %v for %v", w.ITL.MeanMS, itl, w.TTFT.MeanMS, ttft)
		}
		if w.Batch > float64(streams)+1e-6 || counts.Successful+counts.Errored+counts.Incomplete != len(rows) {
			t.Fatalf("batch %v of %d, counts %+v", w.Batch, streams, counts)
		}
	})
}

func TestServerWitness(t *testing.T) {
	// A scrape every 0.5 s; 4 requests run, each second sees 2 first tokens of
	// 30 ms and 200 gaps of 15 ms; before the window all was slower.
	var scrapes []Scrape
	itl, ttft, queue := Histogram{SumSeconds: 3, Count: 50}, Histogram{SumSeconds: 9, Count: 8}, Histogram{}
	successes, hits := 100.0, 640.0
	for i := range 61 {
		s := Scrape{
			Time: 1000 + 0.5*float64(i), Running: 4, Waiting: 0.5, KVCacheUsage: new(0.01 * float64(i)),
			ITL: new(itl), TTFT: new(ttft), Queue: new(queue), Prefill: new(Histogram{}),
			Successes: new(successes), Preemptions: new(3.0), PrefixCacheHits: new(hits),
		}
		scrapes = append(scrapes, s)
		slow := 1.0
		if i < 10 {
			slow = 3
		}
		itl.SumSeconds += slow * 100 * 0.015
		itl.Count += 100
		ttft.SumSeconds += slow * 0.030
		ttft.Count++
		queue.SumSeconds += 0.0005
		queue.Count++
		successes++
		hits += 16
	}
	w := ServerWitness(scrapes, 1005, 1029.8)
	near(t, "ITL", w.ITL.MeanMS, 15, 1e-9)
	near(t, "TTFT", w.TTFT.MeanMS, 30, 1e-9)
	near(t, "queue", *w.QueueMS, 0.5, 1e-9)
	near(t, "batch", w.Batch, 4, 1e-12)
	near(t, "waiting", *w.WaitingMean, 0.5, 1e-12)
	near(t, "full", *w.Full, 4, 1e-12)
	near(t, "window", w.WindowSeconds, 24.5, 1e-9)
	near(t, "kv", *w.KVCacheUsage, 0.6, 1e-9)
	if w.Requests != 60 || *w.Preemptions != 0 || *w.PrefixCacheHits != 960 || w.ITL.Blocks < 5 || w.PrefillMS != nil {
		t.Errorf("witness %+v", w)
	}

	spare := slices.Clone(scrapes)
	spare[30].Waiting = 0
	if w := ServerWitness(spare, 1005, 1029.8); w.Full != nil {
		t.Errorf("full with %v, though once nobody waited", *w.Full)
	}
	if w := ServerWitness(scrapes, 1005.1, 1005.4); w.ITL != nil || w.Requests != 60 {
		t.Errorf("no scrape in the window: %+v", w)
	}
	restarted := append([]Scrape(nil), scrapes...)
	for i := 40; i < len(restarted); i++ {
		restarted[i].ITL = &Histogram{SumSeconds: restarted[i].ITL.SumSeconds - restarted[40].ITL.SumSeconds, Count: restarted[i].ITL.Count - scrapes[40].ITL.Count}
		restarted[i].Successes = new(float64(i - 40))
	}
	if w := ServerWitness(restarted, 1005, 1029.8); w.ITL != nil || w.Requests != 59 {
		t.Errorf("restarted server: ITL %+v, requests %d", w.ITL, w.Requests)
	}
	whole := slices.Clone(scrapes) // a server that has no histogram of gaps: 25 a request, of 15 ms each
	for i := range whole {
		n := float64(i)
		whole[i].ITL, whole[i].Decode, whole[i].Outputs = nil, &Histogram{SumSeconds: n * 25 * 0.015, Count: n}, &Histogram{SumSeconds: n * 26, Count: n}
	}
	if w := ServerWitness(whole, 1005, 1029.8); w.ITL == nil || math.Abs(w.ITL.MeanMS-15) > 1e-9 || w.Gaps != nil {
		t.Errorf("ITL of whole requests: %+v", w.ITL)
	}
	if w := ServerWitness([]Scrape{{Time: 1}, {Time: 2}}, 0, 3); w != nil {
		t.Errorf("no histograms: %+v", w)
	}
}

func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if math.Abs(got-want) > tolerance {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func mean(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum / float64(len(values))
}

// A plain report holds the start-up burst and the drain; the steady window does not.
func TestPlainHoldsWhatTheWindowLeavesOut(t *testing.T) {
	var rows []Request
	for stream := range 4 {
		for i := range 10 {
			start := 100 + float64(stream)*0.1 + float64(i)
			wait := 0.02
			if i == 0 {
				wait = 0.5 // the burst
			}
			rows = append(rows, Request{Start: start, FirstToken: start + wait, LastToken: start + wait + 0.4, End: start + 0.99, PromptTokens: 8, OutputTokens: 41})
		}
	}
	w, _, err := Reduce(rows, 4)
	if err != nil {
		t.Fatal(err)
	}
	if got := w.TTFT.MeanMS; math.Abs(got-20) > 1e-6 {
		t.Errorf("TTFT of the window %.4f ms, want 20", got)
	}
	if got := w.Plain.TTFTMS; math.Abs(got-(20*36+500*4)/40.0) > 1e-6 {
		t.Errorf("plain TTFT %.4f ms, want 68", got)
	}
	if math.Abs(w.Plain.ITLMS-10) > 1e-6 || !(w.Plain.Batch < w.Batch) {
		t.Errorf("plain ITL %.4f ms, batch %.3f; the window's batch is %.3f", w.Plain.ITLMS, w.Plain.Batch, w.Batch)
	}
}

// A request every second that takes ten: the ten that the end cuts off count as well.
func TestInFlightCountsTheCutOff(t *testing.T) {
	const seconds, takes = 60, 10
	r := Requests{}
	all := 0.0
	for start := range seconds {
		all += min(takes, float64(seconds-start)) / seconds
		if start+takes <= seconds {
			r.Successful++
		} else {
			r.Incomplete++
		}
	}
	completed := float64(r.Successful) * takes / seconds
	if got := r.InFlight(completed); math.Abs(got/all-1) > 0.02 || completed > 0.95*all {
		t.Errorf("%d completed, %d cut off: %.3g in flight by those completed, %.3g with the others; in truth %.3g", r.Successful, r.Incomplete, completed, got, all)
	}
	if got := (Requests{Incomplete: 3}).InFlight(2); got != 2 {
		t.Errorf("without a completed request: %v", got)
	}
}
