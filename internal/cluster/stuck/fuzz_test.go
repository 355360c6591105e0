package stuck

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

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

// bytesAPI answers whatever it is asked with the same bytes, and keeps what it is told.
type bytesAPI struct {
	code         int
	pods, events []byte
	told         []string
}

func (a *bytesAPI) RoundTrip(r *http.Request) (*http.Response, error) {
	body := a.pods
	switch {
	case r.Method == http.MethodPatch:
		var patch struct{ Status struct{ Message string } }
		if err := json.NewDecoder(r.Body).Decode(&patch); err != nil {
			return nil, err
		}
		a.told = append(a.told, patch.Status.Message)
	case strings.HasSuffix(r.URL.Path, "/events"):
		body = a.events
	}
	return &http.Response{StatusCode: a.code, Body: io.NopCloser(bytes.NewReader(body)), Header: http.Header{}, Request: r}, nil
}

// FuzzGuard: whatever the API server answers, the guard ends no pod that runs, and what
// it says and writes is a line of text of bounded length.
func FuzzGuard(f *testing.F) {
	for _, name := range []string{"unschedulable", "image", "mount", "secret"} {
		data, err := os.ReadFile(recorded + name + ".json")
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(`{"items":[`+string(data)+`]}`), []byte(`{"items":[{"type":"Warning","reason":"FailedMount","message":"\u001b[2J\nx"}]}`), 200)
	}
	f.Add([]byte(`{"message":"`+strings.Repeat("no ", 5000)+`"}`), []byte(nil), 500)
	f.Add([]byte(`{"items":[{"status":{"phase":"Pending"}},{"metadata":{"uid":""},"status":{"phase":"Running"}}]}`), []byte(`null`), 403)
	f.Fuzz(func(t *testing.T, pods, events []byte, code int) {
		api := &bytesAPI{code: code, pods: pods, events: events}
		g := Guard{API: kube.New("http://api", "n", "", &http.Client{Transport: api}), Namespace: "n", Patience: time.Nanosecond}
		g.Say = func(text string) {
			if len(text) > 4096 || strings.ContainsAny(text, "\n\x1b") {
				t.Errorf("says %d bytes: %q", len(text), text[:min(len(text), 100)])
			}
		}
		all, err := g.pods(t.Context())
		if err != nil {
			g.Say(err.Error())
		}
		seen, known := map[string]*watched{}, map[string]bool{}
		for i, p := range all {
			p.Metadata.UID += strconv.Itoa(i) // of its own, as they are
			before := len(api.told)
			for range 2 {
				_ = g.see(t.Context(), p, seen, known)
			}
			if p.Status.Phase != "Pending" && len(api.told) > before {
				t.Errorf("a pod that is %s is ended", p.Status.Phase)
			}
		}
		for _, message := range api.told {
			if len(message) > 4096 || strings.ContainsAny(message, "\n\x1b") {
				t.Errorf("told %d bytes: %q", len(message), message[:min(len(message), 100)])
			}
		}
	})
}
