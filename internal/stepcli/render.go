package stepcli

import "github.com/urfave/cli/v2"

func renderCommand() *cli.Command {
	return &cli.Command{Name: "render"}
}
