package wfgencli

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"wfgen.dev/internal/cli/clikit"
	"wfgen.dev/internal/sweep"
)

// progress shows how far a run is: a bar on a terminal, one line per point
// elsewhere (a log, a pipe).
type progress struct {
	mu          sync.Mutex
	w           io.Writer
	terminal    bool
	done, total int
	begin       time.Time
	expected    time.Duration // of all points
	stop        func()
}

func newProgress(w io.Writer, total int, expected time.Duration) *progress {
	p := &progress{w: w, total: total, begin: time.Now(), expected: expected, stop: func() {}}
	if f := clikit.Terminal(w); f != nil {
		p.w, p.terminal = f, true
		p.stop = p.tick()
	}
	return p
}

// erase empties the line of the cursor, and puts the cursor at its beginning.
const erase = "\r\x1b[K"

// count is how many points are done, of how many where that is known.
func (p *progress) count() string {
	if p.total == 0 {
		return fmt.Sprint(p.done)
	}
	return fmt.Sprintf("%d/%d", p.done, p.total)
}

// draw shows the bar in the line of the cursor. Points are few and long: what the plan
// expects tells more about the time left than how many are done.
func (p *progress) draw() {
	const width = 30
	if p.total == 0 {
		fmt.Fprintf(p.w, "%s%d points, %s", erase, p.done, time.Since(p.begin).Round(time.Second))
		return
	}
	full := width * p.done / p.total
	left := max(0, p.expected-time.Since(p.begin)).Round(time.Second)
	fmt.Fprintf(p.w, "%s%d/%d points %s%s about %s left", erase, p.done, p.total, strings.Repeat("█", full), strings.Repeat("░", width-full), left)
}

// tick draws the bar now and every second, for the time left. The returned function
// ends it.
func (p *progress) tick() (stop func()) {
	draw := func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.draw()
	}
	draw()
	ticker, ended := time.NewTicker(time.Second), make(chan struct{})
	go func() {
		for {
			select {
			case <-ended:
				return
			case <-ticker.C:
				draw()
			}
		}
	}()
	return func() {
		ticker.Stop()
		close(ended)
		p.mu.Lock()
		defer p.mu.Unlock()
		fmt.Fprint(p.w, erase)
	}
}

func (p *progress) line(text string) {
	if p.terminal {
		fmt.Fprint(p.w, erase)
	}
	fmt.Fprintln(p.w, text)
	if p.terminal {
		p.draw()
	}
}

// Say prints words that are not about a finished point.
func (p *progress) Say(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.line(text)
}

// Done counts a point, measured or failed.
func (p *progress) Done(_ sweep.Point, text string, elapsed time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done++
	p.line(fmt.Sprintf("[%s] %s (%.1f s)", p.count(), text, elapsed.Seconds()))
}
