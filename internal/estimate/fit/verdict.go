package fit

import (
	"fmt"
	"slices"
)

// Level is how far an estimate may be believed.
type Level string

// The levels, from good to bad.
const (
	Accepted Level = "accepted"
	Warned   Level = "warned"
	Refused  Level = "refused" // nothing may be published
)

// Verdict travels with every estimate.
type Verdict struct {
	Level   Level    `json:"level"`
	Reasons []string `json:"reasons,omitempty"` // why it is not accepted; those that refuse it come first

	refusals int // so many of the reasons
}

// NewVerdict is a verdict that nothing speaks against yet.
func NewVerdict() Verdict { return Verdict{Level: Accepted} }

// Refuse adds a reason for which nothing may be published.
func (v *Verdict) Refuse(format string, args ...any) {
	v.Level = Refused
	v.Reasons = slices.Insert(v.Reasons, v.refusals, fmt.Sprintf(format, args...))
	v.refusals++
}

// Warn adds a reason to look twice.
func (v *Verdict) Warn(format string, args ...any) {
	if v.Level == Accepted {
		v.Level = Warned
	}
	v.Reasons = append(v.Reasons, fmt.Sprintf(format, args...))
}
