package templates

import (
	"encoding/json"
	"strings"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"

	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/sweep/plan"
)

// accelerator measures one accelerator: wait for its server, run the points of one
// shape after another, estimate. A point that fails does not keep the others from
// the estimate; nothing to estimate from fails the accelerator.
func accelerator(p plan.Plan) wfv1.Template {
	in := inputs(pAccelerator, pSlug, pTargetURL)
	in.Parameters = append(in.Parameters, wfv1.Parameter{Name: pMaxNumSeqs, Default: wfv1.AnyStringPtr("0")}, serverInput)
	if p.Prefills() {
		in.Parameters = append(in.Parameters, wfv1.Parameter{Name: pPrefillChunk, Default: wfv1.AnyStringPtr("0")})
	}
	results := runKey(p, input(pAccelerator))
	target := parameter(pTargetURL, targetOfAccelerator)
	estimate := []wfv1.Parameter{parameter(pAccelerator, input(pAccelerator)), parameter(pResults, results)}
	if outputsOfWorkflow(p) {
		estimate = append(estimate, forward(pSlug)...)
	}
	t := wfv1.Template{
		Name:        acceleratorTemplate,
		Inputs:      in,
		Parallelism: new(int64(1)),
		DAG: &wfv1.DAGTemplate{
			FailFast: new(false),
			Tasks: []wfv1.DAGTask{
				{
					Name:      waitTemplate,
					Template:  waitTemplate,
					Arguments: arguments(append(forward(pAccelerator, pMaxNumSeqs), target, parameter(pResults, results))...),
				}, {
					Name:      shapeTemplate,
					Template:  shapeTemplate,
					Depends:   waitTemplate,
					WithParam: shapeItems(p),
					Arguments: arguments(append(forward(pAccelerator, pMaxNumSeqs, pServer), target,
						parameter(pResults, results),
						parameter(pPromptTokens, `{{=sprig.splitList("/", item)[0]}}`),
						parameter(pOutputTokens, `{{=sprig.splitList("/", item)[1]}}`),
					)...),
				}, {
					Name:      aggregateTemplate,
					Template:  aggregateTemplate,
					Depends:   finished(shapeTemplate),
					Arguments: arguments(estimate...),
				},
			},
		},
	}
	if p.Precision != "" {
		t.DAG.Tasks[1] = firstRound(p, target, parameter(pResults, results))
		t.DAG.Tasks[2].Depends = finished(roundTemplate)
	}
	if p.Prefills() {
		t.DAG.Tasks = append(t.DAG.Tasks, prefillTask(t.DAG.Tasks[1].Name, target, parameter(pResults, results)))
	}
	if p.SLO != "" {
		given := append(forward(pAccelerator, pSlug, pMaxNumSeqs, pServer), target, parameter(pResults, results))
		if p.Prefills() {
			given = append(given, forward(pPrefillChunk)...)
		}
		t.DAG.Tasks = append(t.DAG.Tasks, wfv1.DAGTask{Name: checkTemplate, Template: checkTemplate, Depends: aggregateTemplate, Arguments: arguments(given...)})
	}
	return t
}

// serverInput is what is known of a server. Nothing is of one that the sweep did not
// start.
var serverInput = wfv1.Parameter{Name: pServer, Default: wfv1.AnyStringPtr("{}")}

// targetOfAccelerator fills the accelerator into a URL that servers share.
const targetOfAccelerator = `{{=sprig.replace("{accelerator}", inputs.parameters.slug, inputs.parameters["target-url"])}}`

// shapeItems are the shapes as Argo loops over them: a node is named by its item, so
// that shape(0:128/128) says what it is. The first is the one that can be changed at
// submit.
func shapeItems(p plan.Plan) string {
	items, err := json.Marshal(strings.Split(shapeList(p), ","))
	if err != nil {
		panic(err) // texts
	}
	return string(items)
}

// shapeList is the same as step reads it.
func shapeList(p plan.Plan) string {
	list := []string{global(pPromptTokens) + "/" + global(pOutputTokens)}
	for _, s := range p.Shapes[1:] {
		list = append(list, s.String())
	}
	return strings.Join(list, ",")
}

// measurementsKey is the prefix under which the points of an accelerator leave
// their measurements, given the key of its results.
func measurementsKey(results string) string { return results + "/" + layout.Measurements }
