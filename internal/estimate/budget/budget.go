// Package budget says before anything is spent how long a sweep takes and what
// it costs.
package budget

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"wfgen.dev/internal/sweep"
)

// Options say how the sweep is run.
type Options struct {
	// RequestSeconds is the expected duration of one request.
	RequestSeconds func(accelerator string, shape sweep.Shape, batch int) float64
	Overhead       float64 // of each point beyond its load, seconds; see Overhead and Previous
	PerNode        float64 // overhead of each node, seconds: plan.NodeOverhead, or 0 on one machine
	SharePod       bool    // the points of a shape share a node
	Parallel       int     // accelerators at the same time; 0: all
}

// Point is one planned benchmark.
type Point struct {
	sweep.Point
	Seconds float64 // expected, overhead included
}

// Accelerator is what one accelerator's part of the sweep is expected to need.
type Accelerator struct {
	sweep.Accelerator
	Points     []Point
	Seconds    float64
	GPUMinutes float64
	Money      float64 // 0 where its cost per hour is not known
}

// Expectation is what a sweep is expected to take.
type Expectation struct {
	Accelerators []Accelerator
	Points       int
	Seconds      float64 // from start to end
	GPUMinutes   float64
	Money        float64
	Overhead     float64 // of each point, the driver's and its node's, seconds
}

// Expect estimates the time of every point in the order in which they run.
func Expect(s sweep.Sweep, o Options) Expectation {
	nodes, perPoint := 2.0, o.PerNode // the accelerator's wait and estimate
	if o.SharePod {
		nodes, perPoint = nodes+float64(len(s.Shapes)), 0
	}
	plan := Expectation{Overhead: o.overhead(s) + perPoint}
	for _, a := range s.Accelerators {
		expected := Accelerator{Accelerator: a, Seconds: nodes * o.PerNode}
		for _, p := range s.Points(a.Name) {
			seconds := seconds(s, o.RequestSeconds(a.Name, p.Shape, p.BatchSize), p.BatchSize) + o.overhead(s) + perPoint
			expected.Points = append(expected.Points, Point{Point: p, Seconds: seconds})
			expected.Seconds += seconds
		}
		expected.GPUMinutes = expected.Seconds / 60 * float64(max(1, a.Count))
		expected.Money = expected.GPUMinutes / 60 * a.GPUCost
		plan.Accelerators = append(plan.Accelerators, expected)
		plan.Points += len(expected.Points)
		plan.GPUMinutes += expected.GPUMinutes
		plan.Money += expected.Money
	}
	plan.Seconds = span(plan.Accelerators, o.Parallel) + o.PerNode
	return plan
}

// seconds is the length of a point's load: the seconds asked for, or as long as
// the requests take, whichever ends it; then the answers under way.
func seconds(s sweep.Sweep, request float64, batch int) float64 {
	load := float64(s.MaxSeconds)
	if s.MaxRequests > 0 {
		if needed := request * float64(s.MaxRequests) / float64(batch); load == 0 || needed < load {
			load = needed
		}
	}
	return max(load, 3*request) + request
}

// span is how long the accelerators take when so many run at once, each slot
// taking the next when it is free.
func span(all []Accelerator, parallel int) float64 {
	if parallel <= 0 {
		parallel = len(all)
	}
	slots := make([]float64, max(1, parallel))
	for _, a := range all {
		first := slices.Index(slots, slices.Min(slots))
		slots[first] += a.Seconds
	}
	return slices.Max(slots)
}

// Write prints the plan for people. Money is printed where it is known.
func (p Expectation) Write(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, a := range p.Accelerators {
		fmt.Fprintf(t, "%s\n", a.Name)
		for i, point := range a.Points {
			fmt.Fprintf(t, "  %d\t%s\tbatch %d\t%s\n", i+1, point.Shape, point.BatchSize, duration(point.Seconds))
		}
	}
	fmt.Fprintf(t, "\naccelerator\tpoints\ttime\tGPU-minutes\tmoney\n")
	for _, a := range p.Accelerators {
		fmt.Fprintf(t, "%s\t%d\t%s\t%.1f\t%s\n", a.Name, len(a.Points), duration(a.Seconds), a.GPUMinutes, money(a.Money))
	}
	fmt.Fprintf(t, "all\t%d\t%s\t%.1f\t%s\n", p.Points, duration(p.Seconds), p.GPUMinutes, money(p.Money))
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\noverhead per point: %s\n", duration(p.Overhead))
	return err
}

func duration(seconds float64) string {
	if seconds < 90 {
		return fmt.Sprintf("%.0f s", seconds)
	}
	return fmt.Sprintf("%.1f min", seconds/60)
}

func money(m float64) string {
	if m == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", m)
}
