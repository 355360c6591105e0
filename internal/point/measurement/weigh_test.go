package measurement

import (
	"slices"
	"strings"
	"testing"

	"wfgen.dev/internal/run/reason"
	"wfgen.dev/internal/sweep"
)

// sample is a good point seen by both witnesses.
func sample() Measurement {
	return Measurement{
		Schema: Schema, Model: "m", Accelerator: "A100", Shape: sweep.Shape{PromptTokens: 128, OutputTokens: 128}, BatchSize: 8,
		Client: &Witness{
			ITL:   &Estimate{MeanMS: 10, StandardErrorMS: 0.05, Blocks: 10, Samples: 300},
			TTFT:  &Estimate{MeanMS: 40, MedianMS: 38, StandardErrorMS: 1, Blocks: 10, Samples: 300},
			Batch: 7.98, Requests: 320, WindowSeconds: 50, Basis: BasisRows,
		},
		Server: &Witness{
			ITL:   &Estimate{MeanMS: 10.02, StandardErrorMS: 0.04, Blocks: 10, Samples: 38000},
			TTFT:  &Estimate{MeanMS: 30, StandardErrorMS: 0.5, Blocks: 10, Samples: 300},
			Batch: 7.6, Requests: 320, WindowSeconds: 50, Basis: BasisHistograms,
			QueueMS: new(0.1), WaitingMean: new(0.0), Preemptions: new(0.0), PrefixCacheHits: new(0.0),
		},
		Requests: Requests{Successful: 320, Incomplete: 8, InWindow: 300}, PromptTokens: 128, OutputTokens: 128,
		Driver: Driver{Name: "native"}, StartedAt: 1.7e9, Seconds: 53,
	}
}

func TestWeighTakesTheClientsITLAndTheServersTTFT(t *testing.T) {
	m := sample()
	got := m.Weigh(Auto, Auto)
	if got.ITL.From != Client || got.ITL.MS != 10 || got.TTFT.From != Server || got.TTFT.Statistic != Mean || len(got.Void)+len(got.VoidTTFT) > 0 {
		t.Errorf("%+v", got)
	}
	near(t, "TTFT less the queue", got.TTFT.MS, 29.9, 1e-9)
	near(t, "batch", got.Batch, 7.98, 1e-9) // exact; the gauge agrees
	near(t, "TTFT difference", *got.TTFTDifferencePercent, 33.333, 0.001)
	near(t, "ITL difference", *got.ITLDifferencePercent, -0.1996, 0.001)

	got = m.Weigh(Server, Mean)
	if got.ITL.From != Server || got.TTFT.From != Server || got.Batch != 7.6 || len(got.Void) > 0 {
		t.Errorf("server: %+v", got)
	}
	got = m.Weigh(Client, Median)
	if got.ITL.From != Client || got.TTFT.From != Client || got.TTFT.Statistic != Median || got.Batch != 7.98 {
		t.Errorf("client: %+v", got)
	}
	near(t, "median less the queue", got.TTFT.MS, 37.9, 1e-9)
	if !mentions(got.Warnings, "give the load generator more CPU") {
		t.Errorf("TTFT 33 %% off was taken without a warning: %q", got.Warnings)
	}
}

// timed makes the server's witness one of the times in its answers, ms: of the prefill,
// and what the client waited beyond.
func timed(m *Measurement, prefill, wait float64) {
	m.Client.TTFT = &Estimate{MeanMS: prefill + wait, MedianMS: prefill + wait, StandardErrorMS: 1, Blocks: 10, Samples: 300}
	m.Server.TTFT, m.Server.Basis, m.Server.WaitingMean = nil, BasisTimings, nil
	m.Server.PrefillMS, m.Server.QueueMS = &prefill, &wait
}

