package stepcli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"wfgen.dev/internal/cli/clikit"
	"wfgen.dev/internal/cluster/kube"
	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/llm"
	"wfgen.dev/internal/llm/serverpod"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/run/steps"
	"wfgen.dev/internal/run/store"
)

func waitCommand() *cli.Command {
	return &cli.Command{
		Name:  steps.Wait.Name,
		Usage: "wait until a server is healthy and serves the model",
		Description: `With --pods it finds the server's pod by its labels, says what keeps it from
coming up whenever that changes (image, scheduling, GPUs, volumes, crashes with
their log, probes, the progress of the start), and gives up early on what waiting
cannot fix. It runs in a pod whose ServiceAccount may get and list pods; the
rights to pods/log, events and nodes let it say more. With --target as well, the
server is reached there and the pod only says why it is not.

Into --output go outputs/target, the server's URL, and outputs/server, one line of
JSON that names pod, node, image, image_digest, args, gpu and gpu_driver, for
step bench --server. With --batch-sizes and --shapes a server that is ready is asked
at once whether it can run them, as step preflight does; max-num-seqs is read from
the arguments of the pod where it is not given.
When the server of an --accelerator is given up, summary.json says why.

Exits with 69 when waiting cannot help: the server serves other models, the image
does not exist, a Secret is missing, the server crashes again and again. Exits with
75 when it is not ready in time.

Examples:
  step wait --target http://vllm:8000 --model unsloth/Meta-Llama-3.1-8B --timeout 40m
  step wait --pods app=vllm,accelerator=a100 --port 8000 \
    --model unsloth/Meta-Llama-3.1-8B --output /tmp/out
  step wait --pods app=vllm --model llama --timeout 20m --end-pod --output /tmp/out
  step wait --pods app=vllm --model llama --batch-sizes 1,8,64 --shapes 128/128,1024/256`,
		Flags:  steps.Wait.Flags(),
		Action: runWait,
	}
}

func runWait(c *cli.Context) error {
	if err := clikit.NoArgs(c); err != nil {
		return err
	}
	intent, err := intentOf(c)
	if err := errors.Join(waitMistakes(c), err); err != nil {
		return exit.With(exit.Usage, err)
	}
	check := func(ctx context.Context, client *llm.Client, args []string) error {
		if intent == nil {
			return nil
		}
		p := *intent
		p.Args = args
		return runPreflight(ctx, c, client, p, c.App.ErrWriter)
	}
	found, err := findServer(c, check)
	if err != nil {
		return errors.Join(err, giveUp(c, err))
	}
	fmt.Fprintf(c.App.Writer, "%s serves %s", found.Target, found.Model.ID)
	if found.Model.MaxModelLen > 0 {
		fmt.Fprintf(c.App.Writer, ", max-model-len %d", found.Model.MaxModelLen)
	}
	fmt.Fprintln(c.App.Writer)
	if steps.Wait.Output.In(c) == "" {
		return nil
	}
	out, err := store.New(c.Context, steps.Wait.Output.In(c))
	if err != nil {
		return err
	}
	instance, err := json.Marshal(found.Instance)
	if err != nil {
		return err
	}
	// Without credentials: an output of a workflow is shown to everybody who sees it.
	for name, text := range map[layout.Output]string{layout.OutTarget: found.Target, layout.OutServer: string(instance)} {
		if err := out.Put(c.Context, name.Key(), strings.NewReader(text)); err != nil {
			return err
		}
	}
	return nil
}

// giveUp leaves the summary of an accelerator that will have no parameters, for the
// one of all to take its reason from.
func giveUp(c *cli.Context, why error) error {
	if steps.Wait.Output.In(c) == "" || steps.Wait.Accelerator.In(c) == "" {
		return nil
	}
	out, err := store.New(c.Context, steps.Wait.Output.In(c))
	if err != nil {
		return err
	}
	data, err := parameters.Summary{
		Schema: parameters.SummarySchema, Verdict: fit.Refused,
		Failures: []parameters.Failure{{Model: steps.Wait.Model.In(c), Accelerator: steps.Wait.Accelerator.In(c), Reasons: []string{why.Error()}}},
	}.Encode()
	if err != nil {
		return err
	}
	return out.Put(context.WithoutCancel(c.Context), layout.Summary, bytes.NewReader(data))
}

func waitMistakes(c *cli.Context) error {
	var errs []error
	if steps.Wait.Target.In(c) == "" && steps.Wait.Pods.In(c) == "" {
		errs = append(errs, errors.New("--target or --pods must be given; see --help"))
	}
	if p := steps.Wait.Port.In(c); p < 1 || p > 65535 {
		errs = append(errs, fmt.Errorf("--port: %d is not a port", p))
	}
	if steps.Wait.EndPod.In(c) && steps.Wait.Pods.In(c) == "" {
		errs = append(errs, errors.New("--end-pod: --pods must say which pod"))
	}
	if steps.Wait.Timeout.In(c) <= 0 {
		errs = append(errs, fmt.Errorf("--timeout: %s is not above 0", steps.Wait.Timeout.In(c)))
	}
	return errors.Join(errs...)
}

// inCluster is where the Kubernetes API is reached; tests have another place.
var inCluster = kube.InCluster

// findServer waits for the server; check judges it when it is ready.
func findServer(c *cli.Context, check func(context.Context, *llm.Client, []string) error) (serverpod.Found, error) {
	var none serverpod.Found
	target := steps.Wait.Target.In(c)
	key, err := keyOf(c, target)
	if err != nil {
		return none, err
	}
	say := func(text string) { fmt.Fprintln(c.App.ErrWriter, text) }
	if steps.Wait.Pods.In(c) != "" {
		api, err := inCluster()
		switch {
		case err == nil:
			o := serverpod.Options{
				API: api, Namespace: steps.Wait.Namespace.In(c), Selector: steps.Wait.Pods.In(c), Port: steps.Wait.Port.In(c), Target: target,
				Model: steps.Wait.Model.In(c), APIKey: key, Timeout: steps.Wait.Timeout.In(c),
				EndPod: steps.Wait.EndPod.In(c), Say: say, Check: check,
			}
			if o.Namespace == "" {
				o.Namespace = api.Namespace
			}
			return serverpod.Wait(c.Context, o)
		case target == "":
			return none, exit.Errorf(exit.Usage, "--pods: %w; from elsewhere, give --target", err)
		}
		say(fmt.Sprintf("--pods: %v; going on by the server's health alone", err))
	}
	client, err := llm.New(target, key)
	if err != nil {
		return none, err
	}
	m, err := client.Wait(c.Context, steps.Wait.Model.In(c), steps.Wait.Timeout.In(c), say)
	if err == nil {
		err = check(c.Context, client, nil)
	}
	return serverpod.Found{Target: client.Target(), Model: m}, err
}
