package report

import (
	"bytes"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"

	"wfgen.dev/internal/llm/record"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/point/report/reporttest"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/sweep"
)

// content is a file of testdata, unpacked.
func content(t testing.TB, name string) []byte {
	t.Helper()
	if packed, ok := strings.CutSuffix(name, ".gz"); ok {
		return reporttest.Unpacked(t, packed)
	}
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func read(t testing.TB, data []byte, o Options) []measurement.Measurement {
	t.Helper()
	all, err := Read(bytes.NewReader(data), "r.json", o)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// point is what a test compares of a measurement.
type point struct {
	Version string
	Model   string
	Target  string
	Shape   sweep.Shape
	Batch   int
	Basis   string
	ITL     float64 // rounded to 0.001 ms
	TTFT    float64
	Running float64 // measured batch, rounded to 0.001
	OK      int
	Failed  int
}

func round(x float64) float64 { return math.Round(1000*x) / 1000 }

func summarise(m measurement.Measurement) point {
	p := point{
		Version: m.Driver.Version, Model: m.Model, Target: m.Provenance.Target, Shape: m.Shape, Batch: m.BatchSize,
		OK: m.Requests.Successful, Failed: m.Requests.Errored, Running: round(m.Taken.Batch),
	}
	if m.Client != nil {
		p.Basis = m.Client.Basis
	}
	if m.Taken.ITL != nil {
		p.ITL = round(m.Taken.ITL.MS)
	}
	if m.Taken.TTFT != nil {
		p.TTFT = round(m.Taken.TTFT.MS)
	}
	return p
}

func TestEveryFamily(t *testing.T) {
	const (
		mock  = "mock-model"
		local = "http://127.0.0.1:8400"
		llama = "unsloth/Meta-Llama-3.1-8B"
	)
	shape := sweep.Shape{PromptTokens: 128, OutputTokens: 32}
	example := sweep.Shape{PromptTokens: 128, OutputTokens: 128}
	small := sweep.Shape{PromptTokens: 32, OutputTokens: 8}
	for _, test := range []struct {
		file string
		want []point
	}{
		{"worked-example/synchronous.json", []point{
			{"0.3.x", llama, "http://vllm:8000", example, 1, "summary", 7, 15, 1, 398, 0}}},
		{"worked-example/throughput.json", []point{
			{"0.3.x", llama, "http://vllm:8000", example, 64, "summary", 8.7, 26, 64, 20352, 0}}},
		{"v0.2.1-concurrent.json.gz", []point{
			{"0.2.x", "sim", "http://127.0.0.1:18471", sweep.Shape{PromptTokens: 32, OutputTokens: 16}, 2, "rows", 9.045, 27.095, 1.933, 24, 0}}},
		{"v0.5.4-concurrent.json.gz", []point{
			{"0.5.4", "sim", "http://127.0.0.1:18471", sweep.Shape{PromptTokens: 32, OutputTokens: 16}, 2, "rows", 9.092, 24.691, 1.983, 24, 0}}},
		{"v0.3.1-concurrent-sweep.json.gz", []point{
			{"0.3.x", mock, local, shape, 1, "summary", 9.554, 30.924, 0.991, 64, 0},
			{"0.3.x", mock, local, shape, 4, "summary", 10.839, 48.707, 3.899, 64, 0}}},
		{"v0.4.0-concurrent-sweep.json.gz", []point{ // names no model
			{"0.4.x", "", local, shape, 1, "rows", 9.577, 28.337, 0.997, 64, 0},
			{"0.4.x", "", local, shape, 4, "rows", 10.845, 32.952, 3.978, 64, 0}}},
		{"v0.6.1-concurrent-sweep.json.gz", []point{
			{"0.6.1", mock, local, shape, 1, "summary", 9.643, 32.247, 0.996, 64, 0},
			{"0.6.1", mock, local, shape, 4, "summary", 10.804, 36.016, 3.966, 64, 0}}},
		{"v0.7.3-concurrent-sweep.json.gz", []point{
			{"0.7.3", mock, local, shape, 1, "summary", 9.663, 33.353, 0.995, 64, 0},
			{"0.7.3", mock, local, shape, 4, "summary", 10.821, 36.07, 3.965, 64, 0}}},
		{"v0.7.3-sample_size0.json.gz", []point{
			{"0.7.3", mock, "http://127.0.0.1:8202", small, 2, "rows", 9.527, 29.386, 1.966, 8, 0}}},
		{"v0.6.1-some500.json.gz", []point{
			{"0.6.1", mock, "http://127.0.0.1:8106", small, 2, "rows", 9.402, 30.228, 1.933, 4, 2}}},
	} {
		t.Run(test.file, func(t *testing.T) {
			var got []point
			for _, m := range read(t, content(t, test.file), Options{Accelerator: "A100"}) {
				if len(m.Taken.Void)+len(m.Taken.VoidTTFT) > 0 {
					t.Errorf("batch %d is void: %q %q", m.BatchSize, m.Taken.Void, m.Taken.VoidTTFT)
				}
				if m.Model == "" {
					m.Model = "given" // what a file must have
					if _, err := measurement.Encode(m); err != nil {
						t.Error(err)
					}
					m.Model = ""
				} else if _, err := measurement.Encode(m); err != nil {
					t.Error(err)
				}
				got = append(got, summarise(m))
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestNoneIsBelieved is about runs that failed and yet came with exit code 0.
func TestNoneIsBelieved(t *testing.T) {
	for file, want := range map[string]string{
		"v0.4.0-all500.json.gz":  "none of 6 requests succeeded: HTTP 500 Internal Server Error x6",
		"v0.7.3-all500.json.gz":  "none of 6 requests succeeded: HTTP 500 Internal Server Error x6",
		"v0.4.0-hang.json.gz":    "none of 2 requests succeeded: no reason given (guidellm writes a timeout so) x2",
		"v0.7.3-abort.json.gz":   "none of 6 requests succeeded: RemoteProtocolError: peer closed connection without sending complete message body (incomplete chunked read) x6",
		"v0.7.3-notoken.json.gz": "6 requests successful, but none can be used: successful without an output token x6",
		"v0.7.3-nousage.json.gz": "the server sent no usage",
	} {
		t.Run(file, func(t *testing.T) {
			all := read(t, content(t, file), Options{Accelerator: "A100", Model: "m"})
			if len(all) != 1 {
				t.Fatalf("%d measurements", len(all))
			}
			void(t, all[0], want)
		})
	}
}

// void checks that a measurement gives no number, only reasons, the first of
// which holds want.
func void(t *testing.T, m measurement.Measurement, want string) {
	t.Helper()
	if len(m.Taken.Void) == 0 || !strings.Contains(m.Taken.Void[0], want) {
		t.Errorf("void is %q, want %q", m.Taken.Void, want)
	}
	if m.Client != nil || m.Taken.ITL != nil || m.Taken.TTFT != nil {
		t.Errorf("a void measurement holds numbers: %+v", m)
	}
}

// report parses a file of testdata, lets edit change it, and writes it again.
func report(t testing.TB, file string, edit func(report, benchmark map[string]any)) []byte {
	t.Helper()
	var r map[string]any
	if err := json.Unmarshal(content(t, file), &r); err != nil {
		t.Fatal(err)
	}
	first := r["benchmarks"].([]any)[:1]
	r["benchmarks"] = first
	edit(r, first[0].(map[string]any))
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// in walks down nested objects.
func in(v any, path ...string) map[string]any {
	for _, name := range path {
		v = v.(map[string]any)[name]
	}
	return v.(map[string]any)
}

func TestWhereNamesStand(t *testing.T) {
	t.Run("0.5 names target and model in args", func(t *testing.T) {
		data := report(t, "v0.6.1-concurrent-sweep.json.gz", func(r, b map[string]any) {
			in(r, "metadata")["guidellm_version"] = "0.5.4"
			delete(in(b, "config"), "backend")
			args := in(r, "args")
			delete(args, "backend_kwargs")
			args["target"], args["model"] = "http://user:pass@vllm:8000", "org/model"
		})
		m := read(t, data, Options{})[0]
		if m.Driver.Version != "0.5.4" || m.Model != "org/model" || m.Provenance.Target != "http://vllm:8000" {
			t.Errorf("version %q, model %q, target %q", m.Driver.Version, m.Model, m.Provenance.Target)
		}
	})
	t.Run("0.7 backend in the configuration only, labels", func(t *testing.T) {
		data := report(t, "v0.7.3-concurrent-sweep.json.gz", func(r, b map[string]any) {
			delete(in(b, "config"), "backend")
			in(r, "config", "spec", "backend")["model"] = "org/model"
			in(r, "config", "metadata")["labels"] = map[string]any{"accelerator": "H100", "zone": 3, "nested": map[string]any{"a": 1}}
		})
		m := read(t, data, Options{})[0]
		if m.Model != "org/model" || m.Accelerator != "H100" {
			t.Errorf("model %q, accelerator %q", m.Model, m.Accelerator)
		}
		if diff := cmp.Diff(map[string]string{"accelerator": "H100", "zone": "3"}, m.Provenance.Labels); diff != "" {
			t.Error(diff)
		}
	})
}

func TestOrderOfFieldsDoesNotMatter(t *testing.T) {
	for _, file := range []string{"v0.3.1-concurrent-sweep.json.gz", "v0.4.0-concurrent-sweep.json.gz", "v0.7.3-concurrent-sweep.json.gz"} {
		var v any
		if err := json.Unmarshal(content(t, file), &v); err != nil {
			t.Fatal(err)
		}
		sorted, err := json.Marshal(v, json.Deterministic(true)) // benchmarks before config and metadata
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(read(t, content(t, file), Options{}), read(t, sorted, Options{})); diff != "" {
			t.Errorf("%s: %s", file, diff)
		}
	}
}

func TestByteOrderMark(t *testing.T) {
	data := content(t, "worked-example/synchronous.json")
	if diff := cmp.Diff(read(t, data, Options{}), read(t, append([]byte("\xef\xbb\xbf"), data...), Options{})); diff != "" {
		t.Error(diff)
	}
}

func TestStrategies(t *testing.T) {
	strategy := func(s map[string]any) []byte {
		return report(t, "v0.7.3-concurrent-sweep.json.gz", func(_, b map[string]any) { in(b, "config")["strategy"] = s })
	}
	for name, test := range map[string]struct {
		strategy map[string]any
		options  Options
		batch    int
		void     string
		note     string
	}{
		"concurrent": {strategy: map[string]any{"type_": "concurrent", "streams": 3}, batch: 3},
		"given batch is a fact of the report": {strategy: map[string]any{"type_": "concurrent", "streams": 3},
			options: Options{BatchSize: 64}, batch: 3},
		"synchronous":          {strategy: map[string]any{"type_": "synchronous"}, batch: 1},
		"throughput":           {strategy: map[string]any{"type_": "throughput", "max_concurrency": 64}, batch: 64, note: "queues"},
		"throughput, given":    {strategy: map[string]any{"type_": "throughput"}, options: Options{BatchSize: 8}, batch: 8, note: "queues"},
		"throughput, measured": {strategy: map[string]any{"type_": "throughput", "max_concurrency": nil}, batch: 1, note: "taken as the batch size"},
		"constant":             {strategy: map[string]any{"type_": "constant", "rate": 1.5}, void: "the statistics of a whole constant benchmark hold its start and its end"},
		"poisson":              {strategy: map[string]any{"type_": "poisson"}, void: "names no rate"},
		"later name":           {strategy: map[string]any{"kind": "replay"}, void: "a replay benchmark is neither a closed loop nor"},
		"none":                 {strategy: map[string]any{}, void: "names no strategy"},
		"no streams":           {strategy: map[string]any{"type_": "concurrent"}, void: "number of streams"},
	} {
		t.Run(name, func(t *testing.T) {
			m := read(t, strategy(test.strategy), test.options)[0]
			if test.void != "" {
				void(t, m, test.void)
				return
			}
			if m.BatchSize != test.batch || len(m.Taken.Void) > 0 {
				t.Errorf("batch %d, void %q; want %d", m.BatchSize, m.Taken.Void, test.batch)
			}
			if test.note != "" && !slices.ContainsFunc(m.Notes, func(n string) bool { return strings.Contains(n, test.note) }) {
				t.Errorf("notes %q lack %q", m.Notes, test.note)
			}
		})
	}
}

func TestShape(t *testing.T) {
	shape := sweep.Shape{PromptTokens: 128, OutputTokens: 32} // what the report has counted
	data := func(v any) []byte {
		return report(t, "v0.3.1-concurrent-sweep.json.gz", func(_, b map[string]any) { in(b, "request_loader")["data"] = v })
	}
	for name, test := range map[string]struct {
		data  any
		given sweep.Shape
		want  sweep.Shape
		void  string
		note  string
	}{
		"pairs":       {data: "prompt_tokens=128,output_tokens=32", want: shape},
		"reversed":    {data: "output_tokens=32, prompt_tokens_stdev=3, prompt_tokens=128", want: shape},
		"JSON":        {data: `{"prompt_tokens": 128, "output_tokens": 32}`, want: shape},
		"Python list": {data: "['prompt_tokens=128,output_tokens=32']", want: shape},
		"object":      {data: map[string]any{"kind": "synthetic_text", "prompt_tokens": 128, "output_tokens": 32}, want: shape},
		"list":        {data: []any{"prompt_tokens=128,output_tokens=32"}, want: shape},
		"twice":       {data: []any{"prompt_tokens=128,output_tokens=32", map[string]any{"prompt_tokens": 128, "output_tokens": 32}}, want: shape},
		"mixture": {data: []any{"prompt_tokens=128,output_tokens=32", "prompt_tokens=1,output_tokens=32"},
			void: "does not state one shape (its data: prompt_tokens=128,output_tokens=32 and prompt_tokens=1"},
		"file":            {data: "/data/sharegpt.jsonl", void: "does not state one shape (its data: /data/sharegpt.jsonl)"},
		"file, given":     {data: "/data/sharegpt.jsonl", given: shape, want: shape},
		"nothing":         {data: nil, void: "not named"},
		"given otherwise": {data: "prompt_tokens=128,output_tokens=32", given: sweep.Shape{PromptTokens: 1, OutputTokens: 2}, want: shape, note: "1/2 was given"},
	} {
		t.Run(name, func(t *testing.T) {
			m := read(t, data(test.data), Options{Shape: test.given})[0]
			if m.Shape != test.want {
				t.Errorf("shape %v, want %v", m.Shape, test.want)
			}
			if (test.void == "") != (len(m.Taken.Void) == 0) || !strings.Contains(strings.Join(m.Taken.Void, ""), test.void) {
				t.Errorf("void %q, want %q", m.Taken.Void, test.void)
			}
			if !strings.Contains(strings.Join(m.Notes, "\n"), test.note) {
				t.Errorf("notes %q lack %q", m.Notes, test.note)
			}
		})
	}
}

// TestSanityGate is about statistics that guidellm has been seen to write.
func TestSanityGate(t *testing.T) {
	metrics := func(name string, edit map[string]any) []byte {
		return report(t, "v0.3.1-concurrent-sweep.json.gz", func(_, b map[string]any) {
			d := in(b, "metrics", name, "successful")
			for k, v := range edit {
				d[k] = v
			}
		})
	}
	for name, test := range map[string]struct {
		metric    string
		edit      map[string]any
		ttft      float64
		statistic string
		void      string
		voidTTFT  string
	}{
		"empty streams, 0.3": {metric: "time_to_first_token_ms", edit: map[string]any{"mean": -1e8, "min": -1.8e12}, ttft: 28.786, statistic: "median"},
		"empty streams, 0.4": {metric: "time_to_first_token_ms", edit: map[string]any{"mean": 20.0, "min": 0.0}, ttft: 28.786, statistic: "median"},
		"beyond ten minutes": {metric: "time_to_first_token_ms", edit: map[string]any{"mean": 7e5}, ttft: 28.786, statistic: "median"},
		"null mean":          {metric: "time_to_first_token_ms", edit: map[string]any{"mean": nil}, ttft: 28.786, statistic: "median"},
		"mean and median":    {metric: "time_to_first_token_ms", edit: map[string]any{"mean": -1e8, "median": -1.8e12}, voidTTFT: "which no server has"},
		"microscopic":        {metric: "inter_token_latency_ms", edit: map[string]any{"mean": 0.001, "median": 0.001}, void: "ITL has a mean of 0.001 ms"},
	} {
		t.Run(name, func(t *testing.T) {
			m := read(t, metrics(test.metric, test.edit), Options{})[0]
			if got := strings.Join(m.Taken.Void, ""); (test.void == "") != (got == "") || !strings.Contains(got, test.void) {
				t.Errorf("void %q, want %q", got, test.void)
			}
			if got := strings.Join(m.Taken.VoidTTFT, ""); test.voidTTFT != "" && !strings.Contains(got, test.voidTTFT) {
				t.Errorf("void for TTFT %q, want %q", got, test.voidTTFT)
			}
			if test.voidTTFT != "" {
				if m.Taken.TTFT != nil {
					t.Errorf("TTFT %+v", m.Taken.TTFT)
				}
				return
			}
			if test.statistic == "" {
				return
			}
			if v := m.Taken.TTFT; v == nil || round(v.MS) != test.ttft || v.Statistic != test.statistic {
				t.Errorf("TTFT %+v, want %s %v", v, test.statistic, test.ttft)
			}
			if !strings.Contains(strings.Join(m.Notes, "\n"), "its median, 28.79 ms, is used") {
				t.Errorf("notes %q do not say so", m.Notes)
			}
		})
	}
	t.Run("no tokens, no rows", func(t *testing.T) {
		data := report(t, "v0.3.1-concurrent-sweep.json.gz", func(_, b map[string]any) {
			for _, name := range []string{"time_to_first_token_ms", "inter_token_latency_ms"} {
				d := in(b, "metrics", name, "successful")
				d["mean"], d["median"], d["min"] = 0, 0, 0
			}
		})
		void(t, read(t, data, Options{})[0], "no output token came")
	})
}

func TestRowsAreUsedOnlyWhenComplete(t *testing.T) {
	const file = "v0.4.0-concurrent-sweep.json.gz"
	basis := func(edit func(r, b map[string]any)) (string, string) {
		m := read(t, report(t, file, edit), Options{})[0]
		return m.Client.Basis, strings.Join(m.Notes, "\n")
	}
	if b, notes := basis(func(_, _ map[string]any) {}); b != "rows" || notes != "" {
		t.Errorf("complete: %s, notes %q", b, notes)
	}
	b, notes := basis(func(_, b map[string]any) {
		rows := in(b, "requests")
		rows["successful"] = rows["successful"].([]any)[:63]
	})
	if b != "summary" || !strings.Contains(notes, "keeps only 63 of 64 requests") {
		t.Errorf("sample: %s, notes %q", b, notes)
	}
	if b, _ := basis(func(_, b map[string]any) { in(b, "metrics", "request_totals")["errored"] = 1 }); b != "summary" {
		t.Errorf("a failed request without its row: %s", b)
	}
	// With a warm-up or a cool-down the totals are of a window, the rows of the run.
	b, notes = basis(func(_, b map[string]any) {
		in(b, "metrics", "request_totals")["successful"] = 50
		in(b, "metrics", "request_concurrency", "successful")["mean"] = 0.75
	})
	if b != "rows" || notes != "" {
		t.Errorf("totals of a filtered window: %s, notes %q", b, notes)
	}
	m := read(t, report(t, file, func(_, b map[string]any) { // and a sample of its rows
		in(b, "requests")["successful"] = in(b, "requests")["successful"].([]any)[:30]
		in(b, "metrics", "request_totals")["successful"] = 50
		in(b, "metrics", "request_concurrency", "successful")["mean"] = 0.75
	}), Options{})[0]
	if m.Client.Basis != "summary" || m.Client.Batch != 1 || !strings.Contains(strings.Join(m.Notes, "\n"), "0.75 requests in flight") {
		t.Errorf("a sample of a filtered window: %s, batch %g, %q", m.Client.Basis, m.Client.Batch, m.Notes)
	}
	b, notes = basis(func(_, b map[string]any) { in(b, "config", "strategy")["streams"] = 70 })
	if b != "summary" || !strings.Contains(notes, "never all busy") {
		t.Errorf("no steady window: %s, notes %q", b, notes)
	}
}

func TestTooManyRows(t *testing.T) {
	var b benchmark
	set := &rowSet{}
	for range MaxRows + 1 {
		set.add(record.Request{})
	}
	if !set.dropped || len(set.rows) > 0 || set.count[record.Successful] != MaxRows+1 {
		t.Errorf("dropped %t, %d rows, counted %d", set.dropped, len(set.rows), set.count)
	}
	b.rows = set
	b.OldTotals = &totals{Successful: MaxRows + 1}
	b.Config.Strategy = strategy{Type: "synchronous"}
	b.Metrics.ITL.Successful.Mean, b.Metrics.TTFT.Successful.Mean = 7, 15
	b.reduce()
	if c := b.reduced.client; c == nil || c.Basis != "summary" || !strings.Contains(strings.Join(b.reduced.notes, ""), "more than the 150000 that are kept") {
		t.Errorf("%+v, notes %q", c, b.reduced.notes)
	}
}

func TestUsage(t *testing.T) {
	for name, test := range map[string]struct {
		lines, tokens int
		preamble      bool
		missing       bool
	}{
		"usage and [DONE]":                  {lines: 34, tokens: 32},
		"only [DONE]":                       {lines: 33, tokens: 32, missing: true},
		"0.4.0 counts empty lines":          {lines: 68, tokens: 32},
		"0.4.0, only [DONE]":                {lines: 66, tokens: 32, missing: true},
		"role, usage and [DONE]":            {lines: 35, tokens: 32, preamble: true},
		"role and [DONE]":                   {lines: 34, tokens: 32, preamble: true, missing: true},
		"few tokens cannot be told":         {lines: 3, tokens: 2},
		"several tokens held back per line": {lines: 50, tokens: 32},
	} {
		var s streamed
		s.note(test.lines, test.tokens, test.preamble)
		if s.usageMissing() != test.missing {
			t.Errorf("%s: missing is %t", name, s.usageMissing())
		}
	}
	t.Run("another backend streams no lines", func(t *testing.T) {
		data := report(t, "v0.7.3-nousage.json.gz", func(_, b map[string]any) { in(b, "config", "backend")["kind"] = "vllm_python" })
		if m := read(t, data, Options{})[0]; len(m.Taken.Void) > 0 {
			t.Errorf("void: %q", m.Taken.Void)
		}
	})
}

func TestEssence(t *testing.T) {
	for message, want := range map[string]string{
		"": unknownReason,
		"Server error '500 Internal Server Error' for url 'http://x/v1'\nFor more":           "HTTP 500 Internal Server Error",
		`HTTPStatusError("Client error '401 Unauthorized' for url 'http://x/v1'\nFor more")`: "HTTP 401 Unauthorized",
		"ReadTimeout('')": "ReadTimeout",
		"ConnectError('All connection attempts failed')":   "ConnectError: All connection attempts failed",
		"cannot reach http://me:secret@host/v1":            "cannot reach http://***@host/v1",
		"header Authorization: Bearer abc.def was refused": "header Authorization: *** was refused",
		"api_key=abcdef is not known":                      "api_key=*** is not known",
		"Incorrect API key provided: sk-12345":             "Incorrect API key provided: ***",
		"first line\nsecond line":                          "first line",
		strings.Repeat("x", 300):                           strings.Repeat("x", longestError) + "…",
	} {
		if got := essence(message); got != want {
			t.Errorf("%q: %q, want %q", message, got, want)
		}
	}
	var c errorCounts
	for i := range 100 {
		c.add(strings.Repeat("e", i+1), 1)
	}
	if len(c) != mostErrors+1 || c[otherErrors] != 100-mostErrors {
		t.Errorf("%d kinds, %d others", len(c), c[otherErrors])
	}
}

func TestForeign(t *testing.T) {
	whole := string(content(t, "worked-example/synchronous.json"))
	for name, test := range map[string]struct{ data, want string }{
		"empty":            {"", "r.json: is empty"},
		"white space":      {" \n\t\n", "is empty"},
		"other JSON":       {`{"openapi": "3.1", "info": {}}`, `is JSON, but no report`},
		"list":             {`[{"schema": 1}]`, "is a JSON list"},
		"html":             {"<!DOCTYPE html><html>", "is HTML"},
		"csv":              {"Run Info,Run Info,Benchmark\nType,Id\n", `is not JSON, and of no other format`},
		"gzip":             {"\x1f\x8b\x08\x00", "gunzip -c"},
		"console log":      {string(content(t, "v0.3.1-console.log")), "--from-log"},
		"later log":        {string(content(t, "v0.7.3-console.log")), "is a console log"},
		"measurement":      {`{"schema": "wfgen.dev/measurement/v1"}`, "is a measurement already"},
		"no benchmarks":    {`{"benchmarks": []}`, "the list of benchmarks is empty"},
		"NaN":              {strings.Replace(whole, `"mean": 7.0`, `"mean": NaN`, 1), "holds NaN or Infinity at byte"},
		"-Infinity":        {strings.Replace(whole, `"mean": 7.0`, `"mean": -Infinity`, 1), "holds NaN or Infinity at byte"},
		"NaN says where":   {strings.Replace(whole, `"mean": 7.0`, `"mean": NaN`, 1), "/benchmarks/0/metrics/inter_token_latency_ms"},
		"broken":           {strings.Replace(whole, `"mean": 7.0`, `"mean": oops`, 1), "is broken JSON at byte"},
		"number as string": {strings.Replace(whole, `"mean": 7.0`, `"mean": "7.0"`, 1), "inter_token_latency_ms/successful/mean, at byte"},
		"too large":        {strings.Replace(whole, `"mean": 7.0`, `"mean": 1e999`, 1), "inter_token_latency_ms/successful/mean, at byte 31059: value out of range"},
		"two reports":      {whole + whole, "something follows the report from byte"},
		"garbage behind":   {whole + "done.", "something follows the report from byte"},
		"cut off":          {whole[:len(whole)/2], "r.json: is cut off at byte"},
		"other report":     {`{"schema": "wfgen.dev/report/v99", "requests": []}`, "no report"},
		"native, no end":   {`{"schema": "wfgen.dev/report/v1", "requests": []}`, "the field end is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			all, err := Read(strings.NewReader(test.data), "r.json", Options{})
			if err == nil || len(all) > 0 {
				t.Fatalf("believed: %+v", all)
			}
			if exit.Code(err) != exit.Refused || !strings.Contains(err.Error(), test.want) || !strings.HasPrefix(err.Error(), "r.json: ") {
				t.Errorf("code %d: %v; want %q", exit.Code(err), err, test.want)
			}
		})
	}
}

// TestCutOffAnywhere cuts a report at every byte of a stretch and at many others.
func TestCutOffAnywhere(t *testing.T) {
	data := bytes.TrimSpace(content(t, "v0.6.1-some500.json.gz"))
	for n := 0; n < len(data); n += 1 + n/200 {
		if all, err := Read(bytes.NewReader(data[:n]), "r.json", Options{}); err == nil {
			t.Fatalf("the first %d of %d bytes are believed: %+v", n, len(data), all)
		} else if exit.Code(err) != exit.Refused {
			t.Fatalf("%d bytes: code %d: %v", n, exit.Code(err), err)
		}
	}
}

// TestBrokenConnection tells a source that fails from a report that is cut off:
// the former may be tried again.
func TestBrokenConnection(t *testing.T) {
	data := content(t, "worked-example/synchronous.json")
	for _, n := range []int{0, 10, len(data) / 2} {
		broken := io.MultiReader(bytes.NewReader(data[:n]), failing{})
		_, err := Read(broken, "s3://b/k", Options{})
		if exit.Code(err) != exit.TryAgain || !errors.Is(err, errReset) {
			t.Errorf("after %d bytes: code %d: %v", n, exit.Code(err), err)
		}
	}
}

var errReset = errors.New("connection reset")

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errReset }

// TestSharedReports reads the full reports where they are at hand. Their server
// had ITL = 8 + 0.5*active ms plus about 0.9 ms by which its sleeps were late.
func TestSharedReports(t *testing.T) {
	files, _ := filepath.Glob("../../../../shared/data/guidellm-reports/*.json")
	if len(files) == 0 {
		t.Skip("no shared reports")
	}
	for _, file := range files {
		name := filepath.Base(file)
		t.Run(name, func(t *testing.T) {
			f, err := os.Open(file)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			all, err := Read(f, name, Options{Accelerator: "A100", Model: "m"})
			if err != nil {
				t.Fatal(err)
			}
			usable := strings.Contains(name, "sweep") || strings.Contains(name, "sample") || strings.Contains(name, "some500")
			for _, m := range all {
				if !usable {
					void(t, m, "")
					continue
				}
				// A summary mixes the drain in, where fewer ran together.
				law := func(batch float64) float64 { return 8.9 + 0.5*batch }
				if len(m.Taken.Void) > 0 || m.Taken.ITL.MS < 0.95*law(m.Taken.Batch) || m.Taken.ITL.MS > 1.06*law(float64(m.BatchSize)) {
					t.Errorf("batch %d: void %q, ITL %+v, measured batch %v", m.BatchSize, m.Taken.Void, m.Taken.ITL, m.Taken.Batch)
				}
				if m.Taken.TTFT.MS < 23 || m.Taken.TTFT.MS > 230 {
					t.Errorf("batch %d: TTFT %+v", m.BatchSize, m.Taken.TTFT)
				}
			}
			if want := 6; strings.Contains(name, "sweep") && len(all) != want {
				t.Errorf("%d measurements, want %d", len(all), want)
			}
		})
	}
}

// Where rows are a sample the report's own quantiles are kept, and where it has a 0
// among them, none.
func TestQuantilesOfASummary(t *testing.T) {
	for name, test := range map[string]struct {
		edit func(distribution map[string]any)
		has  bool
	}{
		"whole":              {func(map[string]any) {}, true},
		"a zero":             {func(d map[string]any) { d["min"] = 0 }, false},
		"one absent":         {func(d map[string]any) { delete(d["percentiles"].(map[string]any), "p99") }, false},
		"not in their order": {func(d map[string]any) { d["percentiles"].(map[string]any)["p10"] = 1e5 }, false},
	} {
		data := report(t, "v0.7.3-sample_size0.json.gz", func(_, b map[string]any) {
			rows := in(b, "requests")
			rows["successful"] = rows["successful"].([]any)[1:]
			test.edit(in(b, "metrics", "time_to_first_token_ms", "successful"))
		})
		m := read(t, data, Options{})[0]
		if m.Client == nil || m.Client.Basis != measurement.BasisSummary || m.Client.Course != nil {
			t.Fatalf("%s: %+v", name, m.Client)
		}
		if q := m.Client.TTFT.Quantiles; (q != nil) != test.has || q != nil && !(q.P10 < q.P50 && q.P50 < q.P99) {
			t.Errorf("%s: quantiles %+v", name, q)
		}
	}
}
