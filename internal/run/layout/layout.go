// Package layout names the files of a run. The names are the same in a bucket
// that Argo fills, in one that step writes, and in a directory on one machine:
//
//	runs/<run>/plan.json
//	runs/<run>/claims/<token>.json
//	runs/<run>/summary.json
//	runs/<run>/<accelerator>/server.json
//	runs/<run>/<accelerator>/capacity.json
//	runs/<run>/<accelerator>/check/<shape>-<rate>/...
//	runs/<run>/report/index.html
//	runs/<run>/summaries/<accelerator>.json
//	runs/<run>/<accelerator>/rounds/<number>.json
//	runs/<run>/<accelerator>/measurements/<shape>-b<batch>.json
//	runs/<run>/<accelerator>/reports/<shape>/<synchronous|throughput|bN|shared>{.json,-log.txt,…}
//	runs/<run>/<accelerator>/parameters/<shape>.json
//	latest/<model>/<accelerator>/<shape>.json
package layout

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"wfgen.dev/internal/sweep"
)

// Names of the files of one point in the output directory of step bench, and of
// the results of one accelerator in that of step aggregate.
const (
	Measurement  = "measurement.json"
	Reports      = "reports"      // directory: raw report, log and server scrapes
	Outputs      = "outputs"      // directory: one file per Argo output parameter
	Parameters   = "parameters"   // directory: <shape>.json
	Measurements = "measurements" // directory: <shape>-b<batch>.json
	Summary      = "summary.json"
	Server       = "server.json"       // what is known of an accelerator's server when it is ready
	Rendered     = "rendered"          // a file for each consumer
	Capacity     = "capacity.json"     // what one replica bears within the objectives
	Prefill      = "prefill.json"      // how fast an idle server computes prompts
	Check        = "check"             // directory: open loops that the capacity was held against
	Page         = "report/index.html" // what people look at
	Summaries    = "summaries"         // directory: <accelerator>.json, small, what the summary of a run is made of
	Latest       = "latest"
	Plan         = "plan.json" // what a run on one machine was begun with
	rounds       = "rounds"    // directory: <number>.json, what a run that is asked for a precision chose to measure
	claims       = "claims"    // directory: a file of each process that holds or held the run

	// OneParameters is the name that a user of the two-run recipe looks for, where
	// there is exactly one set of parameters.
	OneParameters = "parameters.json"

	// SharedReport is the base name of the report of several points that shared one
	// process of the driver.
	SharedReport = "shared"
)

// Output is the name of a file in the directory Outputs: one value, which Argo
// reads as an output parameter.
type Output string

// The outputs of step's commands. package steps says which command leaves which.
const (
	OutTarget Output = "target" // URL of the server
	OutServer Output = "server" // what it runs as: JSON

	OutITL   Output = "itl"   // ms
	OutTTFT  Output = "ttft"  // ms
	OutBatch Output = "batch" // requests decoded together, measured
	OutCount Output = "requests"

	OutPoints Output = "points" // of the next round: JSON; an empty list ends the sweep
	OutEnded  Output = "ended"  // why there is none; empty: there is one

	OutCapacity    Output = "capacity"    // requests per second that one replica bears, the safe end of the interval
	OutConcurrency Output = "concurrency" // mean requests in flight at that rate, the safe end
	OutCost        Output = "cost"        // money per million tokens at that rate, the safe end; empty without a price

	OutPrefill Output = "prefill" // prompt tokens per second that an idle server computes, the safe end

	OutAlpha   Output = "alpha" // ms
	OutBeta    Output = "beta"  // ms per request
	OutGamma   Output = "gamma" // ms
	OutDelta   Output = "delta" // ms per token and request
	OutVerdict Output = "verdict"
	OutReasons Output = "reasons"
	OutAnswer  Output = "answer"     // the verdict in a sentence
	OutAll     Output = "parameters" // every set of parameters: JSON

	OutDrift        Output = "drift"         // what moved beyond the band since it was accepted last, a line each
	OutDriftPercent Output = "drift-percent" // the largest of these changes, percent; 0: none
)

// Of is the output of one accelerator where there are several: capacity-a100.
func (o Output) Of(accelerator string) Output { return o + "-" + Output(sweep.Slug(accelerator)) }

// Key is the path of the output, relative to the command's output directory.
func (o Output) Key() string { return path.Join(Outputs, string(o)) }

// SharedPoint is the directory of one of those points, below that of all.
func SharedPoint(batch int) string { return fmt.Sprintf("b%d", batch) }

// Run is the prefix of one run.
func Run(run string) string { return path.Join("runs", run) }

// ClaimsOf is the prefix of the files that say which process holds a run.
func ClaimsOf(run string) string { return path.Join(Run(run), claims) }

// Ours tells the files of a run, by their keys in it, that hold no results.
func Ours(key string) bool {
	in := path.Base(path.Dir(key))
	return path.Base(key) == Plan || in == claims || in == rounds
}

// Accelerator is the prefix of one accelerator in a run.
func Accelerator(run, accelerator string) string { return path.Join(Run(run), segment(accelerator)) }

// AcceleratorInRun is the same, relative to the run.
func AcceleratorInRun(accelerator string) string { return segment(accelerator) }

// MeasurementOf is the key of a point's measurement.
func MeasurementOf(run string, p sweep.Point) string {
	return path.Join(Accelerator(run, p.Accelerator), MeasurementIn(p))
}

