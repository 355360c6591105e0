package serverpod

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wfgen.dev/internal/cluster/kube"
	"wfgen.dev/internal/llm/record"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/tests/pipes"
)

func TestMain(m *testing.M) {
	pipes.Lay()
	os.Exit(m.Run())
}

// virtually runs a part of a test where waiting takes no time.
func virtually(t *testing.T, name string, f func(t *testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

// api is an API server that replays what a real one said; testdata holds pods of
// Kubernetes 1.34, with their logs and events.
type api struct {
	mu        sync.Mutex
	pods      []json.RawMessage
	log       string
	events    string
	labels    string
	forbidden []string // parts of paths that may not be read
	ended     []string
	looked    func() // what happens once the pods were read for the first time
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, f := range a.forbidden {
		if strings.Contains(r.URL.Path, f) {
			w.WriteHeader(http.StatusForbidden)
			_, _ = fmt.Fprintf(w, `{"message":"%s is forbidden for waiter"}`, f)
			return
		}
	}
	switch {
	case r.Method == http.MethodPatch && strings.HasSuffix(r.URL.Path, "/status"):
		var patch struct {
			Status struct{ Phase, Message string }
		}
		if json.NewDecoder(r.Body).Decode(&patch) == nil && patch.Status.Phase == "Failed" && patch.Status.Message != "" {
			a.ended = append(a.ended, filepath.Base(filepath.Dir(r.URL.Path)))
		}
	case strings.HasSuffix(r.URL.Path, "/log"):
		_, _ = io.WriteString(w, a.log)
	case strings.HasSuffix(r.URL.Path, "/events"):
		_, _ = io.WriteString(w, a.events)
	case strings.HasPrefix(r.URL.Path, "/api/v1/nodes/"):
		_, _ = io.WriteString(w, `{"metadata":{"labels":`+a.labels+`}}`)
	default:
		_ = json.NewEncoder(w).Encode(map[string]any{"items": a.pods})
		if a.looked != nil {
			a.looked()
			a.looked = nil
		}
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// replay is the API server of one recorded pod.
func replay(t *testing.T, name string) *api {
	t.Helper()
	a := &api{pods: []json.RawMessage{json.RawMessage(read(t, name+".json"))}, events: `{"items":[]}`, labels: `{}`}
	if _, err := os.Stat("testdata/" + name + ".log"); err == nil {
		a.log = read(t, name+".log")
	}
	if _, err := os.Stat("testdata/" + name + ".events.json"); err == nil {
		a.events = read(t, name+".events.json")
	}
	return a
}

func (a *api) wait(t *testing.T, ctx context.Context, o Options) (Found, []string, error) {
	t.Helper()
	var said []string
	o.API = kube.New(pipes.Serve(t, a).URL, "llm", "", http.DefaultClient)
	o.Namespace, o.Selector, o.Model = "server-try", "case=x", "m"
	o.Say = func(text string) { said = append(said, text) }
	if o.Port == 0 {
		o.Port = 8000
	}
	if o.Timeout == 0 {
		o.Timeout = 100 * time.Millisecond
	}
	found, err := Wait(ctx, o)
	return found, said, err
}

func TestWhatCannotHealIsGivenUpAtOnce(t *testing.T) {
	for name, want := range map[string][]string{
		"neverpull": {"image lab.local/absent:v1 is not on node lab-node", "imagePullPolicy"},
		"badname":   {`"Lab.Local/Upper:v1" is not the name of an image`, "must be lowercase", "correct the image"},
		"crash":     {"container vllm ended with exit code 75, 7 times", "127.0.0.1:1 is not ready", "kubectl -n server-try logs crash -c vllm --previous"},
		"badargs":   {"exit code 2", "flag provided but not defined: -no-such-flag", "correct the server's arguments"},
		"oom":       {"exit code 137 (OOMKilled)", "loading the weights", "memory limit"},
		"ended":     {"pod ended has ended", "exit code 2", "correct the server's arguments"},
	} {
		t.Run(name, func(t *testing.T) {
			a := replay(t, name)
			_, said, err := a.wait(t, t.Context(), Options{Timeout: 5 * time.Second, EndPod: true})
			if exit.Code(err) != exit.Unusable {
				t.Fatalf("exit %d, %v", exit.Code(err), err)
			}
			for _, w := range want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q is not in: %v", w, err)
				}
			}
			if len(a.ended) != 1 || a.ended[0] != name {
				t.Errorf("ended %q", a.ended)
			}
			if len(said) != 2 || !strings.Contains(said[1], "ended pod "+name) {
				t.Errorf("said %q", said)
			}
		})
	}
}

func TestWhatMayHealIsWaitedFor(t *testing.T) {
	for name, want := range map[string]string{
		"unschedulable": "is Pending: no node has enough free nvidia.com/gpu (0/1 nodes are available: 1 Insufficient nvidia.com/gpu)",
		"pvc":           "is Pending: the PersistentVolumeClaim models does not exist",
		"image":         "image registry.invalid/vllm:v1 cannot be pulled: \"registry.invalid/vllm:v1\": failed to do request",
	} {
		virtually(t, name, func(t *testing.T) {
			a := replay(t, name)
			_, said, err := a.wait(t, t.Context(), Options{Timeout: time.Hour})
			if exit.Code(err) != exit.TryAgain || !strings.Contains(err.Error(), "gave up after 1h0m0s") {
				t.Errorf("exit %d, %v", exit.Code(err), err)
			}
			if len(said) != 1 || !strings.Contains(said[0], want) {
				t.Errorf("said %q, want %q", said, want)
			}
			if len(a.ended) != 0 {
				t.Errorf("ended %q unasked", a.ended)
			}
		})
	}
}

// What a controller may still create is waited for, but not until the timeout.
func TestPatienceEnds(t *testing.T) {
	for name, want := range map[string]struct{ text, remedy string }{
		"secret": {`cannot be configured: secret "hf-token" not found`, "create it in namespace server-try, or correct its name"},
		"mount":  {`is being created on node lab-node: MountVolume.SetUp failed for volume "cache" : secret "nope" not found`, "create it in namespace server-try, or correct its name"},
	} {
		virtually(t, name, func(t *testing.T) {
			a, begin := replay(t, name), time.Now()
			_, said, err := a.wait(t, t.Context(), Options{Timeout: time.Hour})
			if took := time.Since(begin); exit.Code(err) != exit.Unusable || took < 30*time.Second || took > 30*time.Second+pace {
				t.Errorf("exit %d after %s", exit.Code(err), took)
			}
			if err == nil || !strings.Contains(err.Error(), want.remedy) {
				t.Errorf("%v does not say: %s", err, want.remedy)
			}
			if len(said) != 1 || !strings.Contains(said[0], want.text) {
				t.Errorf("said %q, want %q", said, want.text)
			}
			if len(a.ended) != 0 {
				t.Errorf("ended %q unasked", a.ended)
			}
		})
	}
}

func TestInterruptedItEndsNothing(t *testing.T) {
	a := replay(t, "unschedulable")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errors.New("SIGTERM"))
	defer cancel()
	_, _, err := a.wait(t, ctx, Options{Timeout: time.Minute, EndPod: true})
	if exit.Code(err) != exit.TryAgain || len(a.ended) != 0 {
		t.Errorf("exit %d, %v; ended %q", exit.Code(err), err, a.ended)
	}
	_, said, err := a.wait(t, t.Context(), Options{EndPod: true})
	if exit.Code(err) != exit.TryAgain || len(a.ended) != 1 {
		t.Errorf("at the timeout: exit %d, %v; ended %q; said %q", exit.Code(err), err, a.ended, said)
	}
}

// serving is a server that serves the model m, at the port of a pod at host.
func serving(t *testing.T) (target, host string) {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/v1/models", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"data":[{"id":"m","max_model_len":4096}]}`)
	})
	url := pipes.Serve(t, mux).URL
	return url + ":8000", strings.TrimPrefix(url, "http://")
}

