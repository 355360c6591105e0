package habits

import (
	"os"
	"testing"

	"wfgen.dev/internal/tests/pipes"
)

// The servers are reached through pipes, so that they and step live in one bubble of
// virtual time: what is measured is exact, and takes no time.
func TestMain(m *testing.M) {
	pipes.Lay()
	os.Exit(m.Run())
}
