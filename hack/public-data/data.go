package main

import (
	"encoding/csv"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/sweep"
)

// The tables: one row per shape and load.
const (
	gpuFile = "exp1_llama31_8b_guidellm_sweeps.csv" // a real GPU, loads set by a rate
	cpuFile = "vllm_cpu_closed_loop.csv"            // a real vLLM on two CPU cores, closed loop
)

// row is one measured load of one shape.
type row struct {
	shape     sweep.Shape
	saturated bool      // made by the throughput strategy, whose requests queue
	point     fit.Point // its batch is the tool's concurrency, of the requests that were completed
	inFlight  float64   // in the mean, those counted that the end of the run cut off
}

// counted is the point over the requests in flight.
func (r row) counted() fit.Point {
	p := r.point
	p.Batch = r.inFlight
	return p
}

// loadGPU takes the means of ITL and the medians of TTFT: some means of TTFT in the
// table are nonsense. A rate sets the load of all but the synchronous runs, so
// their requests do not wait for answers.
func loadGPU(dir string) ([]row, error) {
	return load(filepath.Join(dir, gpuFile), func(c cells) row {
		strategy := c.text("strategy")
		r := row{
			shape:     sweep.Shape{PromptTokens: int(c.number("target_in")), OutputTokens: int(c.number("target_out"))},
			saturated: strategy == "throughput",
			point: fit.Point{
				Pair: c.text("model"), Label: strategy, Open: strategy != "synchronous",
				Batch: c.number("concurrency"), PromptTokens: c.number("in_tok"), OutputTokens: c.number("out_tok"),
				ITL: fit.Sample{MS: c.number("itl_ms_mean")}, TTFT: fit.Sample{MS: c.number("ttft_ms_median")},
			},
		}
		requests := measurement.Requests{Successful: int(c.number("n_ok")), Incomplete: int(c.number("n_incomplete"))}
		r.inFlight = requests.InFlight(r.point.Batch)
		if strategy == "synchronous" {
			r.inFlight = min(r.inFlight, 1)
		}
		return r
	})
}

func loadCPU(dir string) ([]row, error) {
	return load(filepath.Join(dir, cpuFile), func(c cells) row {
		shape, err := sweep.ParseShape(c.text("shape"))
		c.note(err)
		return row{shape: shape, inFlight: c.number("concurrency"), point: fit.Point{
			Pair: "vLLM on two CPU cores", Label: c.text("streams") + " streams",
			Batch: c.number("concurrency"), PromptTokens: c.number("prompt_tokens"), OutputTokens: c.number("output_tokens"),
			ITL: fit.Sample{MS: c.number("itl_ms_mean")}, TTFT: fit.Sample{MS: c.number("ttft_ms_mean")},
		}}
	})
}

// cells are one line of a table by the names of its columns.
type cells struct {
	header, record []string
	errs           *[]string
}

func (c cells) note(err error) {
	if err != nil {
		*c.errs = append(*c.errs, err.Error())
	}
}

func (c cells) text(column string) string {
	i := slices.Index(c.header, column)
	if i < 0 {
		*c.errs = append(*c.errs, "no column "+column)
		return ""
	}
	return c.record[i]
}

func (c cells) number(column string) float64 {
	x, err := strconv.ParseFloat(c.text(column), 64)
	if err != nil {
		*c.errs = append(*c.errs, fmt.Sprintf("%s: %v", column, err))
	}
	return x
}

func load(name string, of func(cells) row) ([]row, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := csv.NewReader(f)
	header, err := r.Read()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	var rows []row
	for {
		record, err := r.Read()
		if err == io.EOF {
			return rows, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		var errs []string
		one := of(cells{header, record, &errs})
		if len(errs) > 0 {
			line, _ := r.FieldPos(0)
			return nil, fmt.Errorf("%s:%d: %s", name, line, strings.Join(errs, "; "))
		}
		one.point.Label = one.shape.String() + " " + one.point.Label
		one.point.Group = one.point.Pair + ", " + one.shape.String()
		rows = append(rows, one)
	}
}
