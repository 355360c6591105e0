package fit

import (
	"slices"

	"wfgen.dev/internal/run/reason"
)

// Level is how far an estimate may be believed.
type Level string

// The levels, from good to bad.
const (
	Accepted Level = "accepted"
	Warned   Level = "warned"
	Refused  Level = "refused" // nothing may be published
)

// Verdict travels with every estimate. Reasons and Findings say the same, in the same
// order: sentences, which is all that earlier versions wrote and read, and each with
// its code and its cure.
type Verdict struct {
	Level    Level           `json:"level"`
	Reasons  []string        `json:"reasons,omitempty"`  // why it is not accepted; those that refuse it come first
	Findings []reason.Reason `json:"findings,omitempty"` // absent in files of earlier versions

	refusals int // so many of the reasons
}

// NewVerdict is a verdict that nothing speaks against yet.
func NewVerdict() Verdict { return Verdict{Level: Accepted} }

// Refuse adds a reason for which nothing may be published.
func (v *Verdict) Refuse(r reason.Reason) {
	v.Level = Refused
	v.insert(v.refusals, r)
	v.refusals++
}

// Warn adds a reason to look twice.
func (v *Verdict) Warn(r reason.Reason) {
	if v.Level == Accepted {
		v.Level = Warned
	}
	v.insert(len(v.Findings), r)
}

func (v *Verdict) insert(at int, r reason.Reason) {
	v.Findings = slices.Insert(v.Findings, at, r)
	v.Reasons = slices.Insert(v.Reasons, at, r.String())
}

// Has tells whether a reason has the code.
func (v *Verdict) Has(code reason.Code) bool {
	return slices.ContainsFunc(v.Findings, func(r reason.Reason) bool { return r.Code == code })
}
