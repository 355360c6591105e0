package page_test

import (
	"bytes"
	"encoding/csv"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"wfgen.dev/internal/estimate/aggregate"
	"wfgen.dev/internal/estimate/capacity"
	"wfgen.dev/internal/estimate/compare"
	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/estimate/page"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/llm/record"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/sweep"
)

var options = aggregate.Options{Method: fit.WLS, Source: measurement.Auto, TTFT: measurement.Auto, Batch: measurement.Auto}

// law is what a server in the tests follows, ms; bend is the batch above which ITL
// grows three times as fast.
type law struct{ alpha, beta, gamma, delta, bend float64 }

// measured is one point of a closed loop of such a server, with a slow start and one
// stall, as the client and the server saw it.
func measured(t testing.TB, model, accelerator string, shape sweep.Shape, batch int, l law, seed uint64) measurement.Measurement {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, uint64(batch)))
	itl := l.alpha + l.beta*float64(batch) + 2*l.beta*max(0, float64(batch)-l.bend)
	ttft := l.gamma + l.delta*float64(shape.PromptTokens*batch)
	const begin, seconds = 1.764e9, 30.0
	started := begin + 40*float64(batch%17)
	var rows []record.Request
	for range batch {
		for now := started; now < started+seconds; {
			slow := 1.0
			if now < started+2 {
				slow = 1.3
			}
			if now > started+20 && now < started+21 {
				slow = 1.08
			}
			slow *= 1 + 0.01*r.NormFloat64()
			row := record.Request{Start: now, PromptTokens: shape.PromptTokens, OutputTokens: shape.OutputTokens}
			row.FirstToken = now + ttft*slow*(1+0.1*r.ExpFloat64())/1000
			row.LastToken = row.FirstToken + float64(shape.OutputTokens-1)*itl*slow/1000
			row.End = row.LastToken
			now = row.End + 1e-4
			rows = append(rows, row)
		}
	}
	w, counts, err := measurement.Reduce(rows, batch)
	if err != nil {
		t.Fatal(err)
	}
	m := measurement.Measurement{
		Model: model, Accelerator: accelerator, Shape: shape, BatchSize: batch, Client: &w, Requests: counts,
		PromptTokens: float64(shape.PromptTokens), OutputTokens: float64(shape.OutputTokens),
		Driver: measurement.Driver{Name: sweep.Native, Version: "v1"}, StartedAt: started, Seconds: seconds, OverheadSeconds: 1,
		Provenance: measurement.Provenance{ServerVersion: "0.11.0", Instance: record.Instance{GPU: "NVIDIA-" + accelerator, Node: "node-" + accelerator, Image: "vllm/vllm-openai:v0.11.0"}},
	}
	m.Server = &measurement.Witness{Batch: w.Batch, Requests: w.Requests, WindowStart: w.WindowStart, WindowSeconds: w.WindowSeconds, Basis: measurement.BasisHistograms,
		ITL: &measurement.Estimate{MeanMS: 0.999 * w.ITL.MeanMS, Samples: 1000}, TTFT: &measurement.Estimate{MeanMS: 0.95 * w.TTFT.MeanMS, StandardErrorMS: w.TTFT.StandardErrorMS, Blocks: w.TTFT.Blocks, Samples: 100}, Course: w.Course}
	m.Taken = m.Weigh(measurement.Auto, measurement.Auto)
	return m
}

var sizes = []int{1, 2, 4, 8, 16, 32, 64}

// swept is the report of a sweep over accelerators and shapes.
func swept(t testing.TB, model string, accelerators []string, shapes []sweep.Shape, bend float64) page.Content {
	t.Helper()
	var in aggregate.Inputs
	var c page.Content
	for i, a := range accelerators {
		for j, s := range shapes {
			l := law{alpha: 5 + float64(i)/3, beta: 0.05 + 0.01*float64(j), gamma: 12 + float64(i), delta: 0.002, bend: bend}
			for _, b := range sizes {
				m := measured(t, model, a, s, b, l, uint64(100*i+j))
				in.Measurements = append(in.Measurements, aggregate.Source{Measurement: m, File: "m.json"})
				c.Measurements = append(c.Measurements, m)
			}
		}
	}
	c.Summary = aggregate.Estimate(in, options)
	return c
}

