package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wfgen.dev/internal/estimate/fit"
)

// dir holds the public tables, which are not part of the repository.
const dir = "../../../shared/data/gpu-sweeps"

func gpuRows(t *testing.T) []row {
	t.Helper()
	if _, err := os.Stat(filepath.Join(dir, gpuFile)); err != nil {
		t.Skip("the public measurements are not here: ", err)
	}
	rows, err := loadGPU(dir)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func TestPerShape(t *testing.T) {
	shapes := perShape(gpuRows(t))
	if len(shapes) != 16 {
		t.Fatalf("%d shapes", len(shapes))
	}
	itl, ttft, within, worse := 0.0, 0.0, 0.0, 0
	for _, s := range shapes {
		itl += s.itl / 16
		ttft += s.ttft / 16
		if s.itlTwo > s.itl && !(s.ttftTwo <= s.ttft) { // or it was refused
			worse++
		}
		for name, p := range map[string]fit.Parameter{"alpha": s.fit.Alpha, "beta": s.fit.Beta, "gamma": s.fit.Gamma, "delta": s.fit.Delta} {
			if !(p.Value > 0) {
				t.Errorf("%s: %s is %v", s.shape, name, p.Value)
			}
		}
		// A range may end below 100 requests only where no more was asked of the
		// server, or where a bend was found before the next load, at which a line
		// through all is more than 2 % off.
		within += s.within / 16
		if s.linearTo < 100 && s.linearTo != s.reached && s.bend == 0 {
			t.Errorf("%s: linear to %v of %v without a bend", s.shape, s.linearTo, s.reached)
		}
	}
	if itl > 0.0091 || ttft > 0.018 || within > 0.009 || worse != 16 {
		t.Errorf("mean error of ITL %.4f, of all points to 128 %.4f, of TTFT %.4f; two-point is worse in %d of 16 shapes", itl, within, ttft, worse)
	}
}

func TestJointModels(t *testing.T) {
	rows := gpuRows(t)
	points := pointsOf(rows)
	i, e := fit.FitIteration3(points), fit.FitEngine(points)
	asReported := make([]fit.Point, len(points))
	for k, p := range points {
		p.Batch = rows[k].point.Batch
		asReported[k] = p
	}
	r := fit.FitIteration3(asReported)
	for k, want := range []float64{6.47, 0.0211, 5.45e-5} { // an independent fit to the same table
		if p := r.Terms[k]; want < p.Low || want > p.High {
			t.Errorf("iteration3 %s: %v [%v, %v] does not hold %v", p.Name, p.Value, p.Low, p.High, want)
		}
	}
	if i.MeanError > 0.022 || e.MeanError > 0.0155 || e.WorstError > 0.07 || e.LeftOut > 0.018 || e.LeftOut > i.LeftOut {
		t.Errorf("iteration3 %.4f, left out %.4f; engine %.4f, largest %.4f, left out %.4f", i.MeanError, i.LeftOut, e.MeanError, e.WorstError, e.LeftOut)
	}
	// Over the same points, the idle ones too.
	if mean, worst := errorsOver(i.Residuals, e.Used); mean < e.MeanError || worst < e.WorstError {
		t.Errorf("iteration3 %.4f (%.4f) over the points of engine", mean, worst)
	}
}

// What the documentation quotes is what the command prints.
func TestDocumentation(t *testing.T) {
	gpuRows(t)
	var out bytes.Buffer
	if err := run(&out, dir); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../../docs/estimate.md")
	if err != nil {
		t.Fatal(err)
	}
	// Lines of prose are broken where the document breaks them.
	words := func(text string) string { return strings.Join(strings.Fields(text), " ") }
	if !strings.Contains(words(string(text)), words(out.String())) {
		t.Errorf("docs/estimate.md does not quote what the command prints:\n%s", out.String())
	}
}

func TestLoadErrors(t *testing.T) {
	empty := t.TempDir()
	if err := run(&bytes.Buffer{}, empty); err == nil {
		t.Error("an empty directory is no error")
	}
	name := filepath.Join(empty, gpuFile)
	if err := os.WriteFile(name, []byte("model,strategy,target_in\nm,synchronous,many\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadGPU(empty); err == nil || !strings.Contains(err.Error(), ":2: target_in: ") || !strings.Contains(err.Error(), "no column itl_ms_mean") {
		t.Error(err)
	}
}

// What was left out of a fit lies inside its prediction interval about as often as the
// interval says: shapes for the model of all shapes, points for the lines of a shape.
func TestPredictionIntervals(t *testing.T) {
	rows := gpuRows(t)
	points := pointsOf(rows)
	inside, all := 0, 0
	for i, r := range rows {
		if i > 0 && rows[i-1].shape == r.shape { // once per shape
			continue
		}
		var rest []fit.Point
		for k, p := range points {
			if rows[k].shape != r.shape && p.Batch <= most {
				rest = append(rest, p)
			}
		}
		e := fit.FitEngine(rest)
		for k, p := range points {
			if rows[k].shape != r.shape || p.Void != nil || p.Batch > most {
				continue
			}
			w := fit.Work{Batch: p.Batch, PromptTokens: p.PromptTokens, OutputTokens: p.OutputTokens, Open: p.Open}
			itl, _ := e.Interval(w, p.TTFT.MS)
			all++
			if itl[0] <= p.ITL.MS && p.ITL.MS <= itl[1] {
				inside++
			}
		}
	}
	t.Logf("shapes left out: %d of %d points inside", inside, all)
	if all < 100 || float64(inside) < 0.9*float64(all) {
		t.Errorf("%d of %d points of shapes left out are inside the prediction interval", inside, all)
	}

	inside, all = 0, 0
	for _, s := range perShape(rows) {
		var own []fit.Point
		for k, p := range points {
			if rows[k].shape == s.shape && p.Void == nil && p.Batch <= most {
				own = append(own, p)
			}
		}
		for k, p := range own {
			rest := append(append([]fit.Point{}, own[:k]...), own[k+1:]...)
			l := fit.FitLinear4(rest, fit.Options{Method: fit.WLS, From: 1, To: most}).ITL
			if p.Batch < l.LinearFrom || p.Batch > l.LinearTo {
				continue // beyond what was measured
			}
			_, low, high := l.Predict(p.Batch)
			all++
			if low <= p.ITL.MS && p.ITL.MS <= high {
				inside++
			}
		}
	}
	t.Logf("points left out: %d of %d inside", inside, all)
	if all < 80 || float64(inside) < 0.92*float64(all) {
		t.Errorf("%d of %d points left out are inside the prediction interval", inside, all)
	}
}
