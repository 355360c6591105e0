package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"wfgen.dev/internal/run/exit"
)

// directory is a store on this machine's disk.
type directory struct{ root string }

func (d *directory) String() string { return d.root }

func (d *directory) path(key string) string { return filepath.Join(d.root, filepath.FromSlash(key)) }

// Files that are being written have this in their names. List does not show
// them, and a crash leaves nothing else behind.
const partial = ".partial-"

func (d *directory) Put(ctx context.Context, key string, r io.Reader) error {
	if err := validKey(d.root, key); err != nil {
		return err
	}
	target := d.path(key)
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return writeError(target, err)
	}
	source := &reading{ctx: ctx, r: r}
	if err := WriteFile(target, 0o644, source); source.err != nil {
		return exit.With(exit.TryAgain, fmt.Errorf("cannot write %s: %w", target, source.err))
	} else if err != nil {
		return err
	}
	return syncDirectory(filepath.Dir(target))
}

// syncDirectory makes a rename survive a crash of the machine. Some network
// file systems cannot do that for a directory, and say so; there is no more to do.
func syncDirectory(name string) error {
	dir, err := os.Open(name)
	if err != nil {
		return writeError(name, err)
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOTSUP) {
		return writeError(name, err)
	}
	return nil
}

func (d *directory) Open(_ context.Context, key string) (io.ReadCloser, error) {
	if err := validKey(d.root, key); err != nil {
		return nil, err
	}
	return openFile(d.path(key))
}

func (d *directory) List(ctx context.Context, prefix string) ([]string, error) {
	prefix, err := under(d.root, prefix)
	if err != nil {
		return nil, err
	}
	start := d.path(prefix)
	var keys []string
	err = filepath.WalkDir(start, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil && errors.Is(err, fs.ErrNotExist):
			return nil // nothing there, or gone since its directory was read
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case entry.IsDir(), name == start, strings.Contains(entry.Name(), partial), !regular(name, entry):
			return nil
		}
		key, err := filepath.Rel(d.root, name)
		if err != nil {
			return err
		}
		if keys = append(keys, filepath.ToSlash(key)); len(keys) > mostKeys {
			return fs.SkipAll
		}
		return nil
	})
	if err != nil {
		return nil, exit.Errorf(exit.Usage, "cannot list %s: %w", start, err)
	}
	if err := bounded(d.root, prefix, keys); err != nil {
		return nil, err
	}
	slices.Sort(keys) // the walk orders a/b before a.json, a bucket after it
	return keys, nil
}

// regular tells files, and links to such, from what reading may never end of: pipes,
// devices, sockets.
func regular(name string, entry fs.DirEntry) bool {
	if entry.Type()&fs.ModeSymlink == 0 {
		return entry.Type().IsRegular()
	}
	info, err := os.Stat(name)
	return err == nil && info.Mode().IsRegular()
}

func (d *directory) check(context.Context) error {
	if err := os.MkdirAll(d.root, 0o755); err != nil {
		return writeError(d.root, err)
	}
	f, err := os.CreateTemp(d.root, partial)
	if err != nil {
		return writeError(d.root, err)
	}
	err = errors.Join(f.Close(), os.Remove(f.Name()))
	if err != nil {
		return writeError(d.root, err)
	}
	return nil
}

// writeError says what to do. A full or failing disk may be fixed; a place that
// may not be written stays so.
func writeError(name string, err error) error {
	for _, passing := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EIO} {
		if errors.Is(err, passing) {
			return exit.Errorf(exit.TryAgain, "cannot write %s: %w; free space there, or choose another output", name, err)
		}
	}
	return exit.Errorf(exit.Usage, "cannot write %s: %w; choose an output directory that this user may write", name, err)
}
