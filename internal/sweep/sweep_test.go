package sweep

import (
	"math"
	"slices"
	"strings"
	"testing"
)

func valid() Sweep {
	return Sweep{
		Model:        "org/model",
		Accelerators: []Accelerator{{Name: "A100"}, {Name: "H100"}},
		Shapes:       []Shape{{128, 128}, {1024, 64}},
		BatchSizes:   []int{8, 1, 64},
		MaxSeconds:   60,
		Driver:       Native,
	}
}

func TestPointsGoThereAndBackWithinEachShape(t *testing.T) {
	names := func(s Sweep) string {
		var names []string
		for _, p := range s.Points("A100") {
			names = append(names, p.Name())
		}
		return strings.Join(names, " ")
	}
	s := valid()
	want := "128-128-b1 128-128-b64 128-128-b8 128-128-b1-again 1024-64-b1 1024-64-b64 1024-64-b8 1024-64-b1-again"
	if got := names(s); got != want {
		t.Errorf("points %s\nwant   %s", got, want)
	}
	if err := s.Validate(); err != nil {
		t.Error(err)
	}
	s.Shapes, s.BatchSizes = s.Shapes[:1], []int{64, 1}
	if got := names(s); got != "128-128-b1 128-128-b64" {
		t.Errorf("the two-run recipe: %s", got)
	}
	s.BatchSizes, s.Driver, s.ShareProcess = []int{1, 8, 64}, Guidellm, true
	if got := names(s); strings.Contains(got, "again") {
		t.Errorf("one process: %s", got)
	}
}

// What a server changes steadily over a sweep must not look like what a batch costs.
func TestOrderKeepsDriftFromBatch(t *testing.T) {
	for n := 3; n <= 20; n++ {
		var sizes []int
		for i := range n {
			sizes = append(sizes, i+1)
		}
		order := Order(sizes)
		if order[0] != 1 || len(order) != n {
			t.Fatalf("%d sizes: %v", n, order)
		}
		order = append(order, order[0]) // again
		product, mean := 0.0, 0.0
		for _, b := range order {
			mean += float64(b) / float64(len(order))
		}
		xx, tt := 0.0, 0.0
		for i, b := range order {
			at, x := float64(i)-float64(n)/2, float64(b)-mean
			product, xx, tt = product+at*x, xx+x*x, tt+at*at
		}
		if r := product / math.Sqrt(xx*tt); math.Abs(r) > 0.35 {
			t.Errorf("%v: batch and time are correlated by %.2f", order, r)
		}
	}
}

func TestValidateReportsEveryMistakeAtOnce(t *testing.T) {
	s := Sweep{
		Accelerators: []Accelerator{{Name: "A100", MaxNumSeqs: 32}, {Name: "A100"}, {Name: "A-100"}, {Name: "a 100"}, {Name: "-"}},
		Shapes:       []Shape{{0, 1}, {128, 128}, {128, 128}},
		BatchSizes:   []int{0, 64, 64},
		MaxSeconds:   -1,
		MaxRequests:  100,
		Driver:       "locust",
	}
	err := s.Validate()
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		"model: empty", "A100 is given twice", `A-100 and a 100 both become "a-100"`, `"-" has no letter`,
		"prompt-tokens: 0", "output-tokens: 1", "shape 128/128 is given twice", "batch-sizes: 0 is below 1",
		"batch-sizes: 64 is given twice", "64 is above max-num-seqs 32", "max-seconds: -1", "max-requests: 100 is below 192", `driver: "locust"`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("missing %q in:\n%v", want, err)
		}
	}
}

func TestSlug(t *testing.T) {
	for name, want := range map[string]string{
		"A100": "a100", "A100-SXM4-80GB": "a100-sxm4-80gb", "NVIDIA L40S": "nvidia-l40s", "4090_Ti": "a4090-ti", "--": "",
	} {
		if got := Slug(name); got != want {
			t.Errorf("Slug(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestParse(t *testing.T) {
	for _, text := range []string{"1,8,64", "[1,8,64]", " [1, 8, 64]", "1, 8, 64", "1,8,,64,"} {
		if sizes, err := ParseBatchSizes(text); err != nil || !slices.Equal(sizes, []int{1, 8, 64}) {
			t.Errorf("%q: %v, %v", text, sizes, err)
		}
	}
	for _, text := range []string{"", "[]", ",", "[1,", "[1.5]", "one"} {
		if _, err := ParseBatchSizes(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
	for _, text := range []string{"1024/64", "1024-64"} {
		if s, err := ParseShape(text); err != nil || s != (Shape{1024, 64}) {
			t.Errorf("%q: %v, %v", text, s, err)
		}
	}
	for _, text := range []string{"", "128", "128/1", "0/128", "a/b", "-1/5"} {
		if _, err := ParseShape(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

func TestSlipsOfTheHand(t *testing.T) {
	sound := Sweep{Model: "m", Accelerators: []Accelerator{{Name: "A100"}}, Shapes: []Shape{{128, 128}}, BatchSizes: []int{1, 8}, MaxSeconds: 60, Driver: Native}
	if err := sound.Validate(); err != nil {
		t.Fatal(err)
	}
	for says, edit := range map[string]func(*Sweep){
		"points, above":                            func(s *Sweep) { s.BatchSizes = make([]int, 1_000_000) },
		"batch-sizes: 1000000 is above":            func(s *Sweep) { s.BatchSizes = []int{1_000_000} },
		"above 10000000 tokens":                    func(s *Sweep) { s.Shapes = []Shape{{1 << 62, 128}} },
		"max-seconds: 999999999":                   func(s *Sweep) { s.MaxSeconds = 999_999_999 },
		`model: "m ACCEPTED" holds a control char`: func(s *Sweep) { s.Model = "m\nACCEPTED" },
		`accelerators: "A100" holds a control`:     func(s *Sweep) { s.Accelerators[0].Name = "A100\x1b[2J" },
	} {
		s := sound
		s.Accelerators = slices.Clone(s.Accelerators)
		edit(&s)
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q is not in %v", says, err)
		}
	}
	if _, err := ParseBatchSizes("1,1000000"); err == nil {
		t.Error("a batch of a million")
	}
	if _, err := ParseShape("4611686018427387904/128"); err == nil {
		t.Error("a prompt of 4.6e18 tokens")
	}
}
