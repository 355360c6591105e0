package config

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"github.com/xrash/smetrics"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
	"sigs.k8s.io/yaml"

	"wfgen.dev/internal/redact"
	"wfgen.dev/internal/sweep"
)

// Schema is the JSON Schema of the configuration file.
//
//go:embed sweep.schema.json
var Schema []byte

// mostBytes is the most that a configuration may hold: a mistaken path must not fill
// the memory.
const mostBytes = 4 << 20

// Load reads a configuration file over the defaults. An error names the file and
// every mistake of its structure; the Config then holds all that could be read, so
// that its content can be judged in the same breath.
func Load(path string) (Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return Default(), fmt.Errorf("configuration: %w", err)
	}
	defer f.Close()
	return Read(f, path)
}

// Read is Load of what is open already.
func Read(r io.Reader, name string) (Config, error) {
	data, err := io.ReadAll(io.LimitReader(r, mostBytes+1))
	if err != nil {
		return Default(), fmt.Errorf("configuration: %w", err)
	}
	if len(data) > mostBytes {
		return Default(), fmt.Errorf("configuration: %s is longer than %d bytes, which no configuration is", name, mostBytes)
	}
	return parse(name, data)
}

func parse(path string, data []byte) (Config, error) {
	c := Default()
	if second := documents(data); second > 0 {
		return c, fmt.Errorf("%s: a second YAML document begins in line %d and would be ignored; give each configuration a file of its own", path, second)
	}
	raw, err := yaml.YAMLToJSONStrict(data)
	if err != nil {
		return c, fmt.Errorf("%s: not YAML: %s", path, redact.Line(err.Error(), 2000))
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return c, fmt.Errorf("%s: %w", path, err)
	}
	fields, ok := value.(map[string]any)
	if !ok {
		return c, fmt.Errorf("%s: expected fields such as apiVersion: %s; wfgen init writes an example", path, APIVersion)
	}

	var mistakes []error
	var invalid *jsonschema.ValidationError
	if err := schema().Validate(value); errors.As(err, &invalid) {
		for _, leaf := range leaves(invalid) {
			for _, text := range describe(leaf) {
				mistakes = append(mistakes, fmt.Errorf("%s: %s", path, text))
			}
			drop(fields, leaf)
		}
	} else if err != nil {
		return c, err
	}
	if fields["shapes"] == sweep.Auto { // to be chosen
		c.ShapesAuto = true
		delete(fields, "shapes")
	}
	rest, err := json.Marshal(fields)
	if err != nil {
		return c, err
	}
	if err := json.Unmarshal(rest, &c); err != nil { // what the schema cannot say, such as a number too large
		mistakes = append(mistakes, fmt.Errorf("%s: %w", path, err))
	}
	if len(mistakes) > 0 { // one without a name has been reported
		c.Accelerators = slices.DeleteFunc(c.Accelerators, func(a Accelerator) bool { return a.Name == "" })
	}
	return c, errors.Join(mistakes...)
}

// documents is the line in which a second YAML document begins, 0: there is none. The
// reader of YAML takes the first and is silent about the rest.
func documents(data []byte) int {
	begun, number := false, 0
	for line := range bytes.Lines(data) {
		number++
		text := bytes.TrimRight(line, "\r\n\t ")
		switch {
		case bytes.Equal(text, []byte("---")) || bytes.HasPrefix(text, []byte("--- ")):
			if begun {
				return number
			}
		case len(text) > 0 && text[0] != '#' && text[0] != '%' && !bytes.Equal(text, []byte("...")):
			begun = true
		}
	}
	return 0
}

// drop takes out the field that holds a value of the wrong kind: its default then
// stands in for it, and the rest can be read.
func drop(fields map[string]any, e *jsonschema.ValidationError) {
	switch e.ErrorKind.(type) {
	case *kind.Required, *kind.AdditionalProperties:
		return // nothing there to take out
	}
	var in map[string]any
	var name string
	var at any = fields
	for _, part := range e.InstanceLocation {
		switch v := at.(type) {
		case map[string]any:
			in, name, at = v, part, v[part]
		case []any:
			i, err := strconv.Atoi(part)
			if err != nil || i >= len(v) {
				return
			}
			at = v[i]
		}
	}
	delete(in, name)
}

