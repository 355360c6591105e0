package templates

import (
	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wfgen.dev/internal/cluster/manifest"
	"wfgen.dev/internal/cluster/pods"
	"wfgen.dev/internal/sweep/plan"
)

// cronWorkflow submits the sweep on its schedules. It stops when three runs or more
// have failed, and more than succeeded, rather than holding GPUs for nothing.
func cronWorkflow(p plan.Plan) manifest.Object {
	value := wfv1.CronWorkflow{
		TypeMeta:   metav1.TypeMeta{APIVersion: argoAPI, Kind: "CronWorkflow"},
		ObjectMeta: pods.Meta(p, p.Name),
		Spec: wfv1.CronWorkflowSpec{
			Schedules:                  p.Cron,
			Timezone:                   p.Timezone,
			ConcurrencyPolicy:          wfv1.ForbidConcurrent,
			StartingDeadlineSeconds:    new(int64(3600)),
			SuccessfulJobsHistoryLimit: new(int32(3)),
			FailedJobsHistoryLimit:     new(int32(3)),
			StopStrategy:               &wfv1.StopStrategy{Expression: "cronworkflow.failed >= 3 && cronworkflow.failed > cronworkflow.succeeded"},
			WorkflowSpec:               wfv1.WorkflowSpec{WorkflowTemplateRef: &wfv1.WorkflowTemplateRef{Name: p.Name}},
		},
	}
	return manifest.Object{
		File:  "cronworkflow.yaml",
		Value: value,
		Comments: []manifest.Comment{
			{Path: "spec.startingDeadlineSeconds", Text: "A run that the controller missed by less than this is made up for."},
			{Path: "spec.stopStrategy", Text: "Then nothing is scheduled any more. To start again: kubectl delete cronworkflow -n " + p.Namespace + " " + p.Name + ", and apply this."},
			{Path: "spec.workflowSpec", Text: "Other values than the template's: arguments: {parameters: [{name: max-seconds, value: \"360\"}]}"},
		},
	}
}
