package fit

import (
	"math"

	"gonum.org/v1/gonum/mat"
)

// AcrossRuns is what runs of the same tell together of one parameter, where each knows
// its own error: its mean over all such runs, with the interval of what another of them
// would have, and by how much two of them differ beyond those errors (relative standard
// deviation). A restart, another GPU of the type and another day are in it, of which no
// run alone knows anything. It takes two runs.
func AcrossRuns(runs []Parameter) (another Parameter, between float64, err error) {
	samples, own := make([]Sample, len(runs)), make([]float64, len(runs))
	design := mat.NewDense(max(1, len(runs)), 1, nil)
	for i, r := range runs {
		samples[i], own[i] = Sample{MS: r.Value}, r.StandardError*r.StandardError
		design.Set(i, 0, 1)
	}
	if len(runs) < 2 {
		return unknown(), math.NaN(), ErrUnidentified
	}
	e, err := solveEffects(design, samples, own)
	if err != nil {
		return unknown(), math.NaN(), err
	}
	differ := e.between * e.coef[0]
	return interval(e.coef[0], math.Sqrt(e.covariance.At(0, 0)+e.scale*differ*differ), e.freedom), e.between, nil
}
