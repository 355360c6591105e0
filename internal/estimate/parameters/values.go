package parameters

import (
	"encoding/json"
	"strings"
)

// Values are the different values of a field of Provenance, in order of appearance:
// none where nothing is known, several where the points differ. In a file they are one
// text, as the first version of the format has it.
type Values []string

const betweenValues = " | "

// String joins the values for people.
func (v Values) String() string { return strings.Join(v, betweenValues) }

// MarshalJSON writes one text.
func (v Values) MarshalJSON() ([]byte, error) { return json.Marshal(v.String()) }

// UnmarshalJSON reads it.
func (v *Values) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return err
	}
	*v = nil
	if text != "" {
		*v = strings.Split(text, betweenValues)
	}
	return nil
}
