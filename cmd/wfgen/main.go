// Command wfgen writes the Argo Workflows objects of a calibration sweep, or
// runs the sweep on this machine.
package main

import (
	"wfgen.dev/internal/cli/clikit"
	"wfgen.dev/internal/cli/wfgencli"
)

func main() { clikit.Main(wfgencli.Run) }
