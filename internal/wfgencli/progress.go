package wfgencli

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"wfgen.dev/internal/sweep"
)

// progress shows how far a run is: a bar on a terminal, one line per point
// elsewhere (a log, a pipe).
type progress struct {
	mu          sync.Mutex
	w           io.Writer
	bar         *progressbar.ProgressBar // nil without a terminal
	done, total int
}

func newProgress(w io.Writer, total int) *progress {
	p := &progress{w: w, total: total}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		p.bar = progressbar.NewOptions(total, progressbar.OptionSetWriter(w), progressbar.OptionSetDescription("points"),
			progressbar.OptionShowCount(), progressbar.OptionSetPredictTime(true), progressbar.OptionClearOnFinish(),
			progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionSetWidth(30))
	}
	return p
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
