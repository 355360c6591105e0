// Package preflight asks a server, before the first point, whether it can run what a
// sweep is going to ask of it.
package preflight

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"wfgen.dev/internal/llm"
	"wfgen.dev/internal/llm/completion"
	"wfgen.dev/internal/llm/record"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/reason"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/engine"
)

// Intent is what the sweep is going to ask: every shape at every batch size.
type Intent struct {
	Shapes     []sweep.Shape
	BatchSizes []int
	MaxNumSeqs int      // the most requests that the server runs at once; 0: not known
	Spread     float64  // fraction by which the native driver lets answers differ in length
	Endpoint   string   // that the native driver is to ask; empty: what the server has
	Args       []string // of the server's process, where they are known
}

// Report is what the server can, beside what the plan needs.
type Report struct {
	Target     string
	Model      string
	Version    string // of the server; empty: not known
	Endpoint   string // path that answers; empty: none does
	MaxLen     int    // tokens of a prompt and its answer; 0: not known
	MaxNumSeqs int    // 0: not known
	Cache      record.Cache
	Needs      []Need   // one per shape
	Problems   []string // why points cannot be measured
	Warnings   []string // what casts doubt on them
}

// Need is what one shape takes at the largest batch size.
type Need struct {
	Shape    sweep.Shape
	Longest  int // tokens of the longest request
	Batch    int // the largest of the plan
	Tokens   int // of KV cache for that batch, whole blocks
	MostFits int // requests of this shape that the KV cache holds; 0: not known
}

// Check asks the server. The error is exit.TryAgain when it does not answer;
// everything else that is wrong is in the report.
func Check(ctx context.Context, client *llm.Client, model string, p Intent) (Report, error) {
	r := Report{Target: client.Target(), Model: model, MaxNumSeqs: cmp.Or(p.MaxNumSeqs, engine.MaxNumSeqs(p.Args))}
	problem := func(format string, args ...any) { r.Problems = append(r.Problems, fmt.Sprintf(format, args...)) }
	warn := func(format string, args ...any) { r.Warnings = append(r.Warnings, fmt.Sprintf(format, args...)) }

	found, err := client.Find(ctx, model)
	switch {
	case err == nil:
		r.MaxLen = found.MaxModelLen
		told := client.Settings(ctx)
		r.Version = cmp.Or(client.Version(ctx), told.Version)
		r.MaxNumSeqs = cmp.Or(r.MaxNumSeqs, told.MaxNumSeqs)
		r.Cache.PrefixCaching = told.PrefixCaching
		if half := cmp.Or(engine.Role(p.Args), told.Role); half != "" {
			warn("it is the %s half of a pair: measured alone it is not what clients see; give the URL of what stands before both halves", half)
		}
		if r.MaxLen == 0 {
			warn("the server does not say its max-model-len: whether the shapes fit is not known")
		}
		scrape, err := client.Scrape(ctx, model)
		if e := r.try(ctx, client, p.Endpoint, err == nil && scrape.ITL != nil && scrape.TTFT != nil); e != nil {
			return r, e
		}
		if err != nil {
			warn("no server witness: %v; TTFT will be the client's, with the load generator's own delays in it", llm.Brief(err))
			break
		}
		if n := scrape.Running + scrape.Waiting; n > 0 {
			warn("%.0f requests are running already: somebody else uses the server, and what is measured meanwhile is void", n)
		}
		cache, err := client.Cache(ctx, model)
		if err != nil || cache == nil {
			warn("/metrics does not say what the KV cache holds: whether the batches fit is not known")
			break
		}
		caching := r.Cache.PrefixCaching
		r.Cache = *cache
		r.Cache.PrefixCaching = cmp.Or(cache.PrefixCaching, caching)
	case exit.Code(err) == exit.Unusable:
		problem("%v", err)
	default:
		return r, err
	}

	if caching := r.Cache.PrefixCaching; caching != nil && *caching {
		warn("prefix caching is on: a prompt that begins like an earlier one costs less than it should; start the server with --no-enable-prefix-caching (SGLang: --disable-radix-cache)")
	}
	largest := slices.Max(p.BatchSizes)
	if r.MaxNumSeqs > 0 {
		if above := bigger(p.BatchSizes, r.MaxNumSeqs); len(above) > 0 {
			problem("batch sizes %s are above the server's max-num-seqs %d: requests would queue, and the queue would be measured; raise max-num-seqs to %d or leave them out",
				words(above), r.MaxNumSeqs, largest)
		}
	}
	for _, s := range p.Shapes {
		_, longest := s.Drawn(p.Spread)
		n := Need{Shape: s, Longest: s.PromptTokens + longest, Batch: largest}
		switch whole := s.PromptTokens + s.OutputTokens; {
		case r.MaxLen > 0 && whole > r.MaxLen:
			problem("shape %s needs %d tokens, but max-model-len is %d; raise it, or leave the shape out", s, whole, r.MaxLen)
		case r.MaxLen > 0 && n.Longest > r.MaxLen:
			warn("shape %s: max-model-len %d leaves no room for answers that differ in length (up to %d tokens in all); all will be alike, and streams may march in step", s, r.MaxLen, n.Longest)
			n.Longest = whole
		}
		block := max(1, r.Cache.BlockSize)
		each := (s.PromptTokens + s.OutputTokens + block - 1) / block * block
		n.Tokens = each * largest
		if r.Cache.Tokens > 0 {
			n.MostFits = r.Cache.Tokens / each
			if above := bigger(p.BatchSizes, n.MostFits); len(above) > 0 {
				problem("shape %s: the KV cache holds %d tokens, %d requests of this shape; at batch sizes %s the server would evict requests, and the points would be void; give the server more memory, or leave them out",
					s, r.Cache.Tokens, n.MostFits, words(above))
			}
		}
		r.Needs = append(r.Needs, n)
	}
	return r, nil
}

