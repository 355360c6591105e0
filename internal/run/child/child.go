// Package child ties processes to the one that starts them.
package child

import (
	"os/exec"
	"syscall"
)

// Tie makes cmd end with SIGTERM when this process is killed, where the system can do
// that, and with group makes it the first of a process group: what is typed at a
// terminal then does not reach it, and it can be ended with all that it starts.
func Tie(cmd *exec.Cmd, group bool) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = group
	tie(cmd.SysProcAttr)
}