// MeasurementIn is the same, relative to its accelerator.
func MeasurementIn(p sweep.Point) string { return path.Join(Measurements, p.Name()+".json") }

// OpenLoopOf is the directory of an open loop's measurement, below its accelerator's: of a
// rate, requests per second, measured for the nth time, from 1 on.
func OpenLoopOf(shape sweep.Shape, rate float64, nth int) string {
	name := shape.Slug() + "-" + OpenReport(rate)
	if nth > 1 {
		name += "-" + strconv.Itoa(nth)
	}
	return path.Join(Check, name)
}

// MeasurementsOf are the keys of an accelerator's measurements among those of a run, in
// order.
func MeasurementsOf(run, accelerator string, keys map[string]bool) []string {
	prefix := path.Join(Accelerator(run, accelerator), Measurements) + "/"
	var all []string
	for key := range keys {
		if strings.HasPrefix(key, prefix) {
			all = append(all, key)
		}
	}
	slices.Sort(all)
	return all
}

// PrefillOf is the key of an accelerator's prefill record.
func PrefillOf(run, accelerator string) string {
	return path.Join(Accelerator(run, accelerator), Prefill)
}

// ReportsOf is the prefix of the raw reports of one shape.
func ReportsOf(run, accelerator string, s sweep.Shape) string {
	return path.Join(Accelerator(run, accelerator), Reports, s.Slug())
}

// ReportsOfPoint is the prefix of the raw reports of a point.
func ReportsOfPoint(run string, p sweep.Point) string {
	return path.Join(Accelerator(run, p.Accelerator), ReportsIn(p))
}

// ReportsIn is the same, relative to its accelerator: that of its shape, or a folder in
// it for a point that was measured again.
func ReportsIn(p sweep.Point) string {
	prefix := path.Join(Reports, p.Shape.Slug())
	if p.Again > 0 {
		prefix = path.Join(prefix, p.Name())
	}
	return prefix
}

// RoundOf is the key of what an accelerator was given to measure in a round.
func RoundOf(run, accelerator string, number int) string {
	return path.Join(Accelerator(run, accelerator), rounds, fmt.Sprintf("%d.json", number))
}

// ParametersFile is the name of the parameters of one shape.
func ParametersFile(s sweep.Shape) string { return s.Slug() + ".json" }

// ParametersOf is the key of the parameters of one shape, relative to its run.
func ParametersOf(accelerator string, s sweep.Shape) string {
	return path.Join(segment(accelerator), Parameters, ParametersFile(s))
}

// OfModel is the place of a key where results of several models lie in one directory.
func OfModel(model, key string) string { return path.Join(segment(model), key) }

// LatestOf is the key of the newest accepted parameters.
func LatestOf(model, accelerator string, s sweep.Shape) string {
	return path.Join(Latest, segment(model), segment(accelerator), ParametersFile(s))
}

// ReportName is the base name of a point's raw report. The smallest batch size
// of the two-run recipe is named synchronous and the largest throughput, so that
// whoever knows that recipe finds the files that it made.
func ReportName(batch int, sizes []int) string {
	largest := batch
	for _, b := range sizes {
		largest = max(largest, b)
	}
	switch {
	case batch == 1:
		return "synchronous"
	case batch == largest && len(sizes) > 0:
		return "throughput"
	default:
		return fmt.Sprintf("b%d", batch)
	}
}

// OpenReport is the base name of the raw report of an open loop, requests per second.
func OpenReport(rate float64) string { return fmt.Sprintf("rate-%.4g", rate) }

// The files beside a point's raw report begin with its name, and end as follows.
const (
	logSuffix     = "-log.txt"
	scrapesSuffix = "-server.json"
	probeSuffix   = "-probe.json"
)

// Log is the console log of the driver beside a report.
func Log(report string) string { return path.Join(Reports, report+logSuffix) }

// Scrapes are what the server's /metrics said during a point.
func Scrapes(report string) string { return path.Join(Reports, ScrapesBeside(report)) }

// ScrapesBeside is the name of the scrapes that lie beside a report of that name.
func ScrapesBeside(report string) string { return strings.TrimSuffix(report, ".json") + scrapesSuffix }

// Probe is the report of the probe after a point.
func Probe(report string) string { return path.Join(Reports, report+probeSuffix) }

// OfLog is the path of a report without its ending, where key is the path of its log.
func OfLog(key string) (report string, ok bool) { return strings.CutSuffix(key, logSuffix) }

// BesideReport says whether a file of a directory of reports is not itself the report
// of a point.
func BesideReport(name string) bool {
	return strings.HasSuffix(name, logSuffix) || strings.HasSuffix(name, scrapesSuffix) || strings.HasSuffix(name, probeSuffix)
}

// segment makes a name one segment of a path, different for different names: org/model
// stays readable as org--model, and what would be taken for that is spelled out, as is
// what paths or URLs give a meaning of their own.
func segment(name string) string {
	if name == "." || name == ".." {
		return strings.Replace(name, ".", "%2E", 1)
	}
	var b strings.Builder
	for i := range len(name) {
		beside := i > 0 && (name[i-1] == '-' || name[i-1] == '/') || i+1 < len(name) && name[i+1] == '/'
		switch c := name[i]; {
		case c == '/':
			b.WriteString("--")
		case c == '-' && beside, c == '%', c == '\\', c < ' ', c == 0x7f:
			fmt.Fprintf(&b, "%%%02X", c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}