// triedTokens is the length of the answer that is asked for: enough to see how it comes.
const triedTokens = 16

// try asks for one small answer, which tells what no question does: whether the key is
// right, how the server wants to be asked, whether it streams, and whether it counts.
// told says that the server's metrics tell its latencies, so that the client's are not
// needed. The error is exit.TryAgain where the server did not answer.
func (r *Report) try(ctx context.Context, client *llm.Client, endpoint string, told bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*time.Minute, errors.New("it sent nothing for two minutes"))
	defer cancel()
	prompt := "the of and to in is was for"
	q := completion.Ask{Model: r.Model, Prompt: prompt, Tokens: triedTokens}
	d, a, err := completion.Try(ctx, client, endpoint, q, time.Minute, nil)
	if err == nil && atOnce(a) { // a busy machine may have been late once
		a, err = completion.Stream(ctx, client, d, q, time.Minute)
	}
	problem := func(format string, args ...any) { r.Problems = append(r.Problems, fmt.Sprintf(format, args...)) }
	var status *llm.StatusError
	switch {
	case err == nil:
	case errors.As(err, &status) && (status.Code == http.StatusUnauthorized || status.Code == http.StatusForbidden):
		problem("%s: %v; give the server's key in STEP_API_KEY", client.Target(), err)
		return nil
	case errors.As(err, &status) && status.Code < 500 && status.Code != http.StatusTooManyRequests, completion.Incurable(err):
		problem("a request of %d tokens: %v", triedTokens, err)
		return nil
	default:
		return exit.Errorf(exit.TryAgain, "%s lists the model and does not answer: %w", client.Target(), err)
	}
	r.Endpoint = d.Path()
	r.Warnings = append(r.Warnings, d.Costs()...)
	if a.PromptTokens == 0 {
		problem("the server counts no tokens of a prompt: %v", completion.ErrNoUsage)
	}
	switch {
	case a.Cut():
		problem("the server cut an answer of %d tokens at %d: it has a limit of its own; raise it", a.Asked, a.OutputTokens)
	case a.OutputTokens < a.Asked:
		r.Warnings = append(r.Warnings, fmt.Sprintf("of %d tokens asked for %d came: the server ends answers by itself, and points are of the lengths that are counted", a.Asked, a.OutputTokens))
	}
	if atOnce(a) {
		text := fmt.Sprintf("an answer of %d tokens came in one piece: %s", a.OutputTokens, reason.BufferedCure)
		if told {
			r.Warnings = append(r.Warnings, text+"; the server's own latencies will be taken")
		} else {
			problem("%s", text)
		}
	}
	return nil
}

// atOnce says whether an answer came in one piece.
func atOnce(a completion.Answer) bool {
	return a.OutputTokens > 4 && a.FirstTokens > 0.9*float64(a.OutputTokens)
}

// Err is exit.Unusable with every problem, or nil.
func (r *Report) Err() error {
	if len(r.Problems) == 0 {
		return nil
	}
	return exit.Errorf(exit.Unusable, "the server cannot run the plan: %s", strings.Join(r.Problems, "; "))
}

// Print writes the report for people.
func (r *Report) Print(w io.Writer) error {
	if err := r.PrintTable(w); err != nil {
		return err
	}
	return r.PrintFindings(w)
}

// PrintTable writes what the server is and what the sweep needs.
func (r *Report) PrintTable(w io.Writer) error {
	known := func(n int) string {
		if n == 0 {
			return "not known"
		}
		return strconv.Itoa(n)
	}
	caching := "not known"
	if on := r.Cache.PrefixCaching; on != nil {
		caching = map[bool]string{true: "on", false: "off"}[*on]
	}
	title := fmt.Sprintf("%s, %s", r.Target, r.Model)
	if r.Version != "" {
		title += ", version " + r.Version
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, title)
	for _, row := range [][2]string{
		{"endpoint", cmp.Or(r.Endpoint, "not known")}, {"max-model-len", known(r.MaxLen)}, {"max-num-seqs", known(r.MaxNumSeqs)},
		{"KV cache, tokens", known(r.Cache.Tokens)}, {"block, tokens", known(r.Cache.BlockSize)}, {"prefix caching", caching},
	} {
		fmt.Fprintf(t, "  %s\t%s\n", row[0], row[1])
	}
	if err := t.Flush(); err != nil {
		return err
	}
	t = tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "shape\tlongest request\tlargest batch\tKV tokens needed\tbatch that fits\t")
	for _, n := range r.Needs {
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%s\t\n", n.Shape, n.Longest, n.Batch, n.Tokens, known(n.MostFits))
	}
	return t.Flush()
}

// PrintFindings writes the problems and the warnings, a line each.
func (r *Report) PrintFindings(w io.Writer) error {
	for _, part := range []struct {
		name  string
		lines []string
	}{{"problem", r.Problems}, {"warning", r.Warnings}} {
		for _, l := range part.lines {
			if _, err := fmt.Fprintf(w, "%s: %s\n", part.name, l); err != nil {
				return err
			}
		}
	}
	return nil
}

func bigger(sizes []int, than int) []int {
	var out []int
	for _, b := range sizes {
		if b > than {
			out = append(out, b)
		}
	}
	return out
}

func words(numbers []int) string {
	text := make([]string, len(numbers))
	for i, n := range numbers {
		text[i] = strconv.Itoa(n)
	}
	return strings.Join(text, ", ")
}
