package stepcli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"wfgen.dev/internal/cli/clikit"
	"wfgen.dev/internal/cluster/kube"
	"wfgen.dev/internal/cluster/stuck"
	"wfgen.dev/internal/estimate/notify"
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

With --workflow it also reports, as step notify does, that the workflow is terminated,
after which Argo runs no exit handler: Argo then ends it as any other pod, and it
asks what for (right: get workflows). Every other end is reported by the exit handler.

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
		told := make(chan struct{})
		untold := context.AfterFunc(c.Context, func() {
			defer close(told)
			if err := tellOfTermination(c, guard.API, guard.Namespace); err != nil {
				guard.Say(err.Error()) // the guard itself did its work
			}
		})
		err := guard.Run(c.Context)
		if !untold() {
			<-told
		}
		return err
	}
	waiting, err := guard.Look(c.Context)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "%d pods wait to begin\n", waiting)
	return nil
}

// lastWords is how long the guard may take to tell of a termination: Kubernetes and Argo
// kill what has not ended half a minute after they asked it to.
const lastWords = 25 * time.Second

// tellOfTermination says that the workflow was terminated, if that is why the guard ends.
// Only then does Argo run no exit handler, which tells of every other end: nobody is told
// twice.
func tellOfTermination(c *cli.Context, api *kube.Client, namespace string) error {
	g := steps.Guard
	workflow := g.Workflow.In(c)
	if workflow == "" {
		return nil
	}
	to, events, mistakes := addresses(c)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Context), lastWords)
	defer cancel()
	how, err := api.Shutdown(ctx, namespace, workflow)
	if err != nil || how != kube.Terminate {
		return err
	}
	what := notify.Of(notify.Run{Sweep: g.Sweep.In(c), Name: workflow, Status: "Failed", Model: g.Model.In(c), ReportURL: g.ReportURL.In(c)})
	what.Failures = append(what.Failures, "somebody terminated the workflow")
	return errors.Join(mistakes, tell(ctx, what, to, events, c.App.ErrWriter))
}
