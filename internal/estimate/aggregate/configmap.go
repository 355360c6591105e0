package aggregate

import (
	"fmt"
	"strings"

	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/layout"
)

// MaxConfigMap is the most that Kubernetes lets a ConfigMap hold, bytes.
const MaxConfigMap = 1 << 20

// ConfigMap is what of a summary may be published, by the key of a ConfigMap:
//
//	<accelerator>.<shape>.json  one set of parameters; <model>.… where there are several models
//	parameters.json             when there is exactly one set
//	summary.json
//	keda.yaml …                 what was rendered for a consumer
//
// The keys of refused sets, and of what could not be rendered, are there without a value:
// what an earlier run has put there is to be removed. Those of sets that drifted are not
// there: what was accepted last stays. It is an error when two sets share a key, or all of them
// are more than a ConfigMap holds.
func ConfigMap(s parameters.Summary, rendered map[string][]byte) (map[string]*string, error) {
	data := map[string]*string{}
	size := 0
	put := func(key string, value []byte) error {
		if _, ok := data[key]; ok {
			return exit.Errorf(exit.Usage, "two sets of parameters would have the key %s of the ConfigMap; write them into --output alone", key)
		}
		data[key] = nil
		if value != nil {
			data[key] = new(string(value))
			size += len(key) + len(value)
		}
		return nil
	}
	several := false
	for _, p := range s.Parameters {
		several = several || p.Model != s.Parameters[0].Model
	}
	for _, p := range s.Parameters {
		if c, compared := s.Drift.Of(p); compared && len(c.Drifted) > 0 {
			continue
		}
		var value []byte
		if p.Published() {
			var err error
			if value, err = p.Encode(); err != nil {
				return nil, err
			}
		}
		key := configMapKey(p.Accelerator) + "." + layout.ParametersFile(p.Shape)
		if several {
			key = configMapKey(p.Model) + "." + key
		}
		keys := []string{key}
		if len(s.Parameters) == 1 {
			keys = append(keys, layout.OneParameters)
		}
		for _, key := range keys {
			if err := put(key, value); err != nil {
				return nil, err
			}
		}
	}
	for name, text := range rendered {
		if err := put(name, text); err != nil {
			return nil, err
		}
	}
	summary, err := s.Encode()
	if err != nil {
		return nil, err
	}
	if err := put(layout.Summary, summary); err != nil {
		return nil, err
	}
	if size > MaxConfigMap {
		return nil, exit.Errorf(exit.Usage, "the results are %d bytes, and a ConfigMap holds %d; give each accelerator one of its own, or keep them in S3 (--output s3://bucket/prefix)", size, MaxConfigMap)
	}
	return data, nil
}

// configMapKey makes a name fit for a key: letters, digits, -, _ and dots.
func configMapKey(name string) string {
	return strings.Map(func(r rune) rune {
		if r < 128 && (r == '-' || r == '_' || r == '.' || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z') {
			return r
		}
		return '-'
	}, strings.ReplaceAll(name, "/", "--"))
}

// Described is what a ConfigMap got, for people.
func Described(data map[string]*string) string {
	set, removed := 0, 0
	for key, v := range data {
		switch {
		case key == layout.Summary || key == layout.OneParameters:
		case v == nil:
			removed++
		default:
			set++
		}
	}
	text := parameters.Counted(set, "set") + " of parameters, and the summary"
	if removed > 0 {
		text += fmt.Sprintf("; %s refused, and not in it", parameters.Counted(removed, "set"))
	}
	return text
}
