package templates

import (
	"strings"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"

	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/sweep/config"
)

// summary puts the accelerators side by side. It fails, after publishing what there
// is, when one of them has no parameters: otherwise the workflow would look well,
// since a DAG succeeds when its last task does.
func summary(c config.Config) wfv1.Template {
	names := make([]string, len(c.Accelerators))
	for i, a := range c.Accelerators {
		names[i] = a.Name
	}
	summaries := inDir + "/" + layout.Summaries
	t := stepPod(c, summaryTemplate, 900, medium,
		"aggregate",
		summaries,
		"--output="+outDir,
		"--method="+global(pMethod),
		"--expect="+strings.Join(names, ","),
	)
	t.Inputs.Artifacts = []wfv1.Artifact{directory(layout.Summaries, summaries, runKey(c, layout.Summaries))}
	t.RetryStrategy = retry(c, `lastRetry.exitCode == "75" || lastRetry.status == "Error"`)
	t.Outputs.Artifacts = []wfv1.Artifact{artifact("summary", outDir+"/"+layout.Summary, runKey(c, layout.Summary))}
	return t
}
