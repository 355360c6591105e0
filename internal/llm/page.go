package llm

import (
	"bytes"
	"cmp"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	"wfgen.dev/internal/llm/record"
)

// page is what of a page of metrics is known. Prometheus' own parsers give up a page for
// one line that they do not understand; here such a line costs only itself, since pages
// come from servers of every make and through gateways that rewrite them.
type page struct {
	series map[string][]sample // by plainName
	odd    map[string]string   // names of metrics that say what cannot be, by plainName: as if they were not there
	model  string              // whose series are taken; empty: everybody's
	asked  string              // the model that was asked for
}

type sample struct {
	labels map[string]string
	value  float64
}

// known are the names of Facts, as plainName and with the endings of histograms.
var known = func() map[string]bool {
	names := map[string]bool{}
	for _, f := range Facts() {
		for _, n := range f.Names {
			for _, end := range []string{"", "_sum", "_count"} {
				names[plainName(n.Name)+end] = true
			}
		}
	}
	return names
}()

// plainName is a name as all write it: some libraries leave the ending of a counter out,
// and exporters write an underscore for a colon.
func plainName(name string) string {
	return strings.TrimSuffix(strings.Replace(name, ":", "_", 1), "_total")
}

// parsePage reads the text formats of Prometheus and OpenMetrics. Comments, types and
// exemplars are passed over.
func parsePage(text []byte, model string) page {
	p := page{series: map[string][]sample{}, odd: map[string]string{}, asked: model}
	named := false
	for line := range bytes.Lines(text) {
		written, s, ok := parseSample(bytes.TrimSpace(line))
		name := plainName(written)
		if !ok || !known[name] {
			continue
		}
		most := float64(mostCounted)
		if inBytes[name] {
			most = mostBytes
		}
		if !(s.value >= 0 && s.value <= most) {
			for _, end := range []string{"_sum", "_count"} {
				if whole := strings.TrimSuffix(name, end); known[whole] {
					name, written = whole, strings.TrimSuffix(written, end)
				}
			}
			p.odd[name] = written
			continue
		}
		if s.labels["model_name"] == model {
			named = true
		}
		p.series[name] = append(p.series[name], s)
	}
	// A server has one name for itself, which need not be the one that it was asked by:
	// an alias, an adapter, the path of the weights.
	if named {
		p.model = model
	}
	return p
}

// mostCounted is above all that a server can have counted, and below the numbers in
// which a float has no ones left.
const mostCounted = 1 << 52

// mostBytes is above what a GPU reads in a century.
const mostBytes = 1e23

// inBytes are the names, as plainName, of what counts bytes: so many that mostCounted is
// passed within the hour.
var inBytes = func() map[string]bool {
	names := map[string]bool{}
	for _, n := range bytesRead.Names {
		names[plainName(n.Name)] = true
	}
	return names
}()

// parseSample reads one line: name{label="value",...} value, and what may follow; or
// {"name",label="value"} value, where a name is not of the old alphabet.
func parseSample(line []byte) (string, sample, bool) {
	var none sample
	if len(line) == 0 || line[0] == '#' {
		return "", none, false
	}
	i := bytes.IndexAny(line, "{ \t")
	if i < 0 {
		return "", none, false
	}
	name, rest := string(line[:i]), line[i:]
	labels := map[string]string{}
	if rest[0] == '{' {
		rest = rest[1:]
		for {
			rest = bytes.TrimLeft(rest, " \t,")
			if len(rest) == 0 {
				return "", none, false
			}
			if rest[0] == '}' {
				rest = rest[1:]
				break
			}
			quoted := rest[0] == '"'
			key, after, ok := label(rest)
			if !ok {
				return "", none, false
			}
			if quoted && !bytes.HasPrefix(after, []byte("=")) { // the name itself
				name, rest = key, after
				continue
			}
			if rest, ok = bytes.CutPrefix(bytes.TrimLeft(after, " \t"), []byte("=")); !ok {
				return "", none, false
			}
			value, after, ok := label(bytes.TrimLeft(rest, " \t"))
			if !ok {
				return "", none, false
			}
			labels[key], rest = value, after
		}
	}
	fields := bytes.Fields(rest)
	if len(fields) == 0 {
		return "", none, false
	}
	value, err := strconv.ParseFloat(string(fields[0]), 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return "", none, false
	}
	return name, sample{labels, value}, true
}

