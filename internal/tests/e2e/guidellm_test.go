//go:build e2e

package e2e

import (
	"os"
	"strings"
	"testing"

	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/sweep"
)

// TestGuidellmInItsOwnImage has the unmodified guidellm make the load, with step brought
// in by the init container: it sees no identity of the cluster, and shows no key.
func TestGuidellmInItsOwnImage(t *testing.T) {
	flags := guidellmFlags(t)
	image := guidellmImage(t)
	n := newNamespace(t, "guidellm")
	n.serve("MI300X", slow, "--api-key="+canaryKey)
	n.install(append(append(flags, n.canaries()...), "--accelerators=MI300X", "--batch-sizes=1,4,8", "--max-seconds=12")...)
	n.keepPods()
	const run = "guidellm"
	w := n.run(run)
	version := image[strings.LastIndex(image, ":")+1:]
	for _, key := range n.keys(layout.Accelerator(run, "MI300X") + "/" + layout.Measurements) {
		m := decode(n, key, measurement.Decode)
		t.Logf("batch %d: %s %s, ITL %s, TTFT %s, %d requests", m.BatchSize, m.Driver.Name, m.Driver.Version, asJSON(m.Taken.ITL), asJSON(m.Taken.TTFT), m.Requests.Successful)
		if m.Driver.Name != sweep.Guidellm || !strings.Contains(version, m.Driver.Version) || m.Driver.Version == "" {
			t.Errorf("%s: driver %+v, expected guidellm %s", key, m.Driver, version)
		}
	}
	if got := len(pods(w, "point")); got != 4 { // the first again
		t.Errorf("%d points", got)
	}
	agrees(t, decode(n, layout.Run(run)+"/"+layout.ParametersOf("MI300X", shape), parameters.Decode), slow)
	if seen := n.identities(run); seen["point"] != 4 {
		t.Errorf("pods %v", seen)
	}
	n.kubectl("delete", "deployment", "vllm-mi300x") // whose arguments hold the key
	n.kubectl("wait", "--for=delete", "pod", "-l", "app=vllm-mi300x", "--timeout=60s")
	n.revealsNothing()
}

// guidellmFlags are those of a sweep with guidellm on a small node.
func guidellmFlags(t *testing.T) []string {
	t.Helper()
	return []string{"--driver=guidellm", "--guidellm-image=" + guidellmImage(t), "--tokenizer=" + setting("E2E_TOKENIZER", "/opt/tokenizer"),
		"--load-generator-cpu=500m", "--load-generator-memory=2Gi"}
}

// guidellmImage is the image of guidellm, which the nodes have or can pull.
func guidellmImage(t *testing.T) string {
	t.Helper()
	if image := os.Getenv("E2E_GUIDELLM_IMAGE"); image != "" {
		return image
	}
	const loader = root + "/../shared/cluster/guidellm-image" // of the cluster on this machine
	if _, err := os.Stat(loader); err != nil {
		t.Skip("no image of guidellm: name one in E2E_GUIDELLM_IMAGE")
	}
	out, err := command(t.Context(), "", loader, setting("E2E_GUIDELLM", "0.3.1"))
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	lines := strings.Fields(out)
	return lines[len(lines)-1]
}
