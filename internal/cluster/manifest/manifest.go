// Package manifest writes Kubernetes objects as the YAML that a person would have
// written: fields in the order of their types but for a few, no empty leftovers of marshalling,
// comments where somebody would want to edit.
package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Comment is a remark above one field of an object.
type Comment struct {
	// Path leads to the field: names joined by dots, an element of a list by its
	// own name in brackets, as in spec.templates[point].container.resources.
	Path string
	Text string
}

// MaxBytes is what an object may measure as JSON: etcd takes 1.5 MiB at most, and
// a server-side apply adds to it.
const MaxBytes = 1 << 20

// ErrTooLarge says that an object measures more than MaxBytes.
var ErrTooLarge = errors.New("larger than 1 MiB")

// YAML writes an object. A comment whose field is not there is an error: it would
// be lost without notice.
func YAML(object any, comments ...Comment) ([]byte, error) {
	data, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	root, err := tree(dec)
	if err != nil {
		return nil, err
	}
	drop(root, "status") // the cluster's to write
	if n := size(root); n > MaxBytes {
		return nil, fmt.Errorf("%w: %d bytes", ErrTooLarge, n)
	}
	for _, c := range comments {
		key, err := find(root, c.Path)
		if err != nil {
			return nil, err
		}
		key.HeadComment = c.Text
	}
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	enc.CompactSeqIndent()
	if err := enc.Encode(root); err != nil {
		return nil, err
	}
	return out.Bytes(), enc.Close()
}

// noise are fields that the types write although nothing is in them. Other empty
// values mean something: emptyDir: {}, archive: {none: {}}, value: "".
var noise = []string{"arguments", "inputs", "metadata", "outputs", "resources"}

// tree reads one JSON value, its fields in their order, without nulls and noise.
func tree(dec *json.Decoder) (*yaml.Node, error) {
	token, err := dec.Token()
	if err != nil {
		return nil, err
	}
	n := &yaml.Node{Kind: yaml.ScalarNode}
	switch v := token.(type) {
	case nil:
		n.Tag, n.Value = "!!null", "null"
	case bool:
		n.Tag, n.Value = "!!bool", strconv.FormatBool(v)
	case json.Number:
		n.Value = v.String()
	case string:
		n.Tag, n.Value = "!!str", v
		if ambiguous(v) {
			n.Style = yaml.DoubleQuotedStyle
		}
	case json.Delim:
		n.Kind, n.Tag = yaml.SequenceNode, "!!seq"
		if v == '{' {
			n.Kind, n.Tag = yaml.MappingNode, "!!map"
		}
		for dec.More() {
			var key *yaml.Node
			if n.Kind == yaml.MappingNode {
				if key, err = tree(dec); err != nil {
					return nil, err
				}
			}
			value, err := tree(dec)
			if err != nil {
				return nil, err
			}
			switch {
			case key == nil:
				n.Content = append(n.Content, value)
			case !isNoise(key.Value, value):
				n.Content = append(n.Content, key, value)
			}
		}
		if len(n.Content) == 0 {
			n.Style = yaml.FlowStyle
		}
		if n.Kind == yaml.MappingNode {
			order(n)
		}
		_, err = dec.Token() // the closing bracket
	}
	return n, err
}

// ahead are fields that a reader wants before the others of an object.
var ahead = []string{"apiVersion", "kind", "name", "entrypoint", "schedules", "timezone", "failFast", "depends", "template", "withParam", "apiGroups", "resources"}

// order moves the fields ahead to the front, and the templates of a workflow, which
// are its bulk, to the end.
func order(n *yaml.Node) {
	type field struct{ key, value *yaml.Node }
	var fields []field
	for i := 0; i < len(n.Content); i += 2 {
		fields = append(fields, field{n.Content[i], n.Content[i+1]})
	}
	rank := func(f field) int {
		if i := slices.Index(ahead, f.key.Value); i >= 0 && f.value.Kind != yaml.MappingNode {
			return i - len(ahead)
		}
		if f.key.Value == "templates" {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(fields, func(a, b field) int { return rank(a) - rank(b) })
	n.Content = n.Content[:0]
	for _, f := range fields {
		n.Content = append(n.Content, f.key, f.value)
	}
}

func drop(n *yaml.Node, name string) {
	if key, _ := lookup(n, name); key != nil {
		i := slices.Index(n.Content, key)
		n.Content = slices.Delete(n.Content, i, i+2)
	}
}

func isNoise(key string, value *yaml.Node) bool {
	switch value.Kind {
	case yaml.MappingNode:
		return len(value.Content) == 0 && slices.Contains(noise, key)
	case yaml.ScalarNode:
		return value.Tag == "!!null" || key == "name" && value.Value == "" // a container's, which Argo names itself
	}
	return false
}

// ambiguous tells text that YAML 1.1, which kubectl reads, takes for something
// else than YAML 1.2 does.
func ambiguous(text string) bool {
	switch strings.ToLower(text) {
	case "y", "n", "yes", "no", "on", "off", "=", "<<":
		return true
	}
	return false
}

// size is about what the object measures as JSON.
func size(n *yaml.Node) int {
	total := len(n.Value) + 3
	for _, c := range n.Content {
		total += size(c)
	}
	return total
}

// find is the key of the field at the path, or the element of the list that it
// ends in.
func find(root *yaml.Node, path string) (*yaml.Node, error) {
	missing := fmt.Errorf("comment on %s: no such field", path)
	at, found := root, (*yaml.Node)(nil)
	for part := range strings.SplitSeq(path, ".") {
		field, element, inList := strings.Cut(strings.TrimSuffix(part, "]"), "[")
		key, value := lookup(at, field)
		if key == nil {
			return nil, missing
		}
		found, at = key, value
		if !inList {
			continue
		}
		i := slices.IndexFunc(value.Content, func(e *yaml.Node) bool {
			_, name := lookup(e, "name")
			return name != nil && name.Value == element
		})
		if i < 0 {
			return nil, missing
		}
		found, at = value.Content[i], value.Content[i]
	}
	return found, nil
}

func lookup(n *yaml.Node, field string) (key, value *yaml.Node) {
	if n.Kind == yaml.MappingNode {
		for i := 0; i < len(n.Content); i += 2 {
			if n.Content[i].Value == field {
				return n.Content[i], n.Content[i+1]
			}
		}
	}
	return nil, nil
}
