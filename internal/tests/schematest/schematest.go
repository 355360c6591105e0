// Package schematest holds JSON Schemas to the Go types that they describe.
package schematest

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Validate fails the test unless every document is valid under the schema in the
// file. Schemas may refer by their $id to others that lie beside it.
func Validate(t *testing.T, file string, documents ...[]byte) {
	t.Helper()
	for _, d := range documents {
		if err := validate(t, file, d); err != nil {
			t.Errorf("%s: %v\n%s", file, err, d)
		}
	}
}

// Refute fails the test if a document is valid under the schema.
func Refute(t *testing.T, file string, document []byte) {
	t.Helper()
	if validate(t, file, document) == nil {
		t.Errorf("%s: accepts %s", file, document)
	}
}

func validate(t *testing.T, file string, document []byte) error {
	t.Helper()
	c := jsonschema.NewCompiler()
	beside, err := filepath.Glob(filepath.Join(filepath.Dir(file), "*.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range beside {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(f)
		f.Close()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		id, _ := doc.(map[string]any)["$id"].(string)
		if err := c.AddResource(id, doc); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	schema, err := c.Compile(file)
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(document))
	if err != nil {
		t.Fatal(err)
	}
	return schema.Validate(value)
}

// Describes fails the test unless the schema in the file names exactly the JSON
// fields of the type of value, at every depth, and describes each in words.
func Describes(t *testing.T, file string, value any) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var root map[string]any
	if err := json.Unmarshal(data, &root); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	compare(t, root, root, reflect.TypeOf(value), "")
}

func compare(t *testing.T, root, schema map[string]any, typ reflect.Type, path string) {
	t.Helper()
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	if ref, ok := schema["$ref"].(string); ok {
		if !strings.HasPrefix(ref, "#") {
			return // another file, with a test of its own
		}
		defs, _ := root["$defs"].(map[string]any)
		schema, ok = defs[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any)
		if !ok {
			t.Errorf("%s: %s is not defined", path, ref)
			return
		}
	}
	switch typ.Kind() {
	case reflect.Slice:
		items, _ := schema["items"].(map[string]any)
		compare(t, root, items, typ.Elem(), path+"[]")
	case reflect.Struct:
		properties, _ := schema["properties"].(map[string]any)
		var fields []string
		for name, field := range jsonFields(typ) {
			fields = append(fields, name)
			property, ok := properties[name].(map[string]any)
			if !ok {
				t.Errorf("%s.%s: in the type, not in the schema", path, name)
				continue
			}
			if _, ok := property["description"].(string); !ok {
				t.Errorf("%s.%s: no description", path, name)
			}
			compare(t, root, property, field, path+"."+name)
		}
		for name := range properties {
			if !slices.Contains(fields, name) {
				t.Errorf("%s.%s: in the schema, not in the type", path, name)
			}
		}
	}
}

func jsonFields(typ reflect.Type) map[string]reflect.Type {
	fields := map[string]reflect.Type{}
	for i := range typ.NumField() {
		f := typ.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" || !f.IsExported():
		case f.Anonymous && name == "":
			for n, t := range jsonFields(f.Type) {
				fields[n] = t
			}
		default:
			fields[name] = f.Type
		}
	}
	return fields
}
