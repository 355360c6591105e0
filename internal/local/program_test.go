package local

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/steps"
	"wfgen.dev/internal/sweep/linear4"
)

var program string // step, built once

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "step-")
	if err != nil {
		panic(err)
	}
	program = filepath.Join(dir, "step")
	out, err := exec.Command("go", "build", "-o", program, "wfgen.dev/cmd/step").CombinedOutput()
	if err != nil {
		panic(string(out))
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// The real program: what it writes, its exit code and its last words.
func TestProgram(t *testing.T) {
	url, stop, err := Simulate(t.Context(), program, "m", linear4.Model{Alpha: 1, Gamma: 1}, 8, 512, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	step := Program(program)
	w := steps.Wait
	result, err := step(t.Context(), w.With(w.Target.Set(url), w.Model.Set("m"), w.Timeout.Set(10*time.Second), w.Output.Set(t.TempDir())))
	if err != nil || !strings.Contains(result.Data, "serves m") {
		t.Errorf("%+v, %v", result, err)
	}
	_, err = step(t.Context(), w.With(w.Target.Set(url), w.Model.Set("other"), w.Timeout.Set(10*time.Second)))
	if exit.Code(err) != exit.Unusable || !failedStep(err) || !strings.Contains(err.Error(), "other") || strings.Contains(err.Error(), "step: ") {
		t.Errorf("exit %d: %v", exit.Code(err), err)
	}
	if _, err = Program("/no/such/step")(t.Context(), w.With(w.Target.Set(url))); err == nil || failedStep(err) {
		t.Errorf("a program that is not there: %v", err)
	}
}

// A run that is ended ends its step, which leaves what it has in order.
func TestAnInterruptedStepEnds(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	w := steps.Wait
	begin := time.Now()
	if _, err := Program(program)(ctx, w.With(w.Target.Set("http://127.0.0.1:1"), w.Model.Set("m"), w.Timeout.Set(time.Hour))); err == nil {
		t.Error("no error")
	}
	if time.Since(begin) > 15*time.Second {
		t.Errorf("it ended after %s", time.Since(begin))
	}
}

func TestSimulatedServersEnd(t *testing.T) {
	url, stop, err := Simulate(t.Context(), program, "m", linear4.Model{Alpha: 1, Gamma: 1}, 8, 512, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.Get(url + "/health")
	if err != nil {
		t.Fatal(err)
	}
	var body bytes.Buffer
	_, _ = io.Copy(&body, response.Body)
	response.Body.Close()
	stop()
	stop() // who ends a run early may meet who ends it last
	if response, err := http.Get(url + "/health"); err == nil {
		response.Body.Close()
		t.Error("it still answers")
	}
}