// mixed has a good accelerator, one that bends, one that is refused and one that
// failed.
func mixed(t testing.TB) page.Content {
	c := swept(t, "org/model-8B", []string{"A100", "H100"}, []sweep.Shape{{PromptTokens: 128, OutputTokens: 64}}, math.Inf(1))
	bends := swept(t, "org/model-8B", []string{"L40S"}, []sweep.Shape{{PromptTokens: 128, OutputTokens: 64}}, 20)
	in := aggregate.Inputs{Failures: []parameters.Failure{{Accelerator: "MI300X", Reasons: []string{"no node has amd.com/gpu"}}}}
	c.Measurements = append(c.Measurements, bends.Measurements...)
	lost := measured(t, "org/model-8B", "T4", sweep.Shape{PromptTokens: 128, OutputTokens: 64}, 8, law{20, 1, 50, 0.01, 1e9}, 5)
	lost.Provenance.Node = "another"
	c.Measurements = append(c.Measurements, lost)
	for _, m := range c.Measurements {
		in.Measurements = append(in.Measurements, aggregate.Source{Measurement: m, File: "m.json"})
	}
	c.Summary = aggregate.Estimate(in, options)
	c.Capacity = bears()
	return c
}

// bears is what step capacity says of three accelerators.
func bears() []capacity.Capacity {
	estimate := func(value float64) *capacity.Estimate {
		return &capacity.Estimate{Value: value, Low: new(0.9 * value), High: new(1.1 * value)}
	}
	objective := func(name string, ms float64) capacity.Objective {
		o := capacity.Objective{Name: name}
		o.MS = ms
		return o
	}
	of := func(accelerator string, rate float64) capacity.Capacity {
		c := capacity.Capacity{Model: "org/model-8B", Accelerator: accelerator, Shape: sweep.Shape{PromptTokens: 128, OutputTokens: 64},
			Objectives: []capacity.Objective{objective("ttft", 40), objective("itl", 7)}, Verdict: fit.Verdict{Level: fit.Accepted}, Binding: "itl"}
		if rate == 0 {
			c.Verdict = fit.Verdict{Level: fit.Refused, Reasons: []string{"no load meets the objectives"}}
			return c
		}
		c.Rate, c.InFlight, c.MostInFlight, c.OutputTokens = estimate(rate), estimate(rate/3), estimate(rate/2), estimate(64*rate)
		c.CostPerMillion, c.SaturationRate = estimate(10/rate), 1.5*rate
		return c
	}
	return []capacity.Capacity{of("A100", 30), of("H100", 50), of("T4", 0)}
}

// fleet is 30 accelerators at 5 shapes.
func fleet(t testing.TB) page.Content {
	var accelerators []string
	for i := range 30 {
		accelerators = append(accelerators, fmt.Sprintf("GPU-%02d-80GB", i+1))
	}
	return swept(t, "org/model-8B", accelerators, []sweep.Shape{{PromptTokens: 128, OutputTokens: 32}, {PromptTokens: 512, OutputTokens: 32}, {PromptTokens: 1024, OutputTokens: 16}, {PromptTokens: 2048, OutputTokens: 16}, {PromptTokens: 64, OutputTokens: 64}}, math.Inf(1))
}

// hostile are names that would be markup, script, styles, Markdown or terminal
// controls if anything let them.
const hostile = `"><script>alert(1)</script><img src=x onerror=alert(2)>'{{.Style}}</style></svg>` + "\x1b[31m\u202e`x` [y](http://z) | & <b>"

