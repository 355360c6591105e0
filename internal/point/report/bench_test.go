package report

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
	"testing"
	"time"

	"wfgen.dev/internal/point/measurement"
)

// stream generates a report of guidellm 0.7.3 with so many requests: everything
// around the rows, and the first row itself, are genuine; only its moments, and
// in its prompt and its answer the number of words, change.
type stream struct {
	around [2][]byte // what stands before and behind the rows
	row    [][]byte  // what stands between the moments of a row
	after  []float64 // the moments, s since the request began
	left   int       // rows
	made   int
	rest   []byte
	buffer []byte
}

const (
	benchStreams = 64
	benchBegin   = 1795314736.0
)

func newStream(t testing.TB, rows, words int) *stream {
	text := string(content(t, "v0.7.3-sample_size0.json.gz"))
	head, tail, _ := strings.Cut(text, `"successful": [`)
	for !strings.HasPrefix(tail, "{\"type_\"") { // the list of rows, not a count
		var more string
		more, tail, _ = strings.Cut(tail, `"successful": [`)
		head += `"successful": [` + more
	}
	row, tail, _ := strings.Cut(tail, `}, {"type_"`)
	_, tail, _ = strings.Cut(tail, `], "errored"`)
	head = strings.ReplaceAll(head, `"request_totals": {"successful": 8, "errored": 0, "incomplete": 0, "total": 8}`,
		fmt.Sprintf(`"request_totals": {"successful": %d, "errored": 0, "incomplete": 0, "total": %[1]d}`, rows))
	head = strings.ReplaceAll(head, `"streams": 2`, fmt.Sprintf(`"streams": %d`, benchStreams))
	if words > 0 {
		prompt := strings.Repeat("benchmark ", words)
		row = strings.Replace(row, `"info": {`, `"request_args": "{\"method\":null,\"body\":{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"`+
			prompt+`\"}]}}", "output": "`+strings.Repeat("tok ", words/4)+`", "info": {`, 1)
	}
	s := &stream{around: [2][]byte{[]byte(head + `"successful": [`), []byte(`], "errored"` + tail)}, left: rows}
	for name, after := range map[string]float64{
		"request_start": 0, "first_request_iteration": 0.03, "first_token_iteration": 0.03, "last_token_iteration": 0.1,
		"last_request_iteration": 0.1, "request_end": 0.101, "resolve_end": 0.101,
	} {
		before, behind, found := strings.Cut(row, `"`+name+`": `)
		if !found {
			t.Fatalf("no %s in %s", name, row)
		}
		i := strings.IndexAny(behind, ",}")
		row = before + `"` + name + "\": \x00" + strconv.FormatFloat(after, 'f', -1, 64) + "\x00" + behind[i:]
	}
	for i, part := range strings.Split(row, "\x00") {
		if i%2 == 0 {
			s.row = append(s.row, []byte(part))
		} else if after, err := strconv.ParseFloat(part, 64); err == nil {
			s.after = append(s.after, after)
		}
	}
	s.rest = s.around[0]
	return s
}

func (s *stream) Read(p []byte) (int, error) {
	if len(s.rest) == 0 {
		switch {
		case s.left > 0:
			s.rest = s.next()
			s.left--
			s.made++
		case s.left == 0:
			s.rest = s.around[1]
			s.left--
		default:
			return 0, io.EOF
		}
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// next is a row of a closed loop: streams are shifted against each other, each
// begins its next request a millisecond after the last.
func (s *stream) next() []byte {
	turn, of := s.made/benchStreams, s.made%benchStreams
	start := benchBegin + 0.102*float64(turn) + 0.001*float64(of)
	b := s.buffer[:0]
	if s.made > 0 {
		b = append(b, ", "...)
	}
	for i, part := range s.row {
		b = append(b, part...)
		if i < len(s.after) {
			b = strconv.AppendFloat(b, start+s.after[i], 'f', 6, 64)
		}
	}
	s.buffer = append(b, '}')
	return s.buffer
}

// check verifies that a generated report was read right. Its statistics are those
// of the few genuine rows, which do not fit so many.
func (s *stream) check(t testing.TB, all []measurement.Measurement, rows int, basis string) {
	t.Helper()
	m := all[0]
	if len(all) != 1 || m.Client == nil || m.Client.Basis != basis || m.Requests.Successful != rows || basis == "rows" && (len(m.Taken.Void) > 0 || math.Abs(m.Taken.ITL.MS-10) > 0.001) {
		t.Fatalf("%+v %+v %+v", m, m.Client, m.Taken.ITL)
	}
}

func TestGeneratedReport(t *testing.T) {
	s := newStream(t, 1000, 100)
	all, err := Read(s, "generated.json", Options{})
	if err != nil {
		t.Fatal(err)
	}
	s.check(t, all, 1000, "rows")
}

// BenchmarkReadGuidellm is the speed of reading a report that lies in memory:
// with the prompts and answers of 512/128 tokens, and without them as
// sample_size=0 writes it.
func BenchmarkReadGuidellm(b *testing.B) {
	for name, words := range map[string]int{"prompts": 512, "no-prompts": 0} {
		b.Run(name, func(b *testing.B) {
			s := newStream(b, 8000, words)
			data, err := io.ReadAll(s)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				all, err := Read(bytes.NewReader(data), "generated.json", Options{})
				if err != nil {
					b.Fatal(err)
				}
				s.check(b, all, 8000, "rows")
			}
		})
	}
}

// BenchmarkReadGiB reads a report of 1 GiB that is generated as it is read, and
// tells the most heap that was in use at any time.
func BenchmarkReadGiB(b *testing.B) {
	for name, words := range map[string]int{"prompts": 512, "no-prompts": 0} {
		b.Run(name, func(b *testing.B) {
			probe := newStream(b, 1, words)
			rows := (1 << 30) / len(probe.next())
			basis := "rows"
			if rows > MaxRows {
				basis = "summary"
			}
			b.SetBytes(1 << 30)
			peak := uint64(0)
			for b.Loop() {
				runtime.GC()
				stop := watchHeap(&peak)
				s := newStream(b, rows, words)
				all, err := Read(s, "generated.json", Options{})
				stop()
				if err != nil {
					b.Fatal(err)
				}
				s.check(b, all, rows, basis)
			}
			b.ReportMetric(float64(peak)/(1<<20), "peak-heap-MiB")
		})
	}
}

// BenchmarkReadMaxRows is the worst case for memory: as many rows as are kept.
func BenchmarkReadMaxRows(b *testing.B) {
	peak := uint64(0)
	for b.Loop() {
		runtime.GC()
		stop := watchHeap(&peak)
		s := newStream(b, MaxRows, 0)
		all, err := Read(s, "generated.json", Options{})
		stop()
		if err != nil {
			b.Fatal(err)
		}
		s.check(b, all, MaxRows, "rows")
	}
	b.ReportMetric(float64(peak)/(1<<20), "peak-heap-MiB")
}

// watchHeap keeps the largest size of the heap, dead objects included, in peak
// until stop is called.
func watchHeap(peak *uint64) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	go func() {
		defer close(ended)
		for {
			metrics.Read(sample)
			*peak = max(*peak, sample[0].Value.Uint64())
			select {
			case <-done:
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	return func() { close(done); <-ended }
}
