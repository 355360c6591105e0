// Command public-data holds the estimate against public measurements of real
// servers and prints how far off it is, as Markdown:
//
//	go run ./hack/public-data DIRECTORY
//
// The directory holds the tables; they are not part of the repository.
package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"

	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/run/reason"
	"wfgen.dev/internal/sweep"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: public-data DIRECTORY")
		os.Exit(2)
	}
	if err := run(os.Stdout, os.Args[1]); err != nil {
		fmt.Fprintf(os.Stderr, "public-data: %v\n", err)
		os.Exit(1)
	}
}

func run(w io.Writer, dir string) error {
	gpu, err := loadGPU(dir)
	if err != nil {
		return err
	}
	cpu, err := loadCPU(dir)
	if err != nil {
		return err
	}
	shapes := perShape(gpu)
	p := &printer{w: w}
	p.line("### Per shape: Llama-3.1-8B on a GPU, %d shapes", len(shapes))
	p.line("")
	p.line("| shape | points used | linear to | bends before | ITL: wls | ITL: two-point | TTFT: wls | TTFT: two-point | ITL: wls of 1..%d, all its points | the same over requests in flight | beta |", most)
	p.line("|---|---|---|---|---|---|---|---|---|---|---|")
	var mean shapeResult
	for _, s := range shapes {
		bend := "-"
		if s.bend > 0 {
			bend = fmt.Sprintf("%.0f", s.bend)
		}
		p.line("| %s | %d | %.0f | %s | %s | %s | %s | %s | %s | %s | %s |", s.shape, s.used, s.linearTo, bend,
			percent(s.itl), percent(s.itlTwo), percent(s.ttft), percent(s.ttftTwo), percent(s.within), percent(s.inFlight), parameters.Format(s.fit.Beta.Value))
		n := float64(len(shapes))
		mean.itl += s.itl / n
		mean.itlTwo += s.itlTwo / n
		mean.ttft += s.ttft / n
		mean.ttftTwo += s.ttftTwo / n
		mean.within += s.within / n
		mean.inFlight += s.inFlight / n
	}
	p.line("| mean | | | | %s | %s | %s | %s | %s | %s | |", percent(mean.itl), percent(mean.itlTwo), percent(mean.ttft), percent(mean.ttftTwo), percent(mean.within), percent(mean.inFlight))
	for _, t := range []struct {
		title string
		rows  []row
	}{{"Llama-3.1-8B on a GPU", gpu}, {"a small model in vLLM on two CPU cores, closed loop", cpu}} {
		points := pointsOf(t.rows)
		p.line("")
		p.line("### All shapes together: %s", t.title)
		p.joint(points)
	}
	return p.err
}

// shapeResult is how linear4 does at one shape. Errors are mean absolute relative
// ones over the points in the linear range that the program found; the two-point
// recipe is scored on the same points.
type shapeResult struct {
	shape                      sweep.Shape
	fit                        fit.Linear4
	used                       int
	linearTo, bend             float64 // bend: 0 where none was found
	reached                    float64 // largest load that did not saturate the server
	itl, itlTwo, ttft, ttftTwo float64
	within                     float64 // of ITL over all points up to most, by a line that was asked to be for them
	inFlight                   float64 // the same over the requests in flight, instead of the tool's concurrency
}

// most is the batch up to which a server of this size is asked to be linear.
const most = 128

func perShape(rows []row) []shapeResult {
	points := map[sweep.Shape][]fit.Point{}
	recipe := map[sweep.Shape][]fit.Point{} // the synchronous and the throughput run
	inFlight := map[sweep.Shape][]fit.Point{}
	reached := map[sweep.Shape]float64{}
	var shapes []sweep.Shape
	for _, r := range rows {
		if !slices.Contains(shapes, r.shape) {
			shapes = append(shapes, r.shape)
		}
		if r.saturated || r.point.Batch < 1.5 {
			recipe[r.shape] = append(recipe[r.shape], r.point)
		}
		if !r.saturated {
			points[r.shape] = append(points[r.shape], r.point)
			inFlight[r.shape] = append(inFlight[r.shape], r.counted())
			reached[r.shape] = max(reached[r.shape], r.point.Batch)
		}
	}
	slices.SortFunc(shapes, func(a, b sweep.Shape) int {
		if a.PromptTokens != b.PromptTokens {
			return a.PromptTokens - b.PromptTokens
		}
		return a.OutputTokens - b.OutputTokens
	})
	var results []shapeResult
	for _, shape := range shapes {
		ps := points[shape]
		f := fit.FitLinear4(ps, fit.Options{Method: fit.WLS})
		two := fit.FitLinear4(recipe[shape], fit.Options{Method: fit.TwoPoint})
		r := shapeResult{shape: shape, fit: f, used: len(f.ITL.Used), reached: reached[shape]}
		for _, i := range f.ITL.Used {
			r.linearTo = max(r.linearTo, ps[i].Batch)
			n := float64(len(f.ITL.Used))
			r.itl += math.Abs(f.ITL.Residuals[i]) / n
			r.itlTwo += math.Abs((two.Alpha.Value+two.Beta.Value*ps[i].Batch)/ps[i].ITL.MS-1) / n
		}
		for _, i := range f.TTFT.Used {
			n := float64(len(f.TTFT.Used))
			r.ttft += math.Abs(f.TTFT.Residuals[i]) / n
			r.ttftTwo += math.Abs((two.Gamma.Value+two.Delta.Value*ps[i].PromptTokens*ps[i].Batch)/ps[i].TTFT.MS-1) / n
		}
		r.within, r.inFlight = errorWithin(ps), errorWithin(inFlight[shape])
		if f.ITL.BendFrom != nil {
			r.bend = *f.ITL.BendFrom
		}
		results = append(results, r)
	}
	return results
}