// probed is a point of guidellm whose server says nothing and that was probed.
func probed() Measurement {
	m := sample()
	m.Server, m.Driver = nil, Driver{Name: "guidellm", Version: "0.7.3"}
	m.Probe = &Witness{
		ITL:   &Estimate{MeanMS: 9.98, StandardErrorMS: 0.1, Blocks: 4, Samples: 32},
		TTFT:  &Estimate{MeanMS: 31, MedianMS: 30.5, StandardErrorMS: 1.2, Blocks: 4, Samples: 32},
		Batch: 7.9, Requests: 36, WindowSeconds: 5, Basis: BasisRows,
	}
	return m
}

func TestWeighTakesTheProbesTTFTWhereTheServerCannotSpeak(t *testing.T) {
	m := probed()
	got := m.Weigh(Auto, Auto)
	if got.ITL.From != Client || got.TTFT.From != Probe || got.TTFT.MS != 31 || len(got.Void)+len(got.VoidTTFT)+len(got.Warnings) > 0 {
		t.Errorf("%+v", got)
	}
	near(t, "TTFT difference", *got.TTFTDifferencePercent, 29.032, 0.001)
	near(t, "ITL difference", *got.ITLDifferencePercent, 0.2004, 0.001)
	near(t, "batch", got.Batch, 7.98, 1e-9)
	if got = m.Weigh(Auto, Median); got.TTFT.From != Probe || got.TTFT.MS != 30.5 {
		t.Errorf("median: %+v", got.TTFT)
	}
	if got = m.Weigh(Client, Auto); got.TTFT.From != Client || !mentions(got.Warnings, "off the probe's; give the load generator more CPU (--load-generator-cpu), or measure with --driver native") {
		t.Errorf("the client's TTFT, asked for: %+v, warnings %q", got.TTFT, got.Warnings)
	}

	m.Client.ITL.MeanMS = 12
	if got = m.Weigh(Auto, Auto); !mentions(got.Warnings, "the client's ITL, which is taken, is +20.2 % off the probe's") {
		t.Errorf("a wrong ITL was taken with the warnings %q", got.Warnings)
	}

	m = probed()
	m.Probe.Batch = 5
	if got = m.Weigh(Auto, Auto); got.TTFT.From != Client || !mentions(got.Warnings, "the probe had 5 requests in flight") || !mentions(got.Warnings, "off the probe's") {
		t.Errorf("a probe of another load: TTFT from %s, warnings %q", got.TTFT.From, got.Warnings)
	}

	// A server that did speak is better than a few seconds.
	m = probed()
	m.Server = sample().Server
	if got = m.Weigh(Auto, Auto); got.TTFT.From != Server {
		t.Errorf("TTFT from %s", got.TTFT.From)
	}
}

