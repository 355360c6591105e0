package simulate

import (
	"sync"
	"time"
)

// engine runs a scheduler on the real clock.
type engine struct {
	alarm *alarm

	mu        sync.Mutex
	scheduler scheduler
	armed     time.Duration // what the alarm is set to; 0: not set
	closed    bool

	stopped chan struct{} // closed when run has returned
}

// startEngine takes the scheduler over and runs it until stop.
func startEngine(s scheduler) (*engine, error) {
	a, err := newAlarm()
	if err != nil {
		return nil, err
	}
	e := &engine{alarm: a, scheduler: s, stopped: make(chan struct{})}
	go e.run()
	return e, nil
}

// run advances the scheduler whenever the alarm rings. All tokens due at that
// moment go out in one pass.
func (e *engine) run() {
	defer close(e.stopped)
	for e.alarm.wait() {
		e.mu.Lock()
		e.armed = 0
		e.scheduler.advance(e.alarm.now())
		e.arm()
		e.mu.Unlock()
	}
}

// arm sets the alarm to the next due time. e.mu is held.
func (e *engine) arm() {
	if due, ok := e.scheduler.next(); ok && due != e.armed && !e.closed {
		e.alarm.set(due)
		e.armed = due
	}
}

// now is the time since the engine's start.
func (e *engine) now() time.Duration { return e.alarm.now() }

// submit hands a request over; its tokens arrive through q.
func (e *engine) submit(q *sequence) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.scheduler.arrive(q)
	e.arm()
}

// leave withdraws a request, whatever its state.
func (e *engine) leave(q *sequence) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.scheduler.leave(q, e.now())
	e.arm()
}

// load is what the engine holds at this moment.
func (e *engine) load() (running, queued, kvTokens int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.scheduler.running), len(e.scheduler.queue), e.scheduler.kvTokens
}

// stop ends the engine. Requests inside it get no more tokens.
func (e *engine) stop() {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.alarm.close()
	<-e.stopped
}
