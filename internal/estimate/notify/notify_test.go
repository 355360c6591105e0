package notify

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/tests/schematest"
)

const secret = "https://hooks.example.com/services/T0/B0/s3cr3t"

// drifted is a run one of whose two accelerators moved and the other of which failed.
func drifted() Run {
	alpha, shape := 7.5, sweep.Shape{PromptTokens: 128, OutputTokens: 128}
	p := parameters.Parameters{Model: "org/m", Accelerator: "A100", Shape: shape}
	p.Alpha, p.Verdict.Level = &alpha, fit.Accepted
	return Run{
		Sweep: "nightly", Name: "nightly-1", Status: "Failed", Model: "org/m", ReportURL: "https://argo.example.com/nightly-1",
		Failures: strconv.Quote(`[{"displayName":"point(2)","message":"lost <it>, token=abcdef","phase":"Failed"},{"displayName":"x"},
			{"displayName":"point","message":"retryStrategy.expression evaluated to false"},{"displayName":"wait","message":"No more retries left"},{"displayName":"[0]","message":"child 'a-1' failed"}]`),
		Summary: &parameters.Summary{
			Parameters: []parameters.Parameters{p},
			Failures:   []parameters.Failure{{Accelerator: "H100", Reasons: []string{"no points"}}},
			Drift: &parameters.Drift{Band: 0.05, Sets: []parameters.Comparison{{Model: "org/m", Accelerator: "A100", Shape: shape,
				Drifted: []string{"alpha"}, Changes: []parameters.Movement{{Name: "alpha", Old: 7, New: 7.5, Percent: 7.1}}}}},
		},
	}
}

func TestWhatIsTold(t *testing.T) {
	n := Of(drifted())
	if n.Event != Drift || len(n.Moved) != 1 || !strings.Contains(n.Moved[0], "alpha 7") || len(n.Results) != 1 || len(n.Results[0].Drifted) != 1 {
		t.Errorf("%+v", n)
	}
	if want := "H100: no points|point(2): lost <it>, token=***"; strings.Join(n.Failures, "|") != want {
		t.Errorf("failures %q, want %q", n.Failures, want)
	}
	data, err := json.Marshal(n)
	if err != nil {
		t.Fatal(err)
	}
	empty, err := json.Marshal(Of(Run{Status: "Succeeded"}))
	if err != nil {
		t.Fatal(err)
	}
	schematest.Validate(t, "notification.schema.json", data, empty)
	schematest.Describes(t, "notification.schema.json", n)

	for _, test := range []struct {
		status string
		moved  bool
		want   Event
	}{{"Succeeded", false, End}, {"Failed", false, Failure}, {"Error", false, Failure}, {"Succeeded", true, Drift}, {"Failed", true, Drift}} {
		r := drifted()
		r.Status = test.status
		if !test.moved {
			r.Summary = nil
		}
		n := Of(r)
		if n.Event != test.want {
			t.Errorf("%s, moved %v: %s, want %s", test.status, test.moved, n.Event, test.want)
		}
		for event, want := range map[Event]bool{End: true, Failure: test.status != "Succeeded", Drift: test.moved} {
			if n.Wanted([]Event{event}) != want {
				t.Errorf("%s, moved %v: wanted by %s: %v", test.status, test.moved, event, !want)
			}
		}
	}
	many := Run{Status: "Failed", Failures: "[" + strings.Repeat(`{"displayName":"p","message":"`+strings.Repeat("x", 2000)+`"},`, 99) + `{"displayName":"p","message":"m"}]`}
	if n := Of(many); len(n.Failures) != mostLines+1 || len(n.Text()) > 20_000 {
		t.Errorf("%d failures, %d bytes", len(n.Failures), len(n.Text()))
	}
}

// answers is a server that gives these codes, one after another; 0: no connection.
type answers struct {
	codes  []int
	bodies []string
	urls   []string
}

