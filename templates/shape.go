package templates

import (
	"fmt"
	"slices"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"

	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/config"
	"wfgen.dev/internal/sweep/plan"
)

// firstBatch is the batch size that is measured first, and again at the end where there
// are enough for a drift to be told from a line.
var (
	firstBatch    = fmt.Sprintf(`{{=string(fromJSON(workflow.parameters["%s"])[0])}}`, pBatchSizes)
	measuredAgain = fmt.Sprintf(`{{=len(fromJSON(workflow.parameters["%s"])) >= %d}}`, pBatchSizes, sweep.FewestForAgain)
)

// sharedPoints are the points of a shape as one pod is given them: its batch sizes in their
// order, and the first again where it is.
var sharedPoints = fmt.Sprintf(`{{=let sizes = fromJSON(workflow.parameters["%s"]); let once = map(sizes, ({"%s": #})); `+
	`toJson(len(sizes) >= %d ? sprig.append(once, {"%[2]s": sizes[0], "%[4]s": "%[5]s"}) : once)}}`,
	pBatchSizes, pBatchSize, sweep.FewestForAgain, pAgain, sweep.AgainSuffix)

// shape runs the points of one shape one after another, in the order of the list of
// batch sizes (sweep.Order), and then the first of them again: what has changed
// meanwhile is measured rather than supposed.
func shape(p plan.Plan) wfv1.Template {
	args := pointArguments(p, append(forward(pPromptTokens, pOutputTokens), parameter(pMaxSeconds, global(pMaxSeconds)))...)
	t := wfv1.Template{
		Name:        shapeTemplate,
		Inputs:      inputs(pAccelerator, pMaxNumSeqs, pTargetURL, pResults, pServer, pPromptTokens, pOutputTokens),
		Parallelism: new(int64(1)),
	}
	if p.SharesPod() {
		t.DAG = &wfv1.DAGTemplate{Tasks: []wfv1.DAGTask{pointTask(p, pointsTemplate, append(args, parameter(pPoints, sharedPoints))...)}}
		return t
	}
	task := func(name string, more ...wfv1.Parameter) wfv1.DAGTask {
		return pointTask(p, name, slices.Concat(args, more)...)
	}
	// The nodes of points are batch(0:1), batch(1:2), ...
	once := task("batch", parameter(pBatchSize, "{{item}}"))
	once.WithParam = global(pBatchSizes)
	again := task("again", parameter(pBatchSize, firstBatch), parameter(pAgain, sweep.AgainSuffix))
	again.Depends, again.When = finished(once.Name), measuredAgain
	t.DAG = &wfv1.DAGTemplate{
		FailFast: new(false),
		Tasks:    []wfv1.DAGTask{once, again},
		// Both: of a workflow that is stopped before the last of them, what comes next would
		// otherwise hang on nothing, and argo retry would not find where it belongs.
		Target: once.Name + " " + again.Name,
	}
	return t
}

// pointArguments are what every point gets: what it has in common with the others of its
// accelerator, and its length in tokens and seconds.
func pointArguments(p plan.Plan, length ...wfv1.Parameter) []wfv1.Parameter {
	args := []wfv1.Parameter{parameter(pModel, global(pModel)), parameter(pBatchSizes, global(pBatchSizes))}
	args = append(args, forward(pTargetURL, pAccelerator)...)
	args = append(append(args, length...), parameter(pMaxRequests, global(pMaxRequests)))
	if p.Driver == sweep.Guidellm {
		args = append(args, parameter(pTokenizer, global(pTokenizer)))
	}
	args = append(args, forward(pMaxNumSeqs, pResults, pServer)...)
	if p.LoadGenerator == config.Cluster {
		args = append(args, parameter(pSweep, p.Name))
	}
	return args
}

// pointTask runs a point, from wherever its template is, or those that share a pod.
func pointTask(p plan.Plan, name string, args ...wfv1.Parameter) wfv1.DAGTask {
	t := wfv1.DAGTask{Name: name, Arguments: arguments(args...)}
	switch {
	case p.SharesPod():
		t.Template = pointsTemplate
	case p.LoadGenerator == config.Cluster:
		t.TemplateRef = &wfv1.TemplateRef{Name: loadGeneratorName, Template: pointTemplate, ClusterScope: true}
	default:
		t.Template = pointTemplate
	}
	return t
}
