package config

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"wfgen.dev/internal/sweep"
)

// Preset is a set of shapes that people compare.
type Preset struct {
	Name   string
	Shapes []sweep.Shape
	For    string
}

// Presets are those of the two-run recipe and of llm-d-planner's benchmarks.
var Presets = []Preset{
	{"recipe", []sweep.Shape{{PromptTokens: 128, OutputTokens: 128}}, "the two-run recipe's own shape"},
	{"chat", []sweep.Shape{{PromptTokens: 512, OutputTokens: 256}}, "conversation"},
	{"code", []sweep.Shape{{PromptTokens: 1024, OutputTokens: 1024}}, "answers as long as their prompts"},
	{"rag", []sweep.Shape{{PromptTokens: 4096, OutputTokens: 512}}, "prompts with passages that were retrieved"},
	{"document", []sweep.Shape{{PromptTokens: 10240, OutputTokens: 1536}}, "long documents"},
	{"planner", []sweep.Shape{{PromptTokens: 512, OutputTokens: 256}, {PromptTokens: 1024, OutputTokens: 1024}, {PromptTokens: 4096, OutputTokens: 512}, {PromptTokens: 10240, OutputTokens: 1536}},
		"the four shapes that llm-d-planner compares, enough for the joint models"},
}

// ExampleOf is Example with the shapes of a preset.
func ExampleOf(name string) ([]byte, error) {
	i := slices.IndexFunc(Presets, func(p Preset) bool { return p.Name == name })
	if i < 0 {
		var names []string
		for _, p := range Presets {
			names = append(names, p.Name)
		}
		return nil, fmt.Errorf("%q is none of %s", name, strings.Join(names, ", "))
	}
	var shapes []string
	longest := 0
	for _, s := range Presets[i].Shapes {
		shapes = append(shapes, s.String())
		longest = max(longest, s.PromptTokens+s.OutputTokens)
	}
	line := fmt.Sprintf("# %s: %s. The server must take %d tokens (its max-model-len).\nshapes: [%s]\n", name, Presets[i].For, longest, strings.Join(shapes, ", "))
	return bytes.Replace(Example, []byte("shapes: [128/128]\n"), []byte(line), 1), nil
}
