package report

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"sigs.k8s.io/yaml"

	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/run/exit"
)

// Format is a kind of file that Read recognizes by its content. docs/formats.md
// has a row for each.
type Format struct {
	Name string
	is   func(h *head) bool
	read func(in *input) ([]measurement.Measurement, error)
}

// Formats are tried in this order; what none of them recognizes is taken for JSON
// of guidellm or of the native driver, whose fields may stand in any order.
var Formats []Format

// The list refers to readers that read other files by it again, such as YAML.
func init() {
	Formats = []Format{
		{"AIPerf records (profile_export.jsonl)", isAIPerfRecords, readAIPerfRecords},
		{"AIPerf export (profile_export_aiperf.json)", isAIPerf, readAIPerf},
		{"GenAI-Perf export (profile_export_genai_perf.json)", isGenAIPerf, readGenAIPerf},
		{"vllm bench serve, bench sweep", isVLLMBench, readVLLMBench},
		{"SGLang bench_serving", isSGLangBench, readSGLangBench},
		{"inference-perf per-request", isInferencePerfRows, readInferencePerfRows},
		{"inference-perf stage or summary", isInferencePerfStage, readInferencePerfStage},
		{"Benchmark Report", isBenchmarkReport, readBenchmarkReport},
		{"AIPerf or GenAI-Perf CSV", isAIPerfCSV, readAIPerfCSV},
		{"guidellm CSV", isGuidellmCSV, readGuidellmCSV},
		{"guidellm HTML", isGuidellmHTML, readGuidellmHTML},
		{"plain CSV", isPlainCSV, readPlainCSV},
		{"YAML of any of these", isYAML, readYAML},
	}
}

// input is a report that is about to be read.
type input struct {
	*head
	io.Reader // from the beginning on
	name      string
	o         Options
}

// beside opens the file of a name that lies beside the report, nil where there is
// none or nobody can tell.
func (in *input) beside(base string) io.ReadCloser {
	if in.o.Beside == nil {
		return nil
	}
	f, err := in.o.Beside(base)
	if err != nil {
		return nil
	}
	return f
}

// headSize is how much of a file its format is found out from.
const headSize = 64 << 10

// head is the beginning of a file.
type head struct {
	text []byte            // without a byte order mark and white space
	list bool              // JSON whose top level is a list; keys are its first element's
	keys map[string]string // names at the top level of JSON in the head: strings and numbers, otherwise the kind
	line string            // the first line
}

