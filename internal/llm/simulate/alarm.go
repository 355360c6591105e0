package simulate

import "time"

// alarm wakes one goroutine at given times.
type alarm interface {
	// now is the time since the alarm was made.
	now() time.Duration
	// set makes the alarm ring once, at the given time, instead of at any time set
	// before. It must not be called after close.
	set(at time.Duration)
	// wait blocks until the alarm rings, or until it is closed: then it is false.
	wait() bool
	close()
}

// timer is an alarm as precise as the runtime's timers are on this system. It keeps the
// virtual time of testing/synctest.
type timer struct {
	start  time.Time
	timer  *time.Timer
	closed chan struct{}
}

func newTimer() *timer {
	a := &timer{start: time.Now(), timer: time.NewTimer(time.Hour), closed: make(chan struct{})}
	a.timer.Stop()
	return a
}

func (a *timer) now() time.Duration { return time.Since(a.start) }

func (a *timer) set(at time.Duration) { a.timer.Reset(at - a.now()) }

func (a *timer) wait() bool {
	select {
	case <-a.timer.C:
		return true
	case <-a.closed:
		return false
	}
}

func (a *timer) close() { close(a.closed) }
