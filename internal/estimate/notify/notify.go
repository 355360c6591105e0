// Package notify tells people and machines how a sweep ended: by Slack's incoming
// webhook, by any webhook, by Alertmanager. What addresses are given is secret: they
// stand in no error.
package notify

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/redact"
)

// Schema names the format of what a webhook gets.
const Schema = "wfgen.dev/notification/v1"

// Event is why somebody is told.
type Event string

// The events. Drift comes before Failure: a run may fail because of it.
const (
	Drift   Event = "drift"   // a parameter moved beyond the band
	Failure Event = "failure" // the run did not succeed
	End     Event = "end"     // it did, and nothing moved
)

// Events are all of them.
func Events() []Event { return []Event{End, Failure, Drift} }

// Notification is how a run ended. A webhook gets it as JSON.
type Notification struct {
	Schema    string   `json:"schema"`
	Event     Event    `json:"event"`
	Sweep     string   `json:"sweep"`
	Run       string   `json:"run"`
	Status    string   `json:"status"` // Argo's: Succeeded, Failed, Error
	Model     string   `json:"model"`
	Title     string   `json:"title"` // a sentence for people
	ReportURL string   `json:"report_url,omitempty"`
	Results   []Result `json:"results"`
	Moved     []string `json:"moved"`    // a sentence per parameter beyond the band, and per thing that is not as it was
	Failures  []string `json:"failures"` // a sentence each
}

// Result is one set of parameters in short.
type Result struct {
	Accelerator string    `json:"accelerator"`
	Shape       string    `json:"shape"`
	Verdict     fit.Level `json:"verdict"`
	Alpha       *float64  `json:"alpha,omitempty"` // ms
	Beta        *float64  `json:"beta,omitempty"`  // ms per request
	Gamma       *float64  `json:"gamma,omitempty"` // ms
	Delta       *float64  `json:"delta,omitempty"` // ms per token and request
	Drifted     []string  `json:"drifted,omitempty"`
}

// Run is what is known of a run.
type Run struct {
	Sweep, Name, Status, Model, ReportURL string
	Failures                              string              // Argo's workflow.failures: JSON, possibly quoted
	Summary                               *parameters.Summary // nil: it left none
}

const (
	mostLines = 20  // of failures: the report has all
	mostChars = 400 // of one
)

// Of describes the end of a run.
func Of(r Run) Notification {
	n := Notification{
		Schema: Schema, Event: End, Sweep: r.Sweep, Run: r.Name, Status: r.Status, Model: r.Model, ReportURL: r.ReportURL,
		Results: []Result{}, Moved: []string{}, Failures: []string{},
	}
	if s := r.Summary; s != nil {
		for _, p := range s.Parameters {
			one := Result{Accelerator: p.Accelerator, Shape: p.Shape.String(), Verdict: p.Verdict.Level, Alpha: p.Alpha, Beta: p.Beta, Gamma: p.Gamma, Delta: p.Delta}
			if c, compared := s.Drift.Of(p); compared {
				one.Drifted = c.Drifted
			}
			n.Results = append(n.Results, one)
		}
		n.Moved = append(n.Moved, s.Drift.Moved()...)
		for _, f := range s.Failures {
			n.Failures = append(n.Failures, brief(f.Accelerator+": "+strings.Join(f.Reasons, "; ")))
		}
	}
	n.Failures = append(n.Failures, failedNodes(r.Failures)...)
	if len(n.Failures) > mostLines {
		n.Failures = append(n.Failures[:mostLines], fmt.Sprintf("and %d more", len(n.Failures)-mostLines))
	}
	switch {
	case len(n.Moved) > 0:
		n.Event, n.Title = Drift, fmt.Sprintf("Latency of %s drifted (sweep %s)", r.Model, r.Sweep)
	case r.Status != "Succeeded":
		n.Event, n.Title = Failure, fmt.Sprintf("Sweep %s of %s ended as %s", r.Sweep, r.Model, r.Status)
	default:
		n.Title = fmt.Sprintf("Sweep %s of %s has ended", r.Sweep, r.Model)
	}
	return n
}

// Wanted says whether somebody who wants to hear of these events hears of this one. A
// run that failed with drift is both.
func (n Notification) Wanted(events []Event) bool {
	return slices.Contains(events, End) || slices.Contains(events, n.Event) || n.Status != "Succeeded" && slices.Contains(events, Failure)
}

// failedNodes reads what Argo tells of failed nodes. What cannot be read is left out:
// the run's status says enough.
func failedNodes(text string) []string {
	if unquoted, err := strconv.Unquote(text); err == nil { // Argo quotes it for its templates
		text = unquoted
	}
	var nodes []struct{ DisplayName, Message string }
	if json.Unmarshal([]byte(text), &nodes) != nil {
		return nil
	}
	var lines []string
	for _, node := range nodes {
		if node.Message != "" && !ofOthers.MatchString(node.Message) {
			lines = append(lines, brief(node.DisplayName+": "+node.Message))
		}
	}
	return lines
}

// ofOthers are messages of a node that only say that another one failed, or was not tried
// again: that one is in the list with its reason (workflow/controller/operator.go).
var ofOthers = regexp.MustCompile(`^(retryStrategy\.expression evaluated to false|No more retries left|Max duration limit exceeded|Backoff would exceed max duration limit|child '.*' (failed|errored))$`)

// brief is a line of what others wrote, without secrets, of bounded length.
func brief(text string) string {
	return redact.Line(redact.Text(text), mostChars)
}

// Text is the notification in lines for people.
func (n Notification) Text() string {
	lines := []string{fmt.Sprintf("run %s: %s", n.Run, n.Status)}
	for _, r := range n.Results {
		line := fmt.Sprintf("%s, %s: %s", r.Accelerator, r.Shape, r.Verdict)
		for _, v := range []struct {
			name  string
			value *float64
		}{{"alpha", r.Alpha}, {"beta", r.Beta}, {"gamma", r.Gamma}, {"delta", r.Delta}} {
			if v.value != nil {
				line += fmt.Sprintf(", %s %s", v.name, parameters.Format(*v.value))
			}
		}
		lines = append(lines, line)
	}
	for _, m := range n.Moved {
		lines = append(lines, "moved: "+m)
	}
	for _, f := range n.Failures {
		lines = append(lines, "failed: "+f)
	}
	return strings.Join(lines, "\n")
}
