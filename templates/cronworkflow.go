package templates

import (
	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wfgen.dev/internal/config"
	"wfgen.dev/internal/manifest"
)

// cronWorkflow submits the sweep on its schedules. After three failed runs in all it
// stops, rather than holding GPUs for nothing every night.
func cronWorkflow(c config.Config) Object {
	value := wfv1.CronWorkflow{
		TypeMeta:   metav1.TypeMeta{APIVersion: argoAPI, Kind: "CronWorkflow"},
		ObjectMeta: meta(c, c.Name),
		Spec: wfv1.CronWorkflowSpec{
			Schedules:                  c.Cron,
			Timezone:                   c.Timezone,
			ConcurrencyPolicy:          wfv1.ForbidConcurrent,
			StartingDeadlineSeconds:    ptr(int64(3600)),
			SuccessfulJobsHistoryLimit: ptr(int32(3)),
			FailedJobsHistoryLimit:     ptr(int32(3)),
			StopStrategy:               &wfv1.StopStrategy{Expression: "cronworkflow.failed >= 3"},
			WorkflowSpec:               wfv1.WorkflowSpec{WorkflowTemplateRef: &wfv1.WorkflowTemplateRef{Name: c.Name}},
		},
	}
	return Object{
		File:  "cronworkflow.yaml",
		Value: value,
		Comments: []manifest.Comment{
			{Path: "spec.startingDeadlineSeconds", Text: "A run that the controller missed by less than this is made up for."},
			{Path: "spec.stopStrategy", Text: "To go on afterwards: argo cron resume " + c.Name},
			{Path: "spec.workflowSpec", Text: "Other values than the template's: arguments: {parameters: [{name: max-seconds, value: \"360\"}]}"},
		},
	}
}
