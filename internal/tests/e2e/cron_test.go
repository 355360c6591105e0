//go:build e2e

package e2e

import (
	"fmt"
	"testing"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
)

// TestCronFiresByItselfAndForbidHolds runs every minute a sweep that takes longer than
// one, so that the next minute must find it running and leave it alone. Its one long
// point also shows the progress of a pod, which Argo reads once a minute.
func TestCronFiresByItselfAndForbidHolds(t *testing.T) {
	t.Parallel()
	n := newNamespace(t, "cron")
	// The schedule comes after its template: Argo's controller, should it see it first,
	// looks again only after 20 minutes.
	flags := []string{"--accelerators=T4", "--batch-sizes=2,4", "--max-seconds=70"}
	n.install(flags...)
	n.serve("T4", slow)
	n.install(append(flags, "--cron=* * * * *", "--timezone=Europe/Zurich")...)

	runs := func() []wfv1.Workflow {
		var list wfv1.WorkflowList
		n.get(&list, "workflows", "-l", "workflows.argoproj.io/cron-workflow="+template)
		return list.Items
	}
	eventually(t, 90*time.Second, func() error {
		if len(runs()) == 0 {
			return fmt.Errorf("the CronWorkflow did not fire")
		}
		return nil
	})
	first := runs()[0]
	t.Logf("%s fired at %s", first.Name, first.CreationTimestamp)

	// Over the next full minute, and well into it.
	next := first.CreationTimestamp.Truncate(time.Minute).Add(time.Minute)
	var seen []wfv1.Progress
	for time.Now().Before(next.Add(20 * time.Second)) {
		all := runs()
		if len(all) != 1 {
			t.Fatalf("%d workflows at once, though one was running", len(all))
		}
		for _, node := range pods(all[0], "point") {
			if p := node.Progress; p.M() > 1 && (len(seen) == 0 || seen[len(seen)-1] != p) {
				seen = append(seen, p)
			}
		}
		time.Sleep(time.Second)
	}
	if w := n.workflow(first.Name); w.Status.Phase != wfv1.WorkflowRunning {
		t.Fatalf("%s is %s: too short to show anything", first.Name, w.Status.Phase)
	}
	t.Log("progress of the point:", seen)
	if len(seen) == 0 || seen[0].M() != 70 {
		t.Errorf("progress of the point's pod: %v, expected seconds of 70", seen)
	}
	// The schedule alone is in the CronWorkflow; what ran is the WorkflowTemplate's.
	if ref := n.workflow(first.Name).Spec.WorkflowTemplateRef; ref == nil || ref.Name != template {
		t.Errorf("the workflow runs %+v", ref)
	}
	n.kubectl("delete", "cronworkflow", template)
}
