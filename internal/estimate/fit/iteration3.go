package fit

// Iteration3 names the joint model that WVA >= 0.5 and inferno read.
const Iteration3 = "iteration3"

// FitIteration3 estimates the three parameters of one iteration of an engine from
// the ITL of all shapes of one model and accelerator (WVA >= 0.5; llm-inferno). With n requests
// of in prompt and out output tokens:
//
//	T(n)    = alpha + n*(beta*(in+out)/(out+1) + gamma*(in+out/2))   ms
//	ITL(n)  = T(n) + beta + gamma*(in+(out+1)/2)
//	TTFT(n) = T(n) + (beta+gamma)*in
//
// alpha is in ms, beta in ms per token that passes through the engine, gamma in ms
// per token read from the cache. The letters mean other things than in linear4.
// It always returns: what must not be published is a refused verdict.
func FitIteration3(points []Point) Joint {
	j, use := begin(Iteration3, points)
	if use == nil {
		return *j
	}
	s := system{columns: make([][]float64, 3), limit: mostJointCondition}
	for _, p := range use {
		in, out := p.PromptTokens, p.OutputTokens
		s.columns[0] = append(s.columns[0], 1)
		s.columns[1] = append(s.columns[1], p.Batch*(in+out)/(out+1)+1)
		s.columns[2] = append(s.columns[2], p.Batch*(in+out/2)+in+(out+1)/2)
		s.add(p, p.ITL)
	}
	v, err := s.smooth().identified([]int{0, 1, 2})
	if err != nil {
		j.unidentified(err)
		return *j
	}
	j.Condition, j.Clustered = v.condition, v.clustered
	j.put(v, 0)
	j.score(points, use, v.without)
	j.judge(points)
	return *j
}

func iteration3(terms []float64, w Work, _ float64) (itl, ttft float64) {
	alpha, beta, gamma := terms[0], terms[1], terms[2]
	n, in, out := w.Batch, w.PromptTokens, w.OutputTokens
	t := alpha + n*(beta*(in+out)/(out+1)+gamma*(in+out/2))
	return t + beta + gamma*(in+(out+1)/2), t + (beta+gamma)*in
}
