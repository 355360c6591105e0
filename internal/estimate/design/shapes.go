package design

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/stat/combin"

	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/sweep"
)

// Limits are what a server takes.
type Limits struct {
	ModelLen    int // tokens of a prompt and its answer together (max-model-len); 0: not known
	CacheTokens int // that its KV cache holds, of all requests together; 0: not known
}

// JointWish is how well the joint models are wanted.
type JointWish struct {
	BatchSizes []int
	Seconds    float64 // of each point
	Share      float64 // half width of the 95 % interval of ITL that they predict, relative
	Limits     Limits
}

// ShapeChoice are the shapes to be measured, and what is expected of them.
type ShapeChoice struct {
	Shapes     []sweep.Shape
	Candidates int                  // that the server takes
	Widths     map[string][]float64 // by model: relative half widths of its terms
	Predicted  map[string]float64   // by model: the widest relative half width of ITL, predicted at any shape that the server takes
	Fewer      float64              // the widest of those with the best choice of one shape less; +Inf where that tells a term not from zero
}

// The lengths that shapes are chosen from: a prompt of more tokens tells no term better
// that one of these does not tell, and an answer of fewer has hardly a gap to measure.
var (
	promptLengths = []int{64, 128, 256, 512, 1024, 2048, 4096}
	answerLengths = []int{32, 64, 256, 1024}
)

const (
	mostShapes = 4       // that are tried: as many as terms
	told       = 1.0 / 3 // half width of a term that is told from zero, relative, with some to spare
)

// ordinaryEngine are the terms of engine supposed of a server of which nothing is known:
// ms; per sequence; per token of context; per prompt token; not its square, which the fit
// drops where shapes do not tell it; and those of TTFT.
var ordinaryEngine = []float64{6.5, 0.02, 5.5e-5, 0.0166, 0, 15, 0.025, 0, 0.5}

// joint are the models that shapes are chosen for: what is supposed of each, how many of
// its terms are to be told, and the smallest batch that its fit takes.
var joint = []struct {
	model    string
	expected []float64
	terms    int
	least    int
}{
	{fit.Iteration3, OrdinaryIteration3[:], 3, 2},
	{fit.Engine, ordinaryEngine, 4, 1},
}

// Shapes chooses the fewest shapes that the server takes from which iteration3 and engine
// predict ITL, at every shape that it takes, as well as wanted, and tell each of their
// terms from zero; each is measured at all of the batch sizes. Among as many they are
// those that cost the server least. To have the widest prediction narrow is to have the
// volume of the terms' confidence region small (J. Kiefer, J. Wolfowitz, "The Equivalence
// of Two Extremum Problems", 1960). As Choose, it promises what nine sweeps of ten keep, on
// a server of ordinary speed and noise. The error says how far the best choice is.
func Shapes(w JointWish) (ShapeChoice, error) {
	shapes := w.candidates()
	choice := ShapeChoice{Candidates: len(shapes), Fewer: math.Inf(1)}
	if len(shapes) < 2 {
		return choice, fmt.Errorf("%d shapes fit into max-model-len %d and a KV cache of %d tokens at batch %d (0: not known), and two are needed; allow longer requests or smaller batches",
			len(shapes), w.Limits.ModelLen, w.Limits.CacheTokens, slices.Max(w.BatchSizes))
	}
	models := make([]jointDesign, len(joint))
	for i, j := range joint {
		candidates, err := jointCandidates(j.model, shapes, atLeast(w.BatchSizes, j.least), j.expected, j.terms, DefaultNoise)
		if err != nil {
			return choice, err
		}
		models[i] = jointDesignOf(candidates, len(shapes), j.terms, w.Seconds)
	}
	for n := 2; n <= min(mostShapes, len(shapes)); n++ {
		closest, cheapest := math.Inf(1), math.Inf(1)
		for _, some := range combin.Combinations(len(shapes), n) {
			cost := 0.0
			for _, i := range some {
				cost += w.cost(shapes[i])
			}
			if cost >= cheapest {
				continue
			}
			worst := 0.0
			widths, predicted := map[string][]float64{}, map[string]float64{}
			for m, j := range joint {
				widths[j.model], predicted[j.model] = models[m].reached(some)
				if worst = max(worst, predicted[j.model]); slices.Max(widths[j.model]) > told {
					worst = math.Inf(1)
				}
			}
			closest = min(closest, worst)
			if worst <= w.Share {
				cheapest, choice.Widths, choice.Predicted, choice.Shapes = cost, widths, predicted, nil
				for _, i := range some {
					choice.Shapes = append(choice.Shapes, shapes[i])
				}
			}
		}
		if choice.Shapes != nil {
			return choice, nil
		}
		choice.Fewer = closest
	}
	best := "they do not tell the terms of the joint models from zero"
	if !math.IsInf(choice.Fewer, 1) {
		best = fmt.Sprintf("the joint models predict ITL to ±%.2g %% by them, not to ±%.2g %%", 100*choice.Fewer, 100*w.Share)
	}
	return choice, fmt.Errorf("%d of the %d shapes that the server takes, at best: %s; allow longer requests, larger batches or longer points, or ask for less",
		min(mostShapes, len(shapes)), len(shapes), best)
}

