// Package exit gives errors the exit codes that the workflows rely on: a node
// retries on TryAgain and on nothing else.
package exit

import (
	"errors"
	"fmt"
)

// The exit codes of step and wfgen.
const (
	Done     = 0
	Usage    = 2  // the command line or the configuration is wrong
	Drift    = 3  // compare: a parameter moved beyond the band
	Refused  = 65 // the data cannot be believed: bad report, refused verdict
	Unusable = 69 // the server cannot do what was asked: wrong model, batch above max-num-seqs
	TryAgain = 75 // a later attempt may succeed: server not ready, store unavailable, driver crashed
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

// Code is the exit code of err: 0 for nil, 1 for an error that nobody classified.
func Code(err error) int {
	if err == nil {
		return Done
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return 1
}
