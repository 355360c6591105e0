// Package plan is a sweep as it will be run: each accelerator resolved once (its
// server, target and limit, its GPUs and nodes, its points in their order) and the
// deadlines that follow. Templates, Jobs, the run on one machine, the budget and the
// questions before a sweep read it, and none of them the configuration's own
// accelerators.
package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/config"
	"wfgen.dev/internal/sweep/precision"
)

// Plan is a configuration with its accelerators resolved. What needs no resolving is
// read from the configuration within it.
type Plan struct {
	config.Config
	Accelerators []Accelerator // instead of the configuration's
	WaitTimeout  time.Duration // instead of its text

	// PendingTimeout is how long a pod may take to begin, instead of its text; 0: for ever.
	PendingTimeout time.Duration
}

// Accelerator is one GPU type of the sweep.
type Accelerator struct {
	sweep.Accelerator
	Slug string // its name in Kubernetes objects
	// ServerName is the name of its server outside a workflow, and of that one's Service:
	// the one that the default target-url looks for.
	ServerName string
	Own        bool              // it has a target of its own, not the common one
	Deployed   bool              // the sweep starts its server
	Resource   string            // extended resource by which a pod asks for one of its GPUs; empty: by a claim, or not at all
	Nodes      map[string]string // labels of its nodes; empty: not known
	Server     config.Server     // how its server is started, if it is

	PrefillChunk int // prompt tokens that its server computes in an iteration at most; 0: its prefill rate is not measured

	DeviceClass     string   // of the devices that a pod claims; empty: it claims none
	DeviceSelectors []string // CEL that holds for them

	Points []sweep.Point // in the order in which they are measured
}

// Of resolves a valid configuration.
func Of(c config.Config) Plan {
	if len(c.Accelerators) == 1 && c.Accelerators[0].TargetURL != "" { // then the common target is its
		only := c.Accelerators[0]
		c.TargetURL, only.TargetURL = only.TargetURL, ""
		c.Accelerators = []config.Accelerator{only}
	}
	p := Plan{Config: c, WaitTimeout: duration(c.WaitTimeout), PendingTimeout: duration(c.PendingTimeout)}
	s := c.Sweep()
	for i, a := range c.Accelerators {
		p.Accelerators = append(p.Accelerators, Accelerator{
			Accelerator: s.Accelerators[i],
			Slug:        sweep.Slug(a.Name),
			ServerName:  config.ServerName(c.Engine, sweep.Slug(a.Name)),
			Own:         a.TargetURL != "",
			Deployed:    c.Deploys(a),
			Resource:    a.GPU(),
			Nodes:       a.Nodes(),
			Server:      c.ServerOf(a),

			PrefillChunk: c.ChunkOf(a),

			DeviceClass: a.DeviceClass, DeviceSelectors: a.DeviceSelectors,

			Points: s.Points(a.Name),
		})
	}
	return p
}

// duration is one that was validated.
func duration(text string) time.Duration {
	d, err := time.ParseDuration(text)
	if err != nil {
		panic(fmt.Sprintf("%q was not validated: %v", text, err))
	}
	return d
}

// ServiceURL is where that Service is reached in its namespace.
func (a Accelerator) ServiceURL() string {
	return fmt.Sprintf("http://%s:%d", a.ServerName, config.ServerPort)
}

// Limit is the max-num-seqs of the server in text, empty where it is not known.
func (a Accelerator) Limit() string {
	if a.MaxNumSeqs == 0 {
		return ""
	}
	return strconv.Itoa(a.MaxNumSeqs)
}

// ServerLimit is the max-num-seqs that a server gets which the sweep starts: the
// accelerator's, or the largest batch size.
func (p Plan) ServerLimit(a Accelerator) int { return cmp.Or(a.MaxNumSeqs, p.LargestBatch()) }

// GPUMinutes are what the points of one accelerator may take where a precision is asked
// for; 0: no limit.
func (p Plan) GPUMinutes() float64 { return p.MaxGPUMinutes / float64(max(1, len(p.Accelerators))) }

// Prices are what a replica of each accelerator costs per hour, as step reads them: those
// that are known.
func (p Plan) Prices() string {
	var parts []string
	for _, a := range p.Accelerators {
		if a.GPUCost > 0 {
			parts = append(parts, a.Name+"="+strconv.FormatFloat(a.GPUCost*float64(max(1, a.Count)), 'g', -1, 64))
		}
	}
	return strings.Join(parts, ",")
}

