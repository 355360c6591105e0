package layout

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"wfgen.dev/internal/run/exit"
)

// JSON is v as files hold it: indented, and texts as they are.
func JSON(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(v)
	return b.Bytes(), err
}

// JSONWithin is JSON of at most so many bytes, those of its ReadJSON: what could not be
// read again is not written. what is what errors call it; they have the exit code of
// refused data.
func JSONWithin(v any, what string, most int64) ([]byte, error) {
	data, err := JSON(v)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if int64(len(data)) > most {
		return nil, exit.Errorf(exit.Refused, "%s: %d bytes, more than the %d that may be read again", what, len(data), most)
	}
	return data, nil
}

// ReadJSON reads a file of at most so many bytes into v; unknown fields are ignored.
// name is what errors call the file, and what what it should be. What is no such file has
// the exit code of refused data.
func ReadJSON(r io.Reader, name, what string, v any, most int64) error {
	data, err := io.ReadAll(io.LimitReader(r, most+1))
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if int64(len(data)) > most {
		return exit.Errorf(exit.Refused, "%s: larger than %d bytes, which no %s is", name, most, what)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return exit.Errorf(exit.Refused, "%s: not a %s: %w", name, what, err)
	}
	return nil
}
