package templates

import (
	"fmt"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"

	"wfgen.dev/internal/sweep/config"
)

// wait holds an accelerator's points back until its server serves the model, and
// fails when a point would not fit into it.
func wait(c config.Config) wfv1.Template {
	t := stepPod(c, waitTemplate, waitDeadline(c), small,
		"wait",
		"--target="+input(pTargetURL),
		"--model="+global(pModel),
		"--timeout="+c.WaitTimeout,
		"--batch-sizes="+global(pBatchSizes),
		"--shapes="+shapeList(c),
		"--max-num-seqs="+input(pMaxNumSeqs),
		"--accelerator="+input(pAccelerator),
		"--output="+outDir,
	)
	t.Inputs = inputs(pAccelerator, pTargetURL, pMaxNumSeqs)
	t.Container.Env = append(t.Container.Env, apiKeyEnv(c)...)
	t.Outputs.Artifacts = []wfv1.Artifact{summaryOfAccelerator(c)} // of a wait in vain: it tells why
	// It waits by itself; only a lost pod is worth another.
	t.RetryStrategy = retry(c, `lastRetry.status == "Error"`)
	return t
}

// waitDeadline is the deadline of the pod in seconds: the timeout of step wait, and
// time to start.
func waitDeadline(c config.Config) int {
	return int(waitTimeout(c)/time.Second) + 600
}

func waitTimeout(c config.Config) time.Duration {
	timeout, err := time.ParseDuration(c.WaitTimeout)
	if err != nil {
		panic(fmt.Sprintf("wait-timeout %q was not validated", c.WaitTimeout))
	}
	return timeout
}