// LargestBatch is the largest batch size, requests.
func (p Plan) LargestBatch() int {
	largest := 0
	for _, b := range p.BatchSizes {
		largest = max(largest, b)
	}
	return largest
}

// Prefills says whether the prefill rate of any accelerator is measured.
func (p Plan) Prefills() bool {
	return slices.ContainsFunc(p.Accelerators, func(a Accelerator) bool { return a.PrefillChunk > 0 })
}

// LongestRequest are the tokens of the longest request of an accelerator.
func (p Plan) LongestRequest(a Accelerator) int {
	if a.PrefillChunk == 0 {
		return LongestRequest(p.Shapes...)
	}
	return max(LongestRequest(p.Shapes...), LongestPrompt(a.PrefillChunk))
}

// LongestRequest are the tokens of the longest request of these shapes.
func LongestRequest(shapes ...config.Shape) int {
	longest := 0
	for _, s := range shapes {
		longest = max(longest, int(float64(s.PromptTokens)+(1+sweep.OutputSpread)*float64(s.OutputTokens)))
	}
	return longest + sweep.ModelMargin
}

// LongestRequestExpression is the same for the lengths that two parameters of a
// workflow have when it is submitted.
func LongestRequestExpression(promptTokens, outputTokens string) string {
	return fmt.Sprintf(`int(asInt(workflow.parameters["%s"]) + %g * asInt(workflow.parameters["%s"])) + %d`,
		promptTokens, 1+sweep.OutputSpread, outputTokens, sweep.ModelMargin)
}

// LongestPrompt are the tokens of a request whose prompt is one chunk.
func LongestPrompt(chunk int) int { return chunk + sweep.ModelMargin }

// LongestPromptExpression is the same for what a parameter of a workflow has when it is
// submitted.
func LongestPromptExpression(chunk string) string {
	return fmt.Sprintf(`asInt(workflow.parameters["%s"]) + %d`, chunk, sweep.ModelMargin)
}

// Targets are the URLs of all servers of the sweep; *. stands for the host of one that
// the sweep starts.
func (p Plan) Targets() []string {
	var urls []string
	for _, a := range p.Accelerators {
		if a.Deployed { // in a workflow, and beside a Job
			urls = append(urls, fmt.Sprintf("http://*.%s:%d", p.Name, config.ServerPort), a.ServiceURL())
			continue
		}
		urls = append(urls, a.TargetURL)
	}
	slices.Sort(urls)
	return slices.Compact(urls)
}

// Shared lists the accelerators that have no target of their own and whose server the
// sweep does not start.
func (p Plan) Shared() []Accelerator {
	return p.filter(func(a Accelerator) bool { return !a.Own && !a.Deployed })
}

// Deployed lists the accelerators whose servers the sweep starts.
func (p Plan) Deployed() []Accelerator {
	return p.filter(func(a Accelerator) bool { return a.Deployed })
}

func (p Plan) filter(keep func(Accelerator) bool) []Accelerator {
	var kept []Accelerator
	for _, a := range p.Accelerators {
		if keep(a) {
			kept = append(kept, a)
		}
	}
	return kept
}

// Alike groups the accelerators whose servers the sweep starts: those of a group
// differ in nothing but the values of their nodes' labels.
func (p Plan) Alike() [][]Accelerator {
	byName := map[string]Accelerator{}
	for _, a := range p.Accelerators {
		byName[a.Name] = a
	}
	var groups [][]Accelerator
	for _, alike := range p.Servers() {
		var group []Accelerator
		for _, a := range alike {
			group = append(group, byName[a.Name])
		}
		groups = append(groups, group)
	}
	return groups
}

// ResultsName is the ConfigMap that gets the results of every run.
func (p Plan) ResultsName() string { return p.Name + "-results" }

// AccountName is the ServiceAccount of the pods.
func (p Plan) AccountName() string { return cmp.Or(p.ServiceAccount, p.Name) }

// Names are the accelerators' names.
func (p Plan) Names() []string {
	var names []string
	for _, a := range p.Accelerators {
		names = append(names, a.Name)
	}
	return names
}

// NodeOverhead is what a node of a workflow costs, seconds: scheduling, start and saving
// of artifacts. A point, and an accelerator's wait and estimate, are one each.
const NodeOverhead = 5

