package manifest

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"
)

type object struct {
	Templates []int          `json:"templates,omitempty"`
	Kind      string         `json:"kind"`
	Name      string         `json:"name"`
	Metadata  map[string]any `json:"metadata"`
	Status    map[string]int `json:"status"`
	Spec      map[string]any `json:"spec"`
}

func TestYAML(t *testing.T) {
	got, err := YAML(object{
		Kind:      "Thing",
		Templates: []int{1},
		Status:    map[string]int{"failed": 0},
		Metadata:  map[string]any{"creationTimestamp": nil},
		Spec: map[string]any{
			"empty":   map[string]any{},
			"list":    []map[string]any{{"name": "a", "value": ""}, {"name": "b", "value": "128"}},
			"text":    "two\nlines\n",
			"country": "no",
			"inputs":  map[string]any{},
			"number":  3,
		},
	}, Comment{"spec.list", "Choose."}, Comment{"spec.list[b].value", "Tokens."}, Comment{"spec.list[a]", "First."})
	if err != nil {
		t.Fatal(err)
	}
	want := `kind: Thing
spec:
  country: "no"
  empty: {}
  # Choose.
  list:
  # First.
  - name: a
    value: ""
  - name: b
    # Tokens.
    value: "128"
  number: 3
  text: |
    two
    lines
templates:
- 1
`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
}

func TestCommentsAreNotLost(t *testing.T) {
	for _, path := range []string{"sepc", "spec.a", "spec.list[c]", "spec.list[a].b", "kind.x", "kind[a]"} {
		_, err := YAML(object{Kind: "Thing", Spec: map[string]any{"list": []any{map[string]any{"name": "a"}}}}, Comment{path, "text"})
		if err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestTooLarge(t *testing.T) {
	if _, err := YAML(object{Kind: strings.Repeat("a", MaxBytes)}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v", err)
	}
	if _, err := YAML(object{Kind: strings.Repeat("a", MaxBytes-100)}); err != nil {
		t.Error(err)
	}
}

// Whatever the text, kubectl reads back what was meant.
func TestRoundTrip(t *testing.T) {
	text := rapid.OneOf(rapid.String(), rapid.StringMatching(`[ -~]{0,12}`),
		rapid.SampledFrom([]string{"yes", "Y", "off", "NO", "null", "~", "1e3", "0x1F", "0o7", "017", "1_000", "12:30:45", "2026-11-22", "<<", "=", "- a", "#", "a: b", "a #b", " ", "\t", "{{workflow.name}}", "[1,2]"}))
	rapid.Check(t, func(t *rapid.T) {
		want := map[string]any{"spec": map[string]any{
			"a":                       text.Draw(t, "a"),
			"l":                       []any{text.Draw(t, "element"), float64(rapid.Int32().Draw(t, "number"))},
			"k" + text.Draw(t, "key"): true,
		}}
		// What JSON cannot hold is not asked for.
		data, err := json.Marshal(want)
		if err != nil {
			t.Skip("no JSON of that")
		}
		want = map[string]any{}
		if err := json.Unmarshal(data, &want); err != nil {
			t.Fatal(err)
		}
		out, err := YAML(want)
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		if err := yaml.UnmarshalStrict(out, &got); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%s\n%s", diff, out)
		}
	})
}
