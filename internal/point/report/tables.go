package report

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/sweep"
)

// table reads CSV: rows of any length, without empty ones and comments.
func (in *input) table() ([][]string, error) {
	data, err := in.all()
	if err != nil {
		return nil, err
	}
	r := csv.NewReader(bytes.NewReader(data))
	r.FieldsPerRecord, r.TrimLeadingSpace, r.Comment, r.LazyQuotes = -1, true, '#', true
	rows, err := r.ReadAll()
	if err != nil {
		return nil, foreign(in.name, "is broken CSV: %v", err)
	}
	for _, row := range rows {
		for i := range row {
			row[i] = strings.TrimSpace(row[i])
		}
	}
	return rows, nil
}

// The columns of a plain CSV. One row is one measured point.
const (
	columnAccelerator = "accelerator"
	columnModel       = "model"
	columnPrompt      = "prompt_tokens"
	columnOutput      = "output_tokens"
	columnConcurrency = "concurrency"
	columnBatch       = "batch"
	columnITL         = "itl_ms"
	columnTTFT        = "ttft_ms"
	columnITLError    = "itl_error_ms"
	columnTTFTError   = "ttft_error_ms"
	columnRequests    = "requests"
	columnErrored     = "errored"
	columnSeconds     = "seconds"
	columnStarted     = "started_at"
)

// PlainColumns are the columns of a plain CSV, and what they hold.
var PlainColumns = []struct{ Name, Meaning string }{
	{columnAccelerator, "name that results are keyed by; otherwise --accelerator"},
	{columnModel, "name that results are keyed by; otherwise --model"},
	{columnPrompt, "tokens of each prompt; otherwise --shape"},
	{columnOutput, "tokens of each answer; otherwise --shape"},
	{columnConcurrency, "requests kept in flight, a whole number; otherwise --batch-size"},
	{columnBatch, "requests in flight in the mean, where it was measured; otherwise concurrency"},
	{columnITL, "mean inter-token latency without the first token, ms"},
	{columnTTFT, "mean time to first token, ms"},
	{columnITLError, "standard error of itl_ms, ms"},
	{columnTTFTError, "standard error of ttft_ms, ms"},
	{columnRequests, "successful requests behind the means; otherwise 1"},
	{columnErrored, "requests that failed"},
	{columnSeconds, "how long the point ran, s"},
	{columnStarted, "Unix seconds of the first request"},
}

func isPlainCSV(h *head) bool {
	names := plainHeader(h.text)
	return len(names) > 1 && (slices.Contains(names, columnITL) || slices.Contains(names, columnTTFT)) || slices.Contains(names, columnConcurrency) && slices.Contains(names, columnPrompt)
}

// plainHeader is the first line that is no comment, as names of columns.
func plainHeader(text []byte) []string {
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		names := strings.Split(line, ",")
		for i, name := range names {
			names[i] = strings.ToLower(strings.Trim(strings.TrimSpace(name), `"`))
		}
		return names
	}
	return nil
}

func readPlainCSV(in *input) ([]measurement.Measurement, error) {
	rows, err := in.table()
	if err != nil {
		return nil, err
	}
	if len(rows) < 2 {
		return nil, foreign(in.name, "has a header and no rows")
	}
	at := map[string]int{}
	var ignored []string
	for i, name := range rows[0] {
		name = strings.ToLower(name)
		if !slices.ContainsFunc(PlainColumns, func(c struct{ Name, Meaning string }) bool { return c.Name == name }) {
			ignored = append(ignored, name)
			continue
		}
		if _, twice := at[name]; twice {
			return nil, foreign(in.name, "the column %s comes twice", name)
		}
		at[name] = i
	}
	if _, itl := at[columnITL]; !itl {
		return nil, foreign(in.name, "has no column %s; its columns are %s", columnITL, strings.Join(rows[0], ", "))
	}
	var found []measurement.Measurement
	var wrong []string
	for n, row := range rows[1:] {
		bad := func(column, cell, want string) {
			wrong = append(wrong, fmt.Sprintf("row %d, %s: found %q, expected %s", n+1, column, cell, want))
		}
		cell := func(column string) string {
			if i, ok := at[column]; ok && i < len(row) {
				return row[i]
			}
			return ""
		}
		number := func(column string) float64 {
			c := cell(column)
			if c == "" {
				return 0
			}
			x, err := strconv.ParseFloat(c, 64)
			if err != nil || positive(x) != x {
				bad(column, c, "a number from 0 up")
			}
			return positive(x)
		}
		count := func(column string) int {
			x := number(column)
			if x != float64(whole(x)) {
				bad(column, cell(column), "a whole number")
			}
			return whole(x)
		}
		if len(row) != len(rows[0]) {
			wrong = append(wrong, fmt.Sprintf("row %d: found %d cells, expected %d", n+1, len(row), len(rows[0])))
			continue
		}
		r := &run{tool: "csv", model: cell(columnModel), accelerator: cell(columnAccelerator)}
		r.batch = count(columnConcurrency)
		r.asked = sweep.Shape{PromptTokens: count(columnPrompt), OutputTokens: count(columnOutput)}
		r.prompt, r.output = float64(r.asked.PromptTokens), float64(r.asked.OutputTokens)
		r.itl, r.ttft = distribution{Mean: number(columnITL)}, distribution{Mean: number(columnTTFT)}
		r.requests.Successful, r.requests.Errored = max(1, count(columnRequests)), count(columnErrored)
		r.measured, r.seconds, r.startedAt = number(columnBatch), number(columnSeconds), number(columnStarted)
		if r.measured == 0 {
			r.measured = float64(r.batch)
		}
		r.itl.Error, r.ttft.Error = number(columnITLError), number(columnTTFTError)
		if len(ignored) > 0 {
			r.note("columns that mean nothing here: %s", strings.Join(ignored, ", "))
		}
		found = append(found, r.measurement(in.name, in.o))
	}
	if len(wrong) > 0 {
		return nil, foreign(in.name, "%s", strings.Join(wrong[:min(len(wrong), 20)], "\n"))
	}
	return found, nil
}

