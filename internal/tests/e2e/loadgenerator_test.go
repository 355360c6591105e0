//go:build e2e

package e2e

import (
	"context"
	"path/filepath"
	"testing"

	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/run/layout"
)

// TestClusterLoadGeneratorServesAnotherNamespace submits in a namespace that has only
// the sweep, while somebody else, of another namespace, has installed the load generator.
// It runs alone, as all tests with guidellm: its processes fill a small node.
func TestClusterLoadGeneratorServesAnotherNamespace(t *testing.T) {
	flags := append(guidellmFlags(t), "--accelerators=L4", "--batch-sizes=1,4,8", "--max-seconds=12", "--load-generator=cluster")
	owner := newNamespace(t, "shared")
	t.Cleanup(func() { // no namespace takes it along
		if out, err := command(context.Background(), "", "kubectl", "delete", "clusterworkflowtemplate", "guidellm-load-generator"); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	owner.install(flags...)

	user := newNamespace(t, "shared-user")
	user.serve("L4", slow)
	dir := user.generate(flags...)
	for _, file := range []string{"serviceaccount.yaml", "role.yaml", "rolebinding.yaml", "artifactrepository.yaml", "workflowtemplate.yaml"} {
		user.kubectl("apply", "--server-side", "-f", filepath.Join(dir, file))
	}
	const run = "shared"
	w := user.run(run)
	agrees(t, decode(user, layout.Run(run)+"/"+layout.ParametersOf("L4", shape), parameters.Decode), slow)
	points := pods(w, "point")
	if len(points) != 4 { // the first again
		t.Errorf("%d points", len(points))
	}
	for _, p := range points {
		if p.TemplateRef == nil || !p.TemplateRef.ClusterScope {
			t.Errorf("%s ran %+v", p.Name, p.TemplateRef)
		}
	}
	if other := owner.keys(""); len(other) != 0 {
		t.Errorf("objects of the namespace that only installed it: %v", other)
	}
}
