package stepcli

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"wfgen.dev/internal/cli/clikit"
	"wfgen.dev/internal/cluster/stuck"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/steps"
)

func guardCommand() *cli.Command {
	return &cli.Command{
		Name:  steps.Guard.Name,
		Usage: "end pods that do not begin to run, and say why",
		Description: `Looks after the pods with the labels until it is ended itself. A pod that cannot
begin (no node has room, its image cannot be pulled, a Secret is missing) is ended
with the reason and what to do, which Argo and kubectl then show: at once or after a
minute where waiting cannot help, else after --pending-timeout. A pod that a queue
holds back and one whose image is being pulled are left alone.

It runs in a pod whose ServiceAccount may list pods and events, and patch pods/status;
without these rights it exits with 69.

Examples:
  step guard --pods workflows.argoproj.io/workflow=NAME --pending-timeout 5m
  step guard --pods app.kubernetes.io/part-of=NAME --until-ended`,
		Flags:  steps.Guard.Flags(),
		Action: runGuard,
	}
}

func guardOptions(c *cli.Context) (stuck.Guard, error) {
	g := steps.Guard
	if err := clikit.NoArgs(c); err != nil {
		return stuck.Guard{}, err
	}
	if d := g.PendingTimeout.In(c); d <= 0 {
		return stuck.Guard{}, exit.Errorf(exit.Usage, "--pending-timeout: %s is not above 0", d)
	}
	return stuck.Guard{
		Namespace: g.Namespace.In(c), Selector: g.Pods.In(c), Patience: g.PendingTimeout.In(c), UntilEnded: g.UntilEnded.In(c),
		Say: func(text string) { fmt.Fprintln(c.App.ErrWriter, text) },
	}, nil
}

func runGuard(c *cli.Context) error {
	guard, err := guardOptions(c)
	if err != nil {
		return err
	}
	if guard.API, err = inCluster(); err != nil {
		return exit.With(exit.Usage, err)
	}
	if guard.Namespace == "" {
		guard.Namespace = guard.API.Namespace
	}
	if !steps.Guard.Once.In(c) {
		return guard.Run(c.Context)
	}
	waiting, err := guard.Look(c.Context)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "%d pods wait to begin\n", waiting)
	return nil
}
