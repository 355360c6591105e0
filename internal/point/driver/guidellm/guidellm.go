// Package guidellm makes the load of a point with an installed guidellm, of any
// version from 0.2 on, and trusts it with nothing: not with its exit code, not
// with ending in time, not with ending the processes that it starts, and not
// with keeping a secret. What the numbers of its report are worth is for package
// report to say.
package guidellm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"wfgen.dev/internal/point/driver"
	"wfgen.dev/internal/redact"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/scratch"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/release"
)

// Guidellm is an installed guidellm. It is a driver.Driver.
type Guidellm struct {
	binary  string
	version release.Release

	grace time.Duration // between SIGTERM and SIGKILL
}

// Name is guidellm.
func (*Guidellm) Name() string { return sweep.Guidellm }

// Version is guidellm's own, such as 0.7.3.
func (g *Guidellm) Version() string { return g.version.String() }

// Run makes the load of one point, or of o.Levels, and leaves guidellm's report,
// without secrets in it, at o.Report. There is no report where Run returns an error.
func (g *Guidellm) Run(ctx context.Context, o driver.Options) error {
	command, err := g.command(o)
	if err != nil {
		return err
	}
	// guidellm reads a file named .env where it runs and may leave files there,
	// so it runs in a directory of its own.
	work, remove, err := scratch.Dir("step-guidellm-")
	if err != nil {
		return err
	}
	defer remove()
	secrets := redact.Environment(os.Environ(), nil).And(redact.Of(o.APIKey)).And(redact.From(ctx))
	report, err := receive(filepath.Join(work, reportName), o.Report, secrets)
	if err != nil {
		return err
	}
	defer report.discard()

	log := secrets.Writer(o.Log)
	for _, note := range command.notes {
		fmt.Fprintf(log, "guidellm driver: %s\n", note)
	}
	tail := &tail{}
	stopProgress := progress(o)
	end, err := process{
		path:     g.binary,
		args:     command.args(filepath.Join(work, reportName)),
		env:      command.environment(os.Environ()),
		dir:      work,
		output:   io.MultiWriter(log, tail.behind(secrets)),
		deadline: o.Deadline,
		grace:    g.grace,
	}.run(ctx)
	stopProgress()
	if err != nil {
		return exit.Errorf(exit.Usage, "guidellm cannot be started: %w", err)
	}
	if err := errors.Join(log.Flush(), tail.flush()); err != nil {
		return exit.Errorf(exit.TryAgain, "the log of guidellm could not be written: %w", err)
	}
	if err := g.failure(end, o, tail.text()); err != nil {
		return err
	}
	switch err := report.keep(); {
	case errors.Is(err, errNoReport):
		return exit.Errorf(exit.TryAgain, "guidellm %s ended without an error and left no report%s", g.version, tail.lastLines())
	case err != nil:
		return err
	}
	return nil
}

// progress tells how far a run should be by the clock, which is all that can be
// known from outside. The returned function ends it.
func progress(o driver.Options) (stop func()) {
	total := o.MaxSeconds * float64(len(o.BatchSizes()))
	if total == 0 {
		total = o.Deadline.Seconds()
	}
	if o.Progress == nil || total <= 0 {
		return func() {}
	}
	begin := time.Now()
	tick := time.NewTicker(time.Second)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			o.Progress(min(time.Since(begin).Seconds(), total), total)
			select {
			case <-done:
				return
			case <-tick.C:
			}
		}
	}()
	return func() {
		tick.Stop()
		close(done)
		<-ended
	}
}

// reportName is what guidellm is told to write: it chooses the format by the ending.
const reportName = "report.json"

// incoming is a report on its way. guidellm writes it into a pipe with a name,
// so that a report in which it has put a key is never on a disk, and one that it
// does not finish is never taken for a report.
type incoming struct {
	pipe    string
	hold    *os.File // keeps the pipe open until guidellm has ended
	partial *os.File
	target  string
	secrets redact.Secrets
	copied  chan error
	size    int64
}

var errNoReport = errors.New("no report")

func receive(pipe, target string, s redact.Secrets) (*incoming, error) {
	unwritable := func(err error) error {
		return exit.Errorf(exit.Usage, "the report cannot be written to %s: %w", filepath.Dir(target), err)
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return nil, unwritable(err)
	}
	partial, err := os.CreateTemp(filepath.Dir(target), "."+filepath.Base(target)+".partial-")
	if err != nil {
		return nil, unwritable(err)
	}
	in := &incoming{pipe: pipe, partial: partial, target: target, secrets: s, copied: make(chan error, 1)}
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		in.discard()
		return nil, exit.Errorf(exit.Usage, "guidellm: no pipe for its report: %w", &fs.PathError{Op: "mkfifo", Path: pipe, Err: err})
	}
	// Opened so, the reading end does not wait for a writer that may never come.
	r, err := os.OpenFile(pipe, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err == nil {
		in.hold, err = os.OpenFile(pipe, os.O_WRONLY, 0)
	}
	if err != nil {
		in.discard()
		return nil, exit.Errorf(exit.Usage, "guidellm: no pipe for its report: %w", err)
	}
	go func() {
		defer r.Close()
		in.copied <- in.copy(r)
	}()
	return in, nil
}

func (in *incoming) copy(r io.Reader) error {
	w := in.secrets.Writer(in.partial)
	n, err := io.Copy(w, r)
	in.size += n
	return errors.Join(err, w.Flush())
}

// keep puts the report in its place, after guidellm has ended.
func (in *incoming) keep() error {
	in.hold.Close()
	err := <-in.copied
	if info, lstat := os.Lstat(in.pipe); err == nil && in.size == 0 && lstat == nil && info.Mode().IsRegular() {
		// A version that writes beside its target and renames has replaced the pipe.
		var f *os.File
		if f, err = os.Open(in.pipe); err == nil {
			err = in.copy(f)
			f.Close()
		}
	}
	if err == nil && in.size == 0 {
		return errNoReport
	}
	err = errors.Join(err, in.partial.Chmod(0o644), in.partial.Sync(), in.partial.Close())
	if err == nil {
		err = os.Rename(in.partial.Name(), in.target)
	}
	if err != nil {
		return exit.Errorf(exit.TryAgain, "the report %s could not be written: %w", in.target, err)
	}
	return nil
}

// discard removes what keep has not kept.
func (in *incoming) discard() {
	if in.hold != nil {
		in.hold.Close()
	}
	in.partial.Close()
	os.Remove(in.partial.Name())
}

// refuseCredentials keeps a password out of the argument list.
func refuseCredentials(target string) error {
	u, err := url.Parse(target)
	if err != nil || u.Host == "" {
		return exit.Errorf(exit.Usage, "target: expected a URL such as http://vllm:8000") // not repeated: it may hold a password
	}
	if u.User != nil {
		return exit.Errorf(exit.Usage, "target: %s holds credentials, which would show in the list of processes; give the API key instead", redact.URL(target))
	}
	return nil
}
