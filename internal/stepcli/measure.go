package stepcli

import "github.com/urfave/cli/v2"

func measureCommand() *cli.Command {
	return &cli.Command{Name: "measure"}
}
