package config

import "testing"

// FuzzParse: a configuration is read or refused with words, and what is valid can be
// asked what it means.
func FuzzParse(f *testing.F) {
	f.Add([]byte("apiVersion: " + APIVersion + "\nkind: Sweep\nmodel: m\naccelerators: [{name: A100}]\nbatch-sizes: [1, 8]\n"))
	f.Add([]byte("server: {args: [--x], env: {A: b}}\nshapes: [{prompt-tokens: 1e9}]\n"))
	f.Add([]byte("---\na: &a [*a]\n---\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 64<<10 {
			return
		}
		c, err := parse("f", data)
		if err == nil && c.Validate() == nil && c.ValidateCluster() == nil {
			_ = c.InCluster().Sweep()
		}
	})
}
