package measurement

import (
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"

	"wfgen.dev/internal/llm/record"
	"wfgen.dev/internal/run/reason"
	"wfgen.dev/internal/sweep/slo"
)

// Open is what a point has whose requests arrived at a rate, whatever became of those
// before them.
type Open struct {
	Rate     float64    `json:"rate"`      // asked for, requests per second
	Arrivals string     `json:"arrivals"`  // poisson or constant
	Sent     float64    `json:"sent"`      // requests per second that arrived in the steady window
	Answered float64    `json:"answered"`  // requests per second that were answered in the steady window
	InFlight [4]float64 `json:"in_flight"` // mean over each quarter of the steady window: it grows where the server falls behind
	Behind   bool       `json:"behind"`    // the server fell behind: its times are those of a queue that grows

	// Dispersion is by how much the arrivals in equal parts of the window vary, variance over
	// mean: 0 at even intervals, 1 at random.
	Dispersion float64 `json:"dispersion,omitempty"`
	Clumped    bool    `json:"clumped,omitempty"` // more than chance makes it: whoever sent them, they came in clumps

	Objectives []Attained `json:"objectives,omitempty"` // of those that were asked for
}

// Attained is what became of an objective: over the requests that arrived in the steady
// window, in which those that failed met none.
type Attained struct {
	slo.Objective
	Name            string  `json:"name"`              // as it is asked for: p90.ttft
	AttainedMS      float64 `json:"attained_ms"`       // the statistic, as the client saw it
	StandardErrorMS float64 `json:"standard_error_ms"` // of it; 0: not known
	Share           float64 `json:"share"`             // of the requests that were within the bound
	Met             bool    `json:"met"`
}

// ReduceOpen makes the client's witness of an open loop from the rows of all its requests.
//
// The steady window begins when the server has filled: two requests long after the first
// arrival, and ends one before the last, so that every request that arrived in it met the
// same load to its end. Estimates are over the requests that arrived in it. kind and rate
// are what was asked for; they and the counts are there beside an error, too.
func ReduceOpen(rows []Request, kind string, rate float64, objectives []slo.Objective) (Witness, Requests, *Open, error) {
	o := &Open{Rate: rate, Arrivals: kind}
	sent, counts, duration, err := sortOut(rows)
	if err != nil {
		return Witness{}, counts, o, err
	}
	// Where the server falls behind, most requests wait in a queue; the quick ones say how
	// long one takes.
	quick := quickest(sent)
	from, to := sent[0].Start+2*quick, sent[len(sent)-1].Start-quick
	var inside, arrived []Request
	answered := 0.0
	for _, r := range sent {
		if r.Start > from && r.Start <= to {
			arrived = append(arrived, r)
			if r.Status == record.Successful {
				inside = append(inside, r)
			}
		}
		if r.Status == record.Successful && r.End > from && r.End <= to {
			answered++
		}
	}
	counts.InWindow = len(inside)
	const fewest = 20
	if len(inside) < fewest {
		return Witness{}, counts, o, fmt.Errorf("%d requests arrived in the steady window, %d are needed; a request takes %.3g s: let the point run for at least %.3g s",
			len(inside), fewest, quick, math.Ceil(3*quick+1.5*fewest/rate))
	}
	w, err := witness(sent, inside, from, to, duration)
	if err != nil {
		return w, counts, o, err
	}
	w.Requests = counts.Successful
	o.Sent, o.Answered = float64(len(arrived))/(to-from), answered/(to-from)
	for i := range o.InFlight {
		begin := from + float64(i)*(to-from)/4
		end := begin + (to-from)/4
		for _, r := range sent {
			o.InFlight[i] += max(0, min(r.End, end)-max(r.Start, begin)) / (end - begin)
		}
	}
	o.Behind = behind(o.InFlight, quick, to-from)
	o.Dispersion, o.Clumped = dispersion(arrived, from, to)
	for _, s := range objectives {
		o.Objectives = append(o.Objectives, attained(s, arrived, w))
	}
	return w, counts, o, nil
}

// quickest is the duration that a twentieth of the successful requests stay below, seconds.
func quickest(sent []Request) float64 {
	var durations []float64
	for _, r := range sent {
		if r.Status == record.Successful {
			durations = append(durations, r.End-r.Start)
		}
	}
	slices.Sort(durations)
	return durations[len(durations)/20]
}

