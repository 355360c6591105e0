package exit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

func TestCode(t *testing.T) {
	_, missing := os.Open("/no/such/file")
	_, program := exec.LookPath("no-such-program")
	for _, tc := range []struct {
		err  error
		want int
	}{
		{nil, Done},
		{Errorf(Refused, "x"), Refused},
		{fmt.Errorf("about it: %w", Errorf(Unusable, "x")), Unusable},
		{With(TryAgain, Errorf(Usage, "x")), Usage},
		{missing, Usage},
		{program, Usage},
		{fmt.Errorf("x: %w", fs.ErrPermission), Usage},
		{&fs.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}, TryAgain},
		{fmt.Errorf("x: %w", syscall.ECONNREFUSED), TryAgain},
		{fmt.Errorf("x: %w", context.Canceled), TryAgain},
		{errors.New("nobody foresaw this"), Fault},
	} {
		if got := Code(tc.err); got != tc.want {
			t.Errorf("%v: %d, want %d", tc.err, got, tc.want)
		}
	}
}
