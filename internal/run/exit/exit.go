// Package exit gives errors the exit codes that the workflows rely on: a node
// retries on TryAgain and on nothing else.
package exit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"slices"
	"syscall"
)

// The exit codes of step and wfgen.
const (
	Done      = 0
	Fault     = 1  // a fault of the program: an error that it did not foresee
	Usage     = 2  // the command line or the configuration is wrong
	Drift     = 3  // compare: a parameter moved beyond the band
	Imprecise = 4  // run: the precision that was asked for was not reached; what was is written
	Refused   = 65 // the data cannot be believed: bad report, refused verdict
	Unusable  = 69 // the server cannot do what was asked: wrong model, batch above max-num-seqs
	TryAgain  = 75 // a later attempt may succeed: server not ready, store unavailable, driver crashed
)

// Error is an error with the exit code that the process ends with.
type Error struct {
	Code int
	Err  error
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an Error from a format; %w wraps as in fmt.Errorf.
func Errorf(code int, format string, args ...any) error {
	return &Error{Code: code, Err: fmt.Errorf(format, args...)}
}

// With gives err a code, keeping one that it has already. A nil err stays nil.
func With(code int, err error) error {
	var e *Error
	if err == nil || errors.As(err, &e) {
		return err
	}
	return &Error{Code: code, Err: err}
}

// Code is the exit code of err: 0 for nil. An error that nobody classified has the code
// of its kind where it comes from the system, and otherwise Fault.
func Code(err error) int {
	var e *Error
	var errno syscall.Errno
	switch {
	case err == nil:
		return Done
	case errors.As(err, &e):
		return e.Code
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return TryAgain
	case errors.As(err, &errno):
		if slices.Contains(passing, errno) {
			return TryAgain
		}
		return Usage
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission), errors.Is(err, exec.ErrNotFound):
		return Usage
	}
	return Fault
}

// passing are the errors of the system that may be gone at the next attempt: of room,
// of memory, of handles, of a network.
var passing = []syscall.Errno{
	syscall.ENOSPC, syscall.EDQUOT, syscall.EIO, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE, syscall.EAGAIN, syscall.EINTR,
	syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.ECONNABORTED, syscall.EPIPE, syscall.ETIMEDOUT, syscall.EHOSTUNREACH, syscall.ENETUNREACH,
}
