package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"wfgen.dev/internal/llm/record"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/tests/schematest"
)

var header = NativeHeader{
	Tool: "v1.2.3", Model: "org/model", Accelerator: "A100", Target: "http://vllm:8000", Endpoint: "/v1/completions",
	Shape: sweep.Shape{PromptTokens: 128, OutputTokens: 3}, BatchSize: 2, Seed: 7, StartedAt: 1760000000,
}

// write makes a native report.
func write(t rapid.TB, h NativeHeader, rows []NativeRequest, end NativeEnd) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := NewNativeWriter(&b, h)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if err := w.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(end); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// steady is a closed loop in which every request takes 40 ms: first token after
// 20, two gaps of 10. The streams are half a request apart.
func steady(streams, each int) []NativeRequest {
	var rows []NativeRequest
	for i := range each {
		for s := range streams {
			rows = append(rows, NativeRequest{
				Stream: s, Start: 1760000000 + 0.04*float64(i) + 0.02*float64(s), FirstTokenMS: 20, EndMS: 40, GapsUS: []int64{10000, 10000},
				PromptTokens: 130, OutputTokens: 3, Status: NativeSuccessful,
			})
		}
	}
	return rows
}

func TestNative(t *testing.T) {
	rows := append([]NativeRequest{{Start: 1759999999, FirstTokenMS: 500, EndMS: 600, OutputTokens: 1, Status: NativeSuccessful, Warmup: true}}, steady(2, 50)...)
	all := read(t, write(t, header, rows, NativeEnd{EndedAt: 1760000003}), Options{})
	if len(all) != 1 {
		t.Fatalf("%d measurements", len(all))
	}
	m := all[0]
	if diff := cmp.Diff(point{
		Version: "v1.2.3", Model: "org/model", Target: "http://vllm:8000", Shape: header.Shape, Batch: 2, Basis: "rows",
		ITL: 10, TTFT: 20, Running: 2, OK: 100,
	}, summarise(m)); diff != "" {
		t.Error(diff)
	}
	if m.Client.Requests != 101 {
		t.Errorf("%d requests, want the warm-up counted, as the server does", m.Client.Requests)
	}
	if m.Accelerator != "A100" || m.PromptTokens != 130 || m.OutputTokens != 3 || m.StartedAt != 1760000000 || round(m.Seconds) != 2.02 || m.Partial {
		t.Errorf("%+v", m)
	}
	if _, err := measurement.Encode(m); err != nil {
		t.Error(err)
	}
}

func TestNativeOptions(t *testing.T) {
	o := Options{Accelerator: "H100", Model: "alias", Shape: sweep.Shape{PromptTokens: 1, OutputTokens: 2}, BatchSize: 9}
	m := read(t, write(t, header, steady(2, 50), NativeEnd{Interrupted: true}), o)[0]
	if m.Accelerator != "H100" || m.Model != "alias" || m.Shape != header.Shape || m.BatchSize != 2 {
		t.Errorf("%+v", m)
	}
	if !m.Partial || !strings.Contains(strings.Join(m.Notes, ""), "interrupted") {
		t.Errorf("an interrupted point is not marked: %+v", m)
	}
}

func TestNativeNothingUsable(t *testing.T) {
	failed := NativeRequest{Start: 1, EndMS: 5, Status: NativeErrored, Error: "HTTP 500"}
	noUsage := steady(2, 50)
	for i := range noUsage {
		noUsage[i].OutputTokens, noUsage[i].PromptTokens = 0, 0
	}
	for name, test := range map[string]struct {
		rows []NativeRequest
		want string
	}{
		"none":       {nil, "no request was made"},
		"all failed": {[]NativeRequest{failed, failed}, "none of 2 requests succeeded: HTTP 500 x2"},
		"all cut":    {[]NativeRequest{{Start: 1, EndMS: 5, Status: NativeIncomplete}}, "all 1 requests were cut off"},
		"too short":  {steady(2, 1), "let the point run"},
		"no usage":   {noUsage, "usage"},
	} {
		t.Run(name, func(t *testing.T) {
			void(t, read(t, write(t, header, test.rows, NativeEnd{}), Options{})[0], test.want)
		})
	}
}

