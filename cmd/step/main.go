// Command step does the work inside each node of a calibration sweep.
package main

import (
	"wfgen.dev/internal/clikit"
	"wfgen.dev/internal/stepcli"
)

func main() { clikit.Main(stepcli.Run) }
