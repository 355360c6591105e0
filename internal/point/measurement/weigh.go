package measurement

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"wfgen.dev/internal/sweep"
)

// What an estimate may be asked to use.
const (
	Auto   = "auto"
	Server = "server"
	Client = "client"
	Probe  = "probe" // is not asked for: auto takes it where the server cannot speak
	Mean   = "mean"
	Median = "median"
)

// Limits of the weighing, and why they are where they are.
const (
	// A queue below these is scheduling noise; above, the wait dominates what
	// gamma and delta are about.
	queueShareOfTTFT = 0.10
	queueFloorMS     = 1.0
	waitingShare     = 0.02 // of the batch, where the queue's time is not reported
	waitingFloor     = 0.10 // requests

	// Prompts of a chat template share a few tokens; more than this share of
	// the prompt found in the cache makes prefill cheaper than it is.
	prefixShare = 0.01

	// Witnesses further apart than this are worth a warning.
	disagreement = 0.10

	// A mean this many times off its median was made by few monstrous values.
	meanToMedian = 2.0
)

// Weigh decides which witness's numbers an estimate uses. source is auto, server
// or client; ttft is auto, mean or median. It panics on other words: they are to
// be refused where they are read.
//
// Automatically it takes the client's ITL, which agrees with the server's within
// 0.3 %, and the server's TTFT, which is free of the load generator's own delays,
// provided that the server's witness is admissible: it counted exactly our
// requests, evicted none, found none in its prefix cache. Without one, TTFT is
// the probe's, whose own delays are small, and without that the client's. A mean
// that is not plausible gives way to the median.
//
// Reasons that a reader of reports put into m.Taken.Void and m.Taken.VoidTTFT are
// kept; those of an earlier weighing are not.
func (m *Measurement) Weigh(source, ttft string) Taken {
	if !slices.Contains([]string{Auto, Server, Client}, source) || !slices.Contains([]string{Auto, Mean, Median}, ttft) {
		panic(fmt.Sprintf("measurement: weigh by source %q, ttft %q", source, ttft))
	}
	t := m.weigh(source, ttft)
	void, voidTTFT := m.Taken.Void, m.Taken.VoidTTFT
	if m.Taken.Source != "" {
		before := m.weigh(m.Taken.Source, Auto)
		void, voidTTFT = without(void, before.Void), without(voidTTFT, before.VoidTTFT)
	}
	if len(void) > 0 && t.ITL == nil && t.TTFT == nil {
		// The reader said why there is nothing; that there is nothing is no news.
		t.Void, t.VoidTTFT = slices.Clone(void), slices.Clone(voidTTFT)
		return t
	}
	t.Void = append(slices.Clone(void), without(t.Void, void)...)
	t.VoidTTFT = append(slices.Clone(voidTTFT), without(t.VoidTTFT, voidTTFT)...)
	return t
}

