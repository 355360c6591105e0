package wfgencli

import (
	"github.com/urfave/cli/v2"

	"wfgen.dev/internal/cli/clikit"
	"wfgen.dev/internal/sweep/config"
)

func initCommand() *cli.Command {
	return &cli.Command{
		Name:  "init",
		Usage: "write a configuration file with every field explained",
		Description: `Examples:
  wfgen init > sweep.yaml
  wfgen init --schema > sweep.schema.json`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "schema", Usage: "the JSON Schema of the file instead, for editors and checks"},
		},
		Action: func(c *cli.Context) error {
			if err := clikit.NoArgs(c); err != nil {
				return err
			}
			text := config.Example
			if c.Bool("schema") {
				text = config.Schema
			}
			_, err := c.App.Writer.Write(text)
			return err
		},
	}
}
