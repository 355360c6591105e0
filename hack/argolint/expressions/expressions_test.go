// Package expressions evaluates the expressions of the objects as Argo does.
package expressions

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/argoproj/argo-workflows/v3/util/expr/env"
	"github.com/expr-lang/expr"

	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/config"
	"wfgen.dev/templates"
)

var expression = regexp.MustCompile(`\{\{=(.*?)\}\}`)

// What a server is started with follows what is changed at submit; the expressions are
// evaluated as Argo does.
func TestServersFollowTheSubmission(t *testing.T) {
	c := config.Default()
	c.Accelerators = []config.Accelerator{{Name: "A100"}}
	c.Deploy = true
	c.Shapes = append(c.Shapes, config.Shape{Shape: sweep.Shape{PromptTokens: 1000, OutputTokens: 100}})
	submitted := map[string]any{
		"workflow.name":                     "run",
		"item":                              "4000/257",
		"workflow.parameters.batch-sizes":   "[1,200,16]",
		"workflow.parameters.prompt-tokens": "4000",
		"workflow.parameters.output-tokens": "257",
		"workflow.parameters.model":         "--flag",
		"inputs.parameters.prompt-tokens":   "4000",
		"inputs.parameters.output-tokens":   "257",
		"inputs.parameters.batch-size":      "1",
		"inputs.parameters.again":           sweep.AgainSuffix,
		"inputs.parameters.slug":            "a100",
		"inputs.parameters.target-url":      "http://a100:8000",
		"inputs.parameters.max-seconds":     "120",
	}
	found := evaluated(t, c, submitted)
	for _, want := range []string{
		"200",      // max-num-seqs
		"4436",     // max-model-len: 4000 + 1.2 * 257 + 128
		"./--flag", // a model that looks like an argument is none
		"/" + sweep.Point{Shape: sweep.Shape{PromptTokens: 4000, OutputTokens: 257}, BatchSize: 1, Again: 1}.Name(), // its reports' folder
		"true", // three batch sizes: the first is measured again
		"1",    // which is this one
	} {
		if !found[want] {
			t.Errorf("no expression gives %s: %v", want, found)
		}
	}
}

// Each accelerator gets its share of the GPU-minutes, the GPUs of its own server, and a
// round the number after the last.
func TestRoundsFollowTheSubmission(t *testing.T) {
	c := config.Default()
	c.Accelerators = []config.Accelerator{{Name: "A100"}, {Name: "MI300X", Count: 8}}
	c.Precision, c.MaxGPUMinutes = "5%", 20
	found := evaluated(t, c, map[string]any{
		"workflow.parameters.max-gpu-minutes": "25",
		"inputs.parameters.accelerator":       "MI300X",
		"inputs.parameters.round":             "3",
		"inputs.parameters.prompt-tokens":     "128",
		"inputs.parameters.output-tokens":     "128",
		"inputs.parameters.batch-size":        "1",
		"inputs.parameters.again":             "",
		"inputs.parameters.slug":              "mi300x",
		"inputs.parameters.target-url":        "http://{accelerator}:8000",
		"inputs.parameters.max-seconds":       "12",
	})
	for _, want := range []string{"12.5", "8", "4"} {
		if !found[want] {
			t.Errorf("no expression gives %s: %v", want, found)
		}
	}
}

// evaluated are the values of all expressions of a sweep's objects.
func evaluated(t *testing.T, c config.Config, submitted map[string]any) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	for _, o := range templates.Objects(c.InCluster()) {
		data, err := json.Marshal(o.Value)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range expression.FindAllStringSubmatch(string(data), -1) {
			var text string
			if err := json.Unmarshal([]byte(`"`+m[1]+`"`), &text); err != nil {
				t.Fatalf("%s: %v", m[1], err)
			}
			values := env.GetFuncMap(submitted)
			program, err := expr.Compile(text, expr.Env(values))
			if err != nil {
				t.Errorf("%s: %v", text, err)
				continue
			}
			value, err := expr.Run(program, values)
			if err != nil {
				t.Errorf("%s: %v", text, err)
			}
			found[fmt.Sprint(value)] = true
		}
	}
	return found
}

// Points that share a pod are those that have nodes of their own otherwise, in the same
// order, and the pod may take as long as all of them.
func TestSharedPointsFollowTheSubmission(t *testing.T) {
	c := config.Default()
	c.Accelerators = []config.Accelerator{{Name: "A100"}}
	c.SharePod, c.Retries = new(true), 0
	for sizes, want := range map[string]string{
		"[1,64]":    `[{"batch-size":1},{"batch-size":64}]`,
		"[1,64, 8]": `[{"batch-size":1},{"batch-size":64},{"batch-size":8},{"again":"-again","batch-size":1}]`,
	} {
		found := evaluated(t, c, map[string]any{
			"item":                            "128/128",
			"workflow.parameters.batch-sizes": sizes,
			"inputs.parameters.slug":          "a100",
			"inputs.parameters.target-url":    "http://a100:8000",
			"inputs.parameters.max-seconds":   "100",
			"inputs.parameters.points":        want,
		})
		seconds := fmt.Sprint((60+2*100)*strings.Count(want, "batch-size") + 1800)
		if !found[want] || !found[seconds] {
			t.Errorf("%s: no expression gives %s, or %s s: %v", sizes, want, seconds, found)
		}
	}
}
