package clikit

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"

	"github.com/urfave/cli/v2"

	"wfgen.dev/internal/redact"
	"wfgen.dev/internal/run/exit"
)

// app records what its one command was given.
func app(got *string, args *[]string) *cli.App {
	return &cli.App{Name: "tool", Commands: []*cli.Command{{
		Name:  "work",
		Flags: []cli.Flag{&cli.StringFlag{Name: "some-flag", Aliases: []string{"s"}}, &cli.BoolFlag{Name: "quick"}},
		Action: func(c *cli.Context) error {
			*got, *args = c.String("some-flag"), c.Args().Slice()
			return nil
		},
	}}}
}

func TestFlagsMayFollowArguments(t *testing.T) {
	for _, tc := range []struct {
		args []string
		flag string
		rest string
	}{
		{[]string{"work", "a", "--some-flag", "x", "b"}, "x", "a b"},
		{[]string{"work", "a", "-s", "x"}, "x", "a"},
		{[]string{"work", "--some-flag=x", "a"}, "x", "a"},
		{[]string{"work", "a", "--quick", "b", "--some-flag", "-1"}, "-1", "a b"},
		{[]string{"work", "-", "--some-flag", "x"}, "x", "-"},
		{[]string{"work", "--some-flag", "x", "--", "--quick"}, "x", "--quick"},
		{[]string{"work"}, "", ""},
	} {
		var got string
		var args []string
		var stderr bytes.Buffer
		if code := Run(context.Background(), app(&got, &args), "TOOL", tc.args, strings.NewReader(""), io.Discard, &stderr); code != 0 {
			t.Errorf("%q: exit %d, %s", tc.args, code, &stderr)
		}
		if got != tc.flag || strings.Join(args, " ") != tc.rest {
			t.Errorf("%q: flag %q, arguments %q; want %q, %q", tc.args, got, args, tc.flag, tc.rest)
		}
	}
}

// A flag for all commands may stand before the command, with its value apart or not.
func TestGlobalFlagsComeBeforeTheCommand(t *testing.T) {
	for _, tc := range []struct {
		args   []string
		global string
		code   int
	}{
		{[]string{"--log", "x", "work", "a", "-s", "y"}, "x", 0},
		{[]string{"--log=x", "work", "a", "-s", "y"}, "x", 0},
		{[]string{"work", "a", "-s", "y"}, "", 0},
		{[]string{"--own", "work", "-s", "y"}, "", exit.Usage}, // of the app's own action, which knows no -s
	} {
		var got, global string
		var rest []string
		a := app(&got, &rest)
		a.Flags = []cli.Flag{&cli.StringFlag{Name: "log"}, &cli.BoolFlag{Name: "own"}}
		a.Metadata = map[string]any{Global: []string{"log"}}
		work := a.Commands[0].Action
		a.Commands[0].Action = func(c *cli.Context) error {
			global = c.String("log")
			return work(c)
		}
		code := Run(context.Background(), a, "TOOL", tc.args, strings.NewReader(""), io.Discard, io.Discard)
		if code != tc.code || code == 0 && (global != tc.global || got != "y" || strings.Join(rest, " ") != "a") {
			t.Errorf("%q: exit %d, global %q, flag %q, arguments %q", tc.args, code, global, got, rest)
		}
	}
}

func TestEveryFlagHasAnEnvironmentVariable(t *testing.T) {
	t.Setenv("TOOL_SOME_FLAG", "from the environment")
	var got string
	var args []string
	Run(context.Background(), app(&got, &args), "TOOL", []string{"work"}, strings.NewReader(""), io.Discard, io.Discard)
	if got != "from the environment" {
		t.Errorf("flag is %q", got)
	}
	Run(context.Background(), app(&got, &args), "TOOL", []string{"work", "-s", "given"}, strings.NewReader(""), io.Discard, io.Discard)
	if got != "given" {
		t.Errorf("the flag does not win over its variable: %q", got)
	}
}

func TestMistakesOfTheCommandLineExitWithUsage(t *testing.T) {
	for _, args := range [][]string{{"work", "--no-such-flag"}, {"work", "--some-flag"}} {
		var got string
		var rest []string
		var stderr bytes.Buffer
		if code := Run(context.Background(), app(&got, &rest), "TOOL", args, strings.NewReader(""), io.Discard, &stderr); code != exit.Usage {
			t.Errorf("%q: exit %d", args, code)
		}
		if !strings.HasPrefix(stderr.String(), "tool: ") || strings.Count(stderr.String(), "\n") != 1 {
			t.Errorf("%q: not one line on stderr: %q", args, &stderr)
		}
	}
}

