package simulate

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// timerfd is an alarm that is late by some tens of microseconds.
// The runtime's own timers end up as the time-out of epoll_wait, which counts
// whole milliseconds: a tenth of a token gap. A timerfd is a file that becomes
// readable when its time comes, and epoll reports that at once.
type timerfd struct {
	start  time.Time
	offset int64 // of start on the kernel's monotonic clock, ns
	file   *os.File
	fd     int
}

func newAlarm() (alarm, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("timerfd_create", err)
	}
	// start is read first, so that the alarm is late rather than early by what
	// lies between the two readings.
	a := &timerfd{fd: fd, file: os.NewFile(uintptr(fd), "timerfd"), start: time.Now()}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return nil, errors.Join(os.NewSyscallError("clock_gettime", err), a.file.Close())
	}
	a.offset = now.Nano()
	return a, nil
}

func (a *timerfd) now() time.Duration { return time.Since(a.start) }

func (a *timerfd) set(at time.Duration) {
	// Zero would switch the timer off.
	value := unix.ItimerSpec{Value: unix.NsecToTimespec(max(a.offset+int64(at), 1))}
	if err := unix.TimerfdSettime(a.fd, unix.TFD_TIMER_ABSTIME, &value, nil); err != nil {
		panic(os.NewSyscallError("timerfd_settime", err)) // a wrong argument: cannot happen
	}
}

func (a *timerfd) wait() bool {
	var expirations [8]byte
	_, err := a.file.Read(expirations[:])
	return err == nil
}

func (a *timerfd) close() { _ = a.file.Close() }
