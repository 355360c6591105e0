package bench

import (
	"context"
	"errors"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"wfgen.dev/internal/llm/simulate"
	"wfgen.dev/internal/point/driver"
	"wfgen.dev/internal/point/driver/native"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/point/report"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/run/store"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/tests/pipes"
)

func TestMain(m *testing.M) {
	pipes.Lay()
	os.Exit(m.Run())
}

// virtually runs a test in virtual time, in which servers answer exactly when their law
// says and seconds of load take none.
func virtually(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, test)
}

func law() simulate.Config {
	return simulate.Config{Model: "m", Alpha: 16, Beta: 1, Gamma: 40, Delta: 0.1, MaxNumSeqs: 4, MaxModelLen: 256}
}

// lawful says whether a latency is the law's.
func lawful(ms, law float64) bool { return math.Abs(ms/law-1) < 0.02 }

func handler(t *testing.T, cfg simulate.Config) http.Handler {
	t.Helper()
	s, err := simulate.NewVirtual(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s.Handler()
}

func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	return pipes.Serve(t, h).URL
}

func options(target string) Options {
	return Options{
		Options: driver.Options{
			Target: target, Model: "m", Shape: sweep.Shape{PromptTokens: 40, OutputTokens: 16}, BatchSize: 4, MaxSeconds: 2, Seed: 7,
		},
		Accelerator: "A100", BatchSizes: []int{1, 4}, Margin: time.Minute, Stderr: io.Discard,
	}
}

func run(t *testing.T, o Options) (dir string, m measurement.Measurement, err error) {
	t.Helper()
	dir = t.TempDir()
	out, err := store.New(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	m, err = Run(context.Background(), native.Driver{Tool: "test"}, out, o)
	return dir, m, err
}

// readAgain reads a report that was kept, as step measure does.
func readAgain(t *testing.T, name string) measurement.Measurement {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ms, err := report.Read(f, name, report.Options{Accelerator: "A100", Beside: report.BesidePath(context.Background(), name, store.OpenPath)})
	if err != nil || len(ms) != 1 {
		t.Fatalf("%d measurements, %v", len(ms), err)
	}
	return ms[0]
}

func exists(dir, name string) bool {
	_, err := os.Stat(filepath.Join(dir, name))
	return err == nil
}

func TestRunKeepsBothWitnesses(t *testing.T) {
	virtually(t, func(t *testing.T) {
		o := options(serve(t, handler(t, law())))
		o.ProgressFile = filepath.Join(t.TempDir(), "progress")
		dir, m, err := run(t, o)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{
			layout.Measurement, "reports/throughput.json", "reports/throughput-log.txt", "reports/throughput-server.json",
			"outputs/itl", "outputs/ttft", "outputs/batch", "outputs/requests",
		} {
			if !exists(dir, name) {
				t.Errorf("%s was not written", name)
			}
		}
		f, err := os.Open(filepath.Join(dir, layout.Measurement))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		written, err := measurement.Decode(f, layout.Measurement)
		if err != nil {
			t.Fatal(err)
		}
		if written.Server == nil || written.Server.Requests != written.Client.Requests {
			t.Fatalf("server %+v, client %+v", written.Server, written.Client)
		}
		if written.Taken.ITL.From != measurement.Client || written.Taken.TTFT.From != measurement.Server {
			t.Errorf("ITL from %s, TTFT from %s", written.Taken.ITL.From, written.Taken.TTFT.From)
		}
		if !lawful(written.Taken.ITL.MS, 20) || !lawful(written.Taken.TTFT.MS, 56) {
			t.Errorf("ITL %.2f, TTFT %.2f ms; the law says 20 and 56", written.Taken.ITL.MS, written.Taken.TTFT.MS)
		}
		if m.OverheadSeconds <= 0 || m.Provenance.Target == "" || m.Provenance.MaxModelLen != 256 || m.Driver.Name != sweep.Native {
			t.Errorf("overhead %v, provenance %+v, driver %+v", m.OverheadSeconds, m.Provenance, m.Driver)
		}
		again := readAgain(t, filepath.Join(dir, "reports/throughput.json"))
		if !reflect.DeepEqual(again.Server, written.Server) || !reflect.DeepEqual(again.Taken, written.Taken) {
			t.Errorf("read again from its report: %+v of %+v, was %+v of %+v", again.Taken, again.Server, written.Taken, written.Server)
		}
		if progress, err := os.ReadFile(o.ProgressFile); err != nil || !strings.Contains(string(progress), "/2") {
			t.Errorf("progress %q, %v", progress, err)
		}
	})
}

func TestAServerWithoutMetricsIsMeasuredByTheClientAlone(t *testing.T) {
	virtually(t, func(t *testing.T) {
		cfg := law()
		cfg.NoMetrics = true
		o := options(serve(t, handler(t, cfg)))
		o.Probe, o.ProbeSeconds = native.Driver{}, 1
		dir, m, err := run(t, o)
		if err != nil {
			t.Fatal(err)
		}
		if m.Server != nil || m.Taken.TTFT.From != measurement.Client || !strings.Contains(strings.Join(m.Notes, "\n"), "no server witness") {
			t.Errorf("server %v, TTFT from %s, notes %q", m.Server, m.Taken.TTFT.From, m.Notes)
		}
		if m.Probe != nil || exists(dir, "reports/throughput-probe.json") {
			t.Error("the native driver was probed by itself")
		}
	})
}

// late makes the load of the native driver and holds every request back, as a load
// generator does that lacks CPU.
type late struct {
	native.Driver
	t      *testing.T
	server http.Handler
	by     time.Duration
}

func (late) Name() string { return sweep.Guidellm }

func (l late) Run(ctx context.Context, o driver.Options) error {
	o.Target = serve(l.t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(l.by)
		l.server.ServeHTTP(w, r)
	}))
	return l.Driver.Run(ctx, o)
}