func hostileContent(t testing.TB) page.Content {
	c := mixed(t)
	rename := func(p *parameters.Parameters) {
		p.Model, p.Accelerator = hostile, hostile+p.Accelerator
		p.Verdict.Reasons = append(p.Verdict.Reasons, hostile)
		p.Verdict.Findings = nil
		p.Provenance.Image, p.Provenance.Args = parameters.Values{hostile}, parameters.Values{hostile}
		for i := range p.Fit.Points {
			p.Fit.Points[i].LeftOut, p.Fit.Points[i].Warnings = []string{hostile}, []string{hostile}
		}
	}
	for i := range c.Summary.Parameters {
		rename(&c.Summary.Parameters[i])
	}
	for i := range c.Measurements {
		m := &c.Measurements[i]
		m.Model, m.Accelerator, m.Driver.Name, m.Notes = hostile, hostile+m.Accelerator, hostile, []string{hostile}
	}
	c.Summary.Failures = []parameters.Failure{{Accelerator: hostile, Reasons: []string{hostile}}}
	for i := range c.Capacity {
		x := &c.Capacity[i]
		x.Accelerator, x.Binding, x.Verdict.Reasons = hostile, hostile, []string{hostile}
		for j := range x.Objectives {
			x.Objectives[j].Name = hostile
		}
	}
	c.Before, c.Notes = hostile, []string{hostile}
	c.Changes = []compare.Result{{What: hostile, Model: "linear4", Warnings: []string{hostile}, Drift: []string{hostile}, Changes: []compare.Change{{Name: hostile, Old: 1, New: 2, Percent: 100, Low: math.NaN(), High: math.NaN()}}}}
	return c
}

