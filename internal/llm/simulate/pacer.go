package simulate

import (
	"sync"
	"time"
)

// pacer runs a scheduler on the real clock.
type pacer struct {
	alarm alarm

	mu        sync.Mutex
	scheduler scheduler
	armed     time.Duration // what the alarm is set to; 0: not set
	closed    bool

	stopped chan struct{} // closed when run has returned
}

// startPacer takes the scheduler and the alarm over and runs them until stop.
func startPacer(a alarm, s scheduler) *pacer {
	p := &pacer{alarm: a, scheduler: s, stopped: make(chan struct{})}
	go p.run()
	return p
}

// run advances the scheduler whenever the alarm rings. All tokens due at that
// moment go out in one pass.
func (p *pacer) run() {
	defer close(p.stopped)
	for p.alarm.wait() {
		p.mu.Lock()
		p.armed = 0
		p.scheduler.advance(p.alarm.now())
		p.arm()
		p.mu.Unlock()
	}
}

// arm sets the alarm to the next due time. p.mu is held.
func (p *pacer) arm() {
	if due, ok := p.scheduler.next(); ok && due != p.armed && !p.closed {
		p.alarm.set(due)
		p.armed = due
	}
}

// now is the time since the pacer's start.
func (p *pacer) now() time.Duration { return p.alarm.now() }

// submit hands a request over; its tokens arrive through q.
func (p *pacer) submit(q *sequence) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.scheduler.arrive(q)
	p.arm()
}

// leave withdraws a request, whatever its state.
func (p *pacer) leave(q *sequence) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.scheduler.leave(q, p.now())
	p.arm()
}

// load is what the scheduler holds at this moment.
func (p *pacer) load() (running, queued, kvTokens int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.scheduler.load()
}

// stop ends the pacer. Requests inside it get no more tokens.
func (p *pacer) stop() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.alarm.close()
	<-p.stopped
}
