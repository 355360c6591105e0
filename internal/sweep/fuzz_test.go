package sweep

import (
	"slices"
	"testing"
)

// FuzzWords: what is read of a flag is within the limits, and reads again as it is printed.
func FuzzWords(f *testing.F) {
	for _, seed := range []string{"128/128", "1-2", "[1,8,64]", "1, 2,4", "5%", "0.05", "1e999%", "-1/2", "9999999999999999999/2", "[1e3]"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := ParseShape(text); err == nil {
			if again, err := ParseShape(s.String()); err != nil || again != s || s.PromptTokens < 1 || s.OutputTokens < 2 || s.PromptTokens > MostTokens || s.OutputTokens > MostTokens {
				t.Errorf("shape %+v, again %+v, %v", s, again, err)
			}
		}
		if sizes, err := ParseBatchSizes(text); err == nil && len(sizes) > 0 && slices.Max(sizes) > MostBatch {
			t.Errorf("batch sizes %v", sizes)
		}
		if x, err := ParseShare(text); err == nil && !(x > 0 && x < 1) {
			t.Errorf("share %v", x)
		}
		if slug := Slug(text); len(slug) > len(text)+1 {
			t.Errorf("slug %q", slug)
		}
	})
}
