package measurement

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
)

// The most that is kept of what others said. A file of all of it stays below
// MaxFileSize.
const (
	mostText = 4 << 10 // bytes of one text
	mostList = 500     // texts of one list
)

// sound makes of m what can be written and read again: a number that is not finite
// costs what it is part of, and is named in the notes; a text or a list without end is
// cut. What was measured is not thrown away for what was reported about it.
func (m *Measurement) sound() {
	copied := reflect.New(reflect.TypeFor[Measurement]())
	copied.Elem().Set(clone(reflect.ValueOf(*m)))
	var lost []string
	repair(copied.Elem(), "", &lost)
	*m = copied.Elem().Interface().(Measurement)
	if len(lost) > 0 {
		m.Notes = append(m.Notes, fmt.Sprintf("%s: not a finite number, and left out", strings.Join(lost, ", ")))
	}
}

// clone copies what v points to: its owner keeps it as it is.
func clone(v reflect.Value) reflect.Value {
	out := reflect.New(v.Type()).Elem()
	out.Set(v)
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			out = reflect.New(v.Type().Elem())
			out.Elem().Set(clone(v.Elem()))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			out.Field(i).Set(clone(v.Field(i)))
		}
	case reflect.Slice:
		if !v.IsNil() {
			out = reflect.MakeSlice(v.Type(), v.Len(), v.Len())
			for i := range v.Len() {
				out.Index(i).Set(clone(v.Index(i)))
			}
		}
	case reflect.Map:
		if !v.IsNil() {
			out = reflect.MakeMapWithSize(v.Type(), v.Len())
			for _, k := range v.MapKeys() {
				out.SetMapIndex(k, clone(v.MapIndex(k)))
			}
		}
	}
	return out
}

// repair makes v sound as far as that is in its hands; false says that v cannot be and
// is to be left out by what holds it.
func repair(v reflect.Value, path string, lost *[]string) bool {
	switch v.Kind() {
	case reflect.Float64, reflect.Float32:
		return !math.IsNaN(v.Float()) && !math.IsInf(v.Float(), 0)
	case reflect.String:
		if text := strings.ToValidUTF8(v.String(), "\uFFFD"); len(text) > mostText {
			v.SetString(strings.ToValidUTF8(text[:mostText], "") + "…")
		} else {
			v.SetString(text)
		}
	case reflect.Pointer:
		if !v.IsNil() && !repair(v.Elem(), path, lost) {
			v.SetZero()
			*lost = append(*lost, path)
		}
	case reflect.Slice:
		if v.Len() > mostList && v.Type().Elem().Kind() != reflect.Float64 {
			v.Set(v.Slice(0, mostList))
		}
		for i := range v.Len() {
			if !repair(v.Index(i), fmt.Sprintf("%s[%d]", path, i), lost) {
				return false
			}
		}
	case reflect.Map:
		for i, k := range slices.SortedFunc(slices.Values(v.MapKeys()), func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) }) {
			if text := k.String(); i >= mostList || len(text) > mostText {
				v.SetMapIndex(k, reflect.Value{})
			}
		}
	case reflect.Struct:
		// An estimate or a value is nothing without its numbers; of a witness or of the
		// measurement itself the rest counts.
		whole := v.Type() != reflect.TypeFor[Witness]() && v.Type() != reflect.TypeFor[Measurement]() && v.Type() != reflect.TypeFor[Taken]()
		for i := range v.NumField() {
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			at := strings.TrimPrefix(path+"."+name, ".")
			if repair(v.Field(i), at, lost) {
				continue
			}
			if whole {
				return false
			}
			v.Field(i).SetZero()
			*lost = append(*lost, at)
		}
	}
	return true
}
