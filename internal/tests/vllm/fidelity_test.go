//go:build vllm

package vllm

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	prometheus "github.com/prometheus/common/model"

	"wfgen.dev/internal/llm/simulate"
)

// deliberate lists where step simulate differs from vLLM, and why: by the name of a
// request below and a path in its answer, either of which may be *, or by a metric.
// What differs and is not here fails the test; so does what is here and does not.
// Beside these, the simulator refuses requests for several answers, which vLLM gives.
var deliberate = map[string]string{
	"not JSON: error.message":              "the text is that of the parser, Python's there and Go's here",
	"odd prompt: error.message":            "pydantic lists every kind of prompt that it is not",
	"wrong type: error.message":            "pydantic's words",
	"no prompt to tokenize: error.message": "pydantic names messages too, the other thing that could have been given",
	"image: error.message":                 "the simulator takes text only and says so",

	"vllm:cache_config_info labels": "labels about memory, which a server without a model does not have",
	"vllm:estimated_*":              "estimates of a GPU's work from a model's size, which the simulator does not have",
	"vllm:*_created":                "Python's library writes when each series began",
}

// fidelity sends the same requests to vLLM and to step simulate, and compares
// status, structure, fixed words and counts of the answers, then the metrics.
func fidelity(t *testing.T, w *world) {
	s, err := simulate.New(simulate.Config{Model: model, MaxNumSeqs: maxNumSeqs, MaxModelLen: maxModelLen, Alpha: 1, Gamma: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	h := httptest.NewServer(s.Handler())
	defer h.Close()

	words := func(n int) string { return strings.TrimSpace(strings.Repeat("the ", n)) }
	const completions, chat = "/v1/completions", "/v1/chat/completions"
	const four, user = `"prompt":"the of and to"`, `"messages":[{"role":"user","content":"the of and to"}]`
	const parts = `"messages":[{"role":"system","content":"and to"},{"role":"user","content":[{"type":"text","text":"the of"}]}]`
	const forty = `"max_tokens":40,"ignore_eos":true`
	const usage, each = `"stream_options":{"include_usage":true}`, `"stream_options":{"include_usage":true,"continuous_usage_stats":true}`
	used := map[string]bool{}
	before := [2]families{scrapeAll(t, w.url), scrapeAll(t, h.URL)}
	for _, r := range []struct{ name, path, body string }{
		{"health", "/health", ""},
		{"version", "/version", ""},
		{"models", "/v1/models", ""},
		{"unknown path", "/v1/nothing", ""},
		{"GET where POST belongs", completions, ""},
		{"POST where GET belongs", "/health", "{}"},

		{"tokenize", "/tokenize", `{"model":"tiny","prompt":"the of and to"}`},
		{"tokenize into words", "/tokenize", `{"model":"tiny","prompt":"the of and to","return_token_strs":true}`},
		{"tokenize a chat", "/tokenize", `{"model":"tiny",` + user + `}`},
		{"tokenize for another model", "/tokenize", `{"model":"another","prompt":"the"}`},
		{"no prompt to tokenize", "/tokenize", `{"model":"tiny"}`},

		{"completion", completions, `{"model":"tiny",` + four + `,` + forty + `}`},
		{"completion of ids", completions, `{"model":"tiny","prompt":[5,6,7],` + forty + `}`},
		{"completion without a model's name", completions, `{` + four + `,` + forty + `}`},
		{"completion of default length", completions, `{"model":"tiny",` + four + `,"ignore_eos":true}`},
		{"one token", completions, `{"model":"tiny",` + four + `,"max_tokens":1,"stream":true}`},
		{"stream", completions, `{"model":"tiny",` + four + `,` + forty + `,"stream":true}`},
		{"stream with usage", completions, `{"model":"tiny",` + four + `,` + forty + `,"stream":true,` + usage + `}`},
		{"stream with usage in each", completions, `{"model":"tiny",` + four + `,` + forty + `,"stream":true,` + each + `}`},
		{"chat", chat, `{"model":"tiny",` + user + `,` + forty + `}`},
		{"chat stream", chat, `{"model":"tiny",` + user + `,` + forty + `,"stream":true}`},
		{"chat stream with usage", chat, `{"model":"tiny",` + parts + `,` + forty + `,"stream":true,` + usage + `}`},
		{"chat stream with usage in each", chat, `{"model":"tiny",` + parts + `,"max_completion_tokens":40,"ignore_eos":true,"stream":true,` + each + `}`},
		{"longer than there is room", completions, `{"model":"tiny","prompt":"` + words(maxModelLen-3) + `",` + forty + `}`},

		{"another model", completions, `{"model":"another",` + four + `}`},
		{"chat with another model", chat, `{"model":"another",` + user + `}`},
		{"not JSON", completions, `{"model":`},
		{"nothing", completions, ` `},
		{"not an object", completions, `[1]`},
		{"wrong type", completions, `{"model":"tiny",` + four + `,"max_tokens":"many"}`},
		{"no prompt", completions, `{"model":"tiny"}`},
		{"empty prompt", completions, `{"model":"tiny","prompt":""}`},
		{"white prompt", completions, `{"model":"tiny","prompt":"  "}`},
		{"no ids", completions, `{"model":"tiny","prompt":[]}`},
		{"odd prompt", completions, `{"model":"tiny","prompt":{"a":1}}`},
		{"no messages", chat, `{"model":"tiny"}`},
		{"empty chat", chat, `{"model":"tiny","messages":[]}`},
		{"image", chat, `{"model":"tiny","messages":[{"role":"user","content":[{"type":"image_url"}]}]}`},
		{"no output", completions, `{"model":"tiny",` + four + `,"max_tokens":0}`},
		{"chat without output", chat, `{"model":"tiny",` + user + `,"max_completion_tokens":0}`},
		{"no answers", completions, `{"model":"tiny",` + four + `,"n":0}`},
		{"more at least than at most", completions, `{"model":"tiny",` + four + `,"min_tokens":5,"max_tokens":4}`},
		{"options of a stream without one", completions, `{"model":"tiny",` + four + `,` + usage + `}`},
		{"output too long", completions, `{"model":"tiny",` + four + `,"max_tokens":5000}`},
		{"no room", completions, `{"model":"tiny","prompt":"` + words(maxModelLen) + `","max_tokens":4}`},
		{"prompt too long", completions, `{"model":"tiny","prompt":"` + words(2*maxModelLen) + `","max_tokens":4}`},
		{"prompt too long for a stream", completions, `{"model":"tiny","prompt":"` + words(2*maxModelLen) + `","max_tokens":4,"stream":true}`},
	} {
		theirs, ours := ask(t, w.url+r.path, r.body), ask(t, h.URL+r.path, r.body)
		for _, path := range differing(theirs, ours) {
			if !excused(used, r.name+": "+path, r.name+": *") {
				t.Errorf("%s: %s: vLLM %s, step simulate %s", r.name, path, orAbsent(theirs, path), orAbsent(ours, path))
			}
		}
	}
	// Servers count a request just after they have answered it.
	time.Sleep(500 * time.Millisecond)
	after := [2]families{scrapeAll(t, w.url), scrapeAll(t, h.URL)}
	compareMetrics(t, used, before, after)
	for name, why := range deliberate {
		if !used[name] {
			t.Errorf("%q is listed as a deliberate difference (%s) and there is none", name, why)
		}
	}
}

func excused(used map[string]bool, names ...string) bool {
	for _, name := range names {
		if _, ok := deliberate[name]; ok {
			used[name] = true
			return true
		}
	}
	return false
}

// fixed are the fields whose values are part of the protocol; of the others the
// kind is.
var fixed = []string{
	"object", "finish_reason", "role", "index", "owned_by", "detail", "message", "type", "param", "code",
	"prompt_tokens", "completion_tokens", "total_tokens", "count", "max_model_len",
}

// ask sends a request, a GET where there is no body, and returns its answer as
// paths and what is there.
func ask(t *testing.T, url, body string) map[string]string {
	t.Helper()
	method, reader := http.MethodGet, io.Reader(nil)
	if body != "" {
		method, reader = http.MethodPost, strings.NewReader(strings.TrimSpace(body))
	}
	request, err := http.NewRequestWithContext(t.Context(), method, url, reader)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	answer := map[string]string{"status": response.Status, "content type": kind, "allow": response.Header.Get("Allow")}
	switch {
	case kind == "text/event-stream":
		events(t, answer, data)
	case len(data) > 0:
		flatten(t, answer, data)
	}
	return answer
}

// events adds the events of a stream to an answer. A busy server puts several
// tokens into one event, so events that look alike count as one.
func events(t *testing.T, answer map[string]string, stream []byte) {
	t.Helper()
	number, before := 0, map[string]string{}
	lines := bufio.NewScanner(bytes.NewReader(stream))
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		event := map[string]string{}
		switch {
		case lines.Text() == "":
			continue
		case !ok:
			event["line"] = lines.Text()
		case data == "[DONE]":
			event["end"] = data
		default:
			flatten(t, event, []byte(data))
			if event["choices[0].finish_reason"] == "null" && event["choices[0].delta.role"] == "" {
				for path := range event {
					if strings.HasPrefix(path, "usage.") {
						event[path] = "so far"
					}
				}
			}
		}
		if maps.Equal(event, before) {
			continue
		}
		before = event
		number++
		for path, value := range event {
			answer[fmt.Sprintf("event %d %s", number, path)] = value
		}
	}
}

// flatten adds the leaves of a JSON document to an answer.
func flatten(t *testing.T, answer map[string]string, data []byte) {
	t.Helper()
	var document any
	if err := json.Unmarshal(data, &document); err != nil {
		t.Fatalf("%q: %v", data, err)
	}
	var walk func(path, name string, v any)
	walk = func(path, name string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for key, value := range v {
				walk(strings.TrimPrefix(path+"."+key, "."), key, value)
			}
		case []any:
			answer[path] = fmt.Sprintf("list of %d", len(v))
			for i, value := range v {
				walk(fmt.Sprintf("%s[%d]", path, i), "", value)
			}
		case nil:
			answer[path] = "null"
		default:
			answer[path] = fmt.Sprintf("%T", v)
			if slices.Contains(fixed, name) {
				// of a validation error not the echo of the input
				text, _, _ := strings.Cut(fmt.Sprint(v), ", 'input'")
				answer[path] = strings.TrimSuffix(text, "}")
			}
		}
	}
	walk("", "", document)
}

