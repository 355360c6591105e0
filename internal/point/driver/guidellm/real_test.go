//go:build guidellm

// step bench with every guidellm that hack/guidellm/install.sh has installed,
// against simulated servers:
//
//	hack/guidellm/install.sh 0.3.1 0.7.3
//	go test -tags guidellm ./internal/point/driver/guidellm -run Real -parallel 3 -timeout 30m
//	go test -tags guidellm ./internal/point/driver/guidellm -run 'Real/^0.7.3$/hang'
//
// Every point costs a start of guidellm, which is 5 to 15 s of CPU, so each is
// asked all that it can answer: every failure is also a test of the API key, and
// what step must notice before guidellm starts is tested to be noticed then.

package guidellm_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"wfgen.dev/internal/llm/simulate"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/run/exit"
)

var update = flag.Bool("update", false, "keep shrunk reports of these runs as testdata of package report")

func TestReal(t *testing.T) {
	for _, version := range installed(t) {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			t.Run("sweep", func(t *testing.T) {
				t.Parallel()
				sweepOf(t, version)
			})
			for _, f := range failures(version) {
				t.Run(f.name, func(t *testing.T) {
					t.Parallel()
					f.run(t, version)
				})
			}
		})
	}
}

// sweepOf measures three batch sizes, and estimates.
func sweepOf(t *testing.T, version string) {
	var points []string
	prompts := map[string]int{} // and the batch size of the point that sent each
	for _, batch := range []int{1, 4, 16} {
		c := law()
		key := batch == 1 && takesKey(version)
		if key {
			c.APIKey = apiKey
		}
		srv := serve(t, c, nil)
		s := bench(t, version, srv, batch, "--max-seconds", "8")
		s.cmd.Env = append(s.cmd.Env, "STEP_API_KEY="+c.APIKey)
		s.run(t)
		if s.code != exit.Done {
			t.Fatalf("batch %d: exit code %d\n%s", batch, s.code, &s.err)
		}
		if key && !slices.Equal(srv.authorizations(), []string{"Bearer " + apiKey}) {
			t.Errorf("the server saw %q", srv.authorizations())
		}
		points = append(points, s.output)
		m := s.measurement(t)
		checkPoint(t, m, batch)
		t.Logf("%s (%.0f s, of which %.0f are the start and the end)", strings.TrimSpace(s.out.String()), s.took.Seconds(), m.OverheadSeconds)

		requests, lengths := srv.asked(), map[int]bool{}
		// Those that the end cuts off are in no count, or in that of the incomplete.
		if got := m.Requests.Successful; got > len(requests) || got+m.Requests.Incomplete < len(requests)-batch {
			t.Errorf("batch %d: %d requests reported, %d seen", batch, got, len(requests))
		}
		for _, q := range requests {
			if n := len(strings.Fields(q.Prompt)); n < promptTokens-2 || n > promptTokens+2 {
				t.Errorf("prompt of %d tokens", n)
			}
			if q.MaxTokens < fewest || q.MaxTokens > most || !q.IgnoreEOS || !q.Stream {
				t.Errorf("max_tokens %d, ignore_eos %v, stream %v", q.MaxTokens, q.IgnoreEOS, q.Stream)
			}
			lengths[q.MaxTokens] = true
			if other, found := prompts[q.Prompt]; found && other != batch {
				t.Errorf("the points of batch %d and %d send the same prompt", other, batch)
			}
			prompts[q.Prompt] = batch
		}
		if len(lengths) < 4 {
			t.Errorf("answers of only these lengths were asked for: %v", slices.Sorted(maps.Keys(lengths)))
		}
		raw, err := os.ReadFile(s.rawReport(t))
		if err != nil {
			t.Fatal(err)
		}
		if !before(version, "0.5.4") && bytes.Contains(raw, []byte(requests[0].Prompt)) {
			t.Errorf("the report of %d bytes holds prompts", len(raw))
		}
		if batch < 16 {
			keepReport(t, s, fmt.Sprintf("%s-batch%d", version, batch))
		}
	}
	estimate(t, points)
}

