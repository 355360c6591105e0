// Package driver is the seam between a point and what makes its load. A driver
// runs one point and leaves a raw report; it never judges it.
package driver

import (
	"context"
	"io"
	"time"

	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/sweep"
)

// Options is one point to run.
type Options struct {
	Target      string // base URL of the server, such as http://vllm:8000
	Model       string
	Shape       sweep.Shape
	BatchSize   int
	Levels      []int              // batch sizes to run one after another in one process, for one report; empty: BatchSize alone
	Rate        float64            // requests per second that arrive, whatever becomes of those before them; 0: BatchSize streams make a closed loop
	Arrivals    string             // of an open loop: sweep.Poisson or sweep.Constant
	MaxSeconds  float64            // measured length of each level; 0: MaxRequests decides
	MaxRequests int                // requests in all streams together, of each level; 0: MaxSeconds decides
	Wanted      measurement.Wanted // a closed loop of the native driver ends when its means are told so well
	Spread      float64            // output lengths vary by this fraction about Shape's; see OutputTokens
	Seed        int64              // prompts differ between runs with different seeds
	APIKey      string             // never in an argument, a log or a report
	Endpoint    string             // completions or chat; auto or empty: what the server has
	Tokenizer   string             // directory or model id; empty: the driver's own way

	Report   string    // path of the raw report to write
	Log      io.Writer // what the driver says while it runs
	Progress func(done, total float64)
	Deadline time.Duration // after which the driver is stopped whatever it does
}

// BatchSizes are the batch sizes to run, in their order.
func (o Options) BatchSizes() []int {
	if len(o.Levels) > 0 {
		return o.Levels
	}
	return []int{o.BatchSize}
}

// OutputTokens are the lengths between which those of the answers are drawn.
func (o Options) OutputTokens() (least, most int) { return o.Shape.Drawn(o.Spread) }

// Driver makes the load of one point.
type Driver interface {
	// Run makes the load and writes the raw report. An error carries an exit
	// code (package exit): TryAgain for what a later attempt may fix.
	Run(ctx context.Context, o Options) error
	// Name and Version identify the driver in measurements.
	Name() string
	Version() string
}