func (m *Measurement) weigh(source, ttft string) Taken {
	t := Taken{Source: source}
	void := func(format string, args ...any) { t.Void = append(t.Void, fmt.Sprintf(format, args...)) }
	voidTTFT := func(format string, args ...any) { t.VoidTTFT = append(t.VoidTTFT, fmt.Sprintf(format, args...)) }
	warn := func(format string, args ...any) { t.Warnings = append(t.Warnings, fmt.Sprintf(format, args...)) }

	client, server := m.Client, m.Server
	if client == nil {
		client = &Witness{}
	}
	admissible, queueMS := m.admit(source, &t)

	// ITL: the client's, unless the server's is asked for or is all there is.
	fromServer := func(asked bool, has *Estimate, other *Estimate) bool {
		return has != nil && (asked || admissible && other == nil)
	}
	if server != nil && fromServer(source == Server, server.ITL, client.ITL) {
		t.ITL = value(server.ITL, Server)
	} else if client.ITL != nil && source != Server {
		t.ITL = pick(client.ITL, Client, Auto, "ITL", warn)
	}
	if t.ITL == nil {
		void("%s", m.lacking("ITL", source, client.ITL))
	}

	// TTFT: the server's where it may speak, unless a median is asked for,
	// which sums cannot give.
	if source == Server && ttft == Median {
		voidTTFT("the median of TTFT was asked for of the server, whose histograms give the mean only; take --source client or --ttft mean")
	} else if server != nil && server.TTFT != nil && (source == Server || source == Auto && admissible && ttft != Median) {
		t.TTFT = value(server.TTFT, Server)
	}
	if t.TTFT == nil && source == Auto && m.probed(warn) {
		t.TTFT = pick(m.Probe.TTFT, Probe, ttft, "TTFT", warn)
	}
	if t.TTFT == nil && client.TTFT != nil && source != Server {
		t.TTFT = pick(client.TTFT, Client, ttft, "TTFT", warn)
	}
	if t.TTFT != nil && t.TTFT.From != Probe && queueMS < t.TTFT.MS {
		t.TTFT.MS -= queueMS
	}
	if t.TTFT == nil && len(t.VoidTTFT) == 0 {
		voidTTFT("%s", m.lacking("TTFT", source, client.TTFT))
	}

	t.Batch = m.batch(source, admissible, warn)
	if t.Batch <= 0 {
		void("neither witness says how many requests ran together")
	}

	t.ITLDifferencePercent = m.differ("ITL", t.ITL, func(w *Witness) *Estimate { return w.ITL }, warn)
	t.TTFTDifferencePercent = m.differ("TTFT", t.TTFT, func(w *Witness) *Estimate { return w.TTFT }, warn)
	if unit := m.suspectUnit(t); unit != "" {
		void("%s", unit)
	}
	return t
}

// WantsProbe says whether a probe would tell what nobody has told: the point is of
// use, and its TTFT would be the client's own. The native driver needs none: it is
// what a probe is made with.
func (m *Measurement) WantsProbe() bool {
	return m.Driver.Name != sweep.Native && m.Client != nil &&
		len(m.Weigh(Client, Auto).Void) == 0 && m.Weigh(Auto, Mean).TTFT.from(Client)
}

// probed says whether the probe saw the same load as the point.
func (m *Measurement) probed(warn func(string, ...any)) bool {
	if m.Probe == nil || m.Probe.TTFT == nil {
		return false
	}
	if batch := m.batch(Client, false, warn); batch > 0 && apart(m.Probe.Batch, batch) {
		warn("the probe had %.4g requests in flight and the point %.4g, so its TTFT is not taken", m.Probe.Batch, batch)
		return false
	}
	return true
}

// apart says whether two batches differ by more than their measuring does.
func apart(a, b float64) bool {
	return math.Abs(a/b-1) > disagreement && math.Abs(a-b) > 0.5
}

