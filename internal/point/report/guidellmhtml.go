package report

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"regexp"
	"strings"

	"github.com/go-json-experiment/json"

	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/sweep"
)

// guidellm's HTML is a page with its numbers as a script. From 0.3 to 0.7 they are
// statistics of each level, percentiles included; that of 0.8 has p95 and p99 of ITL and
// TTFT alone, of which no mean can be made.

func isGuidellmHTML(h *head) bool {
	return markup.Match(h.text) && bytes.Contains(bytes.ToLower(h.text), []byte("guidellm"))
}

// htmlData is what the script says; ms and s as noted.
type htmlData struct {
	RunInfo struct {
		Model struct {
			Name text `json:"name"`
		} `json:"model"`
		Timestamp float64 `json:"timestamp"` // when the last level began, Unix seconds
	}
	WorkloadDetails struct {
		Prompts     htmlTokens `json:"prompts"`
		Generations htmlTokens `json:"generations"`
		RateType    text       `json:"rateType"` // 0.3: of the run; from 0.4 on of its first level
		Server      struct {
			Target text `json:"target"`
		} `json:"server"`
	}
	Benchmarks []struct {
		RequestsPerSecond float64          `json:"requestsPerSecond"`
		ITL               htmlDistribution `json:"itl"`            // ms
		TTFT              htmlDistribution `json:"ttft"`           // ms
		TimePerRequest    htmlDistribution `json:"timePerRequest"` // s
	}
}

// htmlTokens are the counted tokens of the successful requests of all levels.
type htmlTokens struct {
	Distribution struct {
		Statistics htmlDistribution `json:"statistics"`
	} `json:"tokenDistributions"`
}

// htmlDistribution is a distribution under the names of JavaScript.
type htmlDistribution struct {
	Mean        float64            `json:"mean"`
	Median      float64            `json:"median"`
	StdDev      float64            `json:"stdDev"`
	Min         *float64           `json:"min"`
	Max         *float64           `json:"max"`
	Count       float64            `json:"count"`
	Percentiles map[string]float64 `json:"percentiles"`
}

// plain is the distribution as other files have it. Of percentiles that are the same
// number the page keeps the largest.
func (d htmlDistribution) plain() distribution {
	p := distribution{Mean: d.Mean, Median: d.Median, StdDev: d.StdDev, Min: d.Min, Max: d.Max}
	all := p.Percentiles.all()
	var above *float64
	if x, ok := d.Percentiles["p999"]; ok {
		above = &x
	}
	for i := len(all) - 1; i >= 0; i-- {
		if x, ok := d.Percentiles[percentileNames[i]]; ok {
			above = &x
		}
		*all[i] = above
	}
	return p
}

// scriptValue finds what a script gives a variable of the page.
var scriptValue = regexp.MustCompile(`window\.(runInfo|workloadDetails|benchmarks)\s*=\s*`)

func readGuidellmHTML(in *input) ([]measurement.Measurement, error) {
	page, err := in.all()
	if err != nil {
		return nil, err
	}
	if bytes.Contains(page, []byte("window.GUIDELLM_REPORT")) {
		return nil, foreign(in.name, "is the HTML of guidellm 0.8, which holds p95 and p99 of ITL and TTFT and neither means nor medians; give the JSON of the run (--output kind=json)")
	}
	var d htmlData
	into := map[string]any{"runInfo": &d.RunInfo, "workloadDetails": &d.WorkloadDetails, "benchmarks": &d.Benchmarks}
	for _, at := range scriptValue.FindAllSubmatchIndex(page, -1) {
		name, value := string(page[at[2]:at[3]]), page[at[1]:]
		v := into[name]
		if v == nil || name == "benchmarks" && !bytes.HasPrefix(value, []byte("[")) { // seen already, or a page into which nothing was written
			continue
		}
		dec := decoder(newBareNumbers(bytes.NewReader(value)))
		if err := json.UnmarshalDecode(dec, v); err != nil {
			return nil, foreign(in.name, "%s", fmt.Errorf("window.%s: %w", name, explain(dec, err, int64(len(page)))))
		}
		delete(into, name)
	}
	if len(d.Benchmarks) == 0 {
		return nil, foreign(in.name, "is guidellm's HTML without a level: it was cut off, or guidellm ended before its first level did; give the JSON of the run")
	}
	return d.measurements(in), nil
}

func (d *htmlData) measurements(in *input) []measurement.Measurement {
	prompt, output := d.WorkloadDetails.Prompts.Distribution.Statistics, d.WorkloadDetails.Generations.Distribution.Statistics
	lengths := sweep.Shape{}
	if prompt.Min != nil && prompt.Max != nil && output.Min != nil && output.Max != nil {
		lengths = constant(*prompt.Min, *prompt.Max, *output.Min, *output.Max)
	}
	var all []measurement.Measurement
	for i, level := range d.Benchmarks {
		r := &run{tool: sweep.Guidellm, version: "0.3 to 0.7", target: string(d.WorkloadDetails.Server.Target), asked: lengths}
		if name := string(d.RunInfo.Model.Name); name != "N/A" {
			r.model = name
		}
		r.itl, r.ttft = level.ITL.plain(), level.TTFT.plain()
		r.prompt, r.output = prompt.Mean, output.Mean
		r.requests.Successful = whole(level.TimePerRequest.Count)
		r.measured = positive(level.RequestsPerSecond * level.TimePerRequest.Mean) // Little's law
		if level.RequestsPerSecond > 0 {
			r.seconds = level.TimePerRequest.Count / level.RequestsPerSecond
		}
		if i == len(d.Benchmarks)-1 {
			r.startedAt = positive(d.RunInfo.Timestamp)
		}
		r.note("guidellm's HTML does not count the requests that failed")
		d.load(r, i, in.o)
		all = append(all, r.measurement(in.name, in.o))
	}
	return all
}

// load finds out how many requests were kept in flight. The page has the kind of one
// level alone, and no number of streams.
func (d *htmlData) load(r *run, level int, o Options) {
	switch kind := strings.ToLower(string(d.WorkloadDetails.RateType)); kind {
	case "synchronous":
		r.batch = 1
		if level > 0 {
			r.batch = 0
			r.voided("guidellm's HTML tells of a sweep's first level alone what it was; give the JSON of the run")
		}
	case "concurrent":
		if len(d.Benchmarks) > 1 || o.BatchSize < 1 {
			r.batch = max(1, int(math.Round(r.measured)))
			r.note("guidellm's HTML does not say the number of streams: the %.4g requests that were in flight in the mean, rounded, stand for it", r.measured)
		}
	default:
		r.voided("guidellm's HTML holds no requests, and statistics of a whole %s run say nothing of a batch; give the JSON of the run", cmp.Or(kind, "unknown"))
	}
}
