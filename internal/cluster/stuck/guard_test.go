package stuck

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wfgen.dev/internal/cluster/kube"
	"wfgen.dev/internal/run/exit"
)

// Pods that a real cluster had, with their events.
const recorded = "../../llm/serverpod/testdata/"

// cluster is an API server in memory, so that time can be virtual.
type cluster struct {
	pods      []kube.Pod
	events    string
	forbidden string            // part of a path that may not be asked for
	ended     map[string]string // messages by pod
	at        map[string]time.Duration
	start     time.Time
	completed []string   // task results
	times     int        // that a pod was ended
	reverts   int        // how often the kubelet writes its own view over it
	later     []kube.Pod // that are there from the twelfth minute on
}

func (c *cluster) RoundTrip(r *http.Request) (*http.Response, error) {
	answer := func(code int, body any) (*http.Response, error) {
		data, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		return &http.Response{StatusCode: code, Body: io.NopCloser(strings.NewReader(string(data))), Header: http.Header{}, Request: r}, nil
	}
	if c.forbidden != "" && strings.Contains(r.URL.Path, c.forbidden) {
		return answer(http.StatusForbidden, map[string]string{"message": "not allowed"})
	}
	switch {
	case r.Method == http.MethodPatch:
		var patch struct {
			Status struct{ Phase, Message string }
		}
		if err := json.NewDecoder(r.Body).Decode(&patch); err != nil {
			return nil, err
		}
		if strings.Contains(r.URL.Path, "/workflowtaskresults/") {
			c.completed = append(c.completed, filepath.Base(r.URL.Path))
			return answer(http.StatusOK, map[string]any{})
		}
		name := filepath.Base(filepath.Dir(r.URL.Path))
		c.times++
		for i := range c.pods {
			if c.pods[i].Metadata.Name == name {
				c.pods[i].Status.Phase, c.pods[i].Status.Message = patch.Status.Phase, patch.Status.Message
			}
		}
		c.ended[name], c.at[name] = patch.Status.Message, time.Since(c.start)
		return answer(http.StatusOK, map[string]any{})
	case strings.HasSuffix(r.URL.Path, "/events"):
		return answer(http.StatusOK, json.RawMessage(c.events))
	}
	if c.reverts > 0 && c.times > 0 {
		c.reverts--
		c.pods[0].Status.Phase, c.pods[0].Status.Message = "Pending", ""
	}
	if time.Since(c.start) >= 11*time.Minute {
		c.pods, c.later = append(c.pods, c.later...), nil
	}
	return answer(http.StatusOK, map[string]any{"items": c.pods})
}

// pods reads recorded pods, each under a name and a UID of its own.
func pods(t *testing.T, names ...string) *cluster {
	t.Helper()
	c := &cluster{events: `{"items":[]}`, ended: map[string]string{}, at: map[string]time.Duration{}, start: time.Now()}
	for i, name := range names {
		data, err := os.ReadFile(recorded + name + ".json")
		if err != nil {
			t.Fatal(err)
		}
		var p kube.Pod
		if err := json.Unmarshal(data, &p); err != nil {
			t.Fatal(err)
		}
		p.Metadata.Name, p.Metadata.UID = fmt.Sprintf("%s-%d", name, i), fmt.Sprint(i)
		c.pods = append(c.pods, p)
		if data, err := os.ReadFile(recorded + name + ".events.json"); err == nil {
			c.events = string(data)
		}
	}
	return c
}

func (c *cluster) guard(ctx context.Context, g Guard) (said []string, err error) {
	g.API = kube.New("http://api", "llm", "", &http.Client{Transport: c})
	g.Namespace, g.Selector = "llm", "a=b"
	g.Say = func(text string) { said = append(said, text) }
	if g.Patience == 0 {
		g.Patience = 10 * time.Minute
	}
	err = g.Run(ctx)
	return said, err
}

// What waiting cannot fix ends soon, what it may when the patience is over, and each
// with its reason and what to do.
func TestStuckPodsEndWithTheirReason(t *testing.T) {
	for name, want := range map[string]struct {
		after time.Duration
		words []string
	}{
		"unschedulable": {10 * time.Minute, []string{"not begun within 10m0s", "no node has enough free nvidia.com/gpu", "ask for less"}},
		"pvc":           {10 * time.Minute, []string{"the PersistentVolumeClaim models does not exist"}},
		"image":         {10 * time.Minute, []string{"registry.invalid/vllm:v1 cannot be pulled", "reaches the registry"}},
		"secret":        {patienceConfig, []string{`secret "hf-token" not found`, "create it in namespace"}},
		"mount":         {patienceConfig, []string{`secret "nope" not found`, "create it in namespace"}},
		"neverpull":     {0, []string{"is not on node", "imagePullPolicy"}},
		"badname":       {0, []string{"is not the name of an image", "correct the image"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := pods(t, name)
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
				defer cancel()
				said, err := c.guard(ctx, Guard{})
				if err != nil {
					t.Fatal(err)
				}
				pod := name + "-0"
				for _, w := range want.words {
					if !strings.Contains(c.ended[pod], w) {
						t.Errorf("%q is not in %q; said %q", w, c.ended[pod], said)
					}
				}
				if at := c.at[pod]; at < want.after || at > want.after+2*pace {
					t.Errorf("ended after %v, want %v", at, want.after)
				}
			})
		})
	}
}

