package scratch

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestWhatIsLeftBehindIsRemoved(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	held, remove, err := Dir("step-")
	if err != nil {
		t.Fatal(err)
	}
	left := map[string]bool{"step-left": false, "step-new": true, "other-left": true}
	for name := range left {
		if err := os.MkdirAll(filepath.Join(os.TempDir(), name, "reports"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	old := time.Now().Add(-2 * young)
	for _, dir := range []string{held, filepath.Join(os.TempDir(), "step-left"), filepath.Join(os.TempDir(), "other-left")} {
		if err := os.Chtimes(dir, old, old); err != nil {
			t.Fatal(err)
		}
	}
	_, other, err := Dir("step-")
	if err != nil {
		t.Fatal(err)
	}
	defer other()
	left[filepath.Base(held)] = true
	for name, want := range left {
		if _, err := os.Stat(filepath.Join(os.TempDir(), name)); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	remove()
	if _, err := os.Stat(held); err == nil {
		t.Error("not removed")
	}
	t.Setenv("TMPDIR", filepath.Join(os.TempDir(), "nowhere"))
	if _, _, err := Dir("step-"); err == nil {
		t.Error("a directory in no place")
	}
}
