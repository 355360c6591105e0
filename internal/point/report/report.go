// Package report reads what a driver leaves of its load: the reports of every
// guidellm version from 0.2 to 0.8, the report of the native driver, which this
// package also writes, and, as a last resort, guidellm's console log.
//
// A report is reduced while it streams by: rows become compact records, prompts
// and outputs are skipped, and one small measurement per benchmark is left.
package report

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"wfgen.dev/internal/llm/record"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/redact"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/slo"
)

// Options fills in what a report does not say itself. A zero value means that
// the report must say it. Accelerator and Model are names that results go by, so
// they win over the report's; Shape and BatchSize are facts of the run, so the
// report wins where it states them.
type Options struct {
	Accelerator string          // as the autoscaler names it
	Model       string          // as the autoscaler names it; reports often hold a path or an alias
	Shape       sweep.Shape     // tokens asked for
	BatchSize   int             // requests asked to run together, for reports that do not state it
	SLOs        []slo.Objective // that an open loop is held against

	// Beside opens a file that lies beside the report, by its name without a
	// directory. Some tools write rows into one file and what was asked for into
	// another. Nil: nobody can.
	Beside func(name string) (io.ReadCloser, error)
}

// Read reduces a report to one measurement per benchmark in it, in the report's
// order. The format is found out from the content; name is what errors and
// provenance call the report. Memory is bounded whatever the size.
//
// A benchmark that cannot be believed comes back as a measurement whose
// Taken.Void says why. What is no whole report at all (foreign, empty, cut off)
// is an error with code exit.Refused, and no measurement comes back, because a
// report that was not written to its end vouches for none of its parts.
func Read(r io.Reader, name string, o Options) ([]measurement.Measurement, error) {
	src := &source{r: r}
	buffered := bufio.NewReaderSize(src, headSize)
	head, _ := buffered.Peek(headSize)
	if bytes.HasPrefix(head, byteOrderMark) { // as Windows editors leave it
		head = head[len(byteOrderMark):]
		_, _ = buffered.Discard(len(byteOrderMark)) // it was just peeked at
	}
	if f := recognize(newHead(head)); f != nil {
		return f.read(&input{head: newHead(head), Reader: buffered, name: name, o: o})
	}
	if err := sniff(head); src.err == nil && err != nil {
		return nil, exit.Errorf(exit.Refused, "%s: %w", name, err)
	}
	begins := excerpt(head) // the buffer moves on
	var doc document
	doc.Benchmarks.o = o
	// Duplicate names and broken UTF-8 occur in prompts and tool calls only,
	// which are skipped; looking for them costs half the speed.
	dec := jsontext.NewDecoder(buffered, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	err := json.UnmarshalDecode(dec, &doc)
	if err == nil {
		err = atEnd(dec)
	}
	switch {
	case src.err != nil:
		return nil, exit.With(exit.TryAgain, fmt.Errorf("%s: cannot be read on after byte %d: %w", name, src.n, src.err))
	case err != nil:
		return nil, exit.Errorf(exit.Refused, "%s: %w", name, explain(dec, err, src.n))
	case doc.Benchmarks.found:
		ms, err := doc.guidellm(name, o)
		return o.witnessed(ms, name), err
	case doc.Schema == NativeSchema:
		ms, err := doc.native(name, o)
		return o.witnessed(ms, name), err
	case doc.Schema == measurement.Schema:
		return nil, exit.Errorf(exit.Refused, "%s: is a measurement already, not a report; give it to step aggregate", name)
	default:
		return nil, exit.Errorf(exit.Refused, "%s: is JSON, but no report of a tool that is known (docs/formats.md lists them); it begins with %s", name, begins)
	}
}

// document is the union of the families at the top level, so that the order of
// the fields does not matter (jq -S sorts them).
type document struct {
	guidellmDocument
	nativeDocument
}

// source remembers what went wrong below the decoder: a connection that breaks
// is no fault of the report.
type source struct {
	r   io.Reader
	n   int64
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.n += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

var byteOrderMark = []byte("\xef\xbb\xbf")

// sniff tells apart what people mistake for a report.
func sniff(head []byte) error {
	text := bytes.TrimLeftFunc(head, unicode.IsSpace)
	switch {
	case len(text) == 0:
		return errors.New("is empty: the driver ended before it wrote its report; look into its log")
	case text[0] == '{':
		return nil
	case bytes.HasPrefix(text, []byte("\x1f\x8b")):
		return errors.New("is compressed; unpack it first: gunzip -c FILE | step measure -")
	case markup.Match(text):
		return fmt.Errorf("is HTML or XML, expected guidellm's JSON report (--output kind=json, --outputs x.json); it begins with %s", excerpt(text))
	case text[0] == '[':
		return fmt.Errorf("is a JSON list, expected a report, which is an object; it begins with %s", excerpt(text))
	case consoleMark.Match(text):
		return errors.New("is a console log, expected the JSON report; if only the log is left of a run of guidellm 0.2 or 0.3, use --from-log")
	default:
		return fmt.Errorf("is not JSON, and of no other format that is known (docs/formats.md lists them); it begins with %s", excerpt(text))
	}
}

var markup = regexp.MustCompile(`(?i)^<(!doctype|html|\?xml)`)

// consoleMark finds what guidellm prints while it starts.
var consoleMark = regexp.MustCompile(`Benchmarks (Metadata|Stats|Info)|Creating backend|Backend .* connected|backend validated|^<frozen `)

// excerpt is the beginning of a text as an error shows it.
func excerpt(text []byte) string {
	const most = 60
	if len(text) > most {
		return fmt.Sprintf("%q...", text[:most])
	}
	return fmt.Sprintf("%q", text)
}

// atEnd refuses what follows a report: two reports in one file, or a log.
func atEnd(dec *jsontext.Decoder) error {
	if kind := dec.PeekKind(); kind == jsontext.KindInvalid {
		if _, err := dec.ReadToken(); errors.Is(err, io.EOF) {
			return nil
		}
	}
	return fmt.Errorf("something follows the report from byte %d on; give each report as a file of its own", dec.InputOffset())
}

// explain says where the JSON is broken, and what to do about it.
func explain(dec *jsontext.Decoder, err error, size int64) error {
	where := string(dec.StackPointer())
	var syntax *jsontext.SyntacticError
	var meaning *json.SemanticError
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("is cut off at byte %d, inside %s: it was not written or not copied to its end; copy it again, or measure again", size, place(where))
	case errors.As(err, &syntax):
		offset := syntax.ByteOffset
		where = cmp.Or(string(syntax.JSONPointer), where)
		if bareNumber.MatchString(syntax.Err.Error()) {
			return fmt.Errorf("holds NaN or Infinity at byte %d, in %s, which JSON does not know; make them null: sed -E 's/-?(NaN|Infinity)/null/g' FILE | step measure -", offset, place(where))
		}
		return fmt.Errorf("is broken JSON at byte %d, in %s: %w; copy it again, or measure again", offset, place(where), syntax.Err)
	case errors.As(err, &meaning) && meaning.Err != nil:
		return fmt.Errorf("%s, at byte %d: %w", place(string(meaning.JSONPointer)), meaning.ByteOffset, meaning.Err)
	case errors.As(err, &meaning):
		return fmt.Errorf("%s, at byte %d, holds a JSON %s where %s is expected; is it a report of guidellm 0.2 to 0.8?", place(string(meaning.JSONPointer)), meaning.ByteOffset, kindName(meaning.JSONKind), wanted(meaning))
	default:
		return err
	}
}

// bareNumber recognises the decoder's complaint about the first letter of NaN,
// Infinity or -Infinity.
var bareNumber = regexp.MustCompile(`invalid character '[NI]'`)

func place(pointer string) string {
	return cmp.Or(pointer, "the top level")
}

func kindName(k jsontext.Kind) string {
	if k == 0 {
		return "value"
	}
	return k.String()
}

func wanted(e *json.SemanticError) string {
	if e.GoType == nil {
		return "something else"
	}
	switch kind := e.GoType.Kind().String(); kind {
	case "float64", "int", "int64":
		return "a number"
	case "slice":
		return "a list"
	case "struct", "map":
		return "an object"
	default:
		return "a " + kind
	}
}

// text is a string field that may hold anything in a report of another version;
// what is no string reads as empty.
type text string

func (t *text) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	*t = ""
	if dec.PeekKind() != '"' {
		return dec.SkipValue()
	}
	token, err := dec.ReadToken()
	if err == nil {
		*t = text(token.String())
	}
	return err
}

