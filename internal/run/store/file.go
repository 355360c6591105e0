package store

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteFile puts what r holds into a file, whole or not at all. A link is written
// through, to what it leads to; a device or a pipe is written in place. The error of r
// is returned as it is, one of the file with what to do.
func WriteFile(name string, mode fs.FileMode, r io.Reader) error {
	target, err := destination(name)
	if err != nil {
		return writeError(name, err)
	}
	source := &reading{r: r}
	if info, err := os.Stat(target); err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		err := inPlace(target, source)
		return firstOf(source.err, err, target)
	}
	return firstOf(source.err, replace(target, mode, source), target)
}

// firstOf is what went wrong first: the source, or else the file.
func firstOf(source, file error, name string) error {
	if source != nil || file == nil {
		return source
	}
	return writeError(name, file)
}

// destination is the path that a chain of links leads to, whether or not there is
// something.
func destination(name string) (string, error) {
	for range 40 {
		to, _ := os.Readlink(name)
		if to == "" { // no link, or nothing yet
			return name, nil
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(name), to)
		}
		name = to
	}
	return "", errors.New("links in a circle")
}

func inPlace(name string, r io.Reader) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}

// replace writes beside the target and renames.
func replace(target string, mode fs.FileMode, r io.Reader) error {
	f, err := os.CreateTemp(filepath.Dir(target), "."+filepath.Base(target)+partial)
	if err != nil {
		return err
	}
	defer func() { // after the rename, both do nothing
		f.Close()
		os.Remove(f.Name())
	}()
	if _, err := io.Copy(f, r); err != nil {
		return err
	}
	// The file is for whoever reads results, not for this user alone, as the mode of a
	// temporary file has it.
	if err := errors.Join(f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), target)
}