// jointDesign is what each shape tells of the terms of a joint model.
type jointDesign struct {
	rows     []row
	each     int             // rows of a shape
	of       []*mat.SymDense // information, by shape
	terms    int
	ordinary length
}

func jointDesignOf(candidates []Candidate, shapes, terms int, seconds float64) jointDesign {
	d := jointDesign{each: len(candidates) / shapes, terms: terms, ordinary: length{seconds, 1}}
	for _, c := range candidates {
		d.rows = append(d.rows, c.rows...)
	}
	for i := range shapes {
		d.of = append(d.of, information(d.rows[i*d.each:(i+1)*d.each], terms, d.ordinary))
	}
	return d
}

// reached are the half widths of the terms, and the widest of a predicted ITL, that some
// of the shapes are expected to give; +Inf where they do not tell the terms apart.
func (d jointDesign) reached(some []int) (widths []float64, predicted float64) {
	sum := mat.NewSymDense(d.terms, nil)
	for _, i := range some {
		sum.AddSym(sum, d.of[i])
	}
	var c mat.Cholesky
	var inverse mat.SymDense
	if !c.Factorize(sum) || c.InverseTo(&inverse) != nil {
		return slices.Repeat([]float64{math.Inf(1)}, d.terms), math.Inf(1)
	}
	t := width(len(some)*d.each - d.terms - 1)
	for i := range d.terms {
		widths = append(widths, t*math.Sqrt(inverse.At(i, i)))
	}
	if slices.Max(widths) > told {
		return widths, math.Inf(1)
	}
	widest := 0.0
	for _, r := range d.rows {
		v := 0.0
		for a, x := range r.slope {
			for b, y := range r.slope {
				v += x * y * inverse.At(a, b)
			}
		}
		widest = max(widest, v)
	}
	return widths, t * math.Sqrt(widest)
}

// candidates are the shapes that the server takes, its answers as long as they come.
func (w JointWish) candidates() []sweep.Shape {
	var all []sweep.Shape
	for _, in := range promptLengths {
		for _, out := range answerLengths {
			s := sweep.Shape{PromptTokens: in, OutputTokens: out}
			_, longest := s.Drawn(sweep.OutputSpread)
			tooLong := w.Limits.ModelLen > 0 && in+longest+sweep.ModelMargin > w.Limits.ModelLen
			tooMany := w.Limits.CacheTokens > 0 && (in+longest)*slices.Max(w.BatchSizes) > w.Limits.CacheTokens
			if !tooLong && !tooMany {
				all = append(all, s)
			}
		}
	}
	return all
}

// cost is about how long the points of a shape keep the server, seconds.
func (w JointWish) cost(shape sweep.Shape) float64 {
	law, sum := OrdinaryLinear4(shape), 0.0
	for _, b := range w.BatchSizes {
		request := requestSeconds(law, shape, b)
		sum += max(w.Seconds, leastBlocks*request) + 2*request
	}
	return sum
}

func atLeast(sizes []int, least int) []int {
	return slices.DeleteFunc(slices.Clone(sizes), func(b int) bool { return b < least })
}

// Describe says why these shapes.
func (c ShapeChoice) Describe() string {
	var shapes, all []string
	for _, s := range c.Shapes {
		shapes = append(shapes, s.String())
	}
	for _, j := range joint {
		var terms []string
		for i, name := range fit.TermNames(j.model)[:j.terms] {
			terms = append(terms, fmt.Sprintf("%s ±%.2g %%", name, 100*c.Widths[j.model][i]))
		}
		all = append(all, fmt.Sprintf("%s ±%.2g %% (%s)", j.model, 100*c.Predicted[j.model], strings.Join(terms, ", ")))
	}
	fewer := fmt.Sprintf("no %d tell all of their terms from zero", len(c.Shapes)-1)
	if !math.IsInf(c.Fewer, 1) {
		fewer = fmt.Sprintf("by the best %d it is ±%.2g %%", len(c.Shapes)-1, 100*c.Fewer)
	}
	return fmt.Sprintf("%s, the fewest of %d that the server takes; ITL at any of these is expected to be predicted by %s; %s",
		strings.Join(shapes, ","), c.Candidates, strings.Join(all, " and "), fewer)
}
