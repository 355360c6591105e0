// Command wfgen writes the Argo Workflows objects of a calibration sweep, or
// runs the sweep on this machine.
package main

import (
	"wfgen.dev/internal/clikit"
	"wfgen.dev/internal/wfgencli"
)

func main() { clikit.Main(wfgencli.Run) }