func TestNativeTooManyRows(t *testing.T) {
	d := document{}
	d.nativeDocument = nativeDocument{NativeHeader: header, End: &NativeEnd{}}
	for range MaxRows + 1 {
		d.Requests.add(record.Request{})
	}
	all, err := d.native("n.json", Options{})
	if err != nil {
		t.Fatal(err)
	}
	void(t, all[0], "fewer seconds")
	if all[0].Requests.Successful != MaxRows+1 {
		t.Errorf("%+v", all[0].Requests)
	}
}

func TestNativeUnknownStatus(t *testing.T) {
	data := write(t, header, []NativeRequest{{Start: 1, Status: "fine"}}, NativeEnd{})
	_, err := Read(bytes.NewReader(data), "n.json", Options{})
	if exit.Code(err) != exit.Refused || !strings.Contains(err.Error(), `/requests/0`) || !strings.Contains(err.Error(), `"fine"`) {
		t.Errorf("%v", err)
	}
}

func TestNativeWriterIsValidJSON(t *testing.T) {
	for n := range 3 {
		data := write(t, header, steady(1, n), NativeEnd{EndedAt: 5})
		var v struct {
			NativeHeader
			Requests []NativeRequest `json:"requests"`
			End      NativeEnd       `json:"end"`
		}
		if err := json.Unmarshal(data, &v); err != nil {
			t.Fatalf("%d requests: %v\n%s", n, err, data)
		}
		want := header
		want.Schema = NativeSchema
		if v.NativeHeader != want || len(v.Requests) != n || v.End.EndedAt != 5 {
			t.Errorf("%d requests: %+v", n, v)
		}
	}
}

func TestNativeSchema(t *testing.T) {
	const file = "report.schema.json"
	failed := NativeRequest{Start: 1, EndMS: 5, Status: NativeErrored, Error: "HTTP 500", Warmup: true}
	schematest.Validate(t, file,
		write(t, header, append(steady(2, 2), failed), NativeEnd{EndedAt: 5, Interrupted: true}),
		write(t, header, nil, NativeEnd{EndedAt: 5}))
	schematest.Refute(t, file, []byte(`{"schema": "wfgen.dev/report/v1", "requests": []}`))
	schematest.Describes(t, file, struct {
		NativeHeader
		Requests []NativeRequest `json:"requests"`
		End      NativeEnd       `json:"end"`
	}{})
}

