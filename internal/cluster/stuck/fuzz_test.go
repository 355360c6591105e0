package stuck

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"wfgen.dev/internal/cluster/kube"
)

// FuzzPod: whatever the API server says of a pod, what keeps it is one line with a text.
func FuzzPod(f *testing.F) {
	for _, name := range []string{"unschedulable", "pvc", "image", "secret", "mount", "neverpull", "badname", "crash", "ready"} {
		data, err := os.ReadFile(recorded + name + ".json")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, "MountVolume.SetUp failed for volume \"x\" : secret \"y\" not found")
	}
	f.Fuzz(func(t *testing.T, data []byte, event string) {
		var p kube.Pod
		if json.Unmarshal(data, &p) != nil {
			return
		}
		found := Pod(p)
		if found == nil {
			return
		}
		found.Hear(p, OneLine(event))
		if found.Text == "" || found.Patience > 0 && found.Remedy == "" {
			t.Errorf("%+v", found)
		}
		if strings.ContainsAny(OneLine(found.Text), "\n\x1b") {
			t.Errorf("%q", OneLine(found.Text))
		}
	})
}
