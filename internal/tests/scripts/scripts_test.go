// Package scripts runs the programs as users do: each file in testdata is a
// shell-like script over the real wfgen and step.
package scripts

import (
	"bufio"
	"bytes"
	"errors"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/rogpeppe/go-internal/testscript"

	"wfgen.dev/internal/cli/clikit"
	"wfgen.dev/internal/cli/stepcli"
	"wfgen.dev/internal/cli/wfgencli"
	"wfgen.dev/internal/tests/waiting"
)

func TestMain(m *testing.M) {
	waiting.Together(4)
	testscript.Main(m, map[string]func(){
		"step":  func() { clikit.Main(stepcli.Run) },
		"wfgen": func() { clikit.Main(wfgencli.Run) },
	})
}

func TestScripts(t *testing.T) {
	root, err := filepath.Abs("../../..")
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
			"s3":       s3,
		},
	})
}

// exits CODE[,CODE] COMMAND… runs a command that must end with one of the exit codes. Its
// output is there for "stdout" and "stderr" to look at.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE[,CODE] COMMAND…")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if !slices.Contains(strings.Split(args[0], ","), strconv.Itoa(code)) {
		ts.Fatalf("%s exits with %d, not %s", strings.Join(args[1:], " "), code, args[0])
	}
}

// s3 BUCKET starts an S3 server with one bucket and points the script at it.
func s3(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: s3 BUCKET")
	}
	backend := s3mem.New()
	ts.Check(backend.CreateBucket(args[0]))
	server := httptest.NewServer(gofakes3.New(backend).Server())
	ts.Defer(server.Close)
	ts.Setenv("AWS_ENDPOINT_URL", server.URL)
	ts.Setenv("AWS_ACCESS_KEY_ID", "user")
	ts.Setenv("AWS_SECRET_ACCESS_KEY", "very-secret")
	ts.Setenv("AWS_REGION", "us-east-1")
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
