package slo

import (
	"reflect"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	const text = "ttft=250ms,p90.itl=20ms,p99.e2e=1.5s"
	list, err := Parse(text)
	want := []Objective{{TTFT, "mean", 250}, {ITL, "p90", 20}, {E2E, "p99", 1500}}
	if err != nil || !reflect.DeepEqual(list, want) || Format(list) != text {
		t.Errorf("%+v, %s", list, Format(list))
	}
	_, err = Parse("ttft=250,p42.itl=1ms,tpot=3ms,itl=1ms,itl=2ms,e2e=-1s,")
	for _, part := range []string{`"ttft=250"`, `"p42.itl=1ms"`, `"tpot=3ms"`, "itl is given twice", `"e2e=-1s"`, `"": expected`} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v does not name %s", err, part)
		}
	}
}
