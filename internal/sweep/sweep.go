// Package sweep says what to measure: one model on accelerators x shapes x
// batch sizes, validated, and the order in which the points are measured.
package sweep

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"wfgen.dev/internal/redact"
)

// Shape is the size of a request in tokens. Parameters are meaningless without it:
// beta differs 35-45 times between shapes on the same GPU.
type Shape struct {
	PromptTokens int `json:"prompt_tokens"`
	OutputTokens int `json:"output_tokens"`
}

// String is the shape as people write it: 128/128.
func (s Shape) String() string { return fmt.Sprintf("%d/%d", s.PromptTokens, s.OutputTokens) }

// Slug is the shape in file and object names: 128-128.
func (s Shape) Slug() string { return fmt.Sprintf("%d-%d", s.PromptTokens, s.OutputTokens) }

// Drawn are the lengths between which those of the answers are drawn, all alike likely,
// so that their mean is the shape's. Answers of one length keep the streams in the order
// in which they started for the whole point: the same requests meet the same prefills
// again and again, and how they happened to start is measured as if it were the server.
func (s Shape) Drawn(spread float64) (least, most int) {
	n := s.OutputTokens
	width := max(0, min(int(spread*float64(n)), n-2)) // one token has no gap to measure
	return n - width, n + width
}

// What is above these is a slip of the hand: no server does it, and no plan of it ends.
const (
	MostTokens    = 10_000_000 // of a prompt or an answer
	MostBatch     = 100_000    // requests together
	MostSeconds   = 7 * 24 * 3600
	mostPoints    = 100_000 // of a sweep
	mostNameBytes = 500
)

// ParseShape reads 128/128, or 128-128.
func ParseShape(text string) (Shape, error) {
	in, out, ok := strings.Cut(strings.Replace(text, "-", "/", 1), "/")
	p, err1 := strconv.Atoi(in)
	o, err2 := strconv.Atoi(out)
	if !ok || err1 != nil || err2 != nil || p < 1 || o < 2 || p > MostTokens || o > MostTokens {
		return Shape{}, fmt.Errorf("shape %q: expected promptTokens/outputTokens such as 128/128, at least 1/2 and at most %d each", text, MostTokens)
	}
	return Shape{PromptTokens: p, OutputTokens: o}, nil
}

// Point is one benchmark: a nominal batch size of one shape on one accelerator.
type Point struct {
	Accelerator string `json:"accelerator"`
	Shape       Shape  `json:"shape"`
	BatchSize   int    `json:"batch_size"`
	Again       int    `json:"again,omitempty"`   // how often it was measured before in the same sweep
	Seconds     int    `json:"seconds,omitempty"` // its length; 0: as of all points of the sweep
}

// AgainSuffix ends the name of a point that is measured once more.
const AgainSuffix = "-again"

// FewestForAgain is the number of batch sizes from which on the first is measured again:
// with fewer nothing could tell a drift from a line.
const FewestForAgain = 3

// Name is unique within one accelerator's part of a run: 128-128-b8, and
// 128-128-b8-again for the same point measured once more.
func (p Point) Name() string {
	return fmt.Sprintf("%s-b%d%s", p.Shape.Slug(), p.BatchSize, AgainEnd(p.Again))
}

// AgainEnd is what the name of a point ends with that was measured so often before.
func AgainEnd(before int) string {
	switch before {
	case 0:
		return ""
	case 1:
		return AgainSuffix
	}
	return AgainSuffix + strconv.Itoa(before)
}

// AgainOf is how often a point was measured before, by its name, or by the end of it.
func AgainOf(name string) int {
	_, end, again := strings.Cut(name, AgainSuffix)
	if !again {
		return 0
	}
	before, err := strconv.Atoi(end)
	if err != nil {
		return 1
	}
	return before
}

// Sweep is everything measured for one model.
type Sweep struct {
	Model        string
	Accelerators []Accelerator
	Shapes       []Shape
	BatchSizes   []int
	MaxSeconds   int    // length of a point; 0 when MaxRequests limits it
	MaxRequests  int    // requests of a point; 0 means as many as MaxSeconds allow
	Driver       string // guidellm or native
	ShareProcess bool   // all batch sizes of a shape in one guidellm process
}

// Accelerator is a GPU type, named as the autoscaler names it.
type Accelerator struct {
	Name       string  // the key of results, as the user wrote it
	TargetURL  string  // the server of this accelerator; {accelerator} stands for the slug
	MaxNumSeqs int     // the most requests that its server runs at once; 0: not known
	GPUCost    float64 // money per GPU and hour; 0: not known
	Count      int     // GPUs of one server (tensor parallelism)
}

