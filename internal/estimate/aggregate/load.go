package aggregate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"
	"sync"

	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/point/report"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/run/store"
)

// readers is how many files are read at a time: enough to hide the latency of an
// object store.
const readers = 16

// Load reads what lies at the locations: files, directories or s3:// prefixes
// that hold measurements, raw reports, parameters and summaries in any mixture.
// output is where the results will go; its own earlier summary is no input. With
// o nil, raw reports are none of these.
// Files in a directory that are none of these are skipped and say so in skipped;
// one named directly is an error.
func Load(ctx context.Context, locations []string, output string, o *report.Options) (in Inputs, skipped []string, err error) {
	var files []file
	for _, l := range locations {
		found, err := find(ctx, l, output)
		if err != nil {
			return Inputs{}, nil, err
		}
		files = append(files, found...)
	}

	read := make([]Inputs, len(files))
	errs := make([]error, len(files))
	var running sync.WaitGroup
	slots := make(chan struct{}, readers)
	for i, f := range files {
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			read[i], errs[i] = f.read(ctx, o)
		})
	}
	running.Wait()

	var fatal []error
	for i, f := range files {
		switch e := errs[i]; {
		case e == nil:
			in.add(read[i])
		case f.direct || exit.Code(e) != exit.Refused:
			fatal = append(fatal, e)
		default:
			skipped = append(skipped, e.Error())
		}
	}
	if err := errors.Join(fatal...); err != nil {
		return Inputs{}, nil, err
	}
	return in, skipped, nil
}

// file is one file to read.
type file struct {
	name   string // as errors and provenance call it; store.OpenPath opens it
	open   func(context.Context) (io.ReadCloser, error)
	direct bool // named by the user
}

// find lists the files at a location.
func find(ctx context.Context, location, output string) ([]file, error) {
	single := file{name: store.Called(location), direct: true, open: func(ctx context.Context) (io.ReadCloser, error) {
		return store.OpenPath(ctx, location)
	}}
	if location == store.Stdin {
		return []file{single}, nil
	}
	if store.IsRemote(location) {
		if report.Readable(location) {
			return []file{single}, nil
		}
	} else {
		info, err := os.Stat(location)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil, exit.Errorf(exit.Usage, "%s: no such file or directory", location)
		case err != nil:
			return nil, err // the system says whether it passes
		case !info.IsDir():
			return []file{single}, nil
		}
	}

	s, err := store.New(ctx, location)
	if err != nil {
		return nil, err
	}
	keys, err := s.List(ctx, "")
	if err != nil {
		return nil, err
	}
	var files []file
	measured, again := alreadyMeasured(keys), report.Companions(keys)
	for _, key := range keys {
		own := key == layout.Summary || key == layout.OneParameters
		if !report.Readable(key) || again(key) || layout.BesideReport(key) || layout.Ours(key) || measured(key) || own && sameLocation(location, output) {
			continue
		}
		files = append(files, file{name: strings.TrimRight(location, "/") + "/" + key, open: func(ctx context.Context) (io.ReadCloser, error) {
			return s.Open(ctx, key)
		}})
	}
	return files, nil
}

// Reports lists the files at a location that may be reports, each by a name that
// store.OpenPath opens. A file is listed whatever its name.
func Reports(ctx context.Context, location string) ([]string, error) {
	files, err := find(ctx, location, "")
	if err != nil {
		return nil, err
	}
	names := make([]string, len(files))
	for i, f := range files {
		names[i] = f.name
	}
	return names, nil
}

func sameLocation(a, b string) bool {
	return strings.TrimRight(a, "/") == strings.TrimRight(b, "/")
}

// alreadyMeasured tells which keys are raw reports that lie beside the measurements that
// were made of them, or that step left in a directory of reports, with their log: one
// without a measurement is of a point that failed or was refused, and stays so.
func alreadyMeasured(keys []string) func(key string) bool {
	parents, logs := map[string]bool{}, map[string]bool{}
	for _, key := range keys {
		if report, ok := layout.OfLog(key); ok {
			logs[report] = true
		}
		if path.Base(key) == layout.Measurement {
			parents[path.Dir(key)] = true
		}
		if dir := path.Dir(key); path.Base(dir) == layout.Measurements {
			parents[path.Dir(dir)] = true
		}
	}
	return func(key string) bool {
		for dir := path.Dir(key); dir != "."; dir = path.Dir(dir) {
			if path.Base(dir) == layout.Reports && (parents[path.Dir(dir)] || logs[strings.TrimSuffix(key, path.Ext(key))]) {
				return true
			}
		}
		return false
	}
}