// admit says whether the server's numbers may be used, writes what its counts
// give away about the point into t, and returns the mean queue wait (ms) that is
// small enough to be subtracted.
func (m *Measurement) admit(source string, t *Taken) (admissible bool, queueMS float64) {
	w := m.Server
	if w == nil {
		if source == Server {
			t.Void = append(t.Void, "the server's witness was asked for and there is none: the server reported no latency histograms under /metrics")
		}
		return false, 0
	}
	admissible = w.ITL != nil || w.TTFT != nil

	// Whose requests did it see? Requests cut off by the end may be counted by
	// the server or not.
	if m.Client != nil && m.Client.Requests > 0 {
		ours := m.Client.Requests
		most := ours + m.Requests.Errored + m.Requests.Incomplete
		if m.Driver.Name == "guidellm" && oldGuidellm(m.Driver.Version) {
			// It and each of its worker processes, up to one per stream, test the
			// connection with a request that its report does not count.
			most += 1 + m.BatchSize
		}
		reason := ""
		switch {
		case w.Requests > most:
			reason = fmt.Sprintf("the server finished %d requests, of which %d were ours: somebody else was using it", w.Requests, ours)
		case w.Gaps != nil && *w.Gaps > m.mostGaps(ours, most):
			reason = fmt.Sprintf("the server made %.0f tokens after first ones, of which %.0f were ours: somebody else was using it", *w.Gaps, float64(ours)*(m.OutputTokens-1))
		case w.Requests < ours:
			reason = fmt.Sprintf("the server finished %d of our %d requests: another replica answered the rest, or it restarted; measure one replica by its own URL", w.Requests, ours)
		}
		if reason != "" {
			admissible = false
			if source == Client {
				t.Warnings = append(t.Warnings, reason)
			} else {
				t.Void = append(t.Void, reason)
			}
		}
	}
	if n := w.Preemptions; n != nil && *n > 0 {
		admissible = false
		t.Void = append(t.Void, fmt.Sprintf("the server evicted running requests %.0f times for lack of KV cache memory; measure smaller batches", *n))
	}
	if n := w.PrefixCacheHits; n != nil && *n > 0 {
		prompts := float64(w.Requests) * max(m.PromptTokens, float64(m.Shape.PromptTokens))
		if *n > prefixShare*prompts {
			admissible = false
			t.Void = append(t.Void, fmt.Sprintf("%.0f prompt tokens came out of the server's prefix cache; start it with --no-enable-prefix-caching, or make every prompt unique", *n))
		} else {
			t.Warnings = append(t.Warnings, fmt.Sprintf("%.0f prompt tokens, %.2g %% of all, came out of the server's prefix cache", *n, 100**n/prompts))
		}
	}

	switch {
	case w.QueueMS != nil && w.TTFT != nil:
		queueMS = *w.QueueMS
		if queueMS > max(queueFloorMS, queueShareOfTTFT*w.TTFT.MeanMS) {
			t.VoidTTFT = append(t.VoidTTFT, fmt.Sprintf("requests queued for %.3g ms of a TTFT of %.3g ms: the batch is above what the server runs at once", queueMS, w.TTFT.MeanMS))
			queueMS = 0 // the value stays what was seen
		}
	case w.WaitingMean != nil && *w.WaitingMean > max(waitingFloor, waitingShare*w.Batch):
		t.VoidTTFT = append(t.VoidTTFT, fmt.Sprintf("%.3g requests were waiting in the mean: the batch is above what the server runs at once", *w.WaitingMean))
	}
	if !admissible {
		queueMS = 0 // not the queue of our requests alone
	}
	return admissible, queueMS
}

// mostGaps is the most gaps between tokens that the server may have counted where
// it answered that many successful requests of ours whole and others, up to most,
// in part. A request that outlasts the point is in no count of finished ones: only
// its tokens give it away.
func (m *Measurement) mostGaps(ours, most int) float64 {
	if m.OutputTokens <= 1 {
		return math.Inf(1) // nobody counted ours
	}
	longest := 1.3 * max(m.OutputTokens, float64(m.Shape.OutputTokens)) // answers differ in length
	return 1.02*float64(ours)*(m.OutputTokens-1) + float64(most-ours+1)*longest
}

// pick is the statistic of an estimate made of requests that can be believed, nil
// when none can.
func pick(e *Estimate, from, statistic, name string, warn func(string, ...any)) *Value {
	mean := value(e, from)
	var med *Value
	if med = value(&Estimate{MeanMS: e.MedianMS, Blocks: e.Blocks}, from); med != nil {
		med.Statistic = Median
		// The median of normal scatter is less certain than the mean by this
		// factor; of scatter with a long tail it is more certain.
		med.StandardErrorMS = e.StandardErrorMS * math.Sqrt(math.Pi/2)
	}
	switch {
	case statistic == Median:
		return med
	case statistic == Mean || med == nil:
		return mean
	case mean == nil, mean.MS > meanToMedian*med.MS, mean.MS*meanToMedian < med.MS:
		warn("the %s's mean %s is %.4g ms and its median %.4g ms: the median is taken", from, name, e.MeanMS, e.MedianMS)
		if mean == nil {
			med.StandardErrorMS, med.Blocks = 0, 0
		}
		return med
	default:
		return mean
	}
}