// elements calls each for every element of a list; what is no list is skipped.
func elements(dec *jsontext.Decoder, each func() error) error {
	if dec.PeekKind() != '[' {
		return dec.SkipValue()
	}
	if _, err := dec.ReadToken(); err != nil {
		return err
	}
	for dec.PeekKind() != ']' {
		if err := each(); err != nil {
			return err
		}
	}
	_, err := dec.ReadToken()
	return err
}

// MaxRows is the most rows of one benchmark that are held; beyond it the
// report's own summary is used. With the copies that reducing them takes they
// stay below 64 MiB (BenchmarkReadMaxRows). A point of 360 s with 64 streams has
// about 20,000.
const MaxRows = 150_000

// rowSet collects the rows of one benchmark, whatever became of them.
type rowSet struct {
	rows    []record.Request
	count   [3]int // by status; rows beyond MaxRows are counted too
	errors  errorCounts
	dropped bool
}

func (s *rowSet) add(r record.Request) {
	s.count[r.Status]++
	switch {
	case s.dropped:
	case len(s.rows) == MaxRows:
		s.dropped, s.rows = true, s.rows[:0]
	default:
		s.rows = append(s.rows, r)
	}
}

// expect makes room for n rows at once: growing step by step would leave several
// copies to the garbage collector.
func (s *rowSet) expect(n int) {
	if len(s.rows) == 0 {
		s.rows = slices.Grow(s.rows, min(n, MaxRows))
	}
}

