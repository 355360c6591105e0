package measurement

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"wfgen.dev/internal/run/reason"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/release"
)

// What an estimate may be asked to use.
const (
	Auto   = sweep.Auto
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

	// Where more tokens than this come together with the first, TTFT is that of a
	// later one, and the first gaps are missing. Texts of tokens differ in length, so
	// that counting by text is not exact.
	mostFirst = 1.5

	// The share of gaps without time from which answers come in bursts.
	bursts = 0.5

	// The share of answers whose end gives away that each piece waits for the next.
	lateShare = 0.8

	// With more failed requests than this streams pause, and the load is not what was
	// asked for.
	mostErrors = 0.4

	// More pieces than counted tokens by more than this: one of them is wrong.
	mostPieces = 1.05

	// A first token comes out of an iteration, which none after it is quicker than;
	// the rest is noise.
	leastTTFT = 0.95 // of ITL

	// Counted lengths further off the shape than the first are said; beyond the second
	// they are another shape. A template or a beginning-of-text token is neither.
	labelShare, labelTokens         = 0.05, 2.0
	otherShapeShare, otherShapeToks = 0.25, 16.0

	// The share of answers that may end early without voiding the point.
	mostCut = 0.01

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
// What Refuse and RefuseTTFT were told stands before what the weighing finds.
func (m *Measurement) Weigh(source, ttft string) Taken {
	if !slices.Contains([]string{Auto, Server, Client}, source) || !slices.Contains([]string{Auto, Mean, Median}, ttft) {
		panic(fmt.Sprintf("measurement: weigh by source %q, ttft %q", source, ttft))
	}
	t := Taken{Source: source}
	if m.Reported != nil {
		for _, r := range m.Reported.Void {
			t.void(r)
		}
		for _, r := range m.Reported.VoidTTFT {
			t.voidTTFT(r)
		}
	}
	if m.Client != nil || m.Server != nil || len(t.Void) == 0 { // else that there is nothing is no news
		m.weigh(&t, source, ttft)
	}
	return t
}

// Refuse voids the point for a reason that no weighing can see.
func (m *Measurement) Refuse(r reason.Reason) {
	m.reported().Void = append(m.reported().Void, r)
}

// RefuseTTFT is Refuse for gamma and delta alone.
func (m *Measurement) RefuseTTFT(r reason.Reason) {
	m.reported().VoidTTFT = append(m.reported().VoidTTFT, r)
}

func (m *Measurement) reported() *Reported {
	if m.Reported == nil {
		m.Reported = &Reported{}
	}
	return m.Reported
}

// Finding is the reason that a sentence of Void, VoidTTFT or Warnings tells; files of
// earlier versions do not know the codes.
func (t *Taken) Finding(sentence string) reason.Reason {
	for _, r := range t.Findings {
		if r.String() == sentence {
			return r
		}
	}
	return reason.New(reason.Void, "%s", sentence)
}

// Has tells whether a reason has the code.
func (t *Taken) Has(code reason.Code) bool {
	return slices.ContainsFunc(t.Findings, func(r reason.Reason) bool { return r.Code == code })
}

func (t *Taken) void(r reason.Reason) {
	t.Void, t.Findings = append(t.Void, r.String()), append(t.Findings, r)
}
func (t *Taken) voidTTFT(r reason.Reason) {
	t.VoidTTFT, t.Findings = append(t.VoidTTFT, r.String()), append(t.Findings, r)
}
func (t *Taken) warn(r reason.Reason) {
	t.Warnings, t.Findings = append(t.Warnings, r.String()), append(t.Findings, r)
}

// weigh adds to t what the witnesses say, and what is to be said of them.
func (m *Measurement) weigh(t *Taken, source, ttft string) {
	said := len(t.Void) > 0 // why a number may be missing
	admissible, queueMS := m.admit(source, t)
	if m.Astray() != 0 {
		t.warn(reason.New(reason.Arrivals, "%.4g requests/s arrived, where %.4g were asked for", m.Open.Sent, m.Open.Rate).
			Cured("give the load generator more CPU, and let no bound of concurrency hold its requests back"))
	}
	if o := m.Open; o != nil && o.Clumped {
		t.warn(reason.New(reason.Arrivals, "the requests came in clumps: in equal parts of the window their number varies %.2g times as much as that of arrivals at random; what they waited for is in part each other", o.Dispersion).
			Cured("let step bench --rate make the load, or give the load generator more CPU; guidellm 0.5 to 0.8 draws the same gaps in each of its processes, unless GUIDELLM__MAX_WORKER_PROCESSES is 1"))
	}
	if q := m.slotWait(); q > 0 {
		t.voidTTFT(reason.New(reason.Queue, "by the times of its requests, each waited for the end of another, %.3g ms in the mean: the batch is above what the server runs at once", q))
	}
	clientITL, clientTTFT, badITL, badTTFT := m.believe(source, admissible, len(t.VoidTTFT) > 0)
	server := m.Server
	serverITL := m.tokensOfServer()

	// ITL: the client's, unless the server's is asked for or is all there is.
	switch {
	case serverITL != nil && (source == Server || admissible && source == Auto && clientITL == nil):
		t.ITL = value(serverITL, Server)
	case clientITL != nil && source != Server:
		t.ITL = pick(clientITL, Client, Auto, "ITL", t.warn)
	}
	m.instead(t.ITL, badITL, t.void, t.warn)
	if t.ITL == nil && len(badITL) == 0 && !said {
		t.void(reason.New(reason.Witness, "%s", m.lacking("ITL", source, clientITL)))
	}

	// TTFT: the server's where it may speak, unless a median is asked for,
	// which sums cannot give.
	if source == Server && ttft == Median {
		t.voidTTFT(reason.New(reason.Witness, "the median of TTFT was asked for of the server, whose histograms give the mean only").Cured("take --source client or --ttft mean"))
	} else if server != nil && server.TTFT != nil && (source == Server || source == Auto && admissible && ttft != Median) {
		t.TTFT = value(server.TTFT, Server)
	}
	if t.TTFT == nil && source == Auto && len(badTTFT) == 0 && m.probed(t.warn) {
		t.TTFT = pick(m.Probe.TTFT, Probe, ttft, "TTFT", t.warn)
	}
	if t.TTFT == nil && clientTTFT != nil && source != Server {
		t.TTFT = pick(clientTTFT, Client, ttft, "TTFT", t.warn)
	}
	if t.TTFT != nil && t.TTFT.From != Probe && queueMS < t.TTFT.MS {
		t.TTFT.MS -= queueMS
	}
	m.instead(t.TTFT, badTTFT, t.voidTTFT, t.warn)
	if t.TTFT == nil && len(t.VoidTTFT) == 0 && !said {
		t.voidTTFT(reason.New(reason.Witness, "%s", m.lacking("TTFT", source, clientTTFT)))
	}
	if t.ITL != nil && t.TTFT != nil && t.TTFT.MS < leastTTFT*t.ITL.MS && m.suspectUnit(*t) == "" {
		t.voidTTFT(reason.New(reason.EarlyToken, "the %s's TTFT of %.3g ms is below an ITL of %.3g ms, in which no iteration can make a first token: what came first is no token, or came out of a cache",
			t.TTFT.From, t.TTFT.MS, t.ITL.MS).Cured("look at what the server sends first"))
	}

	t.Batch = m.batch(source, admissible, t.warn)
	if t.Batch <= 0 && !said {
		t.void(reason.New(reason.Batch, "neither witness says how many requests ran together"))
	}
	m.lengths(t)

	t.ITLDifferencePercent = m.differ("ITL", t.ITL, func(w *Witness) *Estimate { return w.ITL }, t.warn)
	t.TTFTDifferencePercent = m.differ("TTFT", t.TTFT, func(w *Witness) *Estimate { return w.TTFT }, t.warn)
	if unit := m.suspectUnit(*t); unit != "" {
		t.void(reason.New(reason.Units, "%s", unit))
	}
}

// instead says why a number of the client's was not believed: a warning where another
// one stands for it, and otherwise what voids.
func (m *Measurement) instead(taken *Value, bad []reason.Reason, void, warn func(reason.Reason)) {
	for _, r := range bad {
		if taken != nil {
			warn(reason.New(r.Code, "%s; the %s's number is taken", r.Text, taken.From).Cured("%s", r.Cure))
		} else {
			void(r)
		}
	}
}

// believe are the client's numbers that can be true, and why the others cannot. Client
// and server differ in one honest direction only: a starved or distant client is late.
// A gap that is shorter than the server's, or a first token before the server's own,
// are not what they are taken for. Where requests queued, TTFT is void already.
func (m *Measurement) believe(source string, admissible, queued bool) (itl, ttft *Estimate, badITL, badTTFT []reason.Reason) {
	if m.Client == nil {
		return nil, nil, nil, nil
	}
	itl, ttft = m.Client.ITL, m.Client.TTFT
	neither := func(r reason.Reason) {
		itl, ttft = nil, nil
		badITL, badTTFT = append(badITL, r), append(badTTFT, r)
	}
	s := m.Client.Stream
	if s == nil && m.Probe != nil {
		s = m.Probe.Stream // what came to the probe came to the client by the same way
	}
	if s != nil {
		switch {
		case s.FirstTokens > mostFirst && (s.Instant > bursts || s.FirstTokens > 0.9*m.OutputTokens):
			neither(reason.New(reason.Buffered, "%.0f %% of the pieces of an answer came together with the one before, %.3g tokens with the first: the server, or something before it, holds answers back",
				100*s.Instant, s.FirstTokens).Cured(reason.BufferedCure))
		case s.FirstTokens > mostFirst:
			neither(reason.New(reason.Grouped, "%.3g tokens came together with the first: the server hands over several tokens at once, so that its first cannot be timed",
				s.FirstTokens).Cured("let it send every token (SGLang: --stream-interval 1)"))
		case s.LastTogether > lateShare && s.Instant < bursts:
			ttft = nil
			badTTFT = append(badTTFT, reason.New(reason.Buffered, "the last two pieces of most answers came together, and no others: each piece is held back until the next, the first as well").Cured(reason.BufferedCure))
		case s.PiecesPerToken > mostPieces:
			itl = nil
			badITL = append(badITL, reason.New(reason.Counts, "an answer came in %.3g pieces with content per token that the server counted: it counts some tokens not, or sends pieces that are none", s.PiecesPerToken))
		}
	}
	theirs, whose := m.tokensOfServer(), Server
	if theirs == nil || !admissible {
		theirs, whose = nil, Probe
		if m.Probe != nil {
			theirs = m.Probe.ITL
		}
	}
	if itl != nil && theirs != nil && source == Auto && plausible(itl) && itl.MeanMS < (1-disagreement)*theirs.MeanMS && m.suspectUnit(Taken{ITL: value(itl, Client), TTFT: value(theirs, whose), Batch: m.Client.Batch}) == "" {
		neither(reason.New(reason.Buffered, "the client's ITL of %.4g ms is below the %s's %.4g ms, which no client can be: answers were held back and came in bursts", itl.MeanMS, whose, theirs.MeanMS).Cured(reason.BufferedCure))
	}
	if w := m.Server; ttft != nil && !queued && w != nil && w.TTFT != nil && admissible && source == Auto && plausible(ttft) && ttft.MeanMS < (1-disagreement)*w.TTFT.MeanMS-earlyMS {
		ttft = nil
		badTTFT = append(badTTFT, reason.New(reason.EarlyToken, "the client's first token came after %.4g ms and the server's own after %.4g ms: what came first is no token", m.Client.TTFT.MeanMS, w.TTFT.MeanMS))
	}
	return itl, ttft, badITL, badTTFT
}

// earlyMS is how far two clocks that start at different moments may differ.
const earlyMS = 1.0

func plausible(e *Estimate) bool { return value(e, "") != nil }

// tokensOfServer is the server's ITL where it is one per token. Of a server that
// observes once per step, ServerWitness has made it of whole requests; where it could
// not, or the server counts no tokens, the gaps that are too few give it away.
func (m *Measurement) tokensOfServer() *Estimate {
	w := m.Server
	if w == nil || w.ITL == nil {
		return nil
	}
	ours := float64(min(w.Requests, m.Requests.Successful)) * (m.OutputTokens - 1) // without the warm-up, whose answers are short
	if w.TokensPerGap == nil && w.Gaps != nil && ours > stepOfTokens**w.Gaps {
		return nil
	}
	return w.ITL
}

// lengths compares what was counted with what was asked for: answers, and their tokens.
func (m *Measurement) lengths(t *Taken) {
	if failed, all := m.Requests.Errored, m.Requests.Errored+m.Requests.Successful; m.Client != nil && float64(failed) > mostErrors*float64(all) {
		t.void(reason.New(reason.Errors, "%d of %d requests failed: the streams were idle as often as not", failed, all).Cured("look into the server's log"))
	}
	if cut, all := m.Requests.Cut, m.Requests.Successful; float64(cut) > mostCut*float64(all) {
		t.void(reason.New(reason.Cut, "the server cut %d of %d answers short, at %.4g tokens in the mean of %d: its context, or a limit of its own, is full", cut, all, m.OutputTokens, m.Shape.OutputTokens).
			Cured("give it a longer context (vLLM: --max-model-len; llama.cpp: --ctx-size is divided among --parallel), or measure a shorter shape"))
	}
	for _, l := range []struct {
		name    string
		counted float64
		asked   float64
	}{{"prompts", m.PromptTokens, float64(m.Shape.PromptTokens)}, {"answers", m.OutputTokens, cmp.Or(m.AskedTokens, float64(m.Shape.OutputTokens))}} {
		off := math.Abs(l.counted - l.asked)
		if l.counted <= 0 {
			continue // nobody counted
		}
		r := reason.New(reason.Label, "%s had %.4g tokens in the mean, as the server counted, where %.4g were asked for", l.name, l.counted, l.asked)
		switch {
		case off > max(otherShapeShare*l.asked, otherShapeToks) && !t.Has(reason.Cut):
			t.void(r.Cured("this is another shape: measure one whose lengths the server keeps"))
		case off > max(labelShare*l.asked, labelTokens):
			t.warn(r)
		}
	}
}

// WantsProbe says whether a probe would tell what nobody has told: the point is of
// use, and its TTFT would be the client's own. The native driver needs none: it is
// what a probe is made with.
func (m *Measurement) WantsProbe() bool {
	return m.Driver.Name != sweep.Native && m.Client != nil &&
		len(m.Weigh(Client, Auto).Void) == 0 && m.Weigh(Auto, Mean).TTFT.from(Client)
}

// probed says whether the probe saw the same load as the point.
func (m *Measurement) probed(warn func(reason.Reason)) bool {
	if m.Probe == nil || m.Probe.TTFT == nil {
		return false
	}
	if batch := m.batch(Client, false, warn); batch > 0 && apart(m.Probe.Batch, batch) {
		warn(reason.New(reason.Batch, "the probe had %.4g requests in flight and the point %.4g, so its TTFT is not taken", m.Probe.Batch, batch))
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
			t.void(reason.New(reason.Witness, "the server's witness was asked for and there is none: the server reported no latency histograms under /metrics"))
		}
		return false, 0
	}
	admissible = true

	// Whose requests did it see? Requests cut off by the end may be counted by
	// the server or not.
	if m.Client != nil && m.Client.Requests > 0 {
		ours := m.Client.Requests
		most := ours + m.Requests.Errored + m.Requests.Incomplete
		if version, ok := release.Parse(m.Driver.Version); ok && m.Driver.Name == sweep.Guidellm && version.Traits().TrialRequests {
			most += 1 + m.BatchSize
		}
		made := w.Gaps
		if w.Tokens != nil && (made == nil || w.TokensPerGap != nil) {
			made = new(*w.Tokens - float64(ours)) // the first of each answer has no gap
		}
		text := ""
		switch {
		case w.Requests > most:
			text = fmt.Sprintf("the server finished %d requests, of which %d were ours: somebody else was using it", w.Requests, ours)
		case made != nil && *made > m.mostGaps(ours, most):
			text = fmt.Sprintf("the server made %.0f tokens after first ones, of which %.0f were ours: somebody else was using it", *made, float64(ours)*(m.OutputTokens-1))
		case w.Requests < ours && (w.Requests > 0 || w.Tokens == nil): // else it counts tokens alone
			text = fmt.Sprintf("the server finished %d of our %d requests: another replica answered the rest, or it restarted; measure one replica by its own URL", w.Requests, ours)
		}
		if text != "" {
			admissible = false
			if source == Client {
				t.warn(reason.New(reason.Foreign, "%s", text))
			} else {
				t.void(reason.New(reason.Foreign, "%s", text))
			}
		}
	}
	if n := w.Preemptions; n != nil && *n > 0 {
		admissible = false
		t.void(reason.New(reason.KVCache, "the server evicted running requests %.0f times for lack of KV cache memory", *n).Cured("measure smaller batches"))
	}
	if n := w.PrefixCacheHits; n != nil && *n > 0 {
		prompts := float64(w.Requests) * max(m.PromptTokens, float64(m.Shape.PromptTokens))
		switch {
		case *n <= float64(w.Requests): // a beginning-of-text token is found each time
		case *n > prefixShare*prompts:
			admissible = false
			t.void(reason.New(reason.PrefixCache, "%.0f prompt tokens came out of the server's prefix cache", *n).Cured("start it with --no-enable-prefix-caching, or make every prompt unique"))
		default:
			t.warn(reason.New(reason.PrefixCache, "%.0f prompt tokens, %.2g %% of all, came out of the server's prefix cache", *n, 100**n/prompts))
		}
	}

	// In whose TTFT the queue is: the server's own, or the client's where the server
	// speaks only of single requests.
	in := w.TTFT
	if in == nil && m.Client != nil {
		in = m.Client.TTFT
	}
	switch {
	case m.Open != nil: // to wait is part of what requests see that come whatever becomes of others
	case w.QueueMS != nil && in != nil:
		queueMS = *w.QueueMS
		if queueMS > max(queueFloorMS, queueShareOfTTFT*in.MeanMS) && !m.shortWait() {
			t.voidTTFT(reason.New(reason.Queue, "requests queued for %.3g ms of a TTFT of %.3g ms: the batch is above what the server runs at once", queueMS, in.MeanMS))
			queueMS = 0 // the value stays what was seen
		}
	case w.WaitingMean != nil && *w.WaitingMean > max(waitingFloor, waitingShare*w.Batch):
		t.voidTTFT(reason.New(reason.Queue, "%.3g requests were waiting in the mean: the batch is above what the server runs at once", *w.WaitingMean))
	}
	if !admissible || w.Basis == BasisTimings {
		queueMS = 0 // not the queue of our requests alone, or with the way there and back in it
	}
	return admissible, queueMS
}

