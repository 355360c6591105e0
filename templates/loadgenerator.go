package templates

import (
	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wfgen.dev/internal/cluster/manifest"
	"wfgen.dev/internal/sweep/plan"
)

// loadGeneratorName is the ClusterWorkflowTemplate that workflows of every namespace
// share.
const loadGeneratorName = "guidellm-load-generator"

// loadGenerator is the template of a point for the whole cluster. Its pods run in
// the namespace, with the ServiceAccount and the Secrets of the workflow that calls
// it.
func loadGenerator(p plan.Plan) manifest.Object {
	templates := []wfv1.Template{point(p)}
	onPlatform(p, templates)
	value := wfv1.ClusterWorkflowTemplate{
		TypeMeta: metav1.TypeMeta{APIVersion: argoAPI, Kind: "ClusterWorkflowTemplate"},
		ObjectMeta: metav1.ObjectMeta{
			Name:   loadGeneratorName,
			Labels: map[string]string{"app.kubernetes.io/managed-by": "wfgen"},
			Annotations: map[string]string{
				"workflows.argoproj.io/title":       "guidellm load generator",
				"workflows.argoproj.io/description": "Runs one point of a calibration: batch-size requests at a time against an OpenAI-compatible server.",
				"workflows.argoproj.io/version":     lineNeeded(p),
			},
		},
		Spec: wfv1.WorkflowSpec{Templates: templates},
	}
	return manifest.Object{
		File:  "clusterworkflowtemplate.yaml",
		Value: ofLine(p, value.TypeMeta, value.ObjectMeta, value.Spec, value),
		Comments: append([]manifest.Comment{{
			Path: "apiVersion",
			Text: "Needs an Argo installed for the whole cluster, whose controller may read clusterworkflowtemplates\n(a namespaced installation may not), and a user who may create them.",
		}}, pointComments(p, "spec.templates["+pointTemplate+"]")...),
	}
}