// checkPoint: the ITL is right and the client's; the TTFT is the server's, and
// how far guidellm's own is off is known.
func checkPoint(t *testing.T, m measurement.Measurement, batch int) {
	if m.Client == nil || m.Client.Basis != measurement.BasisRows || m.Taken.ITL == nil || m.Taken.TTFT == nil {
		t.Fatalf("batch %d: not measured from rows: %+v", batch, m)
	}
	if math.Abs(m.Taken.Batch/float64(batch)-1) > 0.1 {
		t.Errorf("measured batch %.2f, asked for %d", m.Taken.Batch, batch)
	}
	if off := m.Taken.ITL.MS/trueITL(m.Taken.Batch) - 1; m.Taken.ITL.From != measurement.Client || math.Abs(off) > 0.05 {
		t.Errorf("batch %d: ITL %.2f ms of the %s is %+.1f %% off", batch, m.Taken.ITL.MS, m.Taken.ITL.From, 100*off)
	}
	if off := m.Taken.TTFT.MS/trueTTFT(m.Taken.Batch) - 1; m.Taken.TTFT.From != measurement.Server || math.Abs(off) > 0.25 {
		t.Errorf("batch %d: TTFT %.2f ms of the %s is %+.1f %% off", batch, m.Taken.TTFT.MS, m.Taken.TTFT.From, 100*off)
	}
	if m.Taken.TTFTDifferencePercent == nil {
		t.Fatalf("batch %d: nothing says how far guidellm's TTFT is off the server's", batch)
	}
	t.Logf("batch %d: ITL %.2f ms (truth %.2f), TTFT %.1f (truth %.1f), guidellm's TTFT %.1f: %+.0f %%", batch,
		m.Taken.ITL.MS, trueITL(m.Taken.Batch), m.Taken.TTFT.MS, trueTTFT(m.Taken.Batch), m.Client.TTFT.MeanMS, *m.Taken.TTFTDifferencePercent)
	if *m.Taken.TTFTDifferencePercent < 0 {
		t.Errorf("batch %d: guidellm's TTFT is below the server's", batch)
	}
	// Who insists on guidellm's is told.
	insisted := m.Weigh(measurement.Client, measurement.Auto)
	warned := slices.ContainsFunc(insisted.Warnings, func(w string) bool { return strings.Contains(w, "TTFT") })
	if big := *m.Taken.TTFTDifferencePercent > 10; big != warned {
		t.Errorf("batch %d: difference %+.1f %%, warnings %q", batch, *m.Taken.TTFTDifferencePercent, insisted.Warnings)
	}
}

// estimate: the parameters of the whole sweep are those of the server, and who
// takes guidellm's TTFT instead is warned in the verdict, if it is off.
func estimate(t *testing.T, points []string) {
	type parameters struct {
		Alpha, Beta, Gamma, Delta float64
		Verdict                   struct {
			Verdict string
			Reasons []string
		}
	}
	of := func(source string) (p parameters, table string) {
		s := command(t, append([]string{"aggregate", "--source", source, "--output"}, append([]string{filepath.Join(t.TempDir(), "out")}, points...)...)...)
		s.run(t)
		if source == measurement.Auto && s.code != exit.Done {
			t.Fatalf("step aggregate: exit code %d\n%s%s", s.code, &s.out, &s.err)
		}
		data, err := os.ReadFile(filepath.Join(s.cmd.Args[slices.Index(s.cmd.Args, "--output")+1], "parameters.json"))
		if err == nil {
			err = json.Unmarshal(data, &p)
		}
		if err != nil && source == measurement.Auto {
			t.Fatal(err)
		}
		return p, s.out.String()
	}
	p, table := of(measurement.Auto)
	t.Logf("alpha %.3f (truth %.3g), beta %.3f (%.3g), gamma %.2f (%.3g), delta %.4f (%.3g)\n%s", p.Alpha, alpha, p.Beta, beta, p.Gamma, gamma, p.Delta, delta, table)
	for _, v := range []struct {
		name           string
		got, truth, by float64
	}{{"alpha", p.Alpha, alpha, 0.05}, {"gamma", p.Gamma, gamma, 0.25}} {
		if math.Abs(v.got/v.truth-1) > v.by {
			t.Errorf("%s is %.3f, the truth %.3f", v.name, v.got, v.truth)
		}
	}
	_, table = of(measurement.Client)
	t.Log(table)
}

