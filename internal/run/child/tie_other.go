//go:build !linux

package child

import "syscall"

func tie(*syscall.SysProcAttr) {}
