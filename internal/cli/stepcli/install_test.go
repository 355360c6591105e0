package stepcli

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func TestInstallTo(t *testing.T) {
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "step")
	for range 2 { // a restarted init container finds the file of its first attempt
		if err := installTo(self, path); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("the copy differs: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := installTo(self, filepath.Join(dir, "absent", "step")); err == nil {
		t.Error("no error for a directory that is not there")
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}
