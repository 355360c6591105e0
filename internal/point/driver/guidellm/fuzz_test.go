package guidellm

import (
	"testing"
	"unicode/utf8"

	"wfgen.dev/internal/point/driver"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/sweep/release"
)

// FuzzSaid: whatever guidellm says, it is a failure with a code of the table and a few
// lines of text.
func FuzzSaid(f *testing.F) {
	for _, seed := range []string{
		"guidellm version: 0.7.3", "HTTPStatusError: Client error '401 Unauthorized'", "Traceback (most recent call last):\n  File \"x\", line 1\n    y\nKeyError: \x1b[2J",
		"99999999999999999999.1.2", "Loading tokenizer\nConnectTimeout", "RemoteProtocolError\r\n",
	} {
		f.Add(seed, 1)
		f.Add(seed, 137)
	}
	f.Fuzz(func(t *testing.T, said string, code int) {
		r, ok := release.Parse(said)
		if ok && r.String() == "" {
			t.Error("a version without a text")
		}
		_ = r.Traits()
		_, _ = r.TooOld(), r.Newer()
		err := (&Guidellm{version: r}).failure(outcome{code: code}, driver.Options{}, said)
		if (err == nil) != (code == 0) {
			t.Fatalf("exit code %d: %v", code, err)
		}
		if err == nil {
			return
		}
		if c := exit.Code(err); c != exit.Usage && c != exit.Unusable && c != exit.TryAgain {
			t.Errorf("code %d: %v", c, err)
		}
		if text := lastLines(said); len(text) > 100+tailLines*2*lineBytes || !utf8.ValidString(text) {
			t.Errorf("%d bytes: %q", len(text), text)
		}
	})
}
