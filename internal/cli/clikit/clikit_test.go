package clikit

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

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