// failure is one way in which a point of 20 requests in 2 streams can go wrong,
// and what a user sees of it.
type failure struct {
	name    string
	server  simulate.Config // its faults
	instead http.HandlerFunc
	flags   []string
	end     func(*step, testing.TB) // in the middle of the point

	never bool   // guidellm is not started
	codes []int  // exit code, one of them
	says  string // regular expression, in the last thing that step says
	good  int    // requests that succeed
}

// failures are those of a version. Where there is an API key, each is also a test
// that it shows up nowhere.
func failures(version string) []failure {
	hang, margin := `had not ended 35s after its start and was stopped: it waits for a server`, "20s"
	if !before(version, "0.8.0") { // it ends by itself, with its requests cut off, but is slow to start
		hang, margin = `requests were cut off by the end of the run`, "120s"
	}
	// 0.2 and 0.3 try the server before they begin and give up; later ones begin,
	// and end with exit code 0 and a report in which nothing succeeded.
	const tried = `guidellm \S+ gave up: .*; the server's log`
	nothing := `none of (20|19) requests succeeded: .* x(20|19); .*log of the server`
	usage := failure{name: "no usage", server: simulate.Config{NoUsage: true}, codes: []int{exit.Refused}, says: `sent no usage.*use a server that`, good: 20}
	third := failure{name: "one third 500", server: simulate.Config{FailRate: 1. / 3}, codes: []int{exit.Done}, good: 14}
	token := `none of (20|19) requests succeeded|none can be used: successful without an output token x(20|19)`
	if before(version, "0.4.0") {
		nothing = tried
		// They report what was asked for as what was counted, and nobody can tell.
		usage.codes, usage.says = []int{exit.Done}, ""
		// Each of their processes tries by itself, and one that meets an error ends all.
		third.codes, third.says, third.good = []int{exit.Done, exit.TryAgain}, tried+`|process`, 12
	}
	long := []string{"--max-requests", "2000", "--max-seconds", "60"}
	all := []failure{
		{name: "unreachable", flags: []string{"--target", "http://127.0.0.1:1"}, never: true, codes: []int{exit.TryAgain}, says: `http://127\.0\.0\.1:1 is not ready`},
		{name: "wrong model", flags: []string{"--model", "another"}, never: true, codes: []int{exit.Unusable}, says: `serves simulated, not "another"; give --model`},
		{name: "unwritable output", flags: []string{"--output", "/proc/no/such"}, never: true, codes: []int{exit.Usage}, says: `cannot write /proc/no/such.*choose an output directory`},
		{name: "tokenizer directory missing", flags: []string{"--tokenizer", "/no/such"}, never: true, codes: []int{exit.Usage}, says: `/no/such.*give --tokenizer`},
		{name: "tokenizer unknown", flags: []string{"--tokenizer", "no-such/model"}, codes: []int{exit.Usage}, says: `cannot load the tokenizer "no-such/model"; give --tokenizer`},
		{name: "all 500", server: simulate.Config{FailRate: 1}, codes: []int{exit.TryAgain}, says: `500.*log`},
		third,
		{name: "connection cut", server: simulate.Config{AbortRate: 1}, codes: []int{exit.TryAgain}, says: nothing},
		{name: "no token", instead: noToken, codes: []int{exit.TryAgain}, says: token},
		usage,
		{name: "no metrics", server: simulate.Config{NoMetrics: true}, codes: []int{exit.Done}, good: 20},
		{name: "hang", server: simulate.Config{Hang: true}, flags: []string{"--margin", margin}, codes: []int{exit.TryAgain}, says: hang},
		{name: "SIGTERM", flags: long, end: (*step).terminate, codes: []int{exit.TryAgain}, says: `was interrupted after`},
		{name: "out of memory", flags: long, end: (*step).killGuidellm, codes: []int{exit.TryAgain}, says: `ran out of memory; raise the memory limit`},
	}
	if !takesKey(version) {
		all = append(all, failure{name: "API key", never: true, codes: []int{exit.Usage}, says: `cannot send an API key; use 0\.7 or the native driver`})
	}
	return all
}