// behind says whether the number in flight (means over quarters of a window) grew by more
// than chance has it. Arrivals at random make it wander by its square root, and a mean over
// many requests wanders less.
func behind(quarters [4]float64, duration, window float64) bool {
	first, last := quarters[0], quarters[3]
	wander := math.Sqrt(max(1, first)) * math.Sqrt(2*min(1, duration/(window/4)))
	return last-first > max(4*wander, 0.25*first) && slices.IsSorted(quarters[:])
}

// astray is by what share another rate than the one that was asked for is still that rate,
// besides three standard errors of so many arrivals at random.
const astray = 0.05

// Astray is by what share more requests arrived in the steady window of an open loop than
// were asked for (fewer: below zero); 0 where that is no more than chance, or not known.
func (m *Measurement) Astray() float64 {
	if m.Open == nil || m.Client == nil || m.Open.Sent == 0 {
		return 0
	}
	if off := m.Open.Sent/m.Open.Rate - 1; math.Abs(off) > astray+3/math.Sqrt(m.Open.Sent*m.Client.WindowSeconds) {
		return off
	}
	return 0
}

// dispersion is the index of dispersion of what arrived within a window, of which each
// part has few in the mean, and whether it is larger than that of arrivals at random: less
// than once in a thousand windows of those, by the chi-squared test of homogeneity (Cox and
// Lewis, The Statistical Analysis of Series of Events, 1966).
func dispersion(arrived []Request, from, to float64) (index float64, clumped bool) {
	const few, chance = 4, 0.001
	parts := len(arrived) / few
	counts := make([]float64, parts)
	for _, r := range arrived {
		counts[min(parts-1, int(float64(parts)*(r.Start-from)/(to-from)))]++
	}
	mean, variance := stat.MeanVariance(counts, nil)
	index = variance / mean
	return index, index*float64(parts-1) > distuv.ChiSquared{K: float64(parts - 1)}.Quantile(1-chance)
}

// attained is what the requests that arrived made of an objective.
func attained(s slo.Objective, arrived []Request, w Witness) Attained {
	a := Attained{Objective: s, Name: s.Name()}
	var values []float64
	within := 0.0
	for _, r := range arrived {
		if r.Status != record.Successful || s.Metric == slo.ITL && r.OutputTokens < 2 {
			continue
		}
		ms := 1000 * (r.End - r.Start)
		switch s.Metric {
		case slo.TTFT:
			ms = 1000 * (r.FirstToken - r.Start)
		case slo.ITL:
			ms = 1000 * (r.LastToken - r.FirstToken) / float64(r.OutputTokens-1)
		}
		values = append(values, ms)
		if ms <= s.MS {
			within++
		}
	}
	if len(values) == 0 {
		return a
	}
	a.Share = within / float64(len(arrived))
	share, quantile := s.Quantile()
	switch {
	case quantile:
		slices.Sort(values)
		// Its error follows from that of a share: the values as many places up and down.
		n := float64(len(values))
		at := func(p float64) float64 { return values[int(max(0, min(n-1, math.Round(p*(n-1)))))] }
		places := math.Sqrt(share * (1 - share) / n)
		a.AttainedMS, a.StandardErrorMS = at(share), (at(share+places)-at(share-places))/2
	case s.Metric == slo.ITL:
		a.AttainedMS, a.StandardErrorMS = w.ITL.MeanMS, w.ITL.StandardErrorMS
	case s.Metric == slo.TTFT:
		a.AttainedMS, a.StandardErrorMS = w.TTFT.MeanMS, w.TTFT.StandardErrorMS
	default:
		var sum, squares float64
		for _, v := range values {
			sum += v
		}
		mean := sum / float64(len(values))
		for _, v := range values {
			squares += (v - mean) * (v - mean)
		}
		a.AttainedMS, a.StandardErrorMS = mean, math.Sqrt(squares)/float64(len(values))
	}
	a.Met = a.AttainedMS <= s.MS
	return a
}

// Judge voids the point where the server fell behind: what it measured is a queue.
func (o *Open) Judge(m *Measurement) {
	if o.Behind {
		m.Refuse(reason.New(reason.Queue, "the server falls behind %.4g requests/s: %.3g in flight in the first quarter of the steady window, %.3g in the last",
			o.Rate, o.InFlight[0], o.InFlight[3]).Cured("ask for fewer requests per second"))
	}
}