// batch is the measured batch. The client's rows give the requests in flight
// exactly, the server's gauge is sampled; but only the server knows how many of
// them ran.
func (m *Measurement) batch(source string, admissible bool, warn func(string, ...any)) float64 {
	fromServer, fromClient := 0.0, 0.0
	exact := false
	if m.Server != nil && (admissible || source == Server) {
		fromServer = m.Server.Batch
	}
	if m.Client != nil {
		fromClient, exact = m.Client.Batch, m.Client.Basis == BasisRows
	}
	switch {
	case fromServer <= 0:
		return fromClient
	case fromClient <= 0 || source == Server:
		return fromServer
	case source == Client:
		return fromClient
	case apart(fromServer, fromClient):
		warn("the server ran %.4g requests together where the client had %.4g in flight: the server's number is taken", fromServer, fromClient)
		return fromServer
	case exact:
		return fromClient
	default:
		return fromServer
	}
}

// differ is how far the client's number is above that of the other witness,
// percent; it warns when the client's was taken all the same, and names the cure.
func (m *Measurement) differ(name string, taken *Value, of func(*Witness) *Estimate, warn func(string, ...any)) *float64 {
	other, whose := m.Probe, Probe
	if other == nil {
		other, whose = m.Server, Server
	}
	if m.Client == nil || other == nil {
		return nil
	}
	client, theirs := of(m.Client), of(other)
	if client == nil || theirs == nil || theirs.MeanMS <= 0 || client.MeanMS <= 0 {
		return nil
	}
	percent := 100 * (client.MeanMS/theirs.MeanMS - 1)
	if math.Abs(percent) > 100*disagreement && taken.from(Client) {
		cure := "give the load generator more CPU (--load-generator-cpu)"
		if m.Driver.Name != sweep.Native {
			cure += ", or measure with --driver native"
		}
		warn("the client's %s, which is taken, is %+.3g %% off the %s's; %s", name, percent, whose, cure)
	}
	return &percent
}

// suspectUnit compares the time that the requests account for with the time that
// passed (Little's law): off by a thousand, the values are not milliseconds.
func (m *Measurement) suspectUnit(t Taken) string {
	if t.ITL == nil || t.TTFT == nil || m.Seconds <= 0 || m.Requests.Successful == 0 || t.Batch <= 0 {
		return ""
	}
	out := max(m.OutputTokens, float64(m.Shape.OutputTokens))
	accounted := float64(m.Requests.Successful) * (t.TTFT.MS + (out-1)*t.ITL.MS) / 1000
	ratio := accounted / (m.Seconds * t.Batch)
	switch {
	case ratio < 1.0/100:
		return fmt.Sprintf("the latencies account for %.2g %% of the time that the requests took: they look like seconds, not milliseconds", 100*ratio)
	case ratio > 100:
		return fmt.Sprintf("the latencies account for %.2g times the time that the requests took: they look like microseconds, not milliseconds", ratio)
	}
	return ""
}

// lacking says why there is no number of a name.
func (m *Measurement) lacking(name, source string, client *Estimate) string {
	switch {
	case source == Server:
		return fmt.Sprintf("the server's witness holds no %s", name)
	case client != nil:
		return fmt.Sprintf("the client's %s is not plausible: mean %.4g ms, median %.4g ms", name, client.MeanMS, client.MedianMS)
	default:
		return fmt.Sprintf("neither witness holds an %s", name)
	}
}

// value is an estimate's mean as a value, nil when it is not a plausible latency.
func value(e *Estimate, from string) *Value {
	const longest = 24 * 3600 * 1000 // ms; a day
	if !(e.MeanMS > 0) || e.MeanMS > longest {
		return nil
	}
	return &Value{MS: e.MeanMS, StandardErrorMS: e.StandardErrorMS, Blocks: e.Blocks, From: from, Statistic: Mean}
}

func (v *Value) from(witness string) bool { return v != nil && v.From == witness }

func without(list, drop []string) []string {
	var rest []string
	for _, s := range list {
		if !slices.Contains(drop, s) {
			rest = append(rest, s)
		}
	}
	return rest
}

func oldGuidellm(version string) bool {
	v := strings.TrimPrefix(version, "v")
	return strings.HasPrefix(v, "0.1.") || strings.HasPrefix(v, "0.2.") || strings.HasPrefix(v, "0.3.")
}
