package engine

import (
	"slices"
	"strings"
	"testing"
)

// FuzzArguments: whatever a server was started with, what it says is a number from 0 up
// and a role that is known.
func FuzzArguments(f *testing.F) {
	for _, seed := range []string{"--max-num-seqs=64", "--max-num-batched-tokens 99999999999999999999", `--kv-transfer-config {"kv_role":"kv_producer"}`, "--disaggregation-mode decode --chunked-prefill-size -1", "=", "--max-num-seqs"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		args := strings.Split(text, " ")
		if n, chunk := MaxNumSeqs(args), ChunkTokens(args); n < 0 || chunk < 0 {
			t.Errorf("max-num-seqs %d, chunk %d", n, chunk)
		}
		if role := Role(args); !slices.Contains([]string{"", "prefill", "decode"}, role) {
			t.Errorf("role %q", role)
		}
	})
}