// errorWithin is the mean error of ITL over all points up to most, of the line that is
// asked to be for them.
func errorWithin(points []fit.Point) float64 {
	var asked []int
	for i, p := range points {
		if p.Batch <= most {
			asked = append(asked, i)
		}
	}
	mean, _ := errorsOver(fit.FitLinear4(points, fit.Options{Method: fit.WLS, From: 1, To: most}).ITL.Residuals, asked)
	return mean
}

// pointsOf are all points for a joint fit, over the requests in flight: how many of them a
// tool's concurrency leaves out depends on how long a request takes, and with it on the
// shape. Those of a saturated server are void.
func pointsOf(rows []row) []fit.Point {
	points := make([]fit.Point, len(rows))
	for i, r := range rows {
		points[i] = r.counted()
		if r.saturated {
			points[i].Void = new(reason.New(reason.Queue, "its requests queued"))
		}
	}
	return points
}

// errorsOver is how far a model is off over the points: mean and largest.
func errorsOver(residuals []float64, points []int) (mean, worst float64) {
	for _, i := range points {
		e := math.Abs(residuals[i])
		mean += e / float64(len(points))
		worst = max(worst, e)
	}
	return mean, worst
}

// printer remembers the first error of a writer.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

func (p *printer) joint(points []fit.Point) {
	var within []int // all that the models are asked to be for: what queued is not
	for i, q := range points {
		switch {
		case q.Void != nil:
		case q.Batch <= most:
			within = append(within, i)
		default:
			points[i].Void = new(reason.New(reason.Other, "above batch %d", most))
		}
	}
	iteration3, engine := fit.FitIteration3(points), fit.FitEngine(points)
	p.line("")
	p.line("| model | fitted to | ITL: mean error | largest | over all %d points up to batch %d | a shape left out | TTFT: mean error | condition |", len(within), most)
	p.line("|---|---|---|---|---|---|---|---|")
	for _, j := range []fit.Joint{iteration3, engine} {
		mean, worst := errorsOver(j.Residuals, within)
		p.line("| %s | %d points, %d shapes | %s | %s | %s (largest %s) | %s | %s | %.1f |", j.Model, len(j.Used), j.Shapes,
			percent(j.MeanError), percent(j.WorstError), percent(mean), percent(worst), percent(j.LeftOut), percent(j.MeanTTFT), j.Condition)
	}
	p.line("")
	p.line("| model | term | value | 95 %% interval | unit |")
	p.line("|---|---|---|---|---|")
	for _, j := range []fit.Joint{iteration3, engine} {
		for _, t := range j.Terms {
			if t.Dropped != "" {
				p.line("| %s | %s | 0 | %s | %s |", j.Model, t.Name, t.Dropped, t.Unit)
				continue
			}
			p.line("| %s | %s | %.4g | %.4g to %.4g | %s |", j.Model, t.Name, t.Value, t.Low, t.High, t.Unit)
		}
	}
	for _, j := range []fit.Joint{iteration3, engine} {
		if len(j.Verdict.Reasons) > 0 {
			p.line("")
			p.line("%s is %s: %s", j.Model, j.Verdict.Level, strings.Join(j.Verdict.Reasons, "; "))
		}
	}
}

func percent(x float64) string {
	if math.IsNaN(x) {
		return "-"
	}
	return fmt.Sprintf("%.2f %%", 100*x)
}
