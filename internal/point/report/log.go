package report

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"

	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/redact"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/release"
)

// ReadLog reads the table "Benchmarks Stats" out of the console log of guidellm
// 0.2 or 0.3: the last resort when the JSON report is lost. The table has one
// decimal, so an ITL is known to 0.05 ms at best and there is no standard error.
// Later versions print medians without saying of which level, which is refused.
// Errors have code exit.Refused.
func ReadLog(r io.Reader, name string, o Options) ([]measurement.Measurement, error) {
	src := &source{r: r}
	l, err := scanLog(src)
	switch {
	case src.err != nil:
		return nil, exit.With(exit.TryAgain, fmt.Errorf("%s: cannot be read on after byte %d: %w", name, src.n, src.err))
	case err != nil:
		return nil, exit.Errorf(exit.Refused, "%s: %w", name, err)
	}
	var all []measurement.Measurement
	for i, row := range l.stats {
		cells, err := numbers(row, statsColumns)
		if err != nil {
			return nil, exit.Errorf(exit.Refused, "%s: row %d of the table Benchmarks Stats: %w", name, i+1, err)
		}
		all = append(all, l.measurement(i, cells, name, o))
	}
	return all, nil
}

// consoleLog is what is found in a log: the facts of the run, and the rows of
// the two tables that matter, each as one line.
type consoleLog struct {
	model, target string
	shape         sweep.Shape
	bound         int  // of a throughput run; 0: not stated
	version       text // family
	stats, info   []string
}

// Columns of the tables. Stats: benchmark, requests/s, concurrency, output and
// total tokens/s, then mean, median and p99 of each of request latency, TTFT, ITL
// and TPOT. Info: benchmark, start, end, duration, then completed, incomplete and
// errored of each of requests, prompt and output tokens per request, prompt and
// output tokens in total.
const (
	statsColumns = 17
	infoColumns  = 19
)

var (
	control      = regexp.MustCompile("\x1b\\[[0-9;?]*[a-zA-Z]")
	levelName    = regexp.MustCompile(`^(synchronous|throughput|(concurrent|constant|poisson)@[\d.]+)\s*\|`)
	logModel     = regexp.MustCompile(`backend_model='([^']*)'`)
	logTarget    = regexp.MustCompile(`backend_target='([^']*)'`)
	logBound     = regexp.MustCompile(`\bmax_concurrency=(\d+)`)
	laterVersion = regexp.MustCompile(`Request Latency Statistics|Run Summary Info`)
)

func scanLog(r io.Reader) (*consoleLog, error) {
	l := &consoleLog{version: release.Series03}
	var table *[]string // that the line is in
	columns := 0
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 4<<20)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(control.ReplaceAllString(lines.Text(), ""))
		if n == 1 && strings.HasPrefix(line, "{") {
			return nil, errors.New("is JSON, not a console log; leave out --from-log")
		}
		if laterVersion.MatchString(line) {
			return nil, errors.New("is the log of guidellm 0.4 or later, which prints medians without the batch size that each belongs to; only its JSON report can be measured")
		}
		if m := logModel.FindStringSubmatch(line); m != nil {
			l.model = m[1]
		}
		if m := logTarget.FindStringSubmatch(line); m != nil {
			l.target = redact.URL(m[1])
		}
		if strings.Contains(line, "Req Latency (ms)") { // though the values are seconds
			l.version = release.Series02
		}
		if bound := number(logBound, line); bound > 0 {
			l.bound = bound
		}
		if p, o := number(promptTokens, line), number(outputTokens, line); p > 0 && o > 0 {
			l.shape = sweep.Shape{PromptTokens: p, OutputTokens: o}
		}
		switch {
		case strings.HasPrefix(line, "Benchmarks Stats:"):
			table, columns = &l.stats, statsColumns
			continue
		case strings.HasPrefix(line, "Benchmarks Info:"):
			table, columns = &l.info, infoColumns
			continue
		case table == nil || strings.Trim(line, "=-|") == "":
			continue
		}
		// Where the terminal is narrow (80 columns without one), rows are wrapped
		// between cells: a row that lacks cells goes on in the next line.
		rows := *table
		if levelName.MatchString(line) {
			*table = append(rows, line)
		} else if len(rows) > 0 && incomplete(rows[len(rows)-1], columns) {
			rows[len(rows)-1] += " " + line
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(l.stats) == 0 {
		return nil, errors.New("holds no table Benchmarks Stats, as guidellm 0.2 and 0.3 print it; is it the log of another program, or did the run end before it printed?")
	}
	return l, nil
}

func incomplete(row string, columns int) bool {
	return strings.Count(row, "|") < columns-1 || strings.HasSuffix(row, "|")
}

// numbers are the cells of a row behind its first, NaN where a cell is no number
// (a time of day). A row with more or fewer cells cannot be told apart.
func numbers(row string, columns int) ([]float64, error) {
	cells := strings.Split(row, "|")
	if len(cells) != columns {
		return nil, fmt.Errorf("found %d cells, expected %d, in %q: the terminal was too narrow; run guidellm with COLUMNS=250 in its environment", len(cells), columns, row)
	}
	values := make([]float64, columns)
	for i, cell := range cells {
		x, err := strconv.ParseFloat(strings.TrimSpace(cell), 64)
		if err != nil {
			x = math.NaN()
		}
		values[i] = x
	}
	return values, nil
}

// measurement goes the way of a JSON report whose statistics are the cells of
// row i and which holds no requests.
func (l *consoleLog) measurement(i int, cells []float64, name string, o Options) measurement.Measurement {
	level := func(row string) string {
		before, _, _ := strings.Cut(row, "|")
		return strings.TrimSpace(before)
	}
	kind, load, _ := strings.Cut(level(l.stats[i]), "@")
	b := benchmark{rows: &rowSet{}, console: true}
	s := &b.Config.Strategy
	s.Type, s.MaxConcurrency = text(kind), float64(l.bound)
	s.Streams, _ = strconv.ParseFloat(load, 64) // of concurrent; a rate otherwise
	s.Rate = s.Streams
	b.Loader.Data = askedData{shape: l.shape, text: "as the log has it"}
	b.Worker.Model, b.Worker.Target = text(l.model), text(l.target)

	b.Metrics.Concurrency.Successful.Mean = cells[2]
	b.Metrics.TTFT.Successful = distribution{Mean: cells[8], Median: cells[9]}
	b.Metrics.ITL.Successful = distribution{Mean: cells[11], Median: cells[12]}
	if i < len(l.info) && level(l.info[i]) == level(l.stats[i]) {
		if info, err := numbers(l.info[i], infoColumns); err == nil {
			b.EndTime = info[3] // the start is a time of day without a date
			b.Metrics.Totals = &totals{Successful: info[4], Incomplete: info[5], Errored: info[6]}
			b.Metrics.Prompt.Successful.Mean, b.Metrics.Output.Successful.Mean = info[7], info[10]
		}
	}
	b.reduce()
	d := document{}
	d.Metadata.Version = l.version
	return d.measurement(&b, name, o)
}