// A second pod with the same cause need not wait as long: a sweep has many points.
func TestWhatIsKnownIsNotWaitedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := pods(t, "unschedulable", "unschedulable")
		second := c.pods[1]
		c.pods, c.later = c.pods[:1], c.pods[1:]
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
		defer cancel()
		if _, err := c.guard(ctx, Guard{}); err != nil {
			t.Fatal(err)
		}
		if at := c.at[second.Metadata.Name]; at < 11*time.Minute || at > 11*time.Minute+2*pace {
			t.Errorf("the second was ended after %v", at)
		}
	})
}

// The kubelet may write its own view over what ended a pod, and Argo waits for outputs
// unless it is told that none will come.
func TestAPodStaysEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := pods(t, "badname")
		c.reverts = 3
		c.pods[0].Metadata.Annotations = map[string]string{"workflows.argoproj.io/node-id": "run-1"}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		said, err := c.guard(ctx, Guard{})
		if err != nil || c.times != 4 || len(c.completed) != 4 || c.completed[0] != "run-1" || c.pods[0].Status.Phase != "Failed" {
			t.Errorf("%v; ended %d times, completed %q, now %s; said %q", err, c.times, c.completed, c.pods[0].Status.Phase, said)
		}
	})
}

// A workflow whose last pod is ended is over at once, and its guard with it.
func TestTheLastPodStaysEndedToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := pods(t, "badname")
		c.reverts = 1
		ctx, cancel := context.WithTimeout(t.Context(), pace/2)
		defer cancel()
		if _, err := c.guard(ctx, Guard{}); err != nil || c.times != 2 || c.pods[0].Status.Phase != "Failed" {
			t.Errorf("%v; ended %d times, now %s", err, c.times, c.pods[0].Status.Phase)
		}
	})
}

// What goes well, what a queue holds back and what is being pulled is left alone.
func TestOthersAreLeftAlone(t *testing.T) {
	gated := pods(t, "unschedulable")
	gated.pods[0].Status.Conditions = []kube.Condition{{Type: "PodScheduled", Status: "False", Reason: "SchedulingGated"}}
	pulling := pods(t, "mount")
	pulling.events = `{"items":[{"type":"Normal","reason":"Pulling","message":"Pulling image \"large\"","lastTimestamp":"2026-11-22T19:55:43Z"}]}`
	for name, c := range map[string]*cluster{"ready": pods(t, "ready"), "ended": pods(t, "ended"), "gated": gated, "pulling": pulling} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			if _, err := c.guard(ctx, Guard{}); err != nil || len(c.ended) > 0 {
				t.Errorf("%s: %v; ended %q", name, err, c.ended)
			}
		})
	}
}

// Without a word of when to end, it ends when all have.
func TestTheGuardOfJobsEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := pods(t, "unschedulable")
		start := time.Now()
		_, err := c.guard(t.Context(), Guard{UntilEnded: true})
		if took := time.Since(start); err != nil || len(c.ended) != 1 || took > 11*time.Minute {
			t.Errorf("%v after %v; ended %q", err, took, c.ended)
		}
	})
}

func TestMissingRightsAreSaid(t *testing.T) {
	for _, path := range []string{"/pods", "/status"} {
		synctest.Test(t, func(t *testing.T) {
			c := pods(t, "badname")
			c.forbidden = path
			_, err := c.guard(t.Context(), Guard{})
			if exit.Code(err) != exit.Unusable || !strings.Contains(err.Error(), "apply the Role") {
				t.Errorf("%s: exit %d, %v", path, exit.Code(err), err)
			}
		})
	}
	c := pods(t, "badname")
	c.forbidden = "/events"
	if _, err := (Guard{API: kube.New("http://api", "llm", "", &http.Client{Transport: c}), Namespace: "llm"}).Look(t.Context()); exit.Code(err) != exit.Unusable {
		t.Errorf("exit %d, %v", exit.Code(err), err)
	}
}

// The registry says the same of a secret that is wrong and of one that is missing; the
// kubelet knows better.
func TestAMissingPullSecretIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := pods(t, "image")
		for i := range c.pods[0].Status.ContainerStatuses {
			c.pods[0].Status.ContainerStatuses[i].State.Waiting = &kube.Waiting{Reason: "ErrImagePull", Message: "failed to authorize: 401 Unauthorized"}
		}
		c.events = `{"items":[{"type":"Warning","reason":"FailedToRetrieveImagePullSecret","message":"Unable to retrieve some image pull secrets (regcred); attempting to pull the image may not succeed."}]}`
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		if _, err := c.guard(ctx, Guard{}); err != nil || !strings.Contains(c.ended["image-0"], "regcred") {
			t.Errorf("%v; ended %q", err, c.ended)
		}
	})
}

func TestPullRemedies(t *testing.T) {
	for message, want := range map[string]string{
		`rpc error: code = NotFound desc = failed to pull and unpack image "docker.io/vllm/vllm-openai:v9": docker.io/vllm/vllm-openai:v9: not found`: "name or tag",
		`failed to authorize: failed to fetch anonymous token: 401 Unauthorized`:                                                                      "imagePullSecret",
		`pull access denied, repository does not exist or may require authorization`:                                                                  "imagePullSecret",
		`dial tcp: lookup registry.invalid: i/o timeout`:                                                                                              "",
		`toomanyrequests: You have reached your unauthenticated pull rate limit`:                                                                      "",
	} {
		if got := pullRemedy(message); !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%s: %q, want %q", message, got, want)
		}
	}
}
