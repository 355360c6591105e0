package wfgencli

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"

	"wfgen.dev/internal/cli/clikit"
	"wfgen.dev/internal/sweep"
)

// progress shows how far a run is: a bar on a terminal, one line per point
// elsewhere (a log, a pipe).
type progress struct {
	mu          sync.Mutex
	w           io.Writer
	bar         *progressbar.ProgressBar // nil without a terminal
	done, total int
	begin       time.Time
	expected    time.Duration // of all points
	stop        func()
}

func newProgress(w io.Writer, total int, expected time.Duration) *progress {
	p := &progress{w: w, total: total, begin: time.Now(), expected: expected, stop: func() {}}
	if f := clikit.Terminal(w); f != nil {
		p.bar = progressbar.NewOptions(total, progressbar.OptionSetWriter(f), progressbar.OptionShowCount(),
			progressbar.OptionSetPredictTime(false), progressbar.OptionSetElapsedTime(false), progressbar.OptionClearOnFinish(),
			progressbar.OptionSetWidth(30))
		p.stop = p.tick()
	}
	return p
}

// tick draws the bar now and every second, for the time left. The returned function
// ends it.
func (p *progress) tick() (stop func()) {
	draw := func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		// Points are few and long: what the plan expects tells more about the
		// time left than how many are done.
		left := max(0, p.expected-time.Since(p.begin)).Round(time.Second)
		p.bar.Describe(fmt.Sprintf("points, about %s left", left))
		_ = p.bar.RenderBlank()
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
		_ = p.bar.Clear()
	}
}

func (p *progress) line(text string) {
	if p.bar != nil {
		_ = p.bar.Clear()
	}
	fmt.Fprintln(p.w, text)
	if p.bar != nil {
		_ = p.bar.RenderBlank()
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
	p.line(fmt.Sprintf("[%d/%d] %s (%.1f s)", p.done, p.total, text, elapsed.Seconds()))
	if p.bar != nil {
		_ = p.bar.Add(1)
	}
}
