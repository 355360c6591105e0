// Package waiting is for tests that wait for a server and not for a processor.
package waiting

import (
	"flag"
	"strconv"
)

// Together lets n of a package's parallel tests run at once, however few processors there
// are, unless go test is told by -parallel. It is for the beginning of a TestMain.
func Together(n int) {
	if err := flag.Set("test.parallel", strconv.Itoa(n)); err != nil {
		panic(err) // not a test
	}
}