// Where the server does not tell, a short run of the native driver says what TTFT
// is without the client's own delay.
func TestAProbeTellsTTFTWhereTheServerDoesNot(t *testing.T) {
	virtually(t, func(t *testing.T) {
		bench := func(cfg simulate.Config, seconds float64) (dir string, m measurement.Measurement) {
			h := handler(t, cfg)
			o := options(serve(t, h))
			o.Probe, o.ProbeSeconds = native.Driver{Tool: "test"}, seconds
			dir = t.TempDir()
			out, err := store.New(t.Context(), dir)
			if err != nil {
				t.Fatal(err)
			}
			if m, err = Run(t.Context(), late{t: t, server: h, by: 45 * time.Millisecond}, out, o); err != nil {
				t.Fatal(err)
			}
			return dir, m
		}
		blind := law()
		blind.NoMetrics = true

		dir, m := bench(blind, 1)
		if m.Taken.TTFT.From != measurement.Probe || m.Taken.ITL.From != measurement.Client {
			t.Errorf("TTFT from %s, ITL from %s; probe %+v, warnings %q", m.Taken.TTFT.From, m.Taken.ITL.From, m.Probe, m.Taken.Warnings)
		}
		if !lawful(m.Taken.TTFT.MS, 56) || *m.Taken.TTFTDifferencePercent < 20 {
			t.Errorf("TTFT %.2f ms, the law says 56; the client's is %+.0f %% off, want +80", m.Taken.TTFT.MS, *m.Taken.TTFTDifferencePercent)
		}
		if !exists(dir, "reports/throughput-probe.json") {
			t.Error("the probe's report is not kept")
		}
		if m.OverheadSeconds < 1 {
			t.Errorf("overhead of %.2f s: without the second of the probe", m.OverheadSeconds)
		}
		if client := m.Weigh(measurement.Client, measurement.Auto); !strings.Contains(strings.Join(client.Warnings, " "), "off the probe's") {
			t.Errorf("the client's TTFT is taken with the warnings %q", client.Warnings)
		}

		if _, m := bench(blind, 0); m.Probe != nil || m.Taken.TTFT.From != measurement.Client {
			t.Errorf("probe %v, TTFT from %s", m.Probe, m.Taken.TTFT.From)
		}
		if _, m := bench(law(), 1); m.Probe != nil || m.Taken.TTFT.From != measurement.Server {
			t.Errorf("a server that tells TTFT: probe %v, TTFT from %s", m.Probe, m.Taken.TTFT.From)
		}
	})
}