// ready is the recorded pod of a ready server, moved to a host of ours.
func ready(t *testing.T, host string) json.RawMessage {
	t.Helper()
	text := read(t, "ready.json")
	return json.RawMessage(strings.ReplaceAll(text, `"`+pod(t, text).Status.PodIP+`"`, `"`+host+`"`))
}

func pod(t *testing.T, text string) kube.Pod {
	t.Helper()
	var p kube.Pod
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestAReadyServerIsDescribed(t *testing.T) {
	target, host := serving(t)
	a := &api{pods: []json.RawMessage{ready(t, host)}, labels: `{"nvidia.com/gpu.product":"NVIDIA-H100-80GB-HBM3","nvidia.com/cuda.driver.major":"570","nvidia.com/cuda.driver.minor":"86","nvidia.com/cuda.driver.rev":"15"}`}
	found, said, err := a.wait(t, t.Context(), Options{})
	if err != nil {
		t.Fatalf("%v; said %q", err, said)
	}
	want := Found{Target: target, Instance: record.Instance{
		Pod: "slow", Node: "lab-node", Image: "lab.local/step:server", ImageDigest: found.Instance.ImageDigest,
		Args: []string{"simulate", "--listen", "0.0.0.0:8000", "--model", "m", "--start-delay", "40s"},
		GPU:  "NVIDIA-H100-80GB-HBM3", GPUDriver: "570.86.15",
	}}
	want.Model.ID, want.Model.MaxModelLen = "m", 4096
	if !reflect.DeepEqual(found, want) || !strings.HasPrefix(found.Instance.ImageDigest, "sha256:") {
		t.Errorf("found %+v, want %+v", found, want)
	}

	a.forbidden = []string{"nodes"}
	found, said, err = a.wait(t, t.Context(), Options{})
	if err != nil || found.Instance.GPU != "" || found.Instance.Node != "lab-node" || len(said) != 1 || !strings.Contains(said[0], "get nodes") {
		t.Errorf("nodes may not be read: %+v, %v; said %q", found, err, said)
	}
}

func TestAReplacedPodIsFollowed(t *testing.T) {
	virtually(t, "replaced", func(t *testing.T) {
		target, host := serving(t)
		a := replay(t, "unschedulable")
		next := ready(t, host)
		a.looked = func() { a.pods = append(a.pods, next) } // after the first look
		found, said, err := a.wait(t, t.Context(), Options{Timeout: time.Minute})
		if err != nil || found.Target != target || found.Instance.Pod != "slow" {
			t.Errorf("%+v, %v; said %q", found, err, said)
		}
	})
}

func TestWithoutRights(t *testing.T) {
	target, _ := serving(t)
	a := &api{forbidden: []string{"pods"}}
	_, _, err := a.wait(t, t.Context(), Options{Timeout: time.Minute})
	if exit.Code(err) != exit.Unusable || !strings.Contains(err.Error(), "create role") {
		t.Errorf("without a target: exit %d, %v", exit.Code(err), err)
	}
	found, said, err := a.wait(t, t.Context(), Options{Target: target, Timeout: time.Minute})
	if err != nil || found.Target != target || len(said) != 1 || !strings.Contains(said[0], "health alone") {
		t.Errorf("with a target: %+v, %v; said %q", found, err, said)
	}
}

func TestWithATargetThePodOnlyExplains(t *testing.T) {
	_, said, err := replay(t, "unschedulable").wait(t, t.Context(), Options{Target: "http://127.0.0.1:1"})
	if exit.Code(err) != exit.TryAgain || len(said) != 1 || !strings.Contains(said[0], "nvidia.com/gpu") {
		t.Errorf("exit %d, %v; said %q", exit.Code(err), err, said)
	}
	target, _ := serving(t)
	found, _, err := replay(t, "unschedulable").wait(t, t.Context(), Options{Target: target})
	if err != nil || !reflect.DeepEqual(found.Instance, record.Instance{}) {
		t.Errorf("another server answers there: %+v, %v", found, err)
	}
}

func TestNobody(t *testing.T) {
	a := &api{events: `{"items":[{"type":"Warning","reason":"FailedCreate","message":"pods \"vllm-1\" is forbidden: exceeded quota: gpus","lastTimestamp":"2026-11-22T19:55:43Z"}]}`}
	_, said, err := a.wait(t, t.Context(), Options{})
	if exit.Code(err) != exit.TryAgain || len(said) != 1 || !strings.Contains(said[0], "no pod in namespace server-try has the labels case=x; perhaps because of this: pods \"vllm-1\" is forbidden: exceeded quota") {
		t.Errorf("exit %d, %v; said %q", exit.Code(err), err, said)
	}
}

// Logs of vLLM: the last line is seldom the cause.
func TestTheCauseIsFoundInTheLog(t *testing.T) {
	for _, tc := range []struct{ log, cause, remedy string }{
		{"INFO starting\n(EngineCore_0 pid=9) torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB\nTraceback\nRuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}\n",
			"CUDA out of memory", "tensor parallelism"},
		{"Traceback (most recent call last):\n  File \"x.py\", line 3\nhuggingface_hub.errors.GatedRepoError: 401 Client Error. Cannot access gated repo\n", "GatedRepoError", "accept its license"},
		{"ValueError: VLLM_PORT 'tcp://10.96.3.4:8000' appears to be a URI. This may be caused by a Kubernetes service discovery issue\n", "VLLM_PORT", "enableServiceLinks"},
		{"usage: vllm serve [options]\nvllm: error: unrecognized arguments: --max-nun-seqs 64\n", "unrecognized arguments: --max-nun-seqs", "arguments"},
		{"ValueError: To serve at least one request with the model's max seq len (131072), 16.00 GiB KV cache is needed, which is larger than the available KV cache memory (9.1 GiB)\n", "larger than the available", "lower max-model-len"},
		{"KeyError: 'x'\nshutting down\n", "KeyError: 'x'", ""},
	} {
		f := &finding{crash: &crash{container: "vllm", ends: 1, code: 1}}
		f.explain(tc.log)
		if !strings.Contains(f.Text, tc.cause) || !strings.Contains(f.Remedy, tc.remedy) || tc.remedy == "" && f.Remedy != "" {
			t.Errorf("%q: %q; %q", tc.log, f.Text, f.Remedy)
		}
	}
}

func TestProgressBarsAreTheirLastState(t *testing.T) {
	got := logLines("INFO loading\n\rLoading safetensors checkpoint shards:   0% | 0/4\rLoading safetensors checkpoint shards:  25% | 1/4\r\n\x1b[32mdone\x1b[0m\n\n")
	want := []string{"INFO loading", "Loading safetensors checkpoint shards: 25% | 1/4", "done"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// vLLM's first line holds its arguments, the key among them, and may be the last one
// for minutes.
func TestKeysInALogAreMasked(t *testing.T) {
	for line, want := range map[string]string{
		"args: {'port': 8000, 'api_key': ['s3cret', 'other'], 'seed': 0}": "args: {'port': 8000, 'api_key': ***, 'seed': 0}",
		"args: Namespace(api_key='s3cret', dtype='auto')":                 "args: Namespace(api_key=***, dtype='auto')",
		"VLLM_API_KEY=s3cret is set":                                      "VLLM_API_KEY=*** is set",
		"max_num_batched_tokens=2048, key cache in blocks: 16":            "max_num_batched_tokens=2048, key cache in blocks: 16",
	} {
		if got := logLines(line); len(got) != 1 || got[0] != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// The arguments of a pod may refer to its variables, as those of a workflow's servers do.
func TestReferencesInArgumentsAreFilledIn(t *testing.T) {
	var c kube.Container
	err := json.Unmarshal([]byte(`{"command":["vllm","serve"],"args":["$(MODEL)","--max-num-seqs=$(N)","--api-key=$(KEY)","--x=$(NONE)"],
		"env":[{"name":"MODEL","value":"org/m"},{"name":"N","value":"64"},{"name":"KEY","valueFrom":{"secretKeyRef":{"name":"s","key":"k"}}}]}`), &c)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"vllm", "serve", "org/m", "--max-num-seqs=64", "--api-key=$(KEY)", "--x=$(NONE)"}
	if got := arguments(c); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