// guidellm's CSV has from 0.4 on three lines of names over each column: group,
// metric and statistic. A row is a benchmark.

func isGuidellmCSV(h *head) bool {
	return strings.Contains(h.line, "Run Info,") && strings.Contains(h.line, "Benchmark") && strings.Contains(h.line, "Time to First Token") ||
		strings.Contains(h.line, "Request Counts") && strings.Contains(h.line, "Inter Token Latency")
}

func readGuidellmCSV(in *input) ([]measurement.Measurement, error) {
	rows, err := in.table()
	if err != nil {
		return nil, err
	}
	if len(rows) < 4 {
		return nil, foreign(in.name, "has names and no rows: guidellm ended before its first level did")
	}
	at := map[string]int{}
	for i := range rows[0] {
		var parts []string
		for _, names := range rows[:3] {
			if i < len(names) && names[i] != "" {
				parts = append(parts, names[i])
			}
		}
		at[strings.Join(parts, " | ")] = i
	}
	var found []measurement.Measurement
	for _, row := range rows[3:] {
		cell := func(name string) string {
			if i, ok := at[name]; ok && i < len(row) {
				return row[i]
			}
			return ""
		}
		number := func(name string) float64 {
			x, err := strconv.ParseFloat(cell(name), 64)
			if err != nil {
				return 0
			}
			return x
		}
		stats := func(name string) distribution {
			return distribution{Mean: number(name + " | Mean"), Median: number(name + " | Median"), StdDev: number(name + " | Std Dev")}
		}
		b := benchmark{rows: &rowSet{}}
		s := &b.Config.Strategy
		kind, load, _ := strings.Cut(cell("Benchmark | Strategy"), "@")
		s.Type = text(kind)
		s.Streams, _ = strconv.ParseFloat(load, 64) // of concurrent; a rate otherwise
		s.Rate = s.Streams
		// What is no JSON, as in some versions, names no model: then --model does.
		_ = json.Unmarshal([]byte(cell("Run Info | Backend")), &b.Config.Backend)
		m := &b.Metrics
		m.Prompt.Successful, m.Output.Successful = stats("Text Tokens | Successful Input"), stats("Text Tokens | Successful Output")
		if in, out := m.Prompt.Successful, m.Output.Successful; in.StdDev == 0 && out.StdDev == 0 { // all were of one length
			b.Loader.Data = askedData{shape: constant(in.Mean, in.Median, out.Mean, out.Median), text: "as its tokens were counted"}
		}
		m.Totals = &totals{Successful: number("Request Counts | Successful"), Errored: number("Request Counts | Errored"), Incomplete: number("Request Counts | Incomplete")}
		m.TTFT.Successful, m.ITL.Successful = stats("Time to First Token | Successful ms"), stats("Inter Token Latency | Successful ms")
		m.Concurrency.Successful = stats("Server Throughput | Successful Concurrency")
		b.EndTime = number("Timings | Duration | Sec")
		if t, err := time.Parse(time.DateTime, cell("Timings | Start Time")); err == nil { // without its zone
			b.StartTime = float64(t.Unix())
			b.EndTime += b.StartTime
		}
		b.reduce()
		d := document{}
		d.Metadata.Version = "0.4 to 0.8"
		found = append(found, d.measurement(&b, in.name, in.o))
	}
	return found, nil
}
