// Package scripts runs the programs as users do: each file in testdata is a
// shell-like script over the real wfgen and step.
package scripts

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"wfgen.dev/internal/clikit"
	"wfgen.dev/internal/stepcli"
	"wfgen.dev/internal/wfgencli"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"step":  func() { clikit.Main(stepcli.Run) },
		"wfgen": func() { clikit.Main(wfgencli.Run) },
	})
}

func TestScripts(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			e.Setenv("ROOT", root)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":    exits,
			"simulate": simulated,
		},
		Condition: func(cond string) (bool, error) {
			if name, ok := strings.CutPrefix(cond, "shared:"); ok {
				_, err := os.Stat(filepath.Join(root, "..", "shared", name))
				return err == nil, nil
			}
			return false, errors.New("unknown condition")
		},
	})
}

// exits CODE COMMAND… runs a command that must end with that exit code. Its
// output is there for "stdout" and "stderr" to look at.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	code := 0
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if code != want {
		ts.Fatalf("%s exits with %d, not %d", strings.Join(args[1:], " "), code, want)
	}
}

// simulate VARIABLE FLAGS… starts step simulate for the rest of the script and
// puts its URL into the variable.
func simulated(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: simulate VARIABLE FLAGS…")
	}
	path, err := exec.LookPath("step")
	ts.Check(err)
	cmd := exec.Command(path, append([]string{"simulate", "--listen", "127.0.0.1:0"}, args[1:]...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	ts.Defer(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line, _ := bufio.NewReader(stdout).ReadString('\n')
	url, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	if !ok {
		ts.Fatalf("step simulate said %q and %s", line, &stderr)
	}
	ts.Setenv(args[0], url)
}