func TestMissingFlagsAreAMistakeOfTheCommandLine(t *testing.T) {
	for args, want := range map[string]string{
		"work":             "tool: --target, --size: not given; see --help\n",
		"work --size 3":    "tool: --target: not given; see --help\n",
		"work --size 3 -t": "tool: flag needs an argument: -t; see --help\n",
	} {
		app := &cli.App{Name: "tool", Commands: []*cli.Command{{
			Name:   "work",
			Flags:  []cli.Flag{&cli.StringFlag{Name: "target", Aliases: []string{"t"}, Required: true}, &cli.IntFlag{Name: "size", Required: true}, &cli.StringFlag{Name: "other"}},
			Action: func(*cli.Context) error { return nil },
		}}}
		var stdout, stderr bytes.Buffer
		if code := Run(context.Background(), app, "TOOL", strings.Fields(args), strings.NewReader(""), &stdout, &stderr); code != exit.Usage || stdout.Len() > 0 || stderr.String() != want {
			t.Errorf("%q: exit %d, stdout %q, stderr %q", args, code, &stdout, &stderr)
		}
	}
	t.Setenv("TOOL_TARGET", "x")
	app := &cli.App{Name: "tool", Commands: []*cli.Command{{
		Name: "work", Flags: []cli.Flag{&cli.StringFlag{Name: "target", Required: true}}, Action: func(*cli.Context) error { return nil },
	}}}
	if code := Run(context.Background(), app, "TOOL", []string{"work"}, strings.NewReader(""), io.Discard, io.Discard); code != 0 {
		t.Errorf("given by the environment: exit %d", code)
	}
}

// Whatever a command writes, the secrets of the process are not in it, nor is what a
// terminal would obey.
func TestStreamsAreFitToBeSeen(t *testing.T) {
	t.Setenv("TOOL_API_KEY", "key-of-the-server")
	a := &cli.App{Name: "tool", Commands: []*cli.Command{{Name: "work", Flags: []cli.Flag{&cli.StringFlag{Name: "api-key"}},
		Action: func(c *cli.Context) error {
			fmt.Fprintf(c.App.Writer, "model \x1b[2J%s\n", c.String("api-key"))
			fmt.Fprint(c.App.ErrWriter, "no end of line")
			if redact.From(c.Context).None() {
				t.Error("the context knows no secret")
			}
			return exit.Errorf(exit.Refused, "the server said %s and password: other", c.String("api-key"))
		},
	}}}
	var stdout, stderr bytes.Buffer
	code := Run(context.Background(), a, "TOOL", []string{"work"}, strings.NewReader(""), &stdout, &stderr)
	if code != exit.Refused || stdout.String() != "model ***\n" || stderr.String() != "no end of linetool: the server said *** and password: ***\n" {
		t.Errorf("exit %d, %q, %q", code, &stdout, &stderr)
	}
}

type broken struct{ err error }

func (b broken) Write([]byte) (int, error) { return 0, b.err }

// What stdout does not take is told by a code of the table.
func TestStdoutThatTakesNothing(t *testing.T) {
	refused := exit.Errorf(exit.Refused, "not believed")
	for _, tc := range []struct {
		stdout, command error
		code            int
		says            string
	}{
		{syscall.EPIPE, nil, exit.Done, ""},
		{syscall.EPIPE, refused, exit.Refused, "not believed"},
		{syscall.ENOSPC, nil, exit.TryAgain, "free space"},
		{syscall.ENOSPC, refused, exit.Refused, "not believed"},
		{syscall.EBADF, nil, exit.Usage, "stdout"},
	} {
		for name, write := range map[string]func(w io.Writer) error{
			"told":    func(w io.Writer) error { _, err := io.WriteString(w, "data\n"); return err },
			"untold":  func(w io.Writer) error { fmt.Fprintln(w, "data"); return nil },
			"no line": func(w io.Writer) error { fmt.Fprint(w, "data"); return nil },
		} {
			a := &cli.App{Name: "tool", Action: func(c *cli.Context) error {
				err := write(c.App.Writer)
				if tc.command != nil {
					return tc.command
				}
				return err
			}}
			var stderr bytes.Buffer
			code := Run(context.Background(), a, "TOOL", nil, strings.NewReader(""), broken{tc.stdout}, &stderr)
			if code != tc.code || !strings.Contains(stderr.String(), tc.says) || tc.says == "" && stderr.Len() > 0 {
				t.Errorf("%v, %v, %s: exit %d, %q", tc.stdout, tc.command, name, code, &stderr)
			}
		}
	}
}

// What is no number, and a count beyond all counting, is refused whatever the command.
func TestNumbersThatNobodyMeans(t *testing.T) {
	a := func() *cli.App {
		return &cli.App{Name: "tool", Commands: []*cli.Command{{Name: "work",
			Flags:  []cli.Flag{&cli.Float64Flag{Name: "share"}, &cli.IntFlag{Name: "count"}, &cli.Int64Flag{Name: "seed"}},
			Action: func(*cli.Context) error { return nil },
		}}}
	}
	for args, want := range map[string]int{
		"--share NaN": exit.Usage, "--share Inf": exit.Usage, "--share -inf": exit.Usage, "--share 1e308": exit.Usage, "--share 0.5": exit.Done,
		"--count 4600000000000000000": exit.Usage, "--count -4600000000000000000": exit.Usage, "--count 64": exit.Done, "--seed 4600000000000000000": exit.Done,
	} {
		var stderr bytes.Buffer
		code := Run(context.Background(), a(), "TOOL", append([]string{"work"}, strings.Fields(args)...), strings.NewReader(""), io.Discard, &stderr)
		if code != want || code != exit.Done && !strings.Contains(stderr.String(), strings.Fields(args)[0]) {
			t.Errorf("%s: exit %d, %s", args, code, &stderr)
		}
	}
}