// Slug is the name in Kubernetes objects: lower case letters, digits and dashes.
func Slug(name string) string {
	slug := strings.Trim(notInSlug.ReplaceAllString(strings.ToLower(name), "-"), "-")
	if slug != "" && slug[0] >= '0' && slug[0] <= '9' {
		slug = "a" + slug // an Argo task name must not start with a digit
	}
	return slug
}

var notInSlug = regexp.MustCompile(`[^a-z0-9]+`)

// The drivers that make the load.
const (
	Guidellm = "guidellm"
	Native   = "native"
)

// Auto leaves a choice to the program: of the endpoint that the native driver asks
// (completions, and chat where the server has no other), of the witness, of a statistic.
const Auto = "auto"

// How requests arrive that do not wait for those before them.
const (
	Poisson  = "poisson"  // at random, as those of many independent users do
	Constant = "constant" // at even intervals
)

// What the native driver asks.
const (
	Completions = "completions"
	Chat        = "chat"
)

// Endpoints are the words that choose one.
func Endpoints() []string { return []string{Auto, Completions, Chat} }

// Methods of the estimate.
const (
	WLS      = "wls"       // weighted least squares over all points
	TwoPoint = "two-point" // the smallest and the largest batch size alone
)

const (
	// OutputSpread is the fraction by which answers differ in length, about the same
	// mean, so that streams do not march in step.
	OutputSpread = 0.2

	// ModelMargin is how many tokens a request may have beyond those of its shape: what a
	// chat template adds, and the end of a text.
	ModelMargin = 128

	// ProbeSeconds is the length of the probe that tells TTFT where guidellm makes
	// the load; it is stretched until each stream has made MinPerStream requests.
	ProbeSeconds = 5
)

// What a simulated server is where nothing else is asked for.
const (
	SimulatedModel       = "simulated"
	SimulatedMaxNumSeqs  = 256
	SimulatedMaxModelLen = 16384
)

// MinPerStream is how many requests each stream must make at least: fewer leave
// none that lies wholly inside the steady window.
const MinPerStream = 3

// Validate returns every mistake of the sweep, joined, or nil.
func (s Sweep) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if s.Model == "" {
		bad("model: empty; give the model's name as the server lists it under /v1/models")
	}
	if !redact.Plain(s.Model) || len(s.Model) > mostNameBytes {
		bad("model: %q holds a control character, or more than %d bytes", redact.Line(s.Model, 100), mostNameBytes)
	}
	if points := float64(len(s.Accelerators)) * float64(len(s.Shapes)) * float64(len(s.BatchSizes)); points > mostPoints {
		return fmt.Errorf("accelerators x shapes x batch-sizes: %.0f points, above %d; name fewer", points, mostPoints)
	}
	if len(s.Accelerators) == 0 {
		bad("accelerators: none given; name at least one, such as A100,H100")
	}
	names := map[string]string{} // slug -> name
	for _, a := range s.Accelerators {
		slug := Slug(a.Name)
		if slug == "" {
			bad("accelerators: %q has no letter or digit to make a Kubernetes name of", a.Name)
			continue
		}
		if !redact.Plain(a.Name) || len(a.Name) > mostNameBytes {
			bad("accelerators: %q holds a control character, or more than %d bytes", redact.Line(a.Name, 100), mostNameBytes)
		}
		if other, dup := names[slug]; dup && other == a.Name {
			bad("accelerators: %s is given twice; its results would overwrite each other", a.Name)
		} else if dup {
			bad("accelerators: %s and %s both become %q in Kubernetes names; rename one", other, a.Name, slug)
		}
		names[slug] = a.Name
		for _, b := range s.BatchSizes {
			if a.MaxNumSeqs > 0 && b > a.MaxNumSeqs {
				bad("batch-sizes: %d is above max-num-seqs %d of %s's server: its requests would queue, and the queue would be measured", b, a.MaxNumSeqs, a.Name)
			}
		}
	}
	s.validatePoints(bad)
	if s.MaxSeconds < 0 {
		bad("max-seconds: %d is negative", s.MaxSeconds)
	}
	if s.MaxSeconds > MostSeconds {
		bad("max-seconds: %d is above %d, a week", s.MaxSeconds, MostSeconds)
	}
	if s.MaxRequests < 0 {
		bad("max-requests: %d is negative", s.MaxRequests)
	}
	if least := MinPerStream * slices.Max(append([]int{0}, s.BatchSizes...)); s.MaxRequests > 0 && s.MaxRequests < least {
		bad("max-requests: %d is below %d, %d per stream of the largest batch; 10 per stream is a good number", s.MaxRequests, least, MinPerStream)
	}
	if s.MaxSeconds == 0 && s.MaxRequests == 0 {
		bad("max-seconds, max-requests: one of them must limit a point")
	}
	if s.Driver != Guidellm && s.Driver != Native {
		bad("driver: %q is neither %s nor %s", s.Driver, Guidellm, Native)
	}
	if s.ShareProcess && s.Driver == Native {
		bad("share-process: is for the driver guidellm, whose start takes long; the native driver has none worth sharing")
	}
	return errors.Join(errs...)
}

