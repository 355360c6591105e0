package clikit

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/urfave/cli/v2"
)

// Width is how many columns the help takes at most.
const Width = 100

// The library writes a flag, its variable and its usage in one line, of 220 columns and
// more. The variable follows from the flag's name, which the description of each program
// says; the usage goes below the flag.
func init() {
	line := cli.FlagStringer
	cli.FlagStringer = func(f cli.Flag) string {
		name, usage, _ := strings.Cut(variable.ReplaceAllString(line(f), ""), "\t")
		const indent = "       " // and as much again by the library where flags have no headings
		return name + "\n" + indent + strings.Join(wrap(strings.TrimSpace(usage), Width-2*len(indent)), "\n"+indent)
	}
}

// variable is how the library names a flag's variable.
var variable = regexp.MustCompile(` \[\$[A-Z0-9_, $]+\]`)

// wrap breaks text at its spaces into lines of at most width columns.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		switch {
		case line == "":
			line = word
		case len([]rune(line))+1+len([]rune(word)) > width:
			lines = append(lines, line)
			line = word
		default:
			line += " " + word
		}
	}
	return append(lines, line)
}

// Group puts flags under headings of the help.
func Group(flags []cli.Flag, heading func(name string) string) []cli.Flag {
	for _, f := range flags {
		field(f, "Category").SetString(heading(f.Names()[0]))
	}
	return flags
}

// complete is the argument by which a shell asks for what may come next.
const complete = "--generate-bash-completion"

// CompletionCommand prints what makes a shell complete the program's commands and flags.
func CompletionCommand(program string) *cli.Command {
	return &cli.Command{
		Name:      "completion",
		Usage:     "print a script that completes commands and flags in bash, zsh or fish",
		ArgsUsage: "bash|zsh|fish",
		Description: fmt.Sprintf(`For the shell that runs, or in its start-up file for good:
  source <(%[1]s completion bash)
  source <(%[1]s completion zsh)
  %[1]s completion fish | source`, program),
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return usageError(c, fmt.Errorf("expected one of bash, zsh and fish"), true)
			}
			var script string
			switch shell := c.Args().First(); shell {
			case "bash":
				script = bash
			case "zsh":
				script = zsh
			case "fish":
				script = fish
			default:
				return usageError(c, fmt.Errorf("%q is none of bash, zsh and fish", shell), true)
			}
			_, err := fmt.Fprint(c.App.Writer, strings.NewReplacer("PROGRAM", program, "COMPLETE", complete).Replace(script))
			return err
		},
	}
}

// The scripts ask the program with the words before the one that is being typed, and that
// one if it begins a flag. Where nothing fits, files are completed.
const (
	bash = `_PROGRAM() {
  local cur=${COMP_WORDS[COMP_CWORD]} ask=("${COMP_WORDS[@]:0:COMP_CWORD}")
  [[ $cur == -* ]] && ask+=("$cur")
  COMPREPLY=($(compgen -W "$("${ask[@]}" COMPLETE 2>/dev/null)" -- "$cur"))
}
complete -o default -F _PROGRAM PROGRAM
`
	zsh = `_PROGRAM() {
  local cur=${words[CURRENT]} ask=("${(@)words[1,CURRENT-1]}")
  [[ $cur == -* ]] && ask+=("$cur")
  local found=("${(@f)$("${ask[@]}" COMPLETE 2>/dev/null)}")
  compadd -- ${found%%:*} || _files
}
(( $+functions[compdef] )) || { autoload -U compinit && compinit }
compdef _PROGRAM PROGRAM
`
	fish = `function __PROGRAM
  set -l ask (commandline -opc)
  string match -q -- '-*' (commandline -ct); and set -a ask (commandline -ct)
  $ask COMPLETE 2>/dev/null
end
complete -c PROGRAM -a '(__PROGRAM)'
`
)
