package precision

import (
	"encoding/json"
	"strings"
	"testing"

	"wfgen.dev/internal/tests/schematest"
)

// The schema describes the rounds that there are, and no others.
func TestSchema(t *testing.T) {
	const file = "round.schema.json"
	begun := Round{Schema: RoundSchema, Number: 2, Points: []Point{
		{PromptTokens: 128, OutputTokens: 128, BatchSize: 8, MaxSeconds: 12},
		{PromptTokens: 128, OutputTokens: 128, BatchSize: 8, MaxSeconds: 14, Again: "-again2"},
	}}
	encode := func(r Round) []byte {
		data, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := Decode(data); err != nil || back.Number != r.Number || len(back.Points) != len(r.Points) {
			t.Errorf("read back: %+v, %v", back, err)
		}
		return data
	}
	schematest.Describes(t, file, begun)
	schematest.Validate(t, file, encode(begun))
	for _, why := range []string{Reached, Drift, Budget, Rounds, Refused} {
		schematest.Validate(t, file, encode(Round{Schema: RoundSchema, Number: 3, Points: []Point{}, Ended: why, Reasons: []string{"128/128: beta ±4 %"}}))
	}
	for was, is := range map[string]string{`"-again2"`: `"-twice"`, `"number":2`: `"number":0`, `"batch-size":8`: `"batch-size":0`, `round/v1`: `round/v2`} {
		schematest.Refute(t, file, []byte(strings.Replace(string(encode(begun)), was, is, 1)))
	}
	schematest.Refute(t, file, encode(Round{Schema: RoundSchema, Number: 3, Points: []Point{}, Ended: "tired"}))
}
