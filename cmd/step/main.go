// Command step does the work inside each node of a calibration sweep.
package main

import (
	"wfgen.dev/internal/cli/clikit"
	"wfgen.dev/internal/cli/stepcli"
)

func main() { clikit.Main(stepcli.Run) }
