package measurement

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// noticeable is by how many percent the witnesses must differ for people to be told.
const noticeable = 3

// Load is what a point asked of its server, in words.
func (m Measurement) Load() string {
	if m.Open != nil {
		return fmt.Sprintf("%.4g requests/s", m.Open.Rate)
	}
	return fmt.Sprintf("batch size %d", m.BatchSize)
}

// Describe is one line about a measured point, for people.
func (m Measurement) Describe() string {
	var b strings.Builder
	void := len(m.Taken.Void) > 0
	switch {
	case m.Open != nil:
		fmt.Fprintf(&b, "%s %s %s (%s, %.2f in flight)", m.Accelerator, m.Shape, m.Load(), m.Open.Arrivals, m.Taken.Batch)
	case m.Taken.Batch > 0 && !void:
		fmt.Fprintf(&b, "%s %s batch %d (measured %.2f)", m.Accelerator, m.Shape, m.BatchSize, m.Taken.Batch)
	default:
		fmt.Fprintf(&b, "%s %s batch %d", m.Accelerator, m.Shape, m.BatchSize)
	}
	b.WriteString(": ")
	for _, v := range []struct {
		name       string
		value      *Value
		difference *float64
		void       bool
	}{{"ITL", m.Taken.ITL, m.Taken.ITLDifferencePercent, void}, {"TTFT", m.Taken.TTFT, m.Taken.TTFTDifferencePercent, void || len(m.Taken.VoidTTFT) > 0}} {
		if v.void {
			fmt.Fprintf(&b, "%s void, ", v.name) // its number would look like one that can be used
			continue
		}
		if v.value == nil {
			continue
		}
		fmt.Fprintf(&b, "%s %.3f ms (%s", v.name, v.value.MS, v.value.From)
		if v.difference != nil && math.Abs(*v.difference) > noticeable {
			fmt.Fprintf(&b, "; the client's is %+.1f %% off", *v.difference)
		}
		b.WriteString("), ")
	}
	fmt.Fprintf(&b, "%d requests", m.Requests.Successful)
	if m.Requests.Errored > 0 {
		fmt.Fprintf(&b, ", %d failed", m.Requests.Errored)
		for _, text := range slices.Sorted(maps.Keys(m.Requests.Errors)) {
			fmt.Fprintf(&b, "; %d x %s", m.Requests.Errors[text], text)
		}
	}
	if m.Ended == EndedPrecision {
		b.WriteString("; ended by precision")
	}
	if m.Open == nil {
		return b.String()
	}
	for _, a := range m.Open.Objectives {
		verdict := "met"
		if !a.Met {
			verdict = "NOT met"
		}
		fmt.Fprintf(&b, "; %s %s: %.4g ms, %.1f %% of the requests within it", a, verdict, a.AttainedMS, 100*a.Share)
	}
	if m.Open.Clumped {
		b.WriteString("; the requests came IN CLUMPS")
	}
	if m.Open.Behind {
		b.WriteString("; the server FALLS BEHIND")
	}
	return b.String()
}