// shortWait says that what a request waited before its prefill, by the server's times
// of single requests, is no more than the prefills of those beside it: requests that
// begin together take turns, and no slot has to become free. Where all of them begin
// together each waits for half of the others in the mean.
func (m *Measurement) shortWait() bool {
	w := m.Server
	return w.Basis == BasisTimings && w.PrefillMS != nil && m.Client != nil && *w.QueueMS < max(1, turns*(m.Client.Batch-1))**w.PrefillMS
}

// turns is the share of the others that a request can wait for in the mean, and some more.
const turns = 0.6

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
func pick(e *Estimate, from, statistic, name string, warn func(reason.Reason)) *Value {
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
		warn(reason.New(reason.Scatter, "the %s's mean %s is %.4g ms and its median %.4g ms: the median is taken", from, name, e.MeanMS, e.MedianMS))
		if mean == nil {
			med.StandardErrorMS, med.Blocks = 0, 0
		}
		return med
	default:
		return mean
	}
}

// batch is the measured batch. The client's rows give the requests in flight
// exactly; but only the server knows how many of them ran: exactly, where it tells how
// long a request runs, since of the time that a request is in flight it then is known
// what share it ran; and otherwise by a gauge, of which there are some twenty samples.
func (m *Measurement) batch(source string, admissible bool, warn func(reason.Reason)) float64 {
	fromServer, fromClient := 0.0, 0.0
	exact := false
	if m.Open != nil && m.Client != nil && m.Client.Batch > 0 {
		return m.Client.Batch // in flight are those that wait, too
	}
	if m.Client != nil {
		fromClient, exact = m.Client.Batch, m.Client.Basis == BasisRows
		if wait := m.slotWait(); wait > 0 && m.Client.TTFT != nil && m.Client.ITL != nil {
			fromClient *= 1 - wait/max(wait, m.Client.TTFT.MeanMS+max(0, m.OutputTokens-1)*m.Client.ITL.MeanMS)
		}
	}
	if w := m.Server; w != nil && (admissible || source == Server) {
		fromServer = w.Batch
		if ran := m.ran(); exact && ran > 0 {
			fromServer = fromClient * ran
			if w.Full != nil { // the mean times begin and end within iterations
				fromServer = min(fromServer, *w.Full)
			}
		} else if n := m.repeated(); n > 1 {
			warn(reason.New(reason.Repeated, "the server ran %.4g requests together by its gauge where the client, whose requests were all, had %.4g in flight: the gauge comes %d times over, and is divided", w.Batch, fromClient, n))
			fromServer /= float64(n)
		}
	}
	switch {
	case fromServer <= 0:
		return fromClient
	case fromClient <= 0 || source == Server:
		return fromServer
	case source == Client:
		return fromClient
	case fromServer > fromClient && exact:
		return fromClient // more than there were cannot have run
	case apart(fromServer, fromClient):
		warn(reason.New(reason.Batch, "the server ran %.4g requests together where the client had %.4g in flight: the server's number is taken", fromServer, fromClient))
		return fromServer
	case exact:
		return fromClient
	default:
		return fromServer
	}
}

