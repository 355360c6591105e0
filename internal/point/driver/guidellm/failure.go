package guidellm

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"syscall"

	"wfgen.dev/internal/point/driver"
	"wfgen.dev/internal/redact"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/sweep/release"
)

// tail is the last of what a process said.
type tail struct {
	kept   []byte
	output *redact.Writer
}

const (
	tailBytes = 64 << 10
	tailLines = 5
	lineBytes = 300
)

// behind is where to write what the tail is to remember, without secrets.
func (t *tail) behind(s redact.Secrets) *redact.Writer {
	t.output = s.Writer(t)
	return t.output
}

func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p...)
	if len(t.kept) > 2*tailBytes {
		t.kept = append([]byte(nil), t.kept[len(t.kept)-tailBytes:]...)
	}
	return len(p), nil
}

func (t *tail) flush() error { return t.output.Flush() }

func (t *tail) text() string { return string(t.kept) }

// lastLines are the last words, to follow a sentence.
func (t *tail) lastLines() string { return lastLines(t.text()) }

// lastLines are the last of text, without the frames of Python's tracebacks: the
// log has them, and they would crowd out what was wrong.
func lastLines(text string) string {
	var lines []string
	frame := false // the line before named a place in a file
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimRight(line, " \t\r")
		bare := strings.TrimLeft(line, " \t")
		switch {
		case strings.Trim(bare, "^~") == "", // empty, or marks below source code
			strings.HasPrefix(bare, "Traceback (most recent"),
			strings.HasPrefix(bare, "The above exception was"),
			strings.HasPrefix(bare, "During handling of the above"):
			continue
		case strings.HasPrefix(bare, `File "`):
			frame = true
			continue
		case frame:
			frame = false
			continue
		}
		lines = append(lines, "  "+redact.Line(redact.Text(line), lineBytes))
	}
	if len(lines) == 0 {
		return "; it said nothing"
	}
	return "; its last words:\n" + strings.Join(lines[max(0, len(lines)-tailLines):], "\n")
}

// failure says why a run failed and what to do, or nil. What only a person can
// fix is exit.Usage or exit.Unusable, all else may pass.
func (g *Guidellm) failure(end outcome, o driver.Options, said string) error {
	words := lastLines(said)
	switch {
	case errors.Is(end.stopped, errDeadline):
		return exit.Errorf(exit.TryAgain, "guidellm %s had not ended %s after its start and was stopped: it waits for a server that does not answer, or the deadline leaves too little time for its start%s",
			g.version, o.Deadline, words)
	case end.stopped != nil:
		return exit.Errorf(exit.TryAgain, "guidellm %s was interrupted after %.0f s and wrote no report: %w", g.version, end.seconds, end.stopped)
	case end.code == 0:
		return nil
	case end.signal == syscall.SIGKILL || end.code == 137:
		return exit.Errorf(exit.TryAgain, "guidellm %s was killed (exit code 137): it ran out of memory; raise the memory limit, or measure fewer requests%s", g.version, words)
	case strings.Contains(said, "No space left on device"):
		return exit.Errorf(exit.TryAgain, "guidellm %s: no space left on the device of its temporary files%s", g.version, words)
	case modelMissing.MatchString(said):
		return exit.Errorf(exit.Unusable, "guidellm %s: %s does not serve model %q%s", g.version, o.Target, o.Model, words)
	case tokenizerFailed.MatchString(said):
		return g.tokenizerFailure(o, said)
	case refused.MatchString(said):
		return exit.Errorf(exit.Usage, "guidellm %s: %s wants an API key, or another one%s", g.version, o.Target, words)
	case serverError.MatchString(said):
		return exit.Errorf(exit.TryAgain, "guidellm %s gave up: %s answers %s to its trial requests; the server's log should say why%s", g.version, o.Target, serverError.FindStringSubmatch(said)[1], words)
	case cut.MatchString(said):
		return exit.Errorf(exit.TryAgain, "guidellm %s gave up: %s, or what stands before it, cuts the connection in the middle of an answer; the server's log should say why%s", g.version, o.Target, words)
	case unreachable.MatchString(said):
		return exit.Errorf(exit.TryAgain, "guidellm %s cannot reach %s%s", g.version, o.Target, words)
	case end.code == exit.Usage:
		return exit.Errorf(exit.Usage, "guidellm %s does not take the arguments of its version; use %s or the native driver%s", g.version, release.Newest, words)
	}
	how := fmt.Sprintf("exit code %d", end.code)
	if end.signal != 0 {
		how = fmt.Sprintf("signal %d, %s", int(end.signal), end.signal)
	}
	return exit.Errorf(exit.TryAgain, "guidellm %s failed (%s)%s", g.version, how, words)
}

// tokenizerFailure: a model hub that cannot be reached may come back, a name
// that is wrong stays so.
func (g *Guidellm) tokenizerFailure(o driver.Options, said string) error {
	code, name := exit.Usage, fmt.Sprintf("%q", o.Tokenizer)
	if o.Tokenizer == "" {
		name = fmt.Sprintf("of model %q", o.Model)
	}
	if hubUnreachable.MatchString(said) && os.Getenv("HF_HUB_OFFLINE") == "" {
		code = exit.TryAgain
	}
	return exit.Errorf(code, "guidellm %s cannot load the tokenizer %s; give --tokenizer a directory with tokenizer.json and tokenizer_config.json, or a model id that can be downloaded (HF_TOKEN where it is gated, HF_HUB_OFFLINE unset)%s",
		g.version, name, lastLines(said))
}

var (
	modelMissing    = regexp.MustCompile(`Model .* not found in available models`)
	tokenizerFailed = regexp.MustCompile(`(?i)load(ing)? (the )?(tokenizer|processor)|tokenizer required|not a valid model identifier|is not a local folder|DataNotSupportedError|HFValidationError|GatedRepoError|RepositoryNotFoundError|LocalEntryNotFoundError|connect to 'https://huggingface`)
	hubUnreachable  = regexp.MustCompile(`(?i)connect to 'https://huggingface|ConnectionError|MaxRetryError|ConnectTimeout|Name or service not known|name resolution`)
	refused         = regexp.MustCompile(`HTTPStatusError: Client error '40[13] `)
	serverError     = regexp.MustCompile(`HTTPStatusError: (?:Client|Server) error '([^']*)'`)
	cut             = regexp.MustCompile(`RemoteProtocolError|Connection reset by peer|(?:httpx|httpcore)\.ReadError`)
	unreachable     = regexp.MustCompile(`(?i)ConnectError|ConnectTimeout|connection attempts failed|Connection refused|Backend validation request failed|Name or service not known`)
)
