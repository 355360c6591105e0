package stepcli

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"wfgen.dev/internal/cluster/kube"
	"wfgen.dev/internal/estimate/notify"
	"wfgen.dev/internal/tests/schematest"
)

// Of a termination, and of no other end, the guard tells, once, and whatever comes of that
// it has done its work.
func TestGuardTellsOfATermination(t *testing.T) {
	for name, test := range map[string]struct {
		workflow string // as the API server has it; empty: it may not be asked for
		answer   int    // of the webhook
		args     []string
		told     int
		says     string
	}{
		"terminated":           {`{"spec":{"shutdown":"Terminate"}}`, 200, nil, 1, "failure: told webhook"},
		"stopped":              {`{"spec":{"shutdown":"Stop"}}`, 200, nil, 0, ""},
		"ended":                {`{"spec":{}}`, 200, nil, 0, ""},
		"not allowed":          {"", 200, nil, 0, "get workflows: HTTP 403"},
		"refused":              {`{"spec":{"shutdown":"Terminate"}}`, 404, nil, 1, "webhook: refused: HTTP 404"},
		"nobody wants to hear": {`{"spec":{"shutdown":"Terminate"}}`, 200, []string{"--on=drift"}, 0, "nobody wants to hear of it"},
		"a wrong address":      {`{"spec":{"shutdown":"Terminate"}}`, 200, []string{"--slack-url=hooks/s3cr3t"}, 1, "slack: its address is not a URL"},
	} {
		t.Run(name, func(t *testing.T) {
			var bodies [][]byte
			var lock sync.Mutex
			hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				lock.Lock()
				defer lock.Unlock()
				bodies = append(bodies, body)
				w.WriteHeader(test.answer)
			}))
			defer hook.Close()
			ctx, terminate := context.WithCancel(t.Context())
			api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch {
				case !strings.HasSuffix(r.URL.Path, "/namespaces/llm/workflows/sweep-1"):
					terminate() // it looks after its pods by now
					_, _ = io.WriteString(w, `{"items":[]}`)
				case test.workflow == "":
					w.WriteHeader(http.StatusForbidden)
				default:
					_, _ = io.WriteString(w, test.workflow)
				}
			}))
			defer api.Close()
			inCluster = func() (*kube.Client, error) { return kube.New(api.URL, "llm", "", api.Client()), nil }
			defer func() { inCluster = kube.InCluster }()
			var words bytes.Buffer
			args := append([]string{"guard", "--pods=a=b", "--workflow=sweep-1", "--sweep=sweep", "--model=org/m", "--webhook-url=" + hook.URL}, test.args...)
			if code := Run(ctx, args, nil, io.Discard, &words); code != 0 || !strings.Contains(words.String(), test.says) || strings.Contains(words.String(), "s3cr3t") {
				t.Errorf("exit %d: %s", code, words.String())
			}
			if len(bodies) != test.told {
				t.Fatalf("told %d times, want %d: %s", len(bodies), test.told, words.String())
			}
			for _, body := range bodies {
				schematest.Validate(t, "../../estimate/notify/notification.schema.json", body)
				var n notify.Notification
				if err := json.Unmarshal(body, &n); err != nil || n.Event != notify.Failure || n.Run != "sweep-1" || n.Sweep != "sweep" || n.Model != "org/m" || len(n.Failures) != 1 {
					t.Errorf("%s, %v", body, err)
				}
			}
		})
	}
}
