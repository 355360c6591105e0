package local

import (
	"bytes"
	"context"
	"encoding/json"
	"testing"
	"time"

	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/run/store"
	"wfgen.dev/internal/sweep/config"
	"wfgen.dev/internal/sweep/plan"
)

// FuzzBegun: whatever stands in the files of a run that was begun, the run is resumed, or
// it is said why not; a claim that cannot be read holds nothing for ever.
func FuzzBegun(f *testing.F) {
	f.Add([]byte(`{"schema":"wfgen.dev/plan/v1","model":"m","accelerators":["A100"],"shapes":[{"prompt_tokens":8,"output_tokens":8}],"batch_sizes":[1,2]}`),
		[]byte(`{"schema":"wfgen.dev/claim/v1","host":"elsewhere","pid":1,"since":1,"beat":4000000000}`))
	f.Add([]byte(`{"schema":"wfgen.dev/plan/v1","batch_sizes":[-1],"targets":{"":"\u001b"},"tokenizer":null}`), []byte(`{"schema":"wfgen.dev/claim/v1","host":"","pid":-1,"beat":9223372036854775807}`))
	f.Add([]byte(`{"schema":`), []byte(``))
	dir := f.TempDir()
	out, err := store.New(context.Background(), dir)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, planned, claimed []byte) {
		for key, data := range map[string][]byte{layout.Run("r") + "/" + layout.Plan: planned, layout.ClaimsOf("r") + "/c.json": claimed} {
			if err := out.Put(t.Context(), key, bytes.NewReader(data)); err != nil {
				t.Fatal(err)
			}
		}
		_, _, err := NameRun(t.Context(), out, plan.Of(config.Default()), "r", time.Now())
		if code := exit.Code(err); err != nil && code != exit.Usage && code != exit.Refused {
			t.Errorf("code %d: %v", code, err)
		}
		var c claim
		if err := holder(t.Context(), out, "r", "", "here"); err != nil && (exit.Code(err) != exit.TryAgain || json.NewDecoder(bytes.NewReader(claimed)).Decode(&c) != nil) {
			t.Errorf("code %d: %v", exit.Code(err), err)
		}
	})
}
