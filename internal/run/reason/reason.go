// Package reason is why a number must not be taken as it stands, said once for people
// and for programs: of a point that is void, of a line that is refused, of an
// estimate that comes with a warning.
package reason

import "fmt"

// Code names a cause for programs. Codes are part of the files: they are added to,
// never renamed.
type Code string

// What is wrong with a server, or with how it was loaded.
const (
	Scatter       Code = "scatter"        // points differ by more than their own errors and repeats explain
	Bend          Code = "bend"           // latency grows faster than a line above some batch
	Concave       Code = "concave"        // latency grows slower than a line, as in a mixture of experts
	Drift         Code = "drift"          // the server changed while it was measured
	Queue         Code = "queue"          // requests waited for a place in the batch
	PrefillBudget Code = "prefill-budget" // prompts waited for room in an iteration
	KVCache       Code = "kv-cache"       // the memory for the cache ran out
	Speculative   Code = "speculative"    // tokens come several at a time
	InStep        Code = "in-step"        // streams that began together stayed together
	Label         Code = "label"          // the tokens counted are not those of the shape
	Buffered      Code = "buffered"       // something before the server holds its answers back
	Grouped       Code = "grouped"        // the first piece of an answer carries several tokens
	EarlyToken    Code = "early-token"    // what was taken for the first token is none
	Counts        Code = "counts"         // pieces and counted tokens do not fit together
	Cut           Code = "cut"            // the server ended answers before they were as long as asked
	Arrivals      Code = "arrivals"       // requests came in another number than asked for, or in clumps
	Repeated      Code = "repeated"       // a gauge comes once per rank or process
	Replicas      Code = "replicas"       // several servers answer at one address
)

// What is wrong with the measurement or with the estimate.
const (
	Wide         Code = "wide"         // the interval of a prediction is wider than asked for
	Imprecise    Code = "imprecise"    // the precision that was asked for was not reached
	Few          Code = "few"          // too few points, batch sizes or shapes
	Unidentified Code = "unidentified" // the points cannot tell the parameters apart
	Zero         Code = "zero"         // a parameter cannot be told from zero
	Misfit       Code = "misfit"       // the model does not predict its own points
	Units        Code = "units"        // values that cannot be milliseconds
	Mixed        Code = "mixed"        // points that do not belong together
	Differs      Code = "differs"      // image, node, driver or the like differ between the points
	Influence    Code = "influence"    // one point decides alone
	Batch        Code = "batch"        // the batch asked for was not reached
	Errors       Code = "errors"       // requests failed
	Interrupted  Code = "interrupted"  // the point ended early
	Witness      Code = "witness"      // client, server and probe disagree, or none can be believed
	Foreign      Code = "foreign"      // somebody else used the server, or another replica answered
	Restarted    Code = "restarted"    // the server began again in the middle
	PrefixCache  Code = "prefix-cache" // prompts were found in the cache
	Floor        Code = "floor"        // faster than the memory can be read, or far slower
	Objective    Code = "objective"    // a service level objective that no load meets
	Summary      Code = "summary"      // made of a tool's own statistics, not of requests
	Void         Code = "void"         // the point cannot be used; the text says why
	Other        Code = "other"
)

// Reason is one cause, in words, with what to do about it.
type Reason struct {
	Code Code   `json:"code"`
	Text string `json:"text"`           // a sentence without its full stop
	Cure string `json:"cure,omitempty"` // what to do, the same
}

// New is a reason without a cure.
func New(code Code, format string, args ...any) Reason {
	return Reason{Code: code, Text: fmt.Sprintf(format, args...)}
}

// Cured is the reason with what to do about it.
func (r Reason) Cured(format string, args ...any) Reason {
	r.Cure = fmt.Sprintf(format, args...)
	return r
}

// String is the reason for people.
func (r Reason) String() string {
	if r.Cure == "" {
		return r.Text
	}
	return r.Text + "; " + r.Cure
}

// BufferedCure is what to do about answers that are held back on their way.
const BufferedCure = "let no proxy before the server buffer or compress (nginx: proxy_buffering off, gzip off), or measure the server itself"