var schema = sync.OnceValue(func() *jsonschema.Schema {
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema))
	if err != nil {
		panic(err) // embedded, and compiled by the tests
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("sweep.schema.json", document); err != nil {
		panic(err)
	}
	return c.MustCompile("sweep.schema.json")
})

// leaves are the mistakes themselves, without the schema's path to them.
func leaves(e *jsonschema.ValidationError) []*jsonschema.ValidationError {
	if len(e.Causes) == 0 {
		return []*jsonschema.ValidationError{e}
	}
	var all []*jsonschema.ValidationError
	for _, cause := range e.Causes {
		all = append(all, leaves(cause)...)
	}
	return all
}

// describe says what is wrong in the words of the file.
func describe(e *jsonschema.ValidationError) []string {
	at := location(e.InstanceLocation)
	prefix := at
	if at != "" {
		prefix += ": "
	}
	switch k := e.ErrorKind.(type) {
	case *kind.AdditionalProperties:
		var texts []string
		for _, name := range slices.Sorted(slices.Values(k.Properties)) {
			text := fmt.Sprintf("%sunknown field %q", prefix, name)
			if near := nearest(name, e.InstanceLocation); near != "" {
				text += fmt.Sprintf("; did you mean %q?", near)
			}
			texts = append(texts, text)
		}
		return texts
	case *kind.Required:
		var texts []string
		for _, name := range k.Missing {
			text := fmt.Sprintf("%s%s is missing", prefix, name)
			if fixed := map[string]string{"apiVersion": APIVersion, "kind": Kind}[name]; fixed != "" {
				text += fmt.Sprintf("; write %s: %s", name, fixed)
			}
			texts = append(texts, text)
		}
		return texts
	case *kind.Type:
		return []string{fmt.Sprintf("%sexpected %s, found %s", prefix, strings.Join(k.Want, " or "), k.Got)}
	case *kind.Enum:
		return []string{fmt.Sprintf("%s%v is not %s", prefix, quoted(k.Got), alternatives(k.Want))}
	case *kind.Pattern:
		return []string{fmt.Sprintf("%s%q: expected promptTokens/outputTokens such as 128/128", prefix, k.Got)}
	}
	return []string{prefix + e.ErrorKind.LocalizedString(message.NewPrinter(language.English))}
}

// location writes the place of a value as people do: accelerators[1].count.
func location(path []string) string {
	var at strings.Builder
	for _, part := range path {
		switch {
		case strings.Trim(part, "0123456789") == "":
			at.WriteString("[" + part + "]")
		case at.Len() > 0:
			at.WriteString("." + part)
		default:
			at.WriteString(part)
		}
	}
	return at.String()
}

func quoted(v any) string {
	if s, ok := v.(string); ok {
		return fmt.Sprintf("%q", s)
	}
	return fmt.Sprint(v)
}

func alternatives(want []any) string {
	texts := make([]string, len(want))
	for i, w := range want {
		texts[i] = fmt.Sprint(w)
	}
	return strings.Join(texts, " or ")
}

// nearest is the field that an unknown one in this place was probably meant to be.
func nearest(name string, place []string) string {
	type fields map[string]any
	var document struct {
		Properties map[string]struct {
			Items struct{ Properties fields }
		}
		Defs struct {
			Server struct{ Properties fields }
		} `json:"$defs"`
	}
	if err := json.Unmarshal(Schema, &document); err != nil {
		return ""
	}
	var names []string
	switch {
	case slices.Contains(place, "server"):
		names = slices.Collect(maps.Keys(document.Defs.Server.Properties))
	case len(place) > 0:
		names = slices.Collect(maps.Keys(document.Properties["accelerators"].Items.Properties))
	default:
		names = slices.Collect(maps.Keys(document.Properties))
	}
	best, score := "", 0.8
	for _, n := range slices.Sorted(slices.Values(names)) {
		if s := smetrics.JaroWinkler(strings.ToLower(strings.ReplaceAll(n, "-", "")), strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(name)), 0.7, 4); s > score {
			best, score = n, s
		}
	}
	return best
}

// Example is a configuration file with every field explained.
//
//go:embed example.yaml
var Example []byte