func (a *answers) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	a.bodies, a.urls = append(a.bodies, string(body)), append(a.urls, req.URL.String())
	code := a.codes[min(len(a.bodies), len(a.codes))-1]
	if code == 0 {
		return nil, errors.New("connection refused")
	}
	return &http.Response{StatusCode: code, Header: http.Header{"Location": {"https://elsewhere"}}, Body: io.NopCloser(strings.NewReader("ok"))}, nil
}

func TestSend(t *testing.T) {
	for _, test := range []struct {
		codes       []int
		code, posts int
	}{
		{[]int{200}, 0, 1}, {[]int{0, 503, 204}, 0, 3}, {[]int{429, 200}, 0, 2}, {[]int{0}, exit.TryAgain, attempts}, {[]int{500}, exit.TryAgain, attempts},
		{[]int{404}, exit.Unusable, 1}, {[]int{302}, exit.Unusable, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			server, began := &answers{codes: test.codes}, time.Now()
			err := Of(drifted()).Send(t.Context(), Address{Slack, secret}, &http.Client{Transport: server}, began)
			if exit.Code(err) != test.code || len(server.bodies) != test.posts {
				t.Errorf("%v: %v after %d posts", test.codes, err, len(server.bodies))
			}
			if err != nil && strings.Contains(err.Error(), "hooks") {
				t.Errorf("the address stands in %v", err)
			}
			if took := time.Since(began); took > 2*time.Minute {
				t.Errorf("%v: %s", test.codes, took)
			}
		})
	}
	for _, bad := range []string{"hooks.example.com/x", "ftp://a/b", "https://", "://s3cr3t", "http://a b/s3cr3t"} {
		if err := (Address{Webhook, bad}).Check(); err == nil || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// Each kind gets what it takes.
func TestBodies(t *testing.T) {
	post := func(a Address, r Run) (at string, body string) {
		server := &answers{codes: []int{200}}
		if err := Of(r).Send(t.Context(), a, &http.Client{Transport: server}, time.Unix(1.7e9, 0)); err != nil {
			t.Fatal(err)
		}
		return server.urls[0], server.bodies[0]
	}
	_, body := post(Address{Slack, secret}, drifted())
	var message struct{ Text string }
	if err := json.Unmarshal([]byte(body), &message); err != nil || !strings.HasPrefix(message.Text, "*Latency of org/m drifted (sweep nightly)*\n") ||
		!strings.Contains(message.Text, "lost &lt;it&gt;") || !strings.HasSuffix(message.Text, "\n<https://argo.example.com/nightly-1|report>") {
		t.Errorf("slack: %s, %v", body, err)
	}
	_, body = post(Address{Webhook, secret}, drifted())
	schematest.Validate(t, "notification.schema.json", []byte(body))

	failed := drifted()
	failed.Summary = nil
	good := failed
	good.Status = "Succeeded"
	for _, test := range []struct {
		run               Run
		name, accelerator string
	}{{drifted(), "WfgenLatencyDrift", "A100"}, {failed, "WfgenSweepFailed", ""}, {good, "WfgenSweepEnded", ""}} {
		for _, address := range []string{"http://alertmanager:9093", "http://alertmanager:9093/", "http://alertmanager:9093/api/v2/alerts"} {
			at, body := post(Address{Alertmanager, address}, test.run)
			var alerts []struct {
				Labels, Annotations    map[string]string
				StartsAt, GeneratorURL string
			}
			if err := json.Unmarshal([]byte(body), &alerts); err != nil || len(alerts) != 1 || at != "http://alertmanager:9093/api/v2/alerts" {
				t.Fatalf("%s: %s, %v", at, body, err)
			}
			a := alerts[0]
			if a.Labels["alertname"] != test.name || a.Labels["accelerator"] != test.accelerator || a.Labels["sweep"] != "nightly" ||
				a.StartsAt != "2023-11-14T22:13:20Z" || a.GeneratorURL != "https://argo.example.com/nightly-1" || a.Annotations["summary"] == "" {
				t.Errorf("%+v", a)
			}
		}
	}
}
