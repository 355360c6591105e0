// Package clikit is what the command lines of wfgen and step have in common:
// every flag has an environment variable, flags may follow arguments, all
// mistakes of the command line exit with 2, and data goes to stdout, words to
// stderr.
package clikit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"reflect"
	"slices"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"wfgen.dev/internal/redact"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/steps"
)

// Main runs a program with the process's own arguments and streams until it
// ends or is told to (SIGINT, SIGTERM, SIGHUP), and exits with its code. Told twice, it
// ends at once: nothing that does not listen to its context holds it.
func Main(run func(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int) {
	// A reader that went away (| head) is an error of the write, not the end of the
	// process: what it has started must be ended in order.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // as nohup has it
		signals = append(signals, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	context.AfterFunc(ctx, stop) // the second one does what it does by itself
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// Run runs app and reports its error on stderr in one line. Flags get
// environment variables named PREFIX_FLAG_NAME. An ExitErrHandler that app has must
// not end the process. Whatever app writes comes out without the secrets of the process,
// which the context of its commands knows too, and without what acts on a terminal.
func Run(ctx context.Context, app *cli.App, prefix string, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	secrets := redact.Environment(os.Environ(), args)
	ctx = redact.With(ctx, secrets)
	printed := &delivery{w: stdout}
	data, words := secrets.DataTo(printed), secrets.WordsTo(stderr)
	app.Reader, app.Writer, app.ErrWriter = stdin, data, words
	app.HideHelpCommand = true
	app.EnableBashCompletion = true
	app.Commands = append(app.Commands, CompletionCommand(app.Name))
	if app.ExitErrHandler == nil {
		app.ExitErrHandler = func(*cli.Context, error) {} // the code is ours to give
	}
	app.OnUsageError = usageError
	app.CommandNotFound = nil
	app.Flags = withEnvironment(prefix, app.Flags)
	for _, c := range app.Commands {
		c.Flags = withEnvironment(prefix, c.Flags)
		c.OnUsageError = usageError
		c.HideHelpCommand = true
		c.Before = required(c.Flags)
	}
	if len(args) == 0 || args[len(args)-1] != complete {
		args = permute(app, args)
	}
	err := app.RunContext(ctx, append([]string{app.Name}, args...))
	_ = data.Flush() // printed keeps its error
	err = printed.outcome(err)
	if err != nil {
		fmt.Fprintf(words, "%s: %v\n", app.Name, err)
	}
	_ = words.Flush() // nobody is left to be told
	return exit.Code(err)
}

// delivery remembers why stdout took no more.
type delivery struct {
	w   io.Writer
	err error
}

func (d *delivery) Write(p []byte) (int, error) {
	n, err := d.w.Write(p)
	if err != nil {
		d.err = &undelivered{err}
		err = d.err
	}
	return n, err
}

// undelivered is an error of stdout.
type undelivered struct{ error }

func (u *undelivered) Unwrap() error { return u.error }

// outcome is what a command ended with, whose own error goes before one of stdout. A
// reader that has gone away (| head) has had what it wanted.
func (d *delivery) outcome(err error) error {
	switch {
	case d.err == nil, err != nil && !errors.As(err, new(*undelivered)):
		return err
	case errors.Is(d.err, syscall.EPIPE):
		return nil
	case errors.Is(d.err, syscall.ENOSPC), errors.Is(d.err, syscall.EDQUOT), errors.Is(d.err, syscall.EIO):
		return exit.Errorf(exit.TryAgain, "stdout: %w; free space there", d.err)
	}
	return exit.Errorf(exit.Usage, "stdout: %w", d.err)
}

// Terminal is the terminal that a stream of a command goes to, for what draws on it
// itself; nil where it goes elsewhere.
func Terminal(w io.Writer) *os.File {
	if l, ok := w.(*redact.Lines); ok {
		w = l.Unwrap()
	}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return f
	}
	return nil
}

// required takes over from the library what it says about missing flags: it
// prints the help on stdout and gives no exit code. What is no number is refused, too.
func required(flags []cli.Flag) cli.BeforeFunc {
	var names []string
	for _, f := range flags {
		if r, ok := f.(cli.RequiredFlag); !ok || !r.IsRequired() {
			continue
		}
		names = append(names, f.Names()[0])
		switch f := f.(type) {
		case *cli.StringFlag:
			f.Required = false
		case *cli.IntFlag:
			f.Required = false
		case *cli.Float64Flag:
			f.Required = false
		default:
			panic(fmt.Sprintf("flag %s: a %T cannot be required", f.Names()[0], f))
		}
	}
	return func(c *cli.Context) error {
		var missing []string
		for _, name := range names {
			if !c.IsSet(name) {
				missing = append(missing, "--"+name)
			}
		}
		var errs []error
		if len(missing) > 0 {
			errs = append(errs, fmt.Errorf("%s: not given; see --help", strings.Join(missing, ", ")))
		}
		return exit.With(exit.Usage, errors.Join(append(errs, numbers(c, flags)...)...))
	}
}

// mostCount is above every count that makes sense, and below those whose products
// overflow.
const mostCount = 1_000_000_000

// numbers refuses what a flag takes for a number and no command can mean. A seed, which
// is an Int64Flag, may be any.
func numbers(c *cli.Context, flags []cli.Flag) (errs []error) {
	for _, f := range flags {
		name := f.Names()[0]
		switch f.(type) {
		case *cli.Float64Flag:
			if x := c.Float64(name); math.IsNaN(x) || math.Abs(x) > mostCount {
				errs = append(errs, fmt.Errorf("--%s: %v is no number between -%d and %[3]d", name, x, mostCount))
			}
		case *cli.IntFlag:
			if x := c.Int(name); x > mostCount || x < -mostCount {
				errs = append(errs, fmt.Errorf("--%s: %d is not between -%d and %[3]d", name, x, mostCount))
			}
		}
	}
	return errs
}

func usageError(_ *cli.Context, err error, _ bool) error {
	return exit.Errorf(exit.Usage, "%w; see --help", err)
}

// NoArgs refuses arguments for a command that takes none: a mistyped flag often
// ends as one.
func NoArgs(c *cli.Context) error {
	if c.Args().Present() {
		return exit.Errorf(exit.Usage, "%s takes no arguments, found %q; see --help", c.Command.Name, c.Args().Slice())
	}
	return nil
}

// withEnvironment gives every flag its variable.
func withEnvironment(prefix string, flags []cli.Flag) []cli.Flag {
	for _, f := range flags {
		names := field(f, "EnvVars")
		names.Set(reflect.Append(names, reflect.ValueOf(steps.Variable(prefix, f.Names()[0]))))
	}
	return flags
}

// field is what every kind of flag has in a field of its own, for which the library has
// no interface.
func field(f cli.Flag, name string) reflect.Value {
	v := reflect.ValueOf(f).Elem().FieldByName(name)
	if !v.IsValid() {
		panic(fmt.Sprintf("flag %s: a %T has no %s", f.Names()[0], f, name))
	}
	return v
}

// Global is the key of an app's Metadata under which the names of those of its flags stand
// that are for all its commands, and may come before one. Others are of the app's own action.
const Global = "global flags"

// permute moves the flags of a command before its arguments, where the flag
// parser expects them: "aggregate out --method wls" means what it says.
func permute(app *cli.App, args []string) []string {
	names, _ := app.Metadata[Global].([]string)
	head, rest := leading(args, takesValue(app.Flags), func(name string) bool { return slices.Contains(names, name) })
	flags := app.Flags
	if c := commandOf(app, rest); c != nil {
		flags, head, args = c.Flags, append(head, rest[0]), rest[1:]
	} else {
		head = nil
	}
	values := takesValue(flags)
	var options, others []string
	for len(args) > 0 {
		var some []string
		some, args = leading(args, values, func(string) bool { return true })
		options = append(options, some...)
		switch {
		case len(args) == 0:
		case args[0] == "--":
			others, args = append(others, args[1:]...), nil
		default:
			others, args = append(others, args[0]), args[1:]
		}
	}
	if len(others) > 0 {
		options = append(append(options, "--"), others...)
	}
	return append(head, options...)
}

// commandOf is the command that arguments begin with, or nil.
func commandOf(app *cli.App, args []string) *cli.Command {
	if len(args) == 0 {
		return nil
	}
	return app.Command(args[0])
}

// takesValue says of flags whether the next word belongs to them.
func takesValue(flags []cli.Flag) map[string]bool {
	takes := map[string]bool{}
	for _, f := range flags {
		_, isBool := f.(*cli.BoolFlag)
		for _, name := range f.Names() {
			takes[name] = !isBool
		}
	}
	return takes
}

// leading are the wanted flags, with their values, that stand before the first other word.
func leading(args []string, takesValue map[string]bool, wanted func(name string) bool) (flags, rest []string) {
	i := 0
	for i < len(args) && len(args[i]) >= 2 && args[i][0] == '-' && args[i] != "--" {
		name := strings.TrimLeft(args[i], "-")
		bare, _, _ := strings.Cut(name, "=")
		if !wanted(bare) {
			break
		}
		if takesValue[name] && i+1 < len(args) {
			i++
		}
		i++
	}
	return slices.Clone(args[:i]), args[i:]
}
