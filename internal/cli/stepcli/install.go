package stepcli

import (
	"fmt"
	"os"

	"github.com/urfave/cli/v2"

	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/steps"
	"wfgen.dev/internal/run/store"
)

func installCommand() *cli.Command {
	return &cli.Command{
		Name:      steps.InstallTo.Name,
		Usage:     "copy this program to a path, for a container whose image does not have it",
		ArgsUsage: "PATH",
		Description: `An init container brings step into an unmodified image this way: its own image has
no shell and no cp.

Example:
  step install-to /tools/step`,
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return exit.Errorf(exit.Usage, "install-to takes one path, found %d arguments; see --help", c.NArg())
			}
			self, err := os.Executable()
			if err != nil {
				return fmt.Errorf("install-to: %w", err)
			}
			return installTo(self, c.Args().First())
		},
	}
}

// installTo copies the program at source to the path, whole or not at all, for
// anybody to run.
func installTo(source, path string) error {
	in, err := os.Open(source)
	if err != nil {
		return fmt.Errorf("install-to: %w", err)
	}
	defer in.Close()
	if err := store.WriteFile(path, 0o755, in); err != nil {
		return fmt.Errorf("install-to: %w", err)
	}
	return nil
}