// validatePoints tells bad what is wrong with the shapes and the batch sizes.
func (s Sweep) validatePoints(bad func(format string, args ...any)) {
	if len(s.Shapes) == 0 {
		bad("prompt-tokens, output-tokens: no shape given")
	}
	for i, shape := range s.Shapes {
		if shape.PromptTokens < 1 {
			bad("prompt-tokens: %d is below 1", shape.PromptTokens)
		}
		if shape.OutputTokens < 2 {
			bad("output-tokens: %d is below 2; inter-token latency needs two output tokens", shape.OutputTokens)
		}
		if shape.PromptTokens > MostTokens || shape.OutputTokens > MostTokens {
			bad("prompt-tokens, output-tokens: shape %s is above %d tokens", shape, MostTokens)
		}
		if slices.Contains(s.Shapes[:i], shape) {
			bad("prompt-tokens, output-tokens: shape %s is given twice", shape)
		}
	}
	if len(s.BatchSizes) == 0 {
		bad("batch-sizes: none given")
	}
	for i, b := range s.BatchSizes {
		if b < 1 {
			bad("batch-sizes: %d is below 1", b)
		}
		if b > MostBatch {
			bad("batch-sizes: %d is above %d", b, MostBatch)
		}
		if slices.Contains(s.BatchSizes[:i], b) {
			bad("batch-sizes: %d is given twice", b)
		}
	}
}

// Points lists the points of one accelerator in the order in which they are
// measured: shape by shape, the batch sizes in Order, and the first of a shape again at
// its end, which tells how much the server has changed meanwhile and how well its
// points repeat. Two sizes are the two-run recipe, which has no more than two runs, and
// points that share a process are measured once.
func (s Sweep) Points(accelerator string) []Point {
	sizes := Order(s.BatchSizes)
	var points []Point
	for _, shape := range s.Shapes {
		for _, b := range sizes {
			points = append(points, Point{Accelerator: accelerator, Shape: shape, BatchSize: b})
		}
		if len(sizes) >= FewestForAgain && !s.ShareProcess {
			points = append(points, Point{Accelerator: accelerator, Shape: shape, BatchSize: sizes[0], Again: 1})
		}
	}
	return points
}

// Order is the order in which the batch sizes of a shape are measured: there and back,
// up over every second size from the smallest and down over the others. What a server
// changes steadily, as one that heats up does, falls on small and large batches alike,
// and is not taken for what a batch costs. The smallest is first: what fails every
// point fails a cheap one, and the largest, which may fail for lack of capacity, comes
// after the smaller ones that do not.
func Order(sizes []int) []int {
	sorted := slices.Sorted(slices.Values(sizes))
	var up, down []int
	for i, b := range sorted {
		if i%2 == 0 {
			up = append(up, b)
		} else {
			down = append(down, b)
		}
	}
	slices.Reverse(down)
	return append(up, down...)
}

// Items are what a comma-separated list holds; empty ones do not count.
func Items(text string) []string {
	var items []string
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}

// ParseIntegers reads 1,2,4 or the JSON list [1,2,4] that a workflow parameter holds.
// name says in errors what it is.
func ParseIntegers(name, text string) ([]int, error) {
	inner := strings.TrimSpace(text)
	if open, closed := strings.HasPrefix(inner, "["), strings.HasSuffix(inner, "]"); open && closed {
		inner = inner[1 : len(inner)-1]
	}
	var numbers []int
	for _, item := range Items(inner) {
		n, err := strconv.Atoi(item)
		if err != nil {
			return nil, fmt.Errorf("%s: %q in %q is not an integer; expected a list such as 1,8,64", name, item, text)
		}
		numbers = append(numbers, n)
	}
	if len(numbers) == 0 {
		return nil, fmt.Errorf("%s: the list is empty; expected one such as 1,8,64", name)
	}
	return numbers, nil
}

// ParseBatchSizes is ParseIntegers with the limit of what a server runs.
func ParseBatchSizes(text string) ([]int, error) {
	sizes, err := ParseIntegers("batch sizes", text)
	if err == nil && slices.Max(sizes) > MostBatch {
		err = fmt.Errorf("batch sizes: %d is above %d", slices.Max(sizes), MostBatch)
	}
	return sizes, err
}

// ParseShare reads 5% or 0.05, a share above 0 and below 1.
func ParseShare(text string) (float64, error) {
	number, percent := strings.CutSuffix(strings.TrimSpace(text), "%")
	x, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if percent {
		x /= 100
	}
	if err != nil || !(x > 0 && x < 1) {
		return 0, fmt.Errorf("found %q, expected a share such as 5%% or 0.05", text)
	}
	return x, nil
}
