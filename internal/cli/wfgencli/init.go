package wfgencli

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"wfgen.dev/internal/cli/clikit"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/sweep/config"
)

func initCommand() *cli.Command {
	return &cli.Command{
		Name:  "init",
		Usage: "write a configuration file with every field explained",
		Description: `Examples:
  wfgen init > sweep.yaml
  wfgen init --preset planner > sweep.yaml
  wfgen init --schema > sweep.schema.json

Presets, shapes that people compare (prompt/output tokens):
` + presets(),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "preset", Usage: "`NAME` of the shapes to measure, as listed above; 128/128 otherwise"},
			&cli.BoolFlag{Name: "schema", Usage: "the JSON Schema of the file instead, for editors and checks"},
		},
		Action: func(c *cli.Context) error {
			if err := clikit.NoArgs(c); err != nil {
				return err
			}
			text := config.Example
			if c.Bool("schema") {
				text = config.Schema
			} else if name := c.String("preset"); name != "" {
				var err error
				if text, err = config.ExampleOf(name); err != nil {
					return exit.Errorf(exit.Usage, "--preset: %w", err)
				}
			}
			_, err := c.App.Writer.Write(text)
			return err
		},
	}
}

// presets lists them for people.
func presets() string {
	var b strings.Builder
	for _, p := range config.Presets {
		var shapes []string
		for _, s := range p.Shapes {
			shapes = append(shapes, s.String())
		}
		fmt.Fprintf(&b, "  %-9s %s\n            %s\n", p.Name, strings.Join(shapes, ", "), p.For)
	}
	return strings.TrimRight(b.String(), "\n")
}
