package templates

import (
	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"

	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/config"
	"wfgen.dev/internal/sweep/plan"
)

// shape runs the points of one shape one after another, in the order of the list
// of batch sizes (sweep.Order).
func shape(p plan.Plan) wfv1.Template {
	args := []wfv1.Parameter{parameter(pModel, global(pModel)), parameter(pBatchSize, "{{item}}"), parameter(pBatchSizes, global(pBatchSizes))}
	args = append(args, forward(pTargetURL, pAccelerator, pPromptTokens, pOutputTokens)...)
	args = append(args, parameter(pMaxSeconds, global(pMaxSeconds)), parameter(pMaxRequests, global(pMaxRequests)))
	if p.Driver == sweep.Guidellm {
		args = append(args, parameter(pTokenizer, global(pTokenizer)))
	}
	args = append(args, forward(pMaxNumSeqs, pResults, pServer)...)

	// The nodes of points are batch(0:1), batch(1:2), ...
	task := wfv1.DAGTask{Name: "batch", WithParam: global(pBatchSizes), Arguments: arguments(args...)}
	if p.LoadGenerator == config.Cluster {
		task.Arguments.Parameters = append(task.Arguments.Parameters, parameter(pSweep, p.Name))
		task.TemplateRef = &wfv1.TemplateRef{Name: loadGeneratorName, Template: pointTemplate, ClusterScope: true}
	} else {
		task.Template = pointTemplate
	}
	return wfv1.Template{
		Name:        shapeTemplate,
		Inputs:      inputs(pAccelerator, pMaxNumSeqs, pTargetURL, pResults, pServer, pPromptTokens, pOutputTokens),
		Parallelism: new(int64(1)),
		DAG:         &wfv1.DAGTemplate{FailFast: new(false), Tasks: []wfv1.DAGTask{task}},
	}
}
