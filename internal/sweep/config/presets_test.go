package config

import (
	"slices"
	"strings"
	"testing"

	"wfgen.dev/internal/sweep"
)

// TestPresets: each is a configuration of its shapes that is valid.
func TestPresets(t *testing.T) {
	for _, p := range Presets {
		text, err := ExampleOf(p.Name)
		if err != nil {
			t.Fatal(err)
		}
		c, err := parse(p.Name+".yaml", text)
		if err != nil {
			t.Fatal(err)
		}
		var shapes []sweep.Shape
		for _, s := range c.Shapes {
			shapes = append(shapes, s.Shape)
		}
		if err := c.Validate(); err != nil || !slices.Equal(shapes, p.Shapes) {
			t.Errorf("%s: %v, %v", p.Name, shapes, err)
		}
	}
	if _, err := ExampleOf("cha"); err == nil || !strings.Contains(err.Error(), "recipe, chat, code, rag, document, planner") {
		t.Errorf("an unknown one: %v", err)
	}
}