func TestNativeWriterManyStreams(t *testing.T) {
	var b bytes.Buffer
	w, err := NewNativeWriter(&b, header)
	if err != nil {
		t.Fatal(err)
	}
	var streams sync.WaitGroup
	for s := range 8 {
		streams.Go(func() {
			for range 100 {
				if err := w.Add(NativeRequest{Stream: s, Start: 1, Status: NativeIncomplete}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	streams.Wait()
	if err := w.Close(NativeEnd{}); err != nil {
		t.Fatal(err)
	}
	if m := read(t, b.Bytes(), Options{})[0]; m.Requests.Incomplete != 800 {
		t.Errorf("%d requests", m.Requests.Incomplete)
	}
	if w.Add(NativeRequest{}) == nil || w.Close(NativeEnd{}) == nil {
		t.Error("written after the end")
	}
}

var errDisk = errors.New("disk full")

// full takes so many bytes.
type full struct{ left int }

func (f *full) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, errDisk
	}
	return len(p), nil
}

func TestNativeWriterDiskFull(t *testing.T) {
	if _, err := NewNativeWriter(&full{}, header); !errors.Is(err, errDisk) {
		t.Errorf("beginning: %v", err)
	}
	w, err := NewNativeWriter(&full{left: 8192}, header)
	if err != nil {
		t.Fatal(err)
	}
	var added error
	for range 1000 {
		added = errors.Join(added, w.Add(steady(1, 1)[0]))
	}
	if !errors.Is(added, errDisk) || !errors.Is(w.Close(NativeEnd{}), errDisk) {
		t.Errorf("adding: %v", added)
	}
}

// TestNativeRoundTrip: what is written comes back, and no part of it does.
func TestNativeRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOf(rapid.SampledFrom([]rune("ab \"\\\n,{}[]é\u2028😀")))
		row := rapid.Custom(func(t *rapid.T) NativeRequest {
			return NativeRequest{
				Stream:       rapid.IntRange(0, 99).Draw(t, "stream"),
				Start:        float64(rapid.Int64Range(1, 4e15).Draw(t, "start")) / 1e6,
				FirstTokenMS: float64(rapid.Int64Range(0, 1e9).Draw(t, "first")) / 1e3,
				EndMS:        float64(rapid.Int64Range(0, 1e9).Draw(t, "end")) / 1e3,
				GapsUS:       rapid.SliceOfN(rapid.Int64Range(0, 1e6), 0, 4).Draw(t, "gaps"),
				PromptTokens: rapid.IntRange(0, 1e6).Draw(t, "prompt"),
				OutputTokens: rapid.IntRange(0, 1e6).Draw(t, "output"),
				Status:       rapid.SampledFrom([]string{NativeSuccessful, NativeErrored, NativeIncomplete}).Draw(t, "status"),
				Error:        text.Draw(t, "error"),
				Warmup:       rapid.Bool().Draw(t, "warmup"),
			}
		})
		rows := rapid.SliceOfN(row, 0, 20).Draw(t, "rows")
		h := header
		h.Model = text.Draw(t, "model")
		data := write(t, h, rows, NativeEnd{EndedAt: 2})

		all, err := Read(bytes.NewReader(data), "n.json", Options{})
		if err != nil {
			t.Fatal(err)
		}
		m := all[0]
		kept := slices.DeleteFunc(slices.Clone(rows), func(r NativeRequest) bool { return r.Warmup })
		if n := m.Requests.Successful + m.Requests.Errored + m.Requests.Incomplete; n != len(kept) || m.Model != h.Model {
			t.Fatalf("%d of %d requests, model %q of %q", n, len(kept), m.Model, h.Model)
		}
		for _, r := range kept {
			got, known := r.Row()
			if !known {
				t.Fatalf("status %q", r.Status)
			}
			if got.End < got.LastToken || got.LastToken < got.FirstToken || r.FirstTokenMS > 0 && got.FirstToken < got.Start {
				t.Fatalf("out of order: %+v of %+v", got, r)
			}
		}

		cut := rapid.IntRange(0, len(data)-2).Draw(t, "cut") // the last byte is a line end
		if all, err := Read(bytes.NewReader(data[:cut]), "n.json", Options{}); err == nil || exit.Code(err) != exit.Refused {
			t.Fatalf("cut at %d of %d: %v, %v", cut, len(data), all, err)
		}
	})
}

func ExampleNativeWriter() {
	var b bytes.Buffer
	w, err := NewNativeWriter(&b, NativeHeader{Tool: "dev", Model: "m", Target: "http://vllm:8000", Endpoint: "/v1/completions", Shape: sweep.Shape{PromptTokens: 128, OutputTokens: 3}, BatchSize: 1, StartedAt: 1})
	if err != nil {
		panic(err)
	}
	err = errors.Join(
		w.Add(NativeRequest{Start: 1.5, FirstTokenMS: 20.25, EndMS: 40.5, GapsUS: []int64{10000, 10100}, PromptTokens: 128, OutputTokens: 3, Status: NativeSuccessful}),
		w.Close(NativeEnd{EndedAt: 2}),
	)
	if err != nil {
		panic(err)
	}
	fmt.Print(b.String())
	// Output:
	// {"schema":"wfgen.dev/report/v1","tool":"dev","model":"m","target":"http://vllm:8000","endpoint":"/v1/completions","shape":{"prompt_tokens":128,"output_tokens":3},"batch_size":1,"seed":0,"started_at":1,"requests":[
	// {"stream":0,"start":1.5,"first_token_ms":20.25,"end_ms":40.5,"gaps_us":[10000,10100],"prompt_tokens":128,"output_tokens":3,"status":"successful"}
	// ],"end":{"ended_at":2}}
}
