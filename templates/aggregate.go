package templates

import (
	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"

	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/sweep/config"
)

// aggregate estimates the parameters of one accelerator from the measurements that
// its points left.
func aggregate(c config.Config) wfv1.Template {
	measurements := inDir + "/" + layout.Measurements
	t := stepPod(c, aggregateTemplate, 900, medium,
		"aggregate",
		measurements,
		"--output="+outDir,
		"--method="+global(pMethod),
		"--shapes="+shapeList(c),
		"--expect="+input(pAccelerator),
		"--latest="+outDir,
	)
	t.Inputs = inputs(aggregateInputs(c)...)
	t.Inputs.Artifacts = []wfv1.Artifact{directory(layout.Measurements, measurements, measurementsKey(input(pResults)))}
	t.RetryStrategy = retry(c, `lastRetry.exitCode == "75" || lastRetry.status == "Error"`)

	t.Outputs.Parameters = outputParameters("alpha", "beta", "gamma", "delta", "verdict", "reasons")
	if outputsOfWorkflow(c) {
		for i, p := range t.Outputs.Parameters {
			if p.Name != "reasons" {
				t.Outputs.Parameters[i].GlobalName = p.Name + "-" + input(pSlug)
			}
		}
	}
	t.Outputs.Artifacts = []wfv1.Artifact{
		artifact(layout.Parameters, outDir+"/"+input(pAccelerator)+"/"+layout.Parameters, input(pResults)+"/"+layout.Parameters),
		summaryOfAccelerator(c),
		artifact(layout.Latest, outDir+"/"+layout.Latest, key(c, layout.Latest)),
	}
	t.Metrics = &wfv1.Metrics{Prometheus: gauges()}
	return t
}

// summaryOfAccelerator is what the summary of all is made of: one of each accelerator.
func summaryOfAccelerator(c config.Config) wfv1.Artifact {
	return artifact("summary", outDir+"/"+layout.Summary, runKey(c, layout.Summaries, input(pAccelerator)+".json"))
}

// outputsOfWorkflow says whether the estimates are outputs of the workflow as well,
// not of its nodes alone: those of a large fleet would not fit into its status.
func outputsOfWorkflow(c config.Config) bool { return len(c.Accelerators) < maxTasks }

func aggregateInputs(c config.Config) []string {
	if outputsOfWorkflow(c) {
		return []string{pAccelerator, pResults, pSlug}
	}
	return []string{pAccelerator, pResults}
}

// gauges show the parameters of the first shape to Prometheus.
func gauges() []*wfv1.Prometheus {
	var list []*wfv1.Prometheus
	for _, g := range []struct{ name, output, help string }{
		{"wfgen_alpha_milliseconds", "alpha", "ITL = alpha + beta * batch: alpha, ms"},
		{"wfgen_beta_milliseconds", "beta", "ITL = alpha + beta * batch: beta, ms per request"},
		{"wfgen_gamma_milliseconds", "gamma", "TTFT = gamma + delta * promptTokens * batch: gamma, ms"},
		{"wfgen_delta_milliseconds", "delta", "TTFT = gamma + delta * promptTokens * batch: delta, ms per token and request"},
	} {
		list = append(list, &wfv1.Prometheus{
			Name: g.name,
			Help: g.help,
			Labels: []*wfv1.MetricLabel{
				{Key: "model", Value: global(pModel)},
				{Key: "accelerator", Value: input(pAccelerator)},
				{Key: "shape", Value: global(pPromptTokens) + "/" + global(pOutputTokens)},
			},
			When:  "{{status}} == Succeeded",
			Gauge: &wfv1.Gauge{Realtime: ptr(false), Value: "{{outputs.parameters." + g.output + "}}"},
		})
	}
	return list
}

// directory reads all objects under a key. With none the step says what is missing,
// better than Argo could.
func directory(name, path, key string) wfv1.Artifact {
	return wfv1.Artifact{
		Name:             name,
		Path:             path,
		ArtifactLocation: wfv1.ArtifactLocation{S3: &wfv1.S3Artifact{Key: key + "/"}},
		Optional:         true,
	}
}