// Above what the server runs at once requests queue: the point is good for ITL
// and void for TTFT, whether or not anyone knew the limit.
func TestAQueueVoidsTTFT(t *testing.T) {
	virtually(t, func(t *testing.T) {
		o := options(serve(t, handler(t, law())))
		o.BatchSize = 8
		dir, m, err := run(t, o)
		if err != nil {
			t.Fatal(err)
		}
		if len(m.Taken.VoidTTFT) == 0 || len(m.Taken.Void) > 0 {
			t.Errorf("void %q, void for TTFT %q", m.Taken.Void, m.Taken.VoidTTFT)
		}
		if again := readAgain(t, filepath.Join(dir, "reports/throughput.json")); !slices.Equal(again.Taken.VoidTTFT, m.Taken.VoidTTFT) {
			t.Errorf("read again, void for TTFT %q", again.Taken.VoidTTFT)
		}
		for name, shown := range map[string]bool{"itl": true, "ttft": false} {
			value, err := os.ReadFile(filepath.Join(dir, "outputs", name))
			if err != nil || strings.TrimSpace(string(value)) != "" != shown {
				t.Errorf("outputs/%s holds %q, %v", name, value, err)
			}
		}
		if math.Abs(m.Taken.Batch-4) > 0.5 {
			t.Errorf("measured batch %.2f of a server that runs 4 at once", m.Taken.Batch)
		}
	})
}

// A server that is lost before the end of a point may come back: the point is to
// be tried again, however much of it was answered.
func TestALostServerIsAskedAgainLater(t *testing.T) {
	virtually(t, func(t *testing.T) {
		h := handler(t, law())
		s := pipes.Serve(t, h)
		time.AfterFunc(1500*time.Millisecond, func() {
			s.CloseClientConnections()
			s.Close()
		})
		o := options(s.URL)
		o.MaxSeconds = 1.6
		_, _, err := run(t, o)
		if exit.Code(err) != exit.TryAgain {
			t.Errorf("exit %d, %v", exit.Code(err), err)
		}
	})
}

// A server that begins again in the middle is soon back, and what was measured at
// it is wrong all the same.
func TestARestartedServerIsMeasuredAgain(t *testing.T) {
	virtually(t, func(t *testing.T) {
		var now atomic.Pointer[http.Handler]
		start := func() { h := handler(t, law()); now.Store(&h) }
		start()
		s := pipes.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*now.Load()).ServeHTTP(w, r) }))
		o := options(s.URL)
		time.AfterFunc(1200*time.Millisecond, func() {
			start()
			s.CloseClientConnections()
		})
		dir, m, err := run(t, o)
		if exit.Code(err) != exit.TryAgain || !strings.Contains(err.Error(), "restarted") {
			t.Errorf("exit %d, %v", exit.Code(err), err)
		}
		if !slices.Contains(m.Taken.Void, measurement.ServerRestarted) || !exists(dir, layout.Measurement) {
			t.Errorf("void %q", m.Taken.Void)
		}
		if again := m.Weigh(measurement.Client, measurement.Auto); !slices.Contains(again.Void, measurement.ServerRestarted) {
			t.Errorf("weighed again, void %q", again.Void)
		}
	})
}

// stubborn is a driver that does not mind when its server is lost.
type stubborn struct {
	native.Driver
	lose func()
}

func (d stubborn) Run(ctx context.Context, o driver.Options) error {
	defer d.lose()
	return d.Driver.Run(ctx, o)
}

func TestALostServerThatTheDriverDidNotMindIsAskedAgainLater(t *testing.T) {
	virtually(t, func(t *testing.T) {
		cfg := law()
		cfg.FailRate = 0.2
		s := pipes.Serve(t, handler(t, cfg))
		o := options(s.URL)
		dir := t.TempDir()
		out, err := store.New(context.Background(), dir)
		if err != nil {
			t.Fatal(err)
		}
		m, err := Run(context.Background(), stubborn{lose: s.Close}, out, o)
		if exit.Code(err) != exit.TryAgain || !strings.Contains(err.Error(), "the server went away") || !m.Partial {
			t.Errorf("exit %d, %v, partial %v", exit.Code(err), err, m.Partial)
		}
		if exists(dir, layout.Measurement) || !exists(dir, "measurement.partial.json") {
			t.Error("what was measured is taken for a whole measurement")
		}
	})
}

