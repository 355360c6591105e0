package measurement

import (
	"testing"

	"wfgen.dev/internal/sweep"
)

func TestDescribe(t *testing.T) {
	shape := sweep.Shape{PromptTokens: 64, OutputTokens: 16}
	for _, test := range []struct {
		m    Measurement
		want string
	}{
		{Measurement{Accelerator: "X", Shape: shape, BatchSize: 4, Requests: Requests{Successful: 83}, Taken: Taken{
			Batch: 3.98, ITL: &Value{MS: 22, From: Client}, TTFT: &Value{MS: 46, From: Server},
			ITLDifferencePercent: new(-0.2), TTFTDifferencePercent: new(20.3),
		}}, "X 64/16 batch 4 (measured 3.98): ITL 22.000 ms (client), TTFT 46.000 ms (server; the client's is +20.3 % off), 83 requests"},
		{Measurement{Accelerator: "X", Shape: shape, BatchSize: 2, Requests: Requests{Errored: 20, Errors: map[string]int{"HTTP 500": 20}}},
			"X 64/16 batch 2: 0 requests, 20 failed; 20 x HTTP 500"},
	} {
		if got := test.m.Describe(); got != test.want {
			t.Errorf("%s\nwant %s", got, test.want)
		}
	}
}
