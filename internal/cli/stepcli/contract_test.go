package stepcli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	"github.com/urfave/cli/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"wfgen.dev/internal/cli/clikit"
	"wfgen.dev/internal/cluster/manifest"
	"wfgen.dev/internal/cluster/plain"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/run/steps"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/config"
	"wfgen.dev/templates"
)

// asked is a container, or a call of a run on one machine, that runs step.
type asked struct {
	where   string
	args    []string
	env     map[string]string
	outputs []string // paths that somebody reads afterwards, below --output
}

// What a submitter gives, as Argo fills it in.
var filled = map[string]string{
	"model": "org/m", "target-url": "http://vllm-a100:8000", "prompt-tokens": "128", "output-tokens": "64", "batch-sizes": "[1,8,64]", "batch-size": "8",
	"max-seconds": "120", "max-requests": "0", "tokenizer": "", "method": "wls", "accelerator": "A100", "max-num-seqs": "64", "server": `{"pod":"p"}`,
	"results": "runs/r/A100", "slug": "a100", "drift-band": "5%", "slo": "p90.ttft=500ms,itl=30ms", "precision": "alpha=1%,beta=5%", "max-gpu-minutes": "12.5", "gpus": "1", "round": "1", "prefill-chunk": "2048",
	"points": `[{"batch-size":1},{"prompt-tokens":1024,"output-tokens":64,"batch-size":8,"max-seconds":12,"again":"-again2"}]`,
}

var reference = regexp.MustCompile(`\{\{(?:inputs|workflow)\.parameters\.([a-z-]+)\}\}|\{\{(workflow\.name)\}\}`)

// fill plays Argo.
func fill(t *testing.T, where, text string) string {
	return reference.ReplaceAllStringFunc(text, func(ref string) string {
		m := reference.FindStringSubmatch(ref)
		if m[2] != "" {
			return "r"
		}
		value, known := filled[m[1]]
		if !known {
			t.Errorf("%s refers to %s, for which this test has no value", where, ref)
		}
		return value
	})
}

func ofContainer(t *testing.T, where string, c corev1.Container, outputs ...string) asked {
	a := asked{where: where, env: map[string]string{}, outputs: outputs}
	for _, arg := range c.Args {
		a.args = append(a.args, fill(t, where, arg))
	}
	for _, e := range c.Env {
		switch {
		case e.ValueFrom == nil:
			a.env[e.Name] = fill(t, where, e.Value)
		case strings.HasSuffix(e.Name, "_URL"):
			a.env[e.Name] = "https://from.elsewhere"
		default:
			a.env[e.Name] = "from elsewhere"
		}
	}
	return a
}

func runsStep(c corev1.Container) bool {
	return len(c.Command) > 0 && filepath.Base(c.Command[0]) == "step" && len(c.Args) > 0
}

// ofObjects are all that the objects of a sweep ask of step.
func ofObjects(t *testing.T, where string, objects []manifest.Object) []asked {
	var all []asked
	for _, o := range objects {
		var spec wfv1.WorkflowSpec
		switch v := o.Value.(type) {
		case wfv1.WorkflowTemplate:
			spec = v.Spec
		case wfv1.ClusterWorkflowTemplate:
			spec = v.Spec
		case batchv1.Job:
			pod := v.Spec.Template.Spec
			for _, c := range append(pod.InitContainers, pod.Containers...) {
				if runsStep(c) {
					all = append(all, ofContainer(t, where+" "+o.File+" "+c.Name, c))
				}
			}
		}
		for _, tmpl := range spec.Templates {
			at := where + " " + o.File + " " + tmpl.Name
			for _, c := range tmpl.InitContainers {
				if runsStep(c.Container) {
					all = append(all, ofContainer(t, at+" "+c.Name, c.Container))
				}
			}
			if tmpl.Container == nil || !runsStep(*tmpl.Container) {
				continue
			}
			var read []string
			for _, p := range tmpl.Outputs.Parameters {
				read = append(read, p.ValueFrom.Path)
			}
			for _, a := range tmpl.Outputs.Artifacts {
				read = append(read, fill(t, at, a.Path))
			}
			all = append(all, ofContainer(t, at, *tmpl.Container, read...))
		}
	}
	return all
}

// parse reads the arguments and variables as the command line of step does, up to the
// point where the command would begin to work.
func parse(t *testing.T, a asked) (command *cli.Command, output string, err error) {
	for name, value := range a.env {
		t.Setenv(name, value)
	}
	app := newApp()
	for _, c := range app.Commands {
		c.Action = func(c *cli.Context) error {
			command = c.Command
			output = c.String("output")
			switch c.Command.Name {
			case steps.Bench.Name:
				_, _, err := benchOptions(c)
				return errors.Join(err, clikit.NoArgs(c))
			case steps.Wait.Name:
				_, err := intentOf(c)
				return errors.Join(err, waitMistakes(c), clikit.NoArgs(c))
			case steps.Next.Name:
				_, err := nextOptions(c)
				return err
			case steps.Aggregate.Name:
				_, err := aggregateOptions(c)
				return err
			case steps.Check.Name:
				_, _, err := checkOptions(c)
				return err
			case steps.Prefill.Name:
				_, _, err := prefillOptions(c)
				return err
			case steps.Notify.Name:
				_, _, err := notifyOptions(c)
				return err
			case steps.Guard.Name:
				_, err := guardOptions(c)
				_, _, wrong := addresses(c)
				return errors.Join(err, wrong)
			case steps.InstallTo.Name:
				if c.NArg() != 1 {
					return fmt.Errorf("%d arguments", c.NArg())
				}
			case steps.Simulate.Name:
				_, err := simulatedAddress(c)
				return errors.Join(err, otherFlags(c))
			default:
				return fmt.Errorf("nobody asks for step %s", c.Command.Name)
			}
			return nil
		}
	}
	var words bytes.Buffer
	if code := clikit.Run(t.Context(), app, steps.Prefix, a.args, nil, io.Discard, &words); code != 0 {
		return command, output, errors.New(strings.TrimSpace(words.String()))
	}
	return command, output, nil
}

