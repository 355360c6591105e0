package templates

import (
	"encoding/json"
	"fmt"
	"slices"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"

	"wfgen.dev/internal/cluster/pods"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/run/steps"
	"wfgen.dev/internal/sweep/plan"
	"wfgen.dev/internal/sweep/precision"
)

// Tasks of a round.
const (
	batchTask = "batch"
	moreTask  = "more"
)

// round measures the points that step next chooses, one after another, and then calls
// itself, until there are none: Argo's recursion, bounded by the number of rounds that
// step next allows. Each point is a node of its own, with its retries and its lock, and
// the list of a round is an output of its first node: a workflow that is stopped and
// retried in the middle of a round goes through the rest of it.
func round(p plan.Plan) wfv1.Template {
	item := func(name string) wfv1.Parameter { return parameter(name, "{{item."+name+"}}") }
	list := taskOutput(nextTemplate, layout.OutPoints)
	var points wfv1.DAGTask
	if p.SharesPod() {
		points = pointTask(p, pointsTemplate, append(pointArguments(p, parameter(pPromptTokens, global(pPromptTokens)), parameter(pOutputTokens, global(pOutputTokens)),
			parameter(pMaxSeconds, global(pMaxSeconds))), parameter(pPoints, list))...)
		points.When = begun
	} else {
		points = pointTask(p, batchTask, append(pointArguments(p, item(pPromptTokens), item(pOutputTokens), item(pMaxSeconds)),
			item(pBatchSize), item(pAgain))...)
		points.WithParam = list
	}
	points.Depends = nextTemplate
	more := wfv1.DAGTask{
		Name: moreTask, Template: roundTemplate, Depends: finished(points.Name),
		When: begun,
		Arguments: arguments(append(forward(roundInputs[1:]...),
			parameter(pRound, fmt.Sprintf(`{{=string(asInt(inputs.parameters["%s"]) + 1)}}`, pRound)))...),
	}
	return wfv1.Template{
		Name:        roundTemplate,
		Inputs:      inputs(roundInputs...),
		Parallelism: new(int64(1)),
		DAG: &wfv1.DAGTemplate{
			FailFast: new(false),
			Tasks: []wfv1.DAGTask{
				{Name: nextTemplate, Template: nextTemplate, Arguments: arguments(forward(nextInputs...)...)},
				points, more,
			},
			Target: points.Name + " " + more.Name, // as in a shape
		},
	}
}

// begun says that the round has points.
var begun = fmt.Sprintf(`"%s" == ""`, taskOutput(nextTemplate, layout.OutEnded))

func taskOutput(task string, output layout.Output) string {
	return fmt.Sprintf("{{tasks.%s.outputs.parameters.%s}}", task, output)
}

// What a round and its first node are given.
var (
	nextInputs  = []string{pRound, pAccelerator, pMaxNumSeqs, pResults, pMinutes, pGPUs}
	roundInputs = append(slices.Clone(nextInputs), pTargetURL, pServer)
)

// firstRound is the task of an accelerator that measures it.
func firstRound(p plan.Plan, target, results wfv1.Parameter) wfv1.DAGTask {
	// What all accelerators together may take, each its share.
	minutes := fmt.Sprintf(`{{=string(asFloat(workflow.parameters["%s"]) / %d)}}`, pMinutes, len(p.Accelerators))
	return wfv1.DAGTask{
		Name: roundTemplate, Template: roundTemplate, Depends: waitTemplate,
		Arguments: arguments(append(forward(pAccelerator, pMaxNumSeqs, pServer), target, results,
			parameter(pRound, "1"), parameter(pMinutes, minutes), parameter(pGPUs, gpusOf(p)))...),
	}
}

// gpusOf are the GPUs of an accelerator's server, which Argo looks up where they differ.
func gpusOf(p plan.Plan) string {
	counts, same := map[string]int{}, true
	for _, a := range p.Accelerators {
		counts[a.Name] = max(1, a.Count)
		same = same && counts[a.Name] == counts[p.Accelerators[0].Name]
	}
	if same {
		return fmt.Sprint(counts[p.Accelerators[0].Name])
	}
	table, err := json.Marshal(counts)
	if err != nil {
		panic(err) // names and integers
	}
	return fmt.Sprintf(`{{=string(fromJSON('%s')[inputs.parameters["%s"]])}}`, table, pAccelerator)
}

// next chooses the points of a round from what the accelerator's points have left so far.
func next(p plan.Plan) wfv1.Template {
	measurements := inDir + "/" + layout.Measurements
	n := steps.Next
	call := n.With(
		n.Accelerator.Is(input(pAccelerator)),
		n.Precision.Is(global(pPrecision)),
		n.BatchSizes.Is(global(pBatchSizes)),
		n.Shapes.Is(shapeList(p)),
		n.MaxSeconds.Is(global(pMaxSeconds)),
		n.MaxGPUMinutes.Is(input(pMinutes)),
		n.GPUs.Is(input(pGPUs)),
		n.Round.Is(input(pRound)),
		n.MaxRounds.Set(precision.MostRounds),
		n.NodeOverhead.Set(p.RoundOverhead()),
		n.MaxNumSeqs.Is(input(pMaxNumSeqs)),
		n.Output.Set(outDir),
	).On(measurements)
	if p.SLO != "" {
		call = call.And(n.SLO.Is(global(pSLO)))
	}
	t := stepPod(p, nextTemplate, plan.EstimateDeadline, pods.Medium, call)
	t.Inputs = inputs(nextInputs...)
	t.Inputs.Artifacts = []wfv1.Artifact{directory(layout.Measurements, measurements, measurementsKey(input(pResults)))}
	t.Outputs.Parameters = outputParameters(n.Command, layout.OutPoints, layout.OutEnded, layout.OutReasons)
	return t
}
