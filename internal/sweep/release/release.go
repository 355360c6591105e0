// Package release knows the versions of guidellm: how each is told from its name, what
// it can do, and what it costs. To try another, add a row to the table.
package release

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Newest is the newest version that was tried, and the tag of its image.
const Newest = "0.8.1"

// What a report or a log is of that does not say its version.
const (
	Series02 = "0.2.x"
	Series03 = "0.3.x"
	Series04 = "0.4.x"
)

// CommandLine is a way in which versions take what they are to do.
type CommandLine int

// The command lines, by what is typical of each.
const (
	RateType CommandLine = iota // --rate-type concurrent --rate 4.0
	Profile                     // --profile concurrent --rate 4
	Kinds                       // --profile {"kind":"concurrent","streams":4}
)

// Traits are what a version does.
type Traits struct {
	CommandLine    CommandLine
	BenchmarkRun   bool // `benchmark run`, which was `benchmark` alone
	RequestFormat  bool // --request-format, which was --request-type
	SampleRequests bool // --sample-requests does something
	Overshoots     bool // answers of random length get one token more than the most that was asked for

	// SharesProcess says that one process can make several batch sizes, one after
	// another: between two of them it asks the server nothing that it does not report.
	SharesProcess bool
	// TrialRequests are requests that it and each of its workers, up to one per stream,
	// make before they begin, and that its report does not count.
	TrialRequests bool

	// KeyVariable is the environment variable that takes an API key; empty: none does.
	KeyVariable string
	KeyLeaks    bool // it writes the key into its report and log

	// OverheadSeconds is what a point costs beyond its load: start of the process,
	// imports, tokenizer, calibration of prompts, shutdown. They are the
	// overhead_seconds of measurements on two cores that do nothing else, as
	//
	//	make compare-drivers
	//
	// prints them for a server that has /metrics; a probe, where there are none, comes
	// on top. Fewer or busier cores make them longer.
	OverheadSeconds float64
}

// history is what each version that matters here changed, oldest first.
var history = []struct {
	version [3]int
	change  func(t *Traits)
}{
	{[3]int{0, 2, 0}, func(t *Traits) {
		t.CommandLine, t.TrialRequests, t.Overshoots, t.OverheadSeconds = RateType, true, true, 8
		t.KeyVariable, t.KeyLeaks = "GUIDELLM__OPENAI__API_KEY", true
	}},
	{[3]int{0, 3, 0}, func(t *Traits) { t.BenchmarkRun, t.Overshoots, t.OverheadSeconds = true, false, 11 }},
	{[3]int{0, 4, 0}, func(t *Traits) {
		t.CommandLine, t.TrialRequests, t.SharesProcess, t.OverheadSeconds = Profile, false, true, 20
		t.KeyVariable, t.KeyLeaks = "", false
	}},
	{[3]int{0, 5, 2}, func(t *Traits) { t.KeyVariable, t.KeyLeaks = "GUIDELLM_BACKEND_KWARGS", true }},
	{[3]int{0, 5, 4}, func(t *Traits) { t.SampleRequests = true }},
	{[3]int{0, 6, 0}, func(t *Traits) { t.RequestFormat = true }},
	{[3]int{0, 7, 0}, func(t *Traits) {
		t.CommandLine, t.OverheadSeconds = Kinds, 12
		t.KeyVariable, t.KeyLeaks = "GUIDELLM__SPEC__BACKEND", false
	}},
}

// Release is a version of guidellm. The zero value is one that is not known.
type Release struct {
	number [3]int
	text   string
}

var pattern = regexp.MustCompile(`(\d+)\.(\d+)(?:\.(\d+))?[0-9A-Za-z.+_-]*`)

// Parse reads 0.7.3, v0.7.3, 0.3.x, 0.8.0.dev12+g0a1b2c3 and the like, wherever in text
// the first of them stands.
func Parse(text string) (Release, bool) {
	m := pattern.FindStringSubmatch(text)
	if m == nil {
		return Release{}, false
	}
	r := Release{text: m[0]}
	for i := range r.number {
		r.number[i], _ = strconv.Atoi(m[i+1]) // digits, or nothing for a patch that is not given
	}
	return r, true
}

// OfImage is the version that the tag of a container image names.
func OfImage(image string) (Release, bool) {
	image, _, _ = strings.Cut(image, "@")
	_, tag, _ := strings.Cut(image[strings.LastIndex(image, "/")+1:], ":")
	return Parse(tag)
}

// String is the version as it was written.
func (r Release) String() string { return r.text }

// Traits are those of the version. One that is too old has those of the oldest that is
// known, and one that is newer, or not known, those of the newest.
func (r Release) Traits() Traits {
	var t Traits
	for i, h := range history {
		if i > 0 && r != (Release{}) && slices.Compare(r.number[:], h.version[:]) < 0 {
			break
		}
		h.change(&t)
	}
	return t
}

// TooOld says that the version came before all that are known.
func (r Release) TooOld() bool {
	return slices.Compare(r.number[:], history[0].version[:]) < 0
}

// Newer says that the version's series came after all that were tried.
func (r Release) Newer() bool {
	newest, _ := Parse(Newest)
	return slices.Compare(r.number[:2], newest.number[:2]) > 0
}

// Oldest is the first version that is known, as 0.2.
func Oldest() string { return name(history[0].version) }

// Since is the first version from which on all have a trait, as 0.4 or 0.5.2.
func Since(has func(Traits) bool) (first string) {
	var t Traits
	had := false
	for _, h := range history {
		h.change(&t)
		if has(t) && !had {
			first = name(h.version)
		}
		had = has(t)
	}
	return first
}

func name(version [3]int) string {
	return strings.TrimSuffix(fmt.Sprintf("%d.%d.%d", version[0], version[1], version[2]), ".0")
}
