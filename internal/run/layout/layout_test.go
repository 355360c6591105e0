package layout

import "testing"

// Names that differ never meet in one file, and ordinary ones stay readable.
func TestSegments(t *testing.T) {
	for name, want := range map[string]string{
		"A100": "A100", "A100-SXM4-80GB": "A100-SXM4-80GB", "org/Model-8B": "org--Model-8B", "MI300X 192": "MI300X 192",
		"a--b": "a-%2Db", "a-/b": "a%2D--b", "a/-b": "a--%2Db", "a%b": "a%25b", ".": "%2E", "..": "%2E.", "_.": "_.", "a\\b": "a%5Cb",
	} {
		if got := segment(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

func FuzzSegments(f *testing.F) {
	f.Add("a/b", "a--b")
	f.Add("-/", "/-")
	f.Add("a---b", "a/-b")
	f.Fuzz(func(t *testing.T, a, b string) {
		if a != b && segment(a) == segment(b) {
			t.Errorf("%q and %q are both %q", a, b, segment(a))
		}
	})
}
