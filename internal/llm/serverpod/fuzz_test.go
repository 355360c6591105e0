package serverpod

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"wfgen.dev/internal/cluster/kube"
	"wfgen.dev/internal/redact"
)

// FuzzDiagnose: whatever the API server says of a server's pod and whatever the server's
// log holds, what keeps it is a line of text of bounded length.
func FuzzDiagnose(f *testing.F) {
	for _, name := range []string{"unschedulable", "pvc", "image", "crash", "ready"} {
		data, err := os.ReadFile("testdata/" + name + ".json")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, "INFO args: --api-key abcdefgh1234\nValueError: \x1b[2Jno\r")
	}
	f.Add([]byte(`{"status":{"phase":"Failed","reason":"Evicted","message":"a\nb"}}`), "CUDA out of memory")
	f.Fuzz(func(t *testing.T, data []byte, log string) {
		var p kube.Pod
		if json.Unmarshal(data, &p) != nil {
			return
		}
		found := diagnose(p, 8000)
		if found == nil {
			return
		}
		if found.crash != nil {
			found.explain(log)
		}
		if found.Text == "" || strings.Contains(found.Text, "\n") || len(found.Text) > 4096 {
			t.Errorf("%+v", found)
		}
		for _, line := range logLines(log) {
			if !redact.Plain(line) || strings.Contains(line, "\n") || len(line) > 2000 {
				t.Errorf("%q", line)
			}
		}
	})
}
