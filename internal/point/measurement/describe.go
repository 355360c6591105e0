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

// Describe is one line about a measured point, for people.
func (m Measurement) Describe() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s batch %d", m.Accelerator, m.Shape, m.BatchSize)
	void := len(m.Taken.Void) > 0
	if m.Taken.Batch > 0 && !void {
		fmt.Fprintf(&b, " (measured %.2f)", m.Taken.Batch)
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
	return b.String()
}
