// Package steps is the contract between those who ask for a command of step (the
// templates of a workflow, plain Jobs, a run on one machine) and step, which does
// it: one type per command that somebody asks for, with its flags, the variables
// that stand for them, the outputs that it leaves and what another attempt is good
// for. step's command line registers these flags and reads them through the same
// fields with which the others set them, so that a name exists once.
//
// To add a flag, add a field to the command's type: the command line then has it,
// and whoever asks for the command can set it.
package steps

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"wfgen.dev/internal/run/layout"
)

// Prefix begins the name of every variable that stands for a flag of step.
const Prefix = "STEP"

// Variable is the environment variable that stands for a flag of the program whose
// variables begin with prefix.
func Variable(prefix, flag string) string {
	return prefix + "_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// Value is what a flag can hold.
type Value interface {
	string | int | int64 | float64 | bool | time.Duration
}

// Flag is an option of a command.
type Flag[T Value] struct {
	Name     string
	Usage    string // `WORD` in it names the value, as the help shows it
	Default  T
	Required bool
}

// required is the flag as one that has to be given.
func (f Flag[T]) required() Flag[T] {
	f.Required = true
	return f
}

// definition is a Flag of any type.
type definition interface {
	name() string
	cli() cli.Flag
}

func (f Flag[T]) name() string { return f.Name }

// Variable is the environment variable that stands for the flag.
func (f Flag[T]) Variable() string { return Variable(Prefix, f.Name) }

// In is the value that a command line gave.
func (f Flag[T]) In(c *cli.Context) T { return c.Value(f.Name).(T) }

// Given says whether a command line, or the environment, holds the flag.
func (f Flag[T]) Given(c *cli.Context) bool { return c.IsSet(f.Name) }

// Set asks for a value.
func (f Flag[T]) Set(value T) Setting {
	s := f.Is(fmt.Sprint(value))
	switch v := any(value).(type) {
	case float64:
		s.Value = strconv.FormatFloat(v, 'g', -1, 64)
	case bool:
		s.bare = v
	}
	return s
}

// Is asks for what the text will stand for by the time that the command runs, such
// as a reference that Argo fills in.
func (f Flag[T]) Is(text string) Setting {
	return Setting{flag: f.Name, variable: f.Variable(), Value: text}
}

func (f Flag[T]) cli() cli.Flag {
	switch d := any(f.Default).(type) {
	case string:
		return &cli.StringFlag{Name: f.Name, Usage: f.Usage, Value: d, Required: f.Required}
	case int:
		return &cli.IntFlag{Name: f.Name, Usage: f.Usage, Value: d, Required: f.Required}
	case int64:
		return &cli.Int64Flag{Name: f.Name, Usage: f.Usage, Value: d, Required: f.Required}
	case float64:
		return &cli.Float64Flag{Name: f.Name, Usage: f.Usage, Value: d, Required: f.Required}
	case bool:
		return &cli.BoolFlag{Name: f.Name, Usage: f.Usage, Value: d, Required: f.Required}
	case time.Duration:
		return &cli.DurationFlag{Name: f.Name, Usage: f.Usage, Value: d, Required: f.Required}
	}
	panic("unreachable: Value lists the types")
}

// Setting is a flag with what it is set to.
type Setting struct {
	flag, variable string
	bare           bool // the flag alone says it
	Value          string
}

// Variable is the environment variable that sets the flag.
func (s Setting) Variable() string { return s.variable }

// Command is what all commands have.
type Command struct {
	Name    string
	Outputs []layout.Output // files that it leaves in outputs/, one value each
	// Again says that exit code 75 of this command is worth another attempt by who
	// asked. A command that waits by itself has waited already.
	Again bool
	flags []definition
}

// define collects the flags of a command's type, in the order of its fields.
func define[C any](command C) C {
	v := reflect.ValueOf(&command).Elem()
	own := v.FieldByName("Command").Addr().Interface().(*Command)
	for i := range v.NumField() {
		if f, ok := v.Field(i).Interface().(definition); ok {
			own.flags = append(own.flags, f)
		}
	}
	return command
}

// Flags are the command's flags as its command line has them; each call makes them
// again, since parsing changes them.
func (c Command) Flags() []cli.Flag {
	var flags []cli.Flag
	for _, f := range c.flags {
		flags = append(flags, f.cli())
	}
	return flags
}

// With asks for the command. It panics when a setting is none of the command's:
// who asks is compiled with the command's own type, and a test would not see it.
func (c Command) With(settings ...Setting) Call {
	for _, s := range settings {
		if !slices.ContainsFunc(c.flags, func(f definition) bool { return f.name() == s.flag }) {
			panic(fmt.Sprintf("step %s has no flag --%s", c.Name, s.flag))
		}
	}
	return Call{Command: c, Settings: settings}
}

// Call is a command with its settings and arguments.
type Call struct {
	Command
	Settings  []Setting
	Arguments []string // paths
}

// On adds arguments.
func (c Call) On(arguments ...string) Call {
	c.Arguments = append(slices.Clone(c.Arguments), arguments...)
	return c
}

// And adds settings.
func (c Call) And(settings ...Setting) Call {
	added := c.With(append(slices.Clone(c.Settings), settings...)...)
	added.Arguments = c.Arguments
	return added
}

// Args are the arguments of the process, with every setting among them.
func (c Call) Args() []string {
	args, _ := c.Split(func(string) bool { return false })
	return args
}

// Split puts the settings whose value is foreign into the environment, and the rest
// into the arguments. A container needs it: the kubelet expands $(NAME) in its
// arguments from all of its variables, secrets included, but in a variable only from
// those that stand before it.
func (c Call) Split(foreign func(value string) bool) (args []string, environment []Setting) {
	args = []string{c.Name}
	for _, s := range c.Settings {
		if foreign(s.Value) {
			environment = append(environment, s)
			continue
		}
		arg := "--" + s.flag
		if !s.bare {
			arg += "=" + s.Value
		}
		args = append(args, arg)
	}
	return append(args, c.Arguments...), environment
}

// List joins what a flag holds several of.
func List[T any](values []T) string {
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = fmt.Sprint(v)
	}
	return strings.Join(texts, ",")
}