// slotWait is the client's notion of the queue, ms, where the server has none; 0: there
// was no wait.
func (m *Measurement) slotWait() float64 {
	if m.Client == nil || m.Client.QueueMS == nil || m.Server != nil && (m.Server.QueueMS != nil || m.Server.WaitingMean != nil) {
		return 0
	}
	return *m.Client.QueueMS
}

// ran is the share of its time in flight that a request ran, by the server's own mean;
// 0: not known. The client's time must be one that can be believed.
func (m *Measurement) ran() float64 {
	w, c := m.Server, m.Client
	if w == nil || c == nil || w.RunningMS == nil || c.ITL == nil || c.TTFT == nil || !plausible(c.TTFT) {
		return 0
	}
	inFlight := c.TTFT.MeanMS + max(0, m.OutputTokens-1)*c.ITL.MeanMS
	if !(inFlight > 0) {
		return 0
	}
	return min(1, *w.RunningMS/inFlight)
}

// repeated is how many times over the server's gauges count our requests: several where
// each rank or process reports all of them. With the same requests counted, no server
// runs and queues more than there are.
func (m *Measurement) repeated() int {
	w, c := m.Server, m.Client
	if w == nil || c == nil || c.Basis != BasisRows || c.Batch <= 0 || w.Requests != c.Requests {
		return 1
	}
	all := w.Batch
	if w.WaitingMean != nil {
		all += *w.WaitingMean
	}
	if !apart(all, c.Batch) {
		return 1
	}
	return max(1, int(math.Round(all/c.Batch)))
}

// differ is how far the client's number is above that of the other witness,
// percent; it warns when the client's was taken all the same, and names the cure.
func (m *Measurement) differ(name string, taken *Value, of func(*Witness) *Estimate, warn func(reason.Reason)) *float64 {
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
	if name == "ITL" && whose == Server && m.tokensOfServer() == nil {
		return nil // of steps, and not of tokens
	}
	percent := 100 * (client.MeanMS/theirs.MeanMS - 1)
	if math.Abs(percent) > 100*disagreement && taken.from(Client) {
		r := reason.New(reason.Witness, "the client's %s, which is taken, is %+.3g %% off the %s's", name, percent, whose)
		switch {
		case percent < 0: // no want of CPU makes a client early
			r = r.Cured(reason.BufferedCure)
		case m.Driver.Name != sweep.Native:
			r = r.Cured("give the load generator more CPU (--load-generator-cpu), or measure with --driver native")
		default:
			r = r.Cured("give the load generator more CPU (--load-generator-cpu)")
		}
		warn(r)
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