func (f failure) run(t *testing.T, version string) {
	c := law()
	c.FailRate, c.AbortRate, c.Hang, c.NoUsage, c.NoMetrics = f.server.FailRate, f.server.AbortRate, f.server.Hang, f.server.NoUsage, f.server.NoMetrics
	if takesKey(version) || f.name == "API key" {
		c.APIKey = apiKey
	}
	srv := serve(t, c, f.instead)
	const limit, margin = 15 * time.Second, 150 * time.Second
	s := bench(t, version, srv, 2, append([]string{"--max-requests", "20", "--max-seconds", fmt.Sprint(limit.Seconds()), "--margin", fmt.Sprint(margin)}, f.flags...)...)
	s.cmd.Env = append(s.cmd.Env, "STEP_API_KEY="+c.APIKey)
	var told time.Time
	if f.end != nil {
		ended := make(chan struct{})
		defer close(ended)
		go func() {
			select {
			case <-ended:
			case <-srv.first:
				time.Sleep(time.Second)
				told = time.Now()
				f.end(s, t)
			}
		}()
	}
	s.run(t)
	t.Logf("%.1f s, exit code %d: %s%s", s.took.Seconds(), s.code, &s.out, s.words())
	if !slices.Contains(f.codes, s.code) {
		t.Errorf("exit code %d, want one of %v\n%s", s.code, f.codes, &s.err)
	}
	if s.code != exit.Done && !regexp.MustCompile(f.says).MatchString(s.words()) {
		t.Errorf("%q does not match %q", s.words(), f.says)
	}
	if strings.Contains(s.words(), "\n") {
		t.Errorf("more than one sentence: %q", s.words())
	}
	if s.started == f.never || f.never && len(srv.asked()) > 0 {
		t.Errorf("guidellm started: %v; requests: %d", s.started, len(srv.asked()))
	}
	const grace = 10*time.Second + 5*time.Second // and what a busy machine needs
	if f.end != nil && time.Since(told) > grace || s.took > limit+margin+grace {
		t.Errorf("it took %.0f s", s.took.Seconds())
	}
	if f.never {
		return
	}
	if _, err := os.Stat(filepath.Join(s.output, "reports", "b2-log.txt")); err != nil {
		t.Errorf("its log is not kept: %v", err)
	}
	if f.server.NoMetrics {
		// Then the probe's is taken, and how far guidellm's is off is known all the same.
		m := s.measurement(t)
		if m.Taken.TTFT == nil || m.Taken.TTFT.From != measurement.Probe || m.Taken.TTFTDifferencePercent == nil || math.Abs(m.Taken.TTFT.MS/trueTTFT(m.Taken.Batch)-1) > 0.25 {
			t.Errorf("TTFT %+v, truth %.1f, difference %v", m.Taken.TTFT, trueTTFT(m.Taken.Batch), m.Taken.TTFTDifferencePercent)
		}
	}
	if _, err := os.Stat(filepath.Join(s.output, "reports", "b2.json")); err == nil {
		// 0.6 was seen to forget the last one.
		if m := s.report(t); m.Requests.Successful != f.good && m.Requests.Successful != f.good-1 {
			t.Errorf("%d requests succeeded, want %d: %+v", m.Requests.Successful, f.good, m.Requests)
		}
		if f.server.NoMetrics {
			return // its report is as any other
		}
		keepReport(t, s, version+"-"+strings.ReplaceAll(f.name, " ", "-"))
	} else if s.code == exit.Done || s.code == exit.Refused {
		t.Error("its report is not kept")
	}
}
