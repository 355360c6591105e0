// Package driver is the seam between a point and what makes its load. A driver
// runs one point and leaves a raw report; it never judges it.
package driver

import (
	"context"
	"io"
	"time"

	"wfgen.dev/internal/sweep"
)

// Options is one point to run.
type Options struct {
	Target      string // base URL of the server, such as http://vllm:8000
	Model       string
	Shape       sweep.Shape
	BatchSize   int
	MaxSeconds  float64 // measured length of the point; 0: MaxRequests decides
	MaxRequests int     // requests in all streams together; 0: MaxSeconds decides
	Spread      float64 // output lengths vary by this fraction about Shape's, so that streams do not march in step
	Seed        int64   // prompts differ between runs with different seeds
	APIKey      string  // never in an argument, a log or a report
	Tokenizer   string  // directory or model id; empty: the driver's own way

	Report   string    // path of the raw report to write
	Log      io.Writer // what the driver says while it runs
	Progress func(done, total float64)
	Deadline time.Duration // after which the driver is stopped whatever it does
}

// Driver makes the load of one point.
type Driver interface {
	// Run makes the load and writes the raw report. An error carries an exit
	// code (package exit): TryAgain for what a later attempt may mend.
	Run(ctx context.Context, o Options) error
	// Name and Version identify the driver in measurements.
	Name() string
	Version() string
}
