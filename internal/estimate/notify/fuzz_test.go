package notify

import (
	"testing"
	"unicode/utf8"
)

// FuzzFailures: whatever Argo says of failed nodes, the notification is bounded and is text.
func FuzzFailures(f *testing.F) {
	f.Add(`[{"displayName":"wait","message":"x"}]`)
	f.Add(`"[{\"displayName\":\"wait\",\"message\":\"\\u001b[2J\"}]"`)
	f.Add(`null`)
	f.Fuzz(func(t *testing.T, text string) {
		n := Of(Run{Sweep: "s", Name: "r", Status: "Failed", Failures: text})
		if len(n.Failures) > mostLines+1 {
			t.Errorf("%d lines", len(n.Failures))
		}
		for _, line := range n.Failures {
			if len(line) > 2*mostChars || !utf8.ValidString(line) {
				t.Errorf("%d bytes: %q", len(line), line)
			}
		}
	})
}
