package simulate

import (
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"wfgen.dev/internal/llm/record"
	"wfgen.dev/internal/point/measurement"
)

// llamaEngine is the engine fitted to public sweeps of Llama-3.1-8B.
var llamaEngine = Config{Latency: Engine, Base: 6.72, Seq: 0.0215, Ctx: 5.37e-5, Pre: 0.0166, Pre2: 1.33e-6}

func TestClosedLoopFollowsLinear4(t *testing.T) {
	c := Config{Alpha: 6.973, Beta: 0.027, Gamma: 14.825, Delta: 0.001364, Jitter: 0.05, Wander: 0.02}
	rows, err := Closed(c, Loop{Streams: 16, PromptTokens: 128, OutputTokens: 64, Duration: 10 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	w, counts, err := measurement.Reduce(rows, 16)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		name      string
		got, want float64
		error     float64
	}{
		{"ITL", w.ITL.MeanMS, c.Alpha + c.Beta*16, w.ITL.StandardErrorMS},
		{"TTFT", w.TTFT.MeanMS, c.Gamma + c.Delta*128*16, w.TTFT.StandardErrorMS},
	} {
		if math.Abs(x.got-x.want) > 4*x.error || x.error > 0.002*x.want {
			t.Errorf("%s is %.4f +- %.4f ms, want %.4f", x.name, x.got, x.error, x.want)
		}
	}
	if math.Abs(w.Batch-16) > 1e-6 || counts.Incomplete != 16 || counts.Errored != 0 {
		t.Errorf("batch %v, counts %+v", w.Batch, counts)
	}
}

func TestClosedIsRepeatable(t *testing.T) {
	for _, c := range []Config{{Alpha: 5, Gamma: 10, Jitter: 0.1, Wander: 0.1}, llamaEngine} {
		c.Jitter, c.Wander = 0.1, 0.1
		run := func(seed int64) []record.Request {
			c.Seed = seed
			rows, err := Closed(c, Loop{Streams: 8, PromptTokens: 100, OutputTokens: 10, Duration: 5 * time.Second, Pause: time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			return rows
		}
		if !reflect.DeepEqual(run(1), run(1)) || reflect.DeepEqual(run(1), run(2)) {
			t.Errorf("%s: the rows do not depend on the seed alone", c.Latency)
		}
	}
}

func TestClosedRefuses(t *testing.T) {
	_, err := Closed(Config{Latency: "gamma"}, Loop{Duration: -1})
	for _, want := range []string{`latency: "gamma"`, "0 streams", "duration of -1ns"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

// What arrives at random at a slow server finds it as any observer does: the mean in
// flight is that of an infinite server under linear4 without load, and constant arrivals
// come as evenly as they say.
func TestOpen(t *testing.T) {
	c := Config{Alpha: 10, Gamma: 10, MaxNumSeqs: 1000}
	a := Arrivals{Rate: 10, PromptTokens: 8, OutputTokens: 100, Spread: 0.2, Duration: 20 * time.Minute}
	rows, err := Open(c, a)
	if err != nil {
		t.Fatal(err)
	}
	busy, cut := 0.0, 0
	for _, r := range rows {
		busy += r.End - r.Start
		if r.Status == record.Incomplete {
			cut++
		}
	}
	if n := busy / a.Duration.Seconds(); math.Abs(n-10) > 0.3 || math.Abs(float64(len(rows))-12000) > 350 || cut == 0 || cut > 30 {
		t.Errorf("%.2f in flight, %d requests, %d cut off; want 10, 12000 and some 10", n, len(rows), cut)
	}
	a.Constant, a.Duration = true, time.Minute
	rows, err = Open(c, a)
	if err != nil {
		t.Fatal(err)
	}
	starts := make([]float64, len(rows))
	for i, r := range rows {
		starts[i] = r.Start
	}
	slices.Sort(starts)
	for i := 1; i < len(starts); i++ {
		if math.Abs(starts[i]-starts[i-1]-0.1) > 1e-6 {
			t.Fatalf("requests %d and %d start %.6f s apart, want 0.1", i-1, i, starts[i]-starts[i-1])
		}
	}
	if _, err := Open(c, Arrivals{Rate: -1, Spread: 1}); err == nil || !strings.Contains(err.Error(), "-1 requests a second") || !strings.Contains(err.Error(), "a spread of 1") {
		t.Error(err)
	}
}

// BenchmarkClosed measures how fast virtual time makes tokens.
func BenchmarkClosed(b *testing.B) {
	for _, c := range []struct {
		name string
		Config
	}{
		{"linear4", Config{Alpha: 6.973, Beta: 0.027, Gamma: 14.825, Delta: 0.001364, Jitter: 0.05, Wander: 0.02}},
		{"engine", llamaEngine},
	} {
		b.Run(c.name, func(b *testing.B) {
			tokens := 0
			for b.Loop() {
				rows, err := Closed(c.Config, Loop{Streams: 32, PromptTokens: 128, OutputTokens: 64, Duration: 30 * time.Second})
				if err != nil {
					b.Fatal(err)
				}
				for _, r := range rows {
					tokens += r.OutputTokens
				}
			}
			b.ReportMetric(float64(tokens)/b.Elapsed().Seconds(), "tokens/s")
		})
	}
}
