package render

import (
	"cmp"
	"slices"
	"strings"

	"wfgen.dev/internal/estimate/capacity"
	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/slo"
)

// one is the parameters of the only model and accelerator, or of the one that
// --runs-on names.
func (o Options) one(ps []parameters.Parameters) ([]parameters.Parameters, error) {
	if o.RunsOn != "" {
		ps = slices.DeleteFunc(slices.Clone(ps), func(p parameters.Parameters) bool { return p.Accelerator != o.RunsOn })
		if len(ps) == 0 {
			return nil, exit.Errorf(exit.Usage, "--runs-on: no parameters of %s", o.RunsOn)
		}
	}
	for _, p := range ps {
		if p.Model != ps[0].Model || p.Accelerator != ps[0].Accelerator {
			return nil, exit.Errorf(exit.Usage, "one file is of one model on one accelerator, and there are %s on %s and %s on %s; choose the accelerator with --runs-on",
				ps[0].Model, ps[0].Accelerator, p.Model, p.Accelerator)
		}
		if p.Gamma == nil || p.Delta == nil {
			return nil, exit.Errorf(exit.Refused, "%s on %s, %s: its TTFT is refused, and the format wants it: %s", p.Model, p.Accelerator, p.Shape, strings.Join(p.Verdict.Reasons, "; "))
		}
	}
	return ps, nil
}

// aibrixProfile is what the GPU optimizer of AIBrix 0.7 keeps under
// aibrix:profile_MODEL_DEPLOYMENT, and the matrix that Mélange takes. Rows are
// output tokens, columns are input tokens; times are in seconds.
type aibrixProfile struct {
	GPU     string      `json:"gpu"`
	Cost    float64     `json:"cost"`
	Tputs   [][]float64 `json:"tputs"` // requests/s within the SLO
	Indexes [2][]int    `json:"indexes"`
	Created float64     `json:"created"`
	E2E     [][]float64 `json:"e2e"`
	TTFT    [][]float64 `json:"ttft"`
	TPOT    [][]float64 `json:"tpot"`
	SLOs    aibrixSLO   `json:"slos"`
}

type aibrixSLO struct {
	Percentile int      `json:"percentile"` // 0: the mean
	Tput       *float64 `json:"tput"`
	Token      *float64 `json:"tt"`
	E2E        *float64 `json:"e2e"`
	TTFT       *float64 `json:"ttft"`
	TPAT       *float64 `json:"tpat"`
	TPOT       *float64 `json:"tpot"`
}

func aibrix(ps []parameters.Parameters, o Options) ([]byte, error) {
	ps, err := o.one(ps)
	if err != nil {
		return nil, err
	}
	if len(o.SLOs) == 0 {
		return nil, exit.Errorf(exit.Usage, "a profile holds the rates within an SLO; give one, such as --slo ttft=200ms,itl=20ms")
	}
	a := aibrixProfile{GPU: ps[0].Accelerator}
	percentiles := map[string]int{"mean": 0, "p50": 50, "p90": 90, "p95": 95, "p99": 99}
	for i, s := range o.SLOs {
		percentile, known := percentiles[s.Statistic]
		if !known || i > 0 && percentile != a.SLOs.Percentile {
			return nil, exit.Errorf(exit.Usage, "--slo: a profile has one statistic for all objectives, and these are %s", slo.Format(o.SLOs))
		}
		a.SLOs.Percentile = percentile
		seconds := s.MS / 1e3
		switch s.Metric {
		case slo.TTFT:
			a.SLOs.TTFT = &seconds
		case "itl":
			a.SLOs.TPOT = &seconds
		default:
			a.SLOs.E2E = &seconds
		}
	}
	shapes := map[sweep.Shape]parameters.Parameters{}
	for _, p := range ps {
		shapes[p.Shape] = p
		a.Indexes[0], a.Indexes[1] = append(a.Indexes[0], p.Shape.OutputTokens), append(a.Indexes[1], p.Shape.PromptTokens)
		a.Created = max(a.Created, p.Provenance.MeasuredTo)
	}
	for i := range a.Indexes {
		slices.Sort(a.Indexes[i])
		a.Indexes[i] = slices.Compact(a.Indexes[i])
	}
	var missing []string
	for _, out := range a.Indexes[0] {
		var tputs, e2e, ttft, tpot []float64
		for _, in := range a.Indexes[1] {
			shape := sweep.Shape{PromptTokens: in, OutputTokens: out}
			p, ok := shapes[shape]
			if !ok {
				missing = append(missing, shape.String())
				continue
			}
			c := o.capacity(p)
			if c == nil {
				return nil, exit.Errorf(exit.Refused, "%s on %s, %s: its capacity is not known; ask step capacity why", p.Model, p.Accelerator, shape)
			}
			a.Cost = cmp.Or(a.Cost, price(c))
			rate, n := 0.0, 1.0
			if c.Rate != nil && c.Verdict.Level != fit.Refused {
				rate, n = c.Rate.Safe(), max(1, c.InFlight.Value)
			} else if len(c.Unmet) == 0 {
				return nil, exit.Errorf(exit.Refused, "%s on %s, %s: %s", p.Model, p.Accelerator, shape, strings.Join(c.Verdict.Reasons, "; "))
			}
			first, token := p.TTFTAt(n, float64(in))/1e3, p.ITLAt(n)/1e3
			tputs, ttft, tpot, e2e = append(tputs, rate), append(ttft, first), append(tpot, token), append(e2e, first+float64(out-1)*token)
		}
		a.Tputs, a.E2E, a.TTFT, a.TPOT = append(a.Tputs, tputs), append(a.E2E, e2e), append(a.TTFT, ttft), append(a.TPOT, tpot)
	}
	if len(missing) > 0 {
		return nil, exit.Errorf(exit.Usage, "a profile is a whole matrix of outputs by inputs; shapes to measure: %s", strings.Join(missing, ", "))
	}
	o.note("For AIBrix 0.7: redis-cli -x SET aibrix:profile_%s_DEPLOYMENT < FILE; Mélange takes the same tputs and indexes.", ps[0].Model)
	o.note("tputs are requests/s of arrivals at random that meet %s, the safe end of the interval; 0 where no load does.", slo.Format(o.SLOs))
	if a.Cost == 0 {
		o.note("cost is 0: give the price of a replica and hour with --price")
	}
	return layout.JSON(a)
}