func TestAnotherClientIsNoticed(t *testing.T) {
	virtually(t, func(t *testing.T) {
		target := serve(t, handler(t, law()))
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() {
			o := options(target).Options
			o.BatchSize, o.MaxSeconds, o.Report, o.Log, o.Deadline = 1, 60, filepath.Join(t.TempDir(), "other.json"), io.Discard, time.Minute
			done <- native.Driver{}.Run(ctx, o)
		}()
		o := options(target)
		o.BatchSize = 2
		_, m, err := run(t, o)
		cancel()
		if err := <-done; err == nil {
			t.Error("the other load was not interrupted")
		}
		if exit.Code(err) != exit.Refused || !strings.Contains(strings.Join(m.Taken.Void, " "), "somebody else") {
			t.Errorf("exit %d, %v; void %q", exit.Code(err), err, m.Taken.Void)
		}
	})
}

func TestWhatCannotWorkIsSaidBeforeAnyLoad(t *testing.T) {
	target := serve(t, handler(t, law()))
	for name, tc := range map[string]struct {
		point func(*Options)
		code  int
		says  string
	}{
		"above max-num-seqs": {func(o *Options) { o.MaxNumSeqs = 2 }, exit.Unusable, "max-num-seqs 2"},
		"too long":           {func(o *Options) { o.Shape.PromptTokens = 500 }, exit.Unusable, "max-model-len 256"},
		"other model":        {func(o *Options) { o.Model = "x" }, exit.Unusable, `not "x"`},
		"unreachable":        {func(o *Options) { o.Target = "http://127.0.0.1:1" }, exit.TryAgain, "not ready"},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(target)
			tc.point(&o)
			dir, _, err := run(t, o)
			if exit.Code(err) != tc.code || err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("exit %d, %v; want %d and %q", exit.Code(err), err, tc.code, tc.says)
			}
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Errorf("it left %v", left)
			}
		})
	}
}

func TestInterruptionLeavesAPartialMeasurementThatNothingTakesForOne(t *testing.T) {
	virtually(t, func(t *testing.T) {
		dir := t.TempDir()
		out, err := store.New(context.Background(), dir)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		o := options(serve(t, handler(t, law())))
		o.MaxSeconds = 60
		_, err = Run(ctx, native.Driver{}, out, o)
		if exit.Code(err) != exit.TryAgain || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("exit %d, %v", exit.Code(err), err)
		}
		if exists(dir, layout.Measurement) || !exists(dir, "measurement.partial.json") || !exists(dir, "reports/throughput.json") {
			t.Error("want the partial measurement and the report, and no measurement")
		}
	})
}

// broken leaves a report in which nothing succeeded, as guidellm does with exit 0.
type broken struct{ native.Driver }

func (broken) Run(_ context.Context, o driver.Options) error {
	f, err := os.Create(o.Report)
	if err != nil {
		return err
	}
	defer f.Close()
	w, err := report.NewNativeWriter(f, report.NativeHeader{Model: o.Model, Shape: o.Shape, BatchSize: o.BatchSize, StartedAt: 1})
	if err != nil {
		return err
	}
	for i := range 6 {
		if err := w.Add(report.NativeRequest{Start: 1 + float64(i), EndMS: 10, Status: report.NativeErrored, Error: "HTTP 500"}); err != nil {
			return err
		}
	}
	return w.Close(report.NativeEnd{EndedAt: 10})
}

func TestADriversWordIsNotTaken(t *testing.T) {
	out, err := store.New(context.Background(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	_, err = Run(context.Background(), broken{}, out, options(serve(t, handler(t, law()))))
	if exit.Code(err) != exit.TryAgain || !strings.Contains(err.Error(), "HTTP 500") || !strings.Contains(err.Error(), "6") {
		t.Errorf("exit %d, %v", exit.Code(err), err)
	}
}

// fallen fails without leaving a report.
type fallen struct{ native.Driver }

func (fallen) Run(context.Context, driver.Options) error {
	return exit.Errorf(exit.TryAgain, "the driver fell over")
}

// What went wrong is said once: that there is no report follows from it.
func TestAFailureIsOneSentence(t *testing.T) {
	out, err := store.New(context.Background(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	_, err = Run(context.Background(), fallen{}, out, options(serve(t, handler(t, law()))))
	if exit.Code(err) != exit.TryAgain || err.Error() != "the driver fell over" {
		t.Errorf("code %d: %v", exit.Code(err), err)
	}
}
