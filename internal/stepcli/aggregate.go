package stepcli

import "github.com/urfave/cli/v2"

func aggregateCommand() *cli.Command {
	return &cli.Command{Name: "aggregate"}
}