// capacity is that of the parameters; nil: not given.
func (o Options) capacity(p parameters.Parameters) *capacity.Capacity {
	for i, c := range o.Capacities {
		if c.Model == p.Model && c.Accelerator == p.Accelerator && c.Shape == p.Shape {
			return &o.Capacities[i]
		}
	}
	return nil
}

func price(c *capacity.Capacity) float64 {
	if c.PricePerHour == nil {
		return 0
	}
	return *c.PricePerHour
}

// dynamoProfile is what the planner of Dynamo 1.6 interpolates: the contents of
// prefill_raw_data.json and decode_raw_data.json, under those names.
type dynamoProfile struct {
	Prefill struct {
		ISL  []int     `json:"prefill_isl"`          // tokens
		TTFT []float64 `json:"prefill_ttft"`         // ms
		Thpt []float64 `json:"prefill_thpt_per_gpu"` // tokens/s
	} `json:"prefill_raw_data"`
	Decode struct {
		Usage   []float64 `json:"x_kv_usage"`       // 0 to 1
		Context []float64 `json:"y_context_length"` // tokens
		ITL     []float64 `json:"z_itl"`            // ms
		Thpt    []float64 `json:"z_thpt_per_gpu"`   // tokens/s
		Tokens  int       `json:"max_kv_tokens"`
	} `json:"decode_raw_data"`
}

// fewestPrompts is how many prompt lengths Dynamo's interpolation of prefill needs.
const fewestPrompts = 4

func dynamo(ps []parameters.Parameters, o Options) ([]byte, error) {
	ps, err := o.one(ps)
	if err != nil {
		return nil, err
	}
	gpus := float64(numberOf(o.Count, ps[0].Accelerator, 1))
	kv := numberOf(o.KVTokens, ps[0].Accelerator, 0)
	for _, m := range o.Points {
		if kv == 0 && m.Accelerator == ps[0].Accelerator && m.Provenance.Cache != nil {
			kv = m.Provenance.Cache.Tokens
		}
	}
	if kv < 1 {
		return nil, exit.Errorf(exit.Usage, "how many tokens the KV cache holds is not known; give it with --kv-tokens (vLLM logs it at its start: GPU KV cache size)")
	}
	engine := map[string]float64{}
	for _, j := range o.Joint {
		if j.Fit == fit.Engine && j.Model == ps[0].Model && j.Accelerator == ps[0].Accelerator && j.Verdict.Level != fit.Refused {
			for _, t := range j.Terms {
				engine[t.Name] = t.Value
			}
		}
	}
	var d dynamoProfile
	d.Decode.Tokens = kv
	slices.SortFunc(ps, func(a, b parameters.Parameters) int {
		return cmp.Or(cmp.Compare(a.Shape.PromptTokens, b.Shape.PromptTokens), cmp.Compare(a.Shape.OutputTokens, b.Shape.OutputTokens))
	})
	for _, p := range ps {
		in, out := p.Shape.PromptTokens, p.Shape.OutputTokens
		if n := len(d.Prefill.ISL); n == 0 || d.Prefill.ISL[n-1] != in {
			ttft := p.TTFTAt(1, float64(in))
			d.Prefill.ISL, d.Prefill.TTFT, d.Prefill.Thpt = append(d.Prefill.ISL, in), append(d.Prefill.TTFT, ttft), append(d.Prefill.Thpt, 1e3*float64(in)/ttft/gpus)
		}
		context := float64(in) + float64(out)/2
		for _, q := range p.Fit.Points {
			n := q.Batch
			usage := n * context / float64(kv)
			if q.ITL == nil || !q.ITL.Used || n <= 0 || usage > 1 {
				continue
			}
			itl := q.ITL.MS
			if len(engine) > 0 {
				itl = engine["base"] + n*(engine["seq"]+engine["ctx"]*context)
			}
			d.Decode.Usage, d.Decode.Context = append(d.Decode.Usage, usage), append(d.Decode.Context, context)
			d.Decode.ITL, d.Decode.Thpt = append(d.Decode.ITL, itl), append(d.Decode.Thpt, 1e3*n/itl/gpus)
		}
	}
	if n := len(d.Prefill.ISL); n < fewestPrompts {
		return nil, exit.Errorf(exit.Usage, "Dynamo interpolates prefill over %d prompt lengths or more, and there are %d; measure other shapes", fewestPrompts, n)
	}
	o.note("For the planner of Dynamo 1.6: jq .prefill_raw_data FILE > prefill_raw_data.json; jq .decode_raw_data FILE > decode_raw_data.json")
	o.note("TTFT is the line's at batch 1. KV usage is requests times half-grown context over %d tokens.", kv)
	if len(engine) > 0 {
		o.note("ITL is the engine model's decode alone: the prefill of other requests, which an aggregated server runs between tokens, is taken out.")
	} else {
		o.note("ITL is as measured on an aggregated server and HOLDS THE PREFILL OF OTHER REQUESTS, which a decode worker does not run; the engine model takes it out, and wants a summary.json of several shapes.")
	}
	return layout.JSON(d)
}
