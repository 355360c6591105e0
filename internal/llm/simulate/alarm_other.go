//go:build !linux

package simulate

import "time"

// alarm wakes one goroutine at given times, as precisely as the runtime's
// timers are on this system.
type alarm struct {
	start  time.Time
	timer  *time.Timer
	closed chan struct{}
}

func newAlarm() (*alarm, error) {
	a := &alarm{start: time.Now(), timer: time.NewTimer(time.Hour), closed: make(chan struct{})}
	a.timer.Stop()
	return a, nil
}

// now is the time since the alarm was made.
func (a *alarm) now() time.Duration { return time.Since(a.start) }

// set makes the alarm ring once, at the given time, instead of at any time set
// before. It must not be called after close.
func (a *alarm) set(at time.Duration) { a.timer.Reset(at - a.now()) }

// wait blocks until the alarm rings, or until it is closed: then it is false.
func (a *alarm) wait() bool {
	select {
	case <-a.timer.C:
		return true
	case <-a.closed:
		return false
	}
}

func (a *alarm) close() { close(a.closed) }