// schemaAt finds the schema of one of our files near its beginning, where we
// write it.
var schemaAt = regexp.MustCompile(`^\s*\{\s*"schema"\s*:\s*"(wfgen\.dev/[^"]+)"`)

// listAt finds the beginning of a list of them, as step measure prints one.
var listAt = regexp.MustCompile(`^\s*\[\s*\{\s*"schema"\s*:\s*"wfgen\.dev/`)

// readList reads each element of a list as a file of its own.
func (f file) readList(ctx context.Context, whole io.Reader) (in Inputs, err error) {
	list := json.NewDecoder(whole)
	if _, err := list.Token(); err != nil {
		return in, exit.Errorf(exit.Refused, "%s: %w", f.name, err)
	}
	for i := 1; list.More(); i++ {
		var element json.RawMessage
		if err := list.Decode(&element); err != nil {
			return in, exit.Errorf(exit.Refused, "%s: element %d of the list is cut or broken: %w", f.name, i, err)
		}
		one := file{name: fmt.Sprintf("%s, element %d", f.name, i), open: func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(element)), nil
		}}
		found, err := one.read(ctx, nil)
		if err != nil {
			return in, err
		}
		in.add(found)
	}
	if _, err := list.Token(); err != nil {
		return in, exit.Errorf(exit.Refused, "%s: the list has no end: %w", f.name, err)
	}
	return in, nil
}

// add joins what two files hold.
func (in *Inputs) add(more Inputs) {
	in.Measurements = append(in.Measurements, more.Measurements...)
	in.Parameters = append(in.Parameters, more.Parameters...)
	in.Joint = append(in.Joint, more.Joint...)
	in.Failures = append(in.Failures, more.Failures...)
}

func (f file) read(ctx context.Context, o *report.Options) (in Inputs, err error) {
	body, err := f.open(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return in, exit.Errorf(exit.Usage, "%s: not found", f.name)
	}
	if err != nil {
		return in, exit.With(exit.TryAgain, err)
	}
	defer body.Close()

	// Our own files are small; whatever is larger than this is a raw report.
	const small = measurement.MaxFileSize
	head, err := io.ReadAll(io.LimitReader(body, small))
	if err != nil {
		return in, exit.With(exit.TryAgain, fmt.Errorf("%s: %w", f.name, err))
	}
	whole := io.MultiReader(bytes.NewReader(head), body)
	if listAt.Match(head) {
		return f.readList(ctx, whole)
	}
	schema := ""
	if m := schemaAt.FindSubmatch(head); m != nil {
		schema = string(m[1])
	} else if len(head) < small { // another tool may have sorted the fields
		var file struct {
			Schema string `json:"schema"`
		}
		if json.Unmarshal(head, &file) == nil && strings.HasPrefix(file.Schema, "wfgen.dev/") {
			schema = file.Schema
		}
	}

	kind, _, _ := strings.Cut(strings.TrimPrefix(schema, "wfgen.dev/"), "/")
	switch kind {
	case "measurement":
		m, err := measurement.Decode(whole, f.name)
		if err != nil {
			return in, err
		}
		in.Measurements = []Source{{Measurement: m, File: f.name}}
	case "parameters":
		p, err := parameters.Decode(whole, f.name)
		if err != nil {
			return in, err
		}
		in.Parameters = []parameters.Parameters{p}
	case "summary":
		s, err := parameters.DecodeSummary(whole, f.name)
		if err != nil {
			return in, err
		}
		in.Parameters, in.Joint, in.Failures = s.Parameters, s.Joint, s.Failures
	case "plan", "capacity", "prefill": // of the run, beside its results
	default:
		if o == nil {
			return in, exit.Errorf(exit.Refused, "%s: holds no parameters and no summary; make them with step aggregate", f.name)
		}
		with := *o
		with.Beside = report.BesidePath(ctx, f.name, store.OpenPath)
		ms, err := report.Read(whole, f.name, with)
		if err != nil {
			return in, err
		}
		for _, m := range ms {
			if m.Model == "" {
				return Inputs{}, exit.Errorf(exit.Usage, "%s: the report does not name its model; give it with --model", f.name)
			}
			if m.Accelerator == "" {
				return Inputs{}, exit.Errorf(exit.Usage, "%s: the report does not name its accelerator; give it with --accelerator", f.name)
			}
			in.Measurements = append(in.Measurements, Source{Measurement: m, File: f.name, Report: true})
		}
	}
	return in, nil
}