func differing(a, b map[string]string) (paths []string) {
	for path := range a {
		if value, ok := b[path]; !ok || value != a[path] {
			paths = append(paths, path)
		}
	}
	for path := range b {
		if _, ok := a[path]; !ok {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return paths
}

func orAbsent(answer map[string]string, path string) string {
	if value, ok := answer[path]; ok {
		return value
	}
	return "absent"
}

type families map[string]*dto.MetricFamily

// scrapeAll reads the metrics of the engine; those of Python and of the web server
// below it are none of ours.
func scrapeAll(t *testing.T, url string) families {
	t.Helper()
	response, err := http.Get(url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	parser := expfmt.NewTextParser(prometheus.LegacyValidation)
	all, err := parser.TextToMetricFamilies(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	maps.DeleteFunc(all, func(name string, _ *dto.MetricFamily) bool { return !strings.HasPrefix(name, "vllm:") })
	return all
}

// compareMetrics compares the families, their types, series and buckets, and by how
// much each count has grown over the same requests.
func compareMetrics(t *testing.T, used map[string]bool, before, after [2]families) {
	t.Helper()
	for name, family := range after[0] {
		switch {
		case strings.HasSuffix(name, "_created"):
			excused(used, "vllm:*_created")
			continue
		case strings.HasPrefix(name, "vllm:estimated_"):
			excused(used, "vllm:estimated_*")
			continue
		}
		mine, ok := after[1][name]
		if !ok {
			t.Errorf("%s: step simulate has none", name)
			continue
		}
		if family.GetType() != mine.GetType() {
			t.Errorf("%s: vLLM %s, step simulate %s", name, family.GetType(), mine.GetType())
		}
		if name == "vllm:cache_config_info" {
			theirs, ours := labels(family), labels(mine)
			for label := range ours {
				if !theirs[label] {
					t.Errorf("%s: vLLM has no label %s", name, label)
				}
			}
			if len(theirs) > len(ours) {
				excused(used, name+" labels")
			}
			continue
		}
		theirs, ours := series(family, before[0][name]), series(mine, before[1][name])
		for _, key := range differing(theirs, ours) {
			t.Errorf("%s %s: vLLM %s, step simulate %s", name, key, orAbsent(theirs, key), orAbsent(ours, key))
		}
	}
	for name := range after[1] {
		if _, ok := after[0][name]; !ok {
			t.Errorf("%s: vLLM has none", name)
		}
	}
}

func labels(family *dto.MetricFamily) map[string]bool {
	names := map[string]bool{}
	for _, m := range family.GetMetric() {
		for _, l := range m.GetLabel() {
			names[l.GetName()] = true
		}
	}
	return names
}

// series is each series of a family with its buckets and by how much it has grown:
// gauges and times are left out, being what differs.
func series(family, before *dto.MetricFamily) map[string]string {
	all := map[string]string{}
	for i, m := range family.GetMetric() {
		var key []string
		for _, l := range m.GetLabel() {
			key = append(key, l.GetName()+"="+l.GetValue())
		}
		slices.Sort(key)
		value := ""
		switch family.GetType() {
		case dto.MetricType_COUNTER:
			value = fmt.Sprint(m.GetCounter().GetValue() - before.GetMetric()[i].GetCounter().GetValue())
		case dto.MetricType_HISTOGRAM:
			now, then := m.GetHistogram(), before.GetMetric()[i].GetHistogram()
			value = "buckets"
			for _, b := range now.GetBucket() {
				value += fmt.Sprintf(" %g", b.GetUpperBound())
			}
			if family.GetName() != "vllm:iteration_tokens_total" { // how many requests ran together differs
				value += fmt.Sprintf(", count %d", now.GetSampleCount()-then.GetSampleCount())
			}
			if !strings.HasSuffix(family.GetName(), "_seconds") {
				value += fmt.Sprintf(", sum %g", now.GetSampleSum()-then.GetSampleSum())
			}
		}
		all[strings.Join(key, ",")] = value
	}
	return all
}