func newHead(text []byte) *head {
	h := &head{text: bytes.TrimSpace(text), keys: map[string]string{}}
	line, _, _ := bytes.Cut(h.text, []byte("\n"))
	h.line = strings.TrimSpace(string(line))
	if len(h.text) == 0 || h.text[0] != '{' && h.text[0] != '[' {
		return h
	}
	dec := jsontext.NewDecoder(newBareNumbers(bytes.NewReader(h.text)), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if h.list = h.text[0] == '['; h.list {
		_, _ = dec.ReadToken() // it is there
	}
	if dec.PeekKind() != '{' {
		return h
	}
	_, _ = dec.ReadToken() // as above
	for dec.PeekKind() == '"' {
		name, err := dec.ReadToken()
		if err != nil {
			break
		}
		key := name.String()
		switch kind := dec.PeekKind(); kind {
		case '"', '0':
			value, err := dec.ReadToken()
			if err != nil {
				h.keys[key] = ""
				return h
			}
			h.keys[key] = value.String()
		case jsontext.KindInvalid:
			return h
		default:
			h.keys[key] = kind.String()
			if dec.SkipValue() != nil { // it goes on behind the head
				return h
			}
		}
	}
	return h
}

// has tells whether all names stand at the top level, as far as the head goes.
func (h *head) has(names ...string) bool {
	return !slices.ContainsFunc(names, func(name string) bool { _, ok := h.keys[name]; return !ok })
}

// recognize is the format of a file, nil for that of guidellm or the native driver.
func recognize(h *head) *Format {
	for i := range Formats {
		if Formats[i].is(h) {
			return &Formats[i]
		}
	}
	return nil
}

// decoder is one that takes what tools write in prompts and answers.
func decoder(r io.Reader) *jsontext.Decoder {
	return jsontext.NewDecoder(r, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
}

// decode reads a JSON document whole into v and refuses what follows it.
func (in *input) decode(v any) error {
	src := &source{r: in.Reader}
	dec := decoder(newBareNumbers(src))
	err := json.UnmarshalDecode(dec, v)
	if err == nil {
		err = atEnd(dec)
	}
	return in.failed(src, dec, err)
}

// failed is the error of decoding, nil where there is none.
func (in *input) failed(src *source, dec *jsontext.Decoder, err error) error {
	switch {
	case src.err != nil:
		return exit.With(exit.TryAgain, fmt.Errorf("%s: cannot be read on after byte %d: %w", in.name, src.n, src.err))
	case err != nil:
		return exit.Errorf(exit.Refused, "%s: %w", in.name, explain(dec, err, src.n))
	}
	return nil
}

// mostText is the most that is held of a format that must be read whole: YAML, HTML
// and CSV. Their larger files have a JSON beside them.
const mostText = 32 << 20

func (in *input) all() ([]byte, error) {
	src := &source{r: in.Reader}
	data, err := io.ReadAll(io.LimitReader(src, mostText+1))
	switch {
	case err != nil:
		return nil, exit.With(exit.TryAgain, fmt.Errorf("%s: cannot be read on after byte %d: %w", in.name, src.n, err))
	case len(data) > mostText:
		return nil, foreign(in.name, "is larger than %d MiB, which only JSON may be; let the tool write JSON", mostText>>20)
	}
	return data, nil
}

// isYAML takes a text whose first line is a name with a colon.
func isYAML(h *head) bool {
	line := h.line
	for _, l := range strings.Split(string(h.text), "\n") {
		if line = strings.TrimSpace(l); line != "" && !strings.HasPrefix(line, "#") && line != "---" {
			break
		}
	}
	name, _, found := strings.Cut(strings.TrimPrefix(line, "- "), ":")
	return found && name != "" && !strings.ContainsAny(name, " {}[]<>\"|,=")
}

func readYAML(in *input) ([]measurement.Measurement, error) {
	data, err := in.all()
	if err != nil {
		return nil, err
	}
	var found []measurement.Measurement
	for _, document := range bytes.Split(append([]byte("\n"), data...), []byte("\n---")) {
		if len(bytes.TrimSpace(document)) == 0 {
			continue
		}
		converted, err := yaml.YAMLToJSON(document)
		if err != nil {
			return nil, foreign(in.name, "is broken YAML: %v; was it written to its end?", err)
		}
		if converted[0] != '{' && converted[0] != '[' {
			return nil, foreign(in.name, "is no report: it begins with %s", excerpt(bytes.TrimSpace(document)))
		}
		ms, err := Read(bytes.NewReader(converted), in.name, in.o)
		if err != nil {
			return nil, err
		}
		found = append(found, ms...)
	}
	return found, nil
}

// bareNumbers makes null of NaN and Infinity, which Python writes and JSON does not
// know. Strings pass as they are.
type bareNumbers struct {
	r       *bufio.Reader
	quoted  bool
	escaped bool
}

func newBareNumbers(r io.Reader) io.Reader { return &bareNumbers{r: bufio.NewReaderSize(r, headSize)} }

// Its words, longest first. Each is replaced by as many bytes.
var bareWords = []string{"-Infinity", "Infinity", "NaN"}

func (b *bareNumbers) Read(p []byte) (int, error) {
	if len(p) < 16 {
		return 0, io.ErrShortBuffer
	}
	buf, err := b.r.Peek(max(1, min(b.r.Buffered(), len(p))))
	if len(buf) == 0 {
		return 0, err
	}
	// Between strings only words begin with these letters.
	n := 0
	for n < len(buf) {
		if b.quoted {
			end := bytes.IndexAny(buf[n:], `"\`)
			switch {
			case b.escaped:
				b.escaped = false
				n++
			case end < 0:
				n = len(buf)
			case buf[n+end] == '\\':
				b.escaped = true
				n += end + 1
			default:
				b.quoted = false
				n += end + 1
			}
			continue
		}
		i := bytes.IndexAny(buf[n:], `"NI`)
		if i < 0 {
			n = len(buf)
			break
		}
		n += i
		if buf[n] == '"' {
			b.quoted = true
			n++
			continue
		}
		break
	}
	if n > 0 && !b.quoted && buf[n-1] == '-' { // of -Infinity, perhaps
		n--
	}
	if n > 0 {
		copy(p, buf[:n])
		_, _ = b.r.Discard(n)
		return n, nil
	}
	word, _ := b.r.Peek(len(bareWords[0]))
	for _, w := range bareWords {
		if strings.HasPrefix(string(word), w) {
			_, _ = b.r.Discard(len(w))
			return copy(p, "null"), nil
		}
	}
	// No word that is known: the decoder is to complain of it.
	p[0], _ = b.r.ReadByte()
	return 1, nil
}

// baseOf is the name of a file without its directory.
func baseOf(name string) string { return path.Base(strings.ReplaceAll(name, "\\", "/")) }

// BesidePath opens files beside the one of a name: a path, or s3://bucket/key.
func BesidePath(ctx context.Context, name string, open func(context.Context, string) (io.ReadCloser, error)) func(string) (io.ReadCloser, error) {
	dir := strings.TrimSuffix(name, baseOf(name))
	return func(base string) (io.ReadCloser, error) { return open(ctx, dir+base) }
}

// Companions tells which files of a directory say again what another one of them
// says, such as a CSV beside the JSON of the same run, so that no run is counted
// twice. The keys are paths below the directory.
func Companions(keys []string) (again func(key string) bool) {
	there := map[string]bool{}
	sweep := false                                                // of AIPerf
	vllm, vllmSweep := map[string]bool{}, map[string]bool{}       // directories of vllm bench sweep's runs, and those above them
	aiperf, inferencePerf := map[string]bool{}, map[string]bool{} // directories of runs
	for _, key := range keys {
		there[key] = true
		dir, base := path.Split(key)
		sweep = sweep || strings.HasSuffix(base, "_aiperf.json")
		aiperf[dir] = aiperf[dir] || strings.HasSuffix(base, "_aiperf.json")
		inferencePerf[dir] = inferencePerf[dir] || strings.HasSuffix(base, "_lifecycle_metrics.json")
		if vllmRun.MatchString(base) {
			above, _ := path.Split(path.Clean(dir))
			vllm[dir], vllmSweep[above] = true, true
		}
	}
	return func(key string) bool {
		dir, base := path.Split(key)
		ext := path.Ext(base)
		stem := strings.TrimSuffix(base, ext)
		beside := func(names ...string) bool {
			return slices.ContainsFunc(names, func(name string) bool { return name != base && there[dir+name] })
		}
		switch {
		case aiperf[dir] && !strings.HasSuffix(stem, "_aiperf") && ext != ".jsonl",
			inferencePerf[dir] && !strings.HasSuffix(stem, "_lifecycle_metrics"),
			sweep && aiperfAggregate.MatchString(key),
			vllm[dir] && !vllmRun.MatchString(base), // a summary, a warm-up, or why a run failed
			vllmSweep[dir] && (base == "summary.csv" || strings.HasSuffix(stem, "failure")):
			return true
		}
		switch ext {
		case ".json":
			rows := strings.TrimSuffix(strings.TrimSuffix(stem, "_aiperf"), "_genai_perf")
			if inferencePerfStage.MatchString(base) || base == "summary_lifecycle_metrics.json" {
				return beside("per_request_lifecycle_metrics.json") || base[0] == 's' && base[1] == 'u' && beside("stage_0_lifecycle_metrics.json")
			}
			return beside(rows + ".jsonl")
		case ".csv", ".yaml", ".yml":
			return beside(stem+".json", stem+".jsonl")
		}
		return false
	}
}

// vllmRun finds a measured run of vllm bench sweep.
var vllmRun = regexp.MustCompile(`^run=\d+\.json$`)

// aiperfAggregate finds what AIPerf says of a part of a run, or of several runs.
var aiperfAggregate = regexp.MustCompile(`(^|/)(phases/[^/]+|aggregate/[^/]+|sweep_aggregate)/[^/]+$`)

// Readable tells whether a file of a directory may be a report, by its name.
func Readable(key string) bool {
	return slices.Contains([]string{".json", ".jsonl", ".csv", ".yaml", ".yml"}, path.Ext(key))
}