// llama are the public sweeps of Llama-3.1-8B as measurements; none where the table is
// not there.
func llama(t testing.TB) (page.Content, bool) {
	f, err := os.Open("../../../../shared/data/gpu-sweeps/exp1_llama31_8b_guidellm_sweeps.csv")
	if errors.Is(err, fs.ErrNotExist) {
		return page.Content{}, false
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var in aggregate.Inputs
	var c page.Content
	number := func(row []string, column string) float64 {
		x, err := strconv.ParseFloat(row[slices.Index(rows[0], column)], 64)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	for _, row := range rows[1:] {
		batch := number(row, "concurrency")
		m := measurement.Measurement{
			Model: row[slices.Index(rows[0], "model")], Accelerator: "GPU", BatchSize: max(1, int(math.Round(batch))),
			Shape:        sweep.Shape{PromptTokens: int(number(row, "target_in")), OutputTokens: int(number(row, "target_out"))},
			PromptTokens: number(row, "in_tok"), OutputTokens: number(row, "out_tok"), Seconds: number(row, "duration_s"),
			Requests: measurement.Requests{Successful: int(number(row, "n_ok"))}, Driver: measurement.Driver{Name: sweep.Guidellm},
			Client: &measurement.Witness{Basis: measurement.BasisSummary, Batch: batch, Requests: int(number(row, "n_ok")),
				ITL:  &measurement.Estimate{MeanMS: number(row, "itl_ms_mean"), Samples: 100},
				TTFT: &measurement.Estimate{MeanMS: number(row, "ttft_ms_mean"), MedianMS: number(row, "ttft_ms_median"), Samples: 100}},
		}
		m.Taken = m.Weigh(measurement.Auto, measurement.Auto)
		in.Measurements = append(in.Measurements, aggregate.Source{Measurement: m, File: "table"})
		c.Measurements = append(c.Measurements, m)
	}
	c.Summary = aggregate.Estimate(in, options)
	return c, true
}

func pageOf(t testing.TB, c page.Content) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := page.HTML(&b, c); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// What is on it, from the answer to the evidence.
// What was measured of a capacity, and what drifted since it was accepted, is on the page.
func TestChecksAndDriftsAreShown(t *testing.T) {
	c := mixed(t)
	if text := string(pageOf(t, c)); strings.Contains(text, "measured: held") || strings.Contains(text, `id="changes"`) {
		t.Error("a check or a drift that nobody made")
	}
	c.Capacity[0].Check = &capacity.Check{Verdict: capacity.Held, Points: []capacity.Checked{{Rate: 12.5, Met: true}}}
	c.Summary.Drift = &parameters.Drift{Band: 0.05, Sets: []parameters.Comparison{{
		Model: "org/model-8B", Accelerator: "A100", Shape: sweep.Shape{PromptTokens: 128, OutputTokens: 64}, Drifted: []string{"alpha"},
		Changes: []parameters.Movement{{Name: "alpha", Old: 7, New: 7.56, Percent: 8}, {Name: "beta", Old: 1, New: 1.01, Percent: 1}}, Differences: []string{"the image differs"},
	}}}
	text := string(pageOf(t, c))
	for _, want := range []string{"measured: held: at 12.5/s", `<h2 id="changes">What changed</h2>`, "moved by more than 5 % since it was accepted: alpha 7.56, was 7 (&#43;8.0 %); and the image differs"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if strings.Contains(text, "beta 1.01, was") {
		t.Error("it says what did not drift")
	}
}

func TestOrder(t *testing.T) {
	c := mixed(t)
	old := mixed(t)
	for i := range old.Summary.Parameters {
		if p := &old.Summary.Parameters[i]; p.Alpha != nil {
			*p.Alpha *= 0.8
		}
	}
	c.Before = "last week"
	var err error
	if c.Changes, c.Notes, err = compare.Compare(old.Summary, c.Summary, 0.05); err != nil {
		c.Notes = append(c.Notes, err.Error())
	}
	text := string(pageOf(t, c))
	at := 0
	for _, want := range []string{
		"<title>Latency parameters of org/model-8B", "REFUSED", "MI300X", // an answer
		"no node has amd.com/gpu", "What one replica bears within ttft ≤ 40 ms, itl ≤ 7 ms", "of saturation", "Side by side", "ITL at batch", "What its tokens cost", "The evidence", "ITL over the batch size", "TTFT over the batch size", "Residuals", "ITL over the run", "ITL among requests", "TTFT among requests",
		"Measured and predicted", "The witnesses beside each other", "Left out, and why",
		"Where the numbers come from", "How to do it again", "wfgen run --model org/model-8B --accelerators A100,H100", "What changed since last week", "alpha",
	} {
		i := strings.Index(strings.ToLower(text[at:]), strings.ToLower(want))
		if i < 0 {
			t.Fatalf("%q is not there, or not after what belongs before it", want)
		}
		at += i
	}
	if !strings.Contains(text, "the line ends here") || !strings.Contains(text, "it bends") {
		t.Error("the bend of L40S is not shown")
	}
}

// One file, no script, no request to anywhere, text for every picture, headers for
// every table, whatever names hold.
func TestSelfContained(t *testing.T) {
	for name, c := range map[string]page.Content{"mixed": mixed(t), "hostile": hostileContent(t), "nothing": {}} {
		t.Run(name, func(t *testing.T) { selfContained(t, pageOf(t, c)) })
	}
}

func selfContained(t *testing.T, data []byte) {
	t.Helper()
	root, err := html.Parse(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	allowed := strings.Fields("html head meta title style body header main nav h1 h2 h3 h4 p ul li b small span a table caption thead tbody tr th td div figure figcaption details summary pre svg g path rect text")
	ids := map[string]bool{}
	var labels, links []string
	for n := range root.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		if !slices.Contains(allowed, n.Data) {
			t.Errorf("an element %s", n.Data)
		}
		for _, a := range n.Attr {
			switch {
			case a.Key == "id":
				if ids[a.Val] {
					t.Errorf("two elements with id %s", a.Val)
				}
				ids[a.Val] = true
			case a.Key == "href" && strings.HasPrefix(a.Val, "#"):
				links = append(links, a.Val[1:])
			case a.Key == "aria-labelledby":
				labels = append(labels, a.Val)
			case strings.HasPrefix(a.Key, "on"), slices.Contains([]string{"href", "src", "srcset", "style", "action", "xlink:href", "background"}, a.Key):
				t.Errorf("%s has %s=%q", n.Data, a.Key, a.Val)
			}
		}
		switch n.Data {
		case "svg":
			if !slices.ContainsFunc(n.Attr, func(a html.Attribute) bool { return a.Key == "aria-labelledby" }) {
				t.Error("a picture without a text")
			}
		case "table":
			headers := 0
			for d := range n.Descendants() {
				if d.Data == "th" {
					headers++
				}
			}
			if headers < 2 {
				t.Error("a table without headers")
			}
		}
	}
	for _, id := range append(labels, links...) {
		if !ids[id] {
			t.Errorf("nothing has the id %s", id)
		}
	}
	style, _, _ := strings.Cut(string(data), "</style>")
	for _, word := range []string{"@import", "url(", "@font-face"} {
		if strings.Contains(style, word) {
			t.Errorf("the style holds %s", word)
		}
	}
	if bytes.ContainsAny(data, "\x1b\u202e") {
		t.Error("an escape of a terminal came through")
	}
	for part := range strings.SplitSeq(string(data), "<svg ") {
		if picture, _, ok := strings.Cut(part, "</svg>"); ok {
			d := xml.NewDecoder(strings.NewReader("<svg " + picture + "</svg>"))
			for {
				if _, err := d.Token(); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					t.Fatalf("not XML: %v\n%s", err, picture)
				}
			}
			if strings.Contains(picture, "NaN") || strings.Contains(picture, "Inf") {
				t.Errorf("a coordinate that is no number: %s", picture)
			}
		}
	}
}

// Whatever the names, nothing of them is markup.
func FuzzMarkup(f *testing.F) {
	f.Add("A100", "why")
	f.Add(hostile, hostile)
	f.Add("</title><svg/onload=alert(1)>", "\x00\xff\u2028")
	template := mixed(f)
	count := func(data []byte) (elements, attributes int) {
		root, err := html.Parse(bytes.NewReader(data))
		if err != nil {
			return -1, -1
		}
		for n := range root.Descendants() {
			if n.Type == html.ElementNode {
				elements, attributes = elements+1, attributes+len(n.Attr)
			}
		}
		return elements, attributes
	}
	of := func(name, why string) page.Content {
		c := template
		c.Measurements = slices.Clone(c.Measurements)
		c.Summary.Parameters = slices.Clone(c.Summary.Parameters)
		for i := range c.Measurements {
			c.Measurements[i].Accelerator = name
			c.Measurements[i].Notes = []string{why}
		}
		for i := range c.Summary.Parameters {
			p := &c.Summary.Parameters[i]
			p.Accelerator = name
			p.Verdict.Findings, p.Verdict.Reasons = nil, []string{why}
		}
		c.Summary.Failures = []parameters.Failure{{Accelerator: name, Reasons: []string{why}}}
		return c
	}
	f.Fuzz(func(t *testing.T, name, why string) {
		if name == "" || why == "" {
			return
		}
		var plain, tried bytes.Buffer
		if err := errors.Join(page.HTML(&plain, of("A100", "why")), page.HTML(&tried, of(name, why))); err != nil {
			t.Fatal(err)
		}
		e, a := count(plain.Bytes())
		if ee, aa := count(tried.Bytes()); ee != e || aa != a {
			t.Errorf("%q and %q make %d elements with %d attributes, harmless words %d and %d", name, why, ee, aa, e, a)
		}
	})
}

func TestMarkdown(t *testing.T) {
	c := mixed(t)
	c.Before = "last week"
	var err error
	if c.Changes, c.Notes, err = compare.Compare(c.Summary, c.Summary, 0.05); err != nil {
		c.Notes = []string{err.Error()}
	}
	var b strings.Builder
	if err := page.Markdown(&b, c); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	for _, want := range []string{"### Latency parameters of org/model-8B", "**REFUSED**", "| A100 | ", "| T4 | refused | – |", "- MI300X: no node has amd.com/gpu", "Since last week:", "no drift shown"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if n := strings.Count(text, "\n"); n > 35 {
		t.Errorf("%d lines are more than the answer", n)
	}
	b.Reset()
	if err := page.Markdown(&b, hostileContent(t)); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"\x1b", "<script", "[y](", " `x`"} {
		if strings.Contains(strings.ReplaceAll(b.String(), `\`+bad, ""), bad) {
			t.Errorf("%q came through", bad)
		}
	}
}

// BenchmarkFleet is the page of 30 accelerators at 5 shapes.
func BenchmarkFleet(b *testing.B) {
	c := fleet(b)
	size := 0
	for b.Loop() {
		size = len(pageOf(b, c))
	}
	b.ReportMetric(float64(size)/1e6, "MB")
}
