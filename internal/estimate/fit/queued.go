package fit

import (
	"slices"

	"wfgen.dev/internal/run/reason"
)

// markQueued makes points void whose requests waited for a place in the server's
// batch, where no metrics have said so. In a closed loop of n requests before a server
// that runs m, each waits (n/m-1) times as long as one takes, so TTFT jumps from one
// batch to the next by a good part of a request's whole duration, and far more than
// twice as many prompts can explain.
func markQueued(points []Point) []Point {
	points = slices.Clone(points)
	use, _ := accepted(points, "TTFT", ofTTFT, true)
	groups := replicates(use)
	for g := 1; g < len(groups); g++ {
		before, now := points[groups[g-1][0].index], points[groups[g][0].index]
		n := now.Batch / before.Batch
		duration := before.TTFT.MS + max(1, before.OutputTokens-1)*before.ITL.MS
		jump := now.TTFT.MS - before.TTFT.MS
		if now.Open || before.ITL.MS <= 0 || before.OutputTokens < 2 ||
			now.TTFT.MS < 1.5*n*before.TTFT.MS || jump < 0.1*duration {
			continue
		}
		for _, group := range groups[g:] {
			for _, p := range group {
				q := &points[p.index]
				q.Void = new(reason.New(reason.Queue, "its requests waited for a place: TTFT jumps from %.4g ms at %s to %.4g ms at %s, %.2g of the time that a request takes",
					before.TTFT.MS, before.Label, now.TTFT.MS, now.Label, jump/duration).Cured("measure up to %s, or raise the server's max-num-seqs", before.Label))
			}
		}
		break
	}
	return points
}
