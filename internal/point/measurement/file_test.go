package measurement

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/reason"
	"wfgen.dev/internal/tests/schematest"
)

const schemaFile = "measurement.schema.json"

func TestFileRoundTrip(t *testing.T) {
	m := sample()
	m.RefuseTTFT(reason.New(reason.Void, "a queue by its own account"))
	m.Taken = m.Weigh(Auto, Auto)
	m.Notes = []string{"a < b"}
	m.Client.Course = &Course{StartedAt: 1.7e9, SpanSeconds: 2, ITLMS: []*float64{new(10.0), nil}}
	m.Client.ITL.Quantiles = &Quantiles{8, 9, 9.5, 10, 10.5, 11, 11, 12, 13}
	m.Requests.Errors = map[string]int{"HTTP 500": 2}
	data, err := Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(bytes.NewReader(data), "m.json")
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, m) {
		t.Errorf("read %+v, wrote %+v", got, m)
	}
	bare := Measurement{Model: "m", Accelerator: "A", Shape: m.Shape, BatchSize: 1, Taken: Taken{Void: []string{"all failed"}}}
	small, err := Encode(bare)
	if err != nil {
		t.Fatal(err)
	}
	schematest.Validate(t, schemaFile, data, small)
	schematest.Describes(t, schemaFile, m)
	schematest.Refute(t, schemaFile, []byte(`{"schema": "wfgen.dev/measurement/v1"}`))
	if len(data) > 20<<10 {
		t.Errorf("%d bytes", len(data))
	}
}

func TestDecodeRefuses(t *testing.T) {
	edit := func(change func(map[string]any)) string {
		data, err := Encode(sample())
		if err != nil {
			t.Fatal(err)
		}
		var fields map[string]any
		if err := json.Unmarshal(data, &fields); err != nil {
			t.Fatal(err)
		}
		change(fields)
		data, _ = json.Marshal(fields)
		return string(data)
	}
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"nothing", "", []string{"m.json: not a measurement"}},
		{"truncated", `{"schema": "wfgen.dev/meas`, []string{"m.json: not a measurement"}},
		{"another version", edit(func(f map[string]any) { f["schema"] = "wfgen.dev/measurement/v9" }), []string{"v9", "v1"}},
		{"several mistakes", edit(func(f map[string]any) {
			delete(f, "model")
			f["batch_size"] = 0
			f["seconds"] = -3
			f["client"].(map[string]any)["batch"] = -1
			f["client"].(map[string]any)["course"] = map[string]any{"span_seconds": 0}
		}), []string{"model: missing", "batch_size: 0", "seconds: -3", "client.batch: -1", "client.course.span_seconds: 0"}},
		{"wrong type", edit(func(f map[string]any) { f["batch_size"] = "8" }), []string{"batch_size"}},
		{"too large", `{"x": "` + strings.Repeat("x", MaxFileSize) + `"}`, []string{"larger than"}},
	} {
		_, err := Decode(strings.NewReader(c.text), "m.json")
		if err == nil || exit.Code(err) != exit.Refused {
			t.Errorf("%s: error %v with code %d", c.name, err, exit.Code(err))
			continue
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q does not say %q", c.name, err, w)
			}
		}
	}
	if _, err := Decode(strings.NewReader(edit(func(f map[string]any) { f["of_the_future"] = 1 })), "m.json"); err != nil {
		t.Errorf("unknown field: %v", err)
	}
}

// What came with the report stays when a file is weighed again, and what an earlier
// weighing found does not; a file of a version that kept no two lists is told apart.
func TestReportedReasonsAreKept(t *testing.T) {
	m := sample()
	m.Server.Requests = 400
	m.Refuse(reason.New(reason.Restarted, "it began again"))
	m.RefuseTTFT(reason.New(reason.Void, "a queue by its own account").Cured("ask for less"))
	m.Taken = m.Weigh(Auto, Auto)
	data, err := Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(data, &fields); err != nil {
		t.Fatal(err)
	}
	delete(fields, "reported")
	earlier, _ := json.Marshal(fields)
	for name, file := range map[string][]byte{"as it is written": data, "of an earlier version": earlier} {
		got, err := Decode(bytes.NewReader(file), name)
		if err != nil {
			t.Fatal(err)
		}
		taken := got.Weigh(Client, Auto)
		if want := []string{"it began again"}; !slices.Equal(taken.Void, want) || !taken.Has(reason.Restarted) {
			t.Errorf("%s: void %q, want %q", name, taken.Void, want)
		}
		if want := []string{"a queue by its own account; ask for less"}; !slices.Equal(taken.VoidTTFT, want) {
			t.Errorf("%s: void for TTFT %q, want %q", name, taken.VoidTTFT, want)
		}
		if taken := got.Weigh(Auto, Auto); !mentions(taken.Void, "somebody else") || len(taken.Void) != 2 {
			t.Errorf("%s: void %q", name, taken.Void)
		}
	}
}
