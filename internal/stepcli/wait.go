package stepcli

import "github.com/urfave/cli/v2"

func waitCommand() *cli.Command {
	return &cli.Command{Name: "wait"}
}
