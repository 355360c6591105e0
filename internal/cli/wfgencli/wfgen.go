// Package wfgencli is the command line of wfgen: one file per command, each thin
// over the package that does the work.
package wfgencli

import (
	"context"
	"io"

	"github.com/urfave/cli/v2"

	"wfgen.dev/internal/cli/clikit"
	"wfgen.dev/internal/run/store"
	"wfgen.dev/internal/version"
)

// Run runs wfgen with args, which do not hold the program's name, and returns
// its exit code.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	generate := generateCommand()
	app := &cli.App{
		Name:        "wfgen",
		Usage:       "calibrate the latency of LLM servers on every accelerator of a fleet",
		Version:     version.Full(),
		Description: generate.Description,
		Flags:       generate.Flags,
		Action:      generate.Action, // without a subcommand wfgen generates
		Commands: []*cli.Command{
			runCommand(),
			planCommand(),
			jobsCommand(),
			serversCommand(),
			initCommand(),
		},
	}
	app.Flags = clikit.Group(app.Flags, heading)
	for _, c := range app.Commands {
		if len(c.Flags) > 12 { // else headings are longer than what they head
			c.Flags = clikit.Group(c.Flags, heading)
		}
	}
	return clikit.Run(store.WithStdin(ctx, stdin), app, "WFGEN", args, stdin, stdout, stderr)
}
