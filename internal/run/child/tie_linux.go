package child

import "syscall"

func tie(a *syscall.SysProcAttr) { a.Pdeathsig = syscall.SIGTERM }