// RoundOverhead is the share of a point in what the nodes of its round cost, seconds: the
// one that chooses the points, and one for each of them or one for all.
func (p Plan) RoundOverhead() float64 {
	nodes := 1 + precision.NextPoints
	if p.SharesPod() {
		nodes = 1 + 1
	}
	return NodeOverhead * float64(nodes) / precision.NextPoints
}

// Deadlines. A pod that is over its own is ended.
const (
	pointStart       = 1800  // seconds to pull images and start a point's pod
	pointForever     = 14400 // seconds of a point that requests limit
	retryPause       = 60    // seconds, in the mean, before a point is tried again in its pod
	waitStart        = 600   // seconds to start the pod that waits
	EstimateDeadline = 900   // deadline of a pod that estimates, seconds
	slack            = 3600  // seconds beyond the sum of the parts
)

// WaitDeadline is the deadline of the pod that waits for a server, seconds.
func (p Plan) WaitDeadline() int { return int(p.WaitTimeout/time.Second) + waitStart }

// PointDeadline is the deadline of a point's pod, seconds: twice its length for
// warm-up and drain, and the time that images take.
func (p Plan) PointDeadline() int {
	if p.MaxSeconds == 0 {
		return pointForever
	}
	return 2*p.MaxSeconds + pointStart
}

// PointDeadlineExpression is the same for what the input of that name has when the
// workflow is submitted.
func PointDeadlineExpression(maxSeconds string) string {
	n := `asInt(inputs.parameters["` + maxSeconds + `"])`
	return fmt.Sprintf(`{{=%s == 0 ? %d : 2 * %s + %d}}`, n, pointForever, n, pointStart)
}

// PointsDeadlineExpression is that of a pod that measures so many points, each tried again
// so often, as the input with the list of them says.
func PointsDeadlineExpression(maxSeconds, points string, retries int) string {
	n, count := `asInt(inputs.parameters["`+maxSeconds+`"])`, `len(fromJSON(inputs.parameters["`+points+`"]))`
	return fmt.Sprintf(`{{=(%s == 0 ? %d : %d + 2 * %s) * %d * max(1, %s) + %d}}`, n, pointForever, retryPause, n, 1+retries, count, pointStart)
}

// CheckSeconds is the length of each open loop of a check: a point's, where that is limited.
func (p Plan) CheckSeconds() int { return cmp.Or(p.MaxSeconds, config.Default().MaxSeconds) }

// CheckDeadline is the deadline of the pod that makes the open loops of a check, four at
// most, seconds.
func (p Plan) CheckDeadline() int { return 8*p.CheckSeconds() + pointStart }

// PrefillDeadline is the deadline of the pod that sends prompts to an idle server, seconds:
// there are few, and each takes less than a minute.
const PrefillDeadline = pointStart + 3600

// AcceleratorDeadline bounds one accelerator's part, seconds, with waits times a wait
// for its server, and every retry used.
func (p Plan) AcceleratorDeadline(waits int) int64 {
	points := int64(len(p.Shapes) * len(p.BatchSizes))
	if p.Precision != "" {
		points = int64(len(p.Shapes) * precision.MostPoints)
	}
	after := int64(0)
	if p.SLO != "" {
		after = int64(p.CheckDeadline()) * int64(1+p.Retries)
	}
	if p.Prefills() {
		after += PrefillDeadline * int64(1+p.Retries)
	}
	return int64(waits*p.WaitDeadline()) + points*int64(p.PointDeadline())*int64(1+p.Retries) + after + slack
}

// Deadline bounds the whole workflow, seconds: accelerators one after another where
// they are limited, and twice that for changes at submit.
func (p Plan) Deadline() int64 {
	const day = int64(24 * time.Hour / time.Second)
	rounds := int64(1)
	if n := p.ParallelAccelerators; n > 0 {
		rounds = int64((len(p.Accelerators) + n - 1) / n)
	}
	return max(day, 2*rounds*p.AcceleratorDeadline(2))
}

// Bucket is the place of the results as step names it, empty without one.
func (p Plan) Bucket() string {
	if p.S3Bucket == "" {
		return ""
	}
	return "s3://" + strings.Trim(p.S3Bucket+"/"+strings.Trim(p.S3Prefix, "/"), "/")
}