// span is when the first request of the rows began and the last one ended, Unix
// seconds.
func (s *rowSet) span() (start, end float64) {
	for _, r := range s.rows {
		if r.Start > 0 && (start == 0 || r.Start < start) {
			start = r.Start
		}
		end = max(end, r.End, r.LastToken)
	}
	return start, end
}

// means are the counted tokens of a successful request, prompt and output.
func (s *rowSet) means() (prompt, output float64) {
	n := 0.0
	for _, r := range s.rows {
		if r.Status == record.Successful {
			prompt += float64(r.PromptTokens)
			output += float64(r.OutputTokens)
			n++
		}
	}
	if n == 0 {
		return 0, 0
	}
	return prompt / n, output / n
}

// asked are the tokens that a successful request was asked to answer with, in the mean;
// 0 where the rows do not say.
func (s *rowSet) asked() float64 {
	sum, n := 0.0, 0.0
	for _, r := range s.rows {
		if r.Status == record.Successful && r.AskedTokens > 0 {
			sum += float64(r.AskedTokens)
			n++
		}
	}
	return sum / max(1, n)
}

// errorCounts says what went wrong, and how often. Few kinds are kept apart:
// some errors hold an address or an id that makes each one unique.
type errorCounts map[string]int

const (
	mostErrors    = 8
	otherErrors   = "other errors"
	longestError  = 160
	unknownReason = "no reason given (guidellm writes a timeout so)"
)

func (c *errorCounts) add(reason string, n int) {
	if *c == nil {
		*c = errorCounts{}
	}
	if _, known := (*c)[reason]; !known && len(*c) >= mostErrors {
		reason = otherErrors
	}
	(*c)[reason] += n
}

var (
	httpStatus = regexp.MustCompile(`(?:Client|Server) error '(\d{3}[^']*)'|Redirect response '(\d{3}[^']*)'`)
	exception  = regexp.MustCompile(`(?s)^(\w+)\((?:'(.*)'|"(.*)"),?\)$`)
)

// essence shortens what Python says of a failed request to what a person needs,
// without credentials.
func essence(message string) string {
	message = strings.TrimSpace(message)
	if m := httpStatus.FindStringSubmatch(message); m != nil {
		return "HTTP " + cmp.Or(m[1], m[2])
	}
	if m := exception.FindStringSubmatch(message); m != nil {
		message = strings.TrimSuffix(m[1]+": "+m[2]+m[3], ": ")
	}
	message, _, _ = strings.Cut(message, "\n")
	message, _, _ = strings.Cut(message, `\n`)
	return cmp.Or(redact.Line(redact.Text(message), longestError), unknownReason)
}
