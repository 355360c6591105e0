// Package scratch makes temporary directories that do not outlive their process: what
// one that was killed has left behind, the next one removes.
package scratch

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"wfgen.dev/internal/run/exit"
)

// young is how old a directory must be to have been left behind: one that has just been
// made may not be held yet.
const young = time.Minute

// Dir makes a directory whose name begins with prefix, and removes those that killed
// processes have left. remove ends it. The error has code exit.Usage.
func Dir(prefix string) (dir string, remove func(), err error) {
	sweep(os.TempDir(), prefix, time.Now())
	if dir, err = os.MkdirTemp("", prefix); err != nil {
		return "", nil, exit.Errorf(exit.Usage, "no temporary directory: %w; TMPDIR names the place for it", err)
	}
	held := hold(dir)
	return dir, func() {
		_ = os.RemoveAll(dir)
		if held != nil {
			held.Close()
		}
	}, nil
}

// hold locks a directory until it is closed or the process ends; nil where somebody
// else holds it, or the file system has no locks.
func hold(dir string) *os.File {
	f, err := os.Open(dir)
	if err != nil {
		return nil
	}
	if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		f.Close()
		return nil
	}
	return f
}

// sweep removes the directories in parent that nobody holds any more.
func sweep(parent, prefix string, now time.Time) {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !e.IsDir() || !strings.HasPrefix(e.Name(), prefix) || now.Sub(info.ModTime()) < young {
			continue
		}
		if held := hold(filepath.Join(parent, e.Name())); held != nil {
			_ = os.RemoveAll(filepath.Join(parent, e.Name()))
			held.Close()
		}
	}
}