// written are the paths that the command leaves below its output directory.
func written(command string) []string {
	outputs := map[string][]layout.Output{
		steps.Bench.Name: steps.Bench.Outputs, steps.Wait.Name: steps.Wait.Outputs, steps.Aggregate.Name: steps.Aggregate.Outputs,
		steps.Check.Name: steps.Check.Outputs, steps.Prefill.Name: steps.Prefill.Outputs, steps.Next.Name: steps.Next.Outputs,
	}
	var paths []string
	for _, o := range outputs[command] {
		paths = append(paths, o.Key())
	}
	files := map[string][]string{
		steps.Bench.Name:     {layout.Measurement, layout.Measurements, layout.Reports},
		steps.Check.Name:     {layout.Capacity, layout.Check},
		steps.Prefill.Name:   {layout.Prefill},
		steps.Wait.Name:      {layout.Summary}, // of an accelerator that is given up
		steps.Aggregate.Name: {layout.Summary, layout.Page, layout.Latest, layout.Rendered, "A100/" + layout.Parameters},
	}
	return append(paths, files[command]...)
}

func configurations(t *testing.T) map[string]config.Config {
	t.Helper()
	all := map[string]config.Config{}
	files, err := filepath.Glob("../../../examples/*/wfgen.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, file := range files {
		c, err := config.Load(file)
		if err != nil {
			t.Fatal(err)
		}
		all[filepath.Base(filepath.Dir(file))] = c.InCluster()
	}
	c := config.Default().InCluster()
	c.Accelerators = []config.Accelerator{{Name: "A100"}, {Name: "H100"}}
	all["guidellm"] = c
	c.Driver = sweep.Native
	c.APIKeySecretName = "key"
	c.NotifySecretName, c.NotifyOn, c.ReportURL = "notifications", []string{"end"}, "https://argo.example.com/{run}"
	c.Publish, c.PublishFormats, c.ScaleTarget, c.PrometheusURL = config.ConfigMap, []string{"keda", "csv"}, "vllm-{accelerator}", "http://prometheus:9090"
	c.SLO, c.DriftBand, c.PrefillChunk = "itl=20ms", "5%", 2048
	all["native"] = c
	precise := c
	precise.Precision, precise.MaxGPUMinutes, precise.SLO = "alpha=1%,beta=5%", 10, "itl=20ms"
	precise.Accelerators = []config.Accelerator{{Name: "A100", Count: 2}, {Name: "H100"}}
	all["precise"] = precise
	shared := precise
	shared.Precision, shared.MaxGPUMinutes, shared.Driver, shared.SharePod = "", 0, sweep.Guidellm, new(true)
	all["shared"] = shared
	c.Deploy = true
	c.S3Bucket = "b"
	all["deployed"] = c
	return all
}

// Every container that wfgen writes is one that step takes: its arguments and variables
// parse with step's own definitions and readers, and what is read of it afterwards is
// what the command writes.
func TestStepTakesWhatIsAskedOfIt(t *testing.T) {
	seen := map[string]int{}
	for name, c := range configurations(t) {
		all := ofObjects(t, name, templates.Objects(c))
		c.Cron, c.ParallelAccelerators, c.LoadGenerator, c.ArtifactRepository = nil, 0, config.Inline, ""
		all = append(all, ofObjects(t, name+" as Jobs", plain.Jobs(c))...)
		for _, a := range all {
			t.Run(a.where, func(t *testing.T) {
				if i := slices.IndexFunc(a.args, func(arg string) bool { return strings.HasPrefix(arg, "--server=@") }); i >= 0 {
					file := filepath.Join(t.TempDir(), "server") // that wait has left
					if err := os.WriteFile(file, []byte("{}"), 0o600); err != nil {
						t.Fatal(err)
					}
					a.args[i] = "--server=@" + file
				}
				command, output, err := parse(t, a)
				if err != nil {
					t.Fatalf("%q with %v: %v", a.args, a.env, err)
				}
				seen[command.Name]++
				for variable := range a.env {
					if name, ours := strings.CutPrefix(variable, steps.Prefix+"_"); ours && !standsFor(command, variable) && name != "TERMINATION_LOG" {
						t.Errorf("%s stands for no flag of step %s", variable, command.Name)
					}
				}
				for _, path := range a.outputs {
					rest, below := strings.CutPrefix(path, output+"/")
					if !below || !slices.Contains(written(command.Name), rest) {
						t.Errorf("%s is read, which step %s does not write into %s", path, command.Name, output)
					}
				}
			})
		}
	}
	for _, name := range []string{steps.Wait.Name, steps.Bench.Name, steps.Aggregate.Name, steps.Check.Name, steps.Prefill.Name, steps.Next.Name, steps.Notify.Name, steps.Guard.Name, steps.InstallTo.Name} {
		if seen[name] == 0 {
			t.Errorf("nothing asks for step %s", name)
		}
	}
}

func standsFor(command *cli.Command, variable string) bool {
	return slices.ContainsFunc(command.Flags, func(f cli.Flag) bool { return steps.Variable(steps.Prefix, f.Names()[0]) == variable })
}
