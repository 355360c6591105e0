package child

import (
	"os"
	"os/exec"
	"strconv"
	"syscall"
)

// Guard ends the process group with SIGKILL when this process is killed: a process that
// is ended by Tie may leave behind those that it has started itself. dismiss ends the
// guard, once the group is gone. Without a shell there is no guard.
func Guard(group int) (dismiss func()) {
	none := func() {}
	r, w, err := os.Pipe()
	if err != nil {
		return none
	}
	defer r.Close()
	// It waits for the end of this process, at which the pipe's only writer is closed.
	guard := exec.Command("sh", "-c", `read _; kill -9 -- "-$0"`, strconv.Itoa(group))
	guard.Stdin = r
	guard.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // not tied: it outlives us by a moment
	if err := guard.Start(); err != nil {
		w.Close()
		return none
	}
	return func() {
		_ = guard.Process.Kill()
		_ = guard.Wait()
		w.Close()
	}
}
