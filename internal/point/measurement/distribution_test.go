package measurement

import (
	"bytes"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestQuantiles(t *testing.T) {
	values := make([]float64, 0, 101)
	for i := 100; i >= 0; i-- {
		values = append(values, float64(i))
	}
	if got, want := *quantiles(values), (Quantiles{0, 10, 25, 50, 75, 90, 95, 99, 100}); got != want {
		t.Errorf("found %+v, want %+v", got, want)
	}
	if got, want := *quantiles([]float64{3}), (Quantiles{3, 3, 3, 3, 3, 3, 3, 3, 3}); got != want {
		t.Errorf("of one value: %+v", got)
	}
	rapid.Check(t, func(t *rapid.T) {
		q := *quantiles(rapid.SliceOfN(rapid.Float64Range(1e-3, 1e6), 1, 50).Draw(t, "values"))
		if list := []float64{q.Min, q.P10, q.P25, q.P50, q.P75, q.P90, q.P95, q.P99, q.Max}; !slices.IsSorted(list) {
			t.Errorf("not ascending: %v", list)
		}
	})
}

// A server that is slow to warm up, and stalls from second 12 to 14.
func TestCourseShowsWarmUpAndStall(t *testing.T) {
	itl := func(t float64) float64 {
		switch {
		case t < 2:
			return 20
		case t >= 12 && t < 14:
			return 50
		}
		return 10
	}
	rows := closedLoop(4, 11, 20, func(int) float64 { return 5 }, itl) // a request takes a tenth of a second
	w, _, err := Reduce(rows, 4)
	if err != nil {
		t.Fatal(err)
	}
	c := w.Course
	near(t, "begin", c.StartedAt, 1.7e9, 1e-6)
	if len(c.ITLMS) != mostSpans || len(c.TTFTMS) != mostSpans || len(c.Batch) != mostSpans {
		t.Fatalf("%d, %d and %d spans", len(c.ITLMS), len(c.TTFTMS), len(c.Batch))
	}
	for i, v := range c.ITLMS {
		at := (float64(i) + 0.5) * c.SpanSeconds
		if v == nil {
			t.Fatalf("nothing at %g s", at)
		}
		if d := math.Abs(at - 2); d < 0.8 || math.Abs(at-13) > 0.5 && math.Abs(at-13) < 2 {
			continue // a request lies across
		}
		near(t, "ITL", *v, itl(at), 1e-3)
	}
	near(t, "batch", *c.Batch[20], 4, 0.01)
	near(t, "TTFT", *c.TTFTMS[20], 5, 1e-3)
	if q := w.ITL.Quantiles; math.Abs(q.P50-10) > 1e-3 || math.Abs(q.Max-50) > 1e-3 {
		t.Errorf("quantiles of ITL %+v", q)
	}
	if q := w.TTFT.Quantiles; math.Abs(q.P99-5) > 1e-3 {
		t.Errorf("quantiles of TTFT %+v", q)
	}
}

func TestCourseOfServer(t *testing.T) {
	var scrapes []Scrape
	sum, count := 0.0, 0.0
	for i := range 21 {
		ms := 10.0
		if i == 7 {
			ms = 40
		}
		if i > 0 && i != 9 { // nothing was observed before the ninth
			sum, count = sum+100*ms/1000, count+100
		}
		scrapes = append(scrapes, Scrape{Time: 1e9 + float64(i), Running: 8, ITL: &Histogram{SumSeconds: sum, Count: count}})
	}
	c := courseOfServer(scrapes)
	if len(c.ITLMS) != 20 || c.TTFTMS != nil || c.SpanSeconds != 1 {
		t.Fatalf("%+v", c)
	}
	near(t, "quiet", *c.ITLMS[3], 10, 1e-3)
	near(t, "stalled", *c.ITLMS[6], 40, 1e-3)
	if c.ITLMS[8] != nil {
		t.Errorf("nothing was observed, and it says %v ms", *c.ITLMS[8])
	}
	near(t, "batch", *c.Batch[3], 8, 1e-9)
	if courseOfServer(scrapes[:1]) != nil || courseOfServer(nil) != nil {
		t.Error("one look tells a course")
	}
}

// The largest that a point leaves: three witnesses with full courses, many errors,
// notes and arguments.
func TestFileStaysSmall(t *testing.T) {
	m := sample()
	witness := func() *Witness {
		w, _, err := Reduce(closedLoop(16, 64, 300, func(i int) float64 { return 1234.5678 + float64(i)/7 }, func(t float64) float64 { return 123.456789 + t/7 }), 16)
		if err != nil {
			t.Fatal(err)
		}
		return &w
	}
	m.Client, m.Server, m.Probe = witness(), witness(), witness()
	m.Requests.Errors = map[string]int{}
	for i := range 8 {
		m.Requests.Errors[strings.Repeat(string(rune('a'+i)), 160)] = i + 1
	}
	m.Notes = []string{strings.Repeat("n", 500)}
	m.Provenance.Args = strings.Split(strings.Repeat("--some-long-argument=value ", 20), " ")
	m.Taken = m.Weigh(Auto, Auto)
	data, err := Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	if len(data) > 20<<10 {
		t.Errorf("%d bytes", len(data))
	}
}

// Files of the version before hold neither quantiles nor a course.
func TestDecodeReadsFilesWithoutCourse(t *testing.T) {
	before := sample()
	data, err := Encode(before)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(data, []byte("course")) || bytes.Contains(data, []byte("quantiles")) {
		t.Fatal("the sample is no file of the version before")
	}
	m, err := Decode(bytes.NewReader(data), "m.json")
	if err != nil || m.Client.Course != nil || m.Client.ITL.Quantiles != nil {
		t.Errorf("%v %+v", err, m.Client)
	}
}