func TestWantsProbe(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Measurement)
		want   bool
	}{
		"no server":                      {func(m *Measurement) { m.Server = nil }, true},
		"an admissible server":           {func(*Measurement) {}, false},
		"counts that do not match":       {func(m *Measurement) { m.Server.Requests = 170 }, true},
		"a server that knows ITL only":   {func(m *Measurement) { m.Server.TTFT = nil }, true},
		"void whoever is asked":          {func(m *Measurement) { m.Server.Preemptions = new(4.0) }, false},
		"nothing measured":               {func(m *Measurement) { m.Server, m.Client = nil, nil }, false},
		"TTFT that nobody could believe": {func(m *Measurement) { m.Server, m.Client.TTFT = nil, nil }, false},
		"the native driver":              {func(m *Measurement) { m.Server, m.Driver.Name = nil, "native" }, false},
	} {
		m := sample()
		m.Driver = Driver{Name: "guidellm", Version: "0.7.3"}
		c.change(&m)
		if got := m.WantsProbe(); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// A request runs for what the server says of the time that the client saw: so many of
// those in flight ran, and never more than a full server can run.
func TestWeighBatchThatRan(t *testing.T) {
	m := sample()
	m.OutputTokens = 101
	m.Client.Batch, m.Client.TTFT.MeanMS, m.Client.ITL.MeanMS = 16, 1000, 10
	m.Server.RunningMS = new(1020.0)
	near(t, "more than half of them", m.Weigh(Auto, Auto).Batch, 8.16, 1e-9)
	m.Server.Full = new(8.0)
	near(t, "of a full server", m.Weigh(Auto, Auto).Batch, 8, 1e-12)
	m.Server.RunningMS = new(900.0)
	near(t, "of one that was not always as full", m.Weigh(Auto, Auto).Batch, 7.2, 1e-9)
}

func TestWeighReasons(t *testing.T) {
	for _, c := range []struct {
		name     string
		change   func(*Measurement)
		source   string
		ttft     string
		void     string // a word of the reason; empty: none may be there
		voidTTFT string
		warning  string
		ttftFrom string
	}{
		{name: "foreign traffic", change: func(m *Measurement) { m.Server.Requests = 400 }, void: "somebody else", ttftFrom: Client},
		{name: "foreign traffic, client asked for", change: func(m *Measurement) { m.Server.Requests = 400 }, source: Client, warning: "somebody else", ttftFrom: Client},
		{name: "a foreign request that outlasts the point", change: func(m *Measurement) {
			m.OutputTokens, m.Server.Gaps = 128, new(float64(m.Client.Requests)*127+5000)
		}, void: "somebody else", ttftFrom: Client},
		{name: "tokens of our own", change: func(m *Measurement) {
			m.OutputTokens, m.Server.Gaps = 128, new(float64(m.Client.Requests)*127)
		}, ttftFrom: Server},
		{name: "cut-off requests are ours", change: func(m *Measurement) { m.Server.Requests = 328 }, ttftFrom: Server},
		{name: "another replica", change: func(m *Measurement) { m.Server.Requests = 170 }, void: "another replica", ttftFrom: Client},
		{name: "connection tests of old guidellm", change: func(m *Measurement) {
			m.Server.Requests, m.Driver = 337, Driver{Name: "guidellm", Version: "0.3.1"}
		}, ttftFrom: Server},
		{name: "more than one test per stream and one", change: func(m *Measurement) {
			m.Server.Requests, m.Driver = 338, Driver{Name: "guidellm", Version: "0.3.1"}
		}, void: "somebody else", ttftFrom: Client},
		{name: "no tests in new guidellm", change: func(m *Measurement) {
			m.Server.Requests, m.Driver = 334, Driver{Name: "guidellm", Version: "0.7.3"}
		}, void: "somebody else", ttftFrom: Client},
		{name: "preempted", change: func(m *Measurement) { m.Server.Preemptions = new(4.0) }, void: "evicted", ttftFrom: Client},
		{name: "prefix cache", change: func(m *Measurement) { m.Server.PrefixCacheHits = new(20000.0) }, void: "prefix cache", ttftFrom: Client},
		{name: "a few cached tokens", change: func(m *Measurement) { m.Server.PrefixCacheHits = new(400.0) }, warning: "prefix cache", ttftFrom: Server},
		{name: "a first token that is found each time", change: func(m *Measurement) { m.Server.PrefixCacheHits = new(320.0) }, ttftFrom: Server},
		{name: "queue", change: func(m *Measurement) { m.Server.QueueMS = new(1693.0); m.Server.TTFT.MeanMS = 1888 }, voidTTFT: "queued", ttftFrom: Server},
		{name: "a wait for a slot, in the times of answers", change: func(m *Measurement) { timed(m, 150, 975) }, voidTTFT: "queued", ttftFrom: Client},
		{name: "a wait for the prefills beside it, in the times of answers", change: func(m *Measurement) { timed(m, 150, 525) }, ttftFrom: Client},
		{name: "waiting, no queue time", change: func(m *Measurement) { m.Server.QueueMS = nil; m.Server.WaitingMean = new(3.0) }, voidTTFT: "waiting", ttftFrom: Server},
		{name: "no server", change: func(m *Measurement) { m.Server = nil }, ttftFrom: Client},
		{name: "no server, server asked for", change: func(m *Measurement) { m.Server = nil }, source: Server, void: "no latency histograms", voidTTFT: "no TTFT"},
		{name: "no client", change: func(m *Measurement) { m.Client = nil }, ttftFrom: Server},
		{name: "neither", change: func(m *Measurement) { m.Client, m.Server = nil, nil }, void: "neither", voidTTFT: "neither"},
		{name: "median of the server", source: Server, ttft: Median, voidTTFT: "median"},
		{name: "median", ttft: Median, ttftFrom: Client},
		{name: "nonsense mean", change: func(m *Measurement) { m.Server = nil; m.Client.TTFT.MeanMS = -1e8 }, warning: "median is taken", ttftFrom: Client},
		{name: "huge mean", change: func(m *Measurement) { m.Server = nil; m.Client.TTFT.MeanMS = 1e8 }, warning: "median is taken", ttftFrom: Client},
		{name: "nonsense everything", change: func(m *Measurement) {
			m.Server = nil
			m.Client.TTFT.MeanMS, m.Client.TTFT.MedianMS = -1e8, -3
		}, voidTTFT: "not plausible"},
		{name: "seconds", change: func(m *Measurement) {
			m.Server = nil
			m.Client.ITL.MeanMS, m.Client.TTFT.MeanMS, m.Client.TTFT.MedianMS = 0.01, 0.04, 0.04
		}, void: "look like seconds", ttftFrom: Client},
		{name: "microseconds", change: func(m *Measurement) {
			m.Server = nil
			m.Client.ITL.MeanMS, m.Client.TTFT.MeanMS, m.Client.TTFT.MedianMS = 10000, 40000, 40000
		}, void: "look like microseconds", ttftFrom: Client},
		{name: "a capped batch", change: func(m *Measurement) { m.Server.Batch = 5 }, warning: "ran 5 requests together", ttftFrom: Server},
		{name: "nothing, said by the reader", change: func(m *Measurement) {
			m.Client, m.Server = nil, nil
			m.Refuse(reason.New(reason.Void, "all failed"))
		}, void: "all failed"},
		{name: "said by the reader", change: func(m *Measurement) { m.Refuse(reason.New(reason.Void, "no successful requests")) }, void: "no successful requests", ttftFrom: Server},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := sample()
			if c.change != nil {
				c.change(&m)
			}
			if c.source == "" {
				c.source = Auto
			}
			if c.ttft == "" {
				c.ttft = Auto
			}
			got := m.Weigh(c.source, c.ttft)
			check := func(list []string, want, what string) {
				if want == "" && what != "warnings" && len(list) > 0 || want != "" && !mentions(list, want) {
					t.Errorf("%s %q, want %q", what, list, want)
				}
			}
			if c.name == "nothing, said by the reader" && len(got.Void) != 1 {
				t.Errorf("void %q: more than the reason", got.Void)
			}
			check(got.Void, c.void, "void")
			check(got.VoidTTFT, c.voidTTFT, "void_ttft")
			check(got.Warnings, c.warning, "warnings")
			if got.TTFT != nil {
				if from := got.TTFT.From; from != c.ttftFrom {
					t.Errorf("TTFT from %q, want %q", from, c.ttftFrom)
				}
			} else if c.ttftFrom != "" {
				t.Errorf("no TTFT, want the %s's", c.ttftFrom)
			}

			// Weighing again, also after a detour, changes nothing.
			m.Taken = got
			m.Taken = m.Weigh(Client, Median)
			m.Taken = m.Weigh(Server, Auto)
			again := m.Weigh(c.source, c.ttft)
			if !slices.Equal(again.Void, got.Void) || !slices.Equal(again.VoidTTFT, got.VoidTTFT) {
				t.Errorf("weighed again: %q %q, first %q %q", again.Void, again.VoidTTFT, got.Void, got.VoidTTFT)
			}
		})
	}
}

func mentions(list []string, text string) bool {
	return slices.ContainsFunc(list, func(s string) bool { return strings.Contains(s, text) })
}