// label reads the name or the quoted value of a label.
func label(b []byte) (text string, rest []byte, ok bool) {
	if len(b) == 0 || b[0] != '"' {
		i := bytes.IndexAny(b, "=}, \t\"")
		if i <= 0 {
			return "", nil, false
		}
		return string(b[:i]), b[i:], true
	}
	for i := 1; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return strings.NewReplacer(`\\`, `\`, `\"`, `"`, `\n`, "\n").Replace(string(b[1:i])), b[i+1:], true
		}
	}
	return "", nil, false
}

// of are the samples of the first name of a fact that is there, of the model.
func (p page) of(f Fact) []sample {
	for _, n := range f.Names {
		if all := p.named(n, ""); all != nil {
			return all
		}
	}
	return nil
}

func (p page) named(n Name, end string) []sample {
	if _, odd := p.odd[plainName(n.Name)]; odd {
		return nil
	}
	key, value, selects := strings.Cut(n.Label, "=")
	var all, asked []sample
	for _, s := range p.series[plainName(n.Name)+end] {
		name, has := s.labels["model_name"]
		if p.model != "" && has && name != p.model || selects && s.labels[key] != value {
			continue
		}
		all = append(all, s)
		if s.labels["model"] == p.asked {
			asked = append(asked, s)
		}
	}
	// Triton tells its models apart by another label, and the parts of an ensemble are
	// models of their own, of which one alone has a batch.
	if len(asked) > 0 {
		return asked
	}
	return all
}

// ranks are the labels by which the parts of one engine are told apart. Each of them
// reports the whole engine; engines and data-parallel ranks report themselves.
var ranks = []string{"tp_rank", "pp_rank", "moe_ep_rank", "ep_rank", "cp_rank", "dcp_rank", "attn_tp_rank", "attn_cp_rank", "moe_dp_rank", "worker_rank"}

// total adds up the series of a metric, each once: of series that differ in their rank
// alone the largest counts, since those of a rank that does not report stay at 0. So it
// is with those of several processes (pid) where all say the same.
func total(samples []sample) *float64 {
	if len(samples) == 0 {
		return nil
	}
	once := map[string]map[string]float64{} // by the other labels, by process
	for _, s := range samples {
		var rest []string
		for _, name := range slices.Sorted(maps.Keys(s.labels)) {
			if name != "pid" && !slices.Contains(ranks, name) {
				rest = append(rest, name, s.labels[name])
			}
		}
		group := strings.Join(rest, "\x00")
		if once[group] == nil {
			once[group] = map[string]float64{}
		}
		pid := s.labels["pid"]
		once[group][pid] = max(once[group][pid], s.value)
	}
	sum := 0.0
	for _, processes := range once {
		all, largest, alike := 0.0, 0.0, true
		for _, v := range processes {
			alike = alike && (v == 0 || largest == 0 || v == largest)
			largest = max(largest, v)
			all += v
		}
		if alike {
			all = largest
		}
		sum += all
	}
	return &sum
}

// value is a counter or gauge; nil where the server does not report it.
func (p page) value(f Fact) *float64 { return total(p.of(f)) }

// histogram is the exact part of one, seconds; nil where the server does not report it.
func (p page) histogram(f Fact) *record.Histogram {
	for _, n := range f.Names {
		sum, count := total(p.named(n, "_sum")), total(p.named(n, "_count"))
		if sum != nil && count != nil {
			return &record.Histogram{SumSeconds: *sum * cmp.Or(n.Unit, 1), Count: *count}
		}
	}
	return nil
}

// outputsOfTotals is the output tokens of finished requests, of a server that has no
// histogram of them and counts a request's tokens as it ends; nil of any other.
func (p page) outputsOfTotals() *record.Histogram {
	tokens, requests := p.value(atTheEnd), p.value(successes)
	if tokens == nil || requests == nil {
		return nil
	}
	return &record.Histogram{SumSeconds: *tokens, Count: *requests} // tokens where a histogram of time has seconds
}
