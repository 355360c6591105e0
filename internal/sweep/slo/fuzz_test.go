package slo

import (
	"reflect"
	"testing"
)

// FuzzParse: objectives that are read have a time above 0, and read again as they are printed.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"ttft=250ms,p90.itl=20ms", "E2E=1.5s", "itl=1ns", "p99.ttft=2562047h", ",", "itl=1ms,itl=2ms"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		list, err := Parse(text)
		if err != nil {
			return
		}
		for _, o := range list {
			if !(o.MS > 0) {
				t.Errorf("%+v", o)
			}
		}
		if again, err := Parse(Format(list)); err != nil || !reflect.DeepEqual(list, again) {
			t.Errorf("%+v is printed as %s: %+v, %v", list, Format(list), again, err)
		}
	})
}
