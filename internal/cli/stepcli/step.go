// Package stepcli is the command line of step: one file per command, each thin
// over the package that does the work.
package stepcli

import (
	"context"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"wfgen.dev/internal/cli/clikit"
	"wfgen.dev/internal/redact"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/steps"
	"wfgen.dev/internal/run/store"
	"wfgen.dev/internal/version"
)

// Run runs step with args, which do not hold the program's name, and returns
// its exit code.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return clikit.Run(store.WithStdin(ctx, stdin), newApp(), steps.Prefix, args, stdin, stdout, stderr)
}

func newApp() *cli.App {
	return &cli.App{
		Name:    "step",
		Usage:   "the work inside each node of a calibration sweep",
		Version: version.Full(),
		Description: `Every flag has an environment variable: STEP_ and the flag's name, as in STEP_TARGET.
Data goes to stdout, words to stderr. Exit codes: 0 done, 2 usage, 3 drift,
65 data refused, 69 server unusable, 75 try again.`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: terminationLog, Usage: "`FILE` that gets the error as well: /dev/termination-log in a pod, whose status then shows it"},
		},
		Metadata:       map[string]any{clikit.Global: []string{terminationLog}},
		ExitErrHandler: terminationMessage,
		Commands: []*cli.Command{
			simulateCommand(),
			waitCommand(),
			guardCommand(),
			preflightCommand(),
			benchCommand(),
			measureCommand(),
			aggregateCommand(),
			renderCommand(),
			compareCommand(),
			reportCommand(),
			predictCommand(),
			capacityCommand(),
			checkCommand(),
			prefillCommand(),
			planPointsCommand(),
			nextCommand(),
			notifyCommand(),
			installCommand(),
		},
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return exit.Errorf(exit.Usage, "no command %q; see step --help", c.Args().First())
			}
			return cli.ShowAppHelp(c)
		},
	}
}

// terminationLog is the flag, which may stand before a command's name.
const terminationLog = "termination-log"

// terminationMessage writes the error to where Kubernetes looks for it: kubectl and
// Argo then show why a pod failed, not only its exit code. A file that cannot be
// written costs that alone: the error is on stderr as well.
func terminationMessage(c *cli.Context, err error) {
	const most = 4096 // bytes that Kubernetes keeps
	if name := c.String(terminationLog); err != nil && name != "" {
		text := redact.From(c.Context).Words(err.Error())
		_ = os.WriteFile(name, []byte(strings.ToValidUTF8(text[:min(len(text), most)], "")), 0o666)
	}
}
