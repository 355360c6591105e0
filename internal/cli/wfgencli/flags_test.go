package wfgencli

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"wfgen.dev/internal/run/exit"
)

// Another value than the default for each flag, under which what a command writes must
// differ. A value of several words is several occurrences.
var samples = map[string]string{
	"accelerators": "L4", "model": "org/other", "target-url": "http://elsewhere-{accelerator}:9", "batch-sizes": "1,3", "prompt-tokens": "77",
	"output-tokens": "77", "shapes": "77/88", "max-seconds": "33", "max-requests": "999", "max-num-seqs": "9", "driver": "native",
	"tokenizer": "/other", "method": "two-point", "slo": "itl=7ms", "prefill-chunk": "777",
	"precision": "7%", "max-gpu-minutes": "7",
	"name": "other", "namespace": "other", "create-namespace": "", "step-image": "other:1", "image-registry": "registry.example/other", "guidellm-image": "other/guidellm:v0.3.1",
	"hf-secret-name": "other", "hf-secret-key": "other", "api-key-secret-name": "other", "api-key-secret-key": "other", "service-account": "other",
	"artifact-repository": "other", "s3-bucket": "other-bucket", "s3-endpoint": "other:9000", "s3-region": "other", "s3-prefix": "other", "s3-secret": "other",
	"cron": "1 2 * * *", "timezone": "Europe/Zurich", "parallel-accelerators": "1", "retries": "7", "wait-timeout": "7m", "pending-timeout": "7m",
	"load-generator": "cluster", "load-generator-cpu": "7", "load-generator-memory": "7Gi", "deploy": "",
	"server-image": "other:1", "server-command": "other serve", "server-args": "--other", "server-env": "OTHER=1", "server-model-path": "/other",
	"server-dtype": "half", "server-cpu": "7", "server-memory": "7Gi", "server-shm": "7Gi", "server-cache-pvc": "other", "server-cache-size": "7Gi",
	"server-user": "777", "server-runtime-class": "other", "server-priority-class": "other",
	"load-generator-node-selector": "pool=cpu", "pod-labels": "team=other", "pod-annotations": "a/b=c", "queue-name": "other", "priority-class": "other",
	"image-pull-secrets": "other", "network-policy": "", "network-policy-ports": "9999",
	"notify-secret-name": "other", "notify-on": "end", "report-url": "https://other/{run}", "links": "docs=https://other/docs",
	"drift-band": "7%", "fail-on-drift": "",
	"publish": "configmap", "publish-formats": "csv", "scale-target": "other", "target-namespace": "other", "prometheus-url": "http://other", "max-replicas": "3",
	"engine": "sglang", "argo": "4.1", "simulate": "", "gpu-cost": "3", "share-process": "", "share-pod": "", "max-model-len": "200", "local": "",
}

// What a flag needs beside it to mean something.
var needs = map[string][]string{
	"api-key-secret-key": {"--api-key-secret-name", "x"}, "hf-secret-key": {"--hf-secret-name", "x"}, "timezone": {"--cron", "0 3 * * 0"},
	"share-process": {"--local"}, "max-gpu-minutes": {"--precision", "7%"}, "network-policy-ports": {"--network-policy"},
	"notify-on":    {"--notify-secret-name", "n"},
	"scale-target": {"--publish-formats", "csv"}, "target-namespace": {"--publish-formats", "csv"}, "prometheus-url": {"--publish-formats", "csv"},
	"max-replicas": {"--publish-formats", "csv"}, "publish": {"--s3-bucket", "bucket"},
	"fail-on-drift": {"--drift-band", "5%", "--s3-bucket", "bucket"}, "drift-band": {"--s3-bucket", "bucket"},
}

// init makes s3 flags need a bucket and server flags a deployed server, where there is
// such a choice.
func needed(c *cli.Command, name string) []string {
	args := slices.Clone(needs[name])
	if strings.HasPrefix(name, "s3-") && name != "s3-bucket" {
		args = append(args, "--s3-bucket", "bucket")
	}
	deploys := slices.ContainsFunc(c.Flags, func(f cli.Flag) bool { return f.Names()[0] == "deploy" })
	if strings.HasPrefix(name, "server-") && deploys {
		args = append(args, "--deploy")
	}
	return args
}

// Each flag of a command that writes or prints changes what it writes, or is refused:
// one that is taken and ignored would lie.
func TestEveryFlagDoesSomething(t *testing.T) {
	for _, c := range []*cli.Command{generateCommand(), jobsCommand(), serversCommand(), planCommand()} {
		without := map[string]string{} // what is written without the flag, which for most is the same
		run := func(args ...string) string {
			t.Helper()
			var out, words bytes.Buffer
			command := []string{c.Name}
			if c.Name == generateCommand().Name {
				command = nil
			}
			if !slices.Contains(args, "--accelerators") {
				command = append(command, "--accelerators", "A100,H100")
			}
			if code := Run(t.Context(), append(command, args...), nil, &out, &words); code != 0 {
				return words.String()
			}
			return out.String()
		}
		for _, f := range c.Flags {
			name := f.Names()[0]
			if slices.Contains([]string{"config", "format", "output", "from"}, name) {
				continue // have tests of their own: where from and where to
			}
			if c.Name == "plan" && name == "model" {
				continue // chooses among the estimates of --from
			}
			sample, known := samples[name]
			if !known {
				t.Errorf("%s --%s: give it a sample here", c.Name, name)
				continue
			}
			beside := needed(c, name)
			set := []string{"--" + name, sample}
			if _, isBool := f.(*cli.BoolFlag); isBool {
				set = set[:1]
			}
			key := strings.Join(beside, " ")
			if _, known := without[key]; !known {
				without[key] = run(beside...)
			}
			if without[key] == run(append(beside, set...)...) {
				t.Errorf("%s --%s %s changes nothing", c.Name, name, sample)
			}
		}
	}
}

// A mistyped command is no sweep, and what a command has no use for it refuses.
func TestFlagsOfOtherCommandsAreRefused(t *testing.T) {
	for _, args := range [][]string{
		{"servers", "--accelerators", "A100", "--method", "two-point"}, {"servers", "--accelerators", "A100", "--max-seconds", "5"},
		{"plan", "--accelerators", "A100", "--method", "wls"}, {"jobs", "--accelerators", "A100", "--cron", "0 3 * * 0"},
	} {
		if code := Run(t.Context(), args, nil, io.Discard, io.Discard); code != 2 {
			t.Errorf("wfgen %s: exit %d, want 2", strings.Join(args, " "), code)
		}
	}
}

// Where --target and --target-url are one flag, neither can win in silence.
func TestTargetsOfARun(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "sweep.yaml")
	text := "apiVersion: wfgen.dev/v1\nkind: Sweep\naccelerators: [A100, H100]\ntarget-url: http://common-{accelerator}:1\n"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		flags   []string
		targets []string // nil: refused
	}{
		{nil, []string{"http://common-a100:1", "http://common-h100:1"}},
		{[]string{"--target", "A100=http://own:1"}, []string{"http://own:1", "http://common-h100:1"}},
		{[]string{"--target-url", "A100=http://own:1", "--target-url", "http://all-{accelerator}:2"}, []string{"http://own:1", "http://all-h100:2"}},
		{[]string{"--target", "A100=http://own:1", "--target-url", "H100=http://other:2"}, nil},
	} {
		var got []string
		app := &cli.App{Writer: io.Discard, Commands: []*cli.Command{{Name: "run", Flags: runCommand().Flags, Action: func(c *cli.Context) error {
			cfg, err := runConfig(c)
			for _, a := range cfg.Sweep().Accelerators {
				got = append(got, a.TargetURL)
			}
			return err
		}}}}
		err := app.Run(append([]string{"wfgen", "run", "--config", file}, test.flags...))
		if (err != nil) != (test.targets == nil) || !slices.Equal(got, test.targets) {
			t.Errorf("%q: targets %q, %v; want %q", test.flags, got, err, test.targets)
		}
	}
}

// Whatever is given to a flag, it is refused in words, or nothing that it says is obeyed by
// a terminal, by Argo or by the kubelet.
func TestHostileValues(t *testing.T) {
	t.Parallel()
	for _, f := range append(sweepFlags(), clusterFlags()...) {
		name := f.Names()[0]
		if _, isBool := f.(*cli.BoolFlag); isBool || name == "output" {
			continue
		}
		for _, value := range []string{"NaN\x1b[31m$(STEP_API_KEY){{x}}", "-1"} {
			var out, words bytes.Buffer
			code := Run(t.Context(), []string{"--accelerators=A100", "--deploy", "--" + name + "=" + value}, nil, &out, &words)
			if code != exit.Done && code != exit.Usage {
				t.Errorf("--%s %q: exit %d: %s", name, value, code, &words)
			}
			if text := out.String() + words.String(); strings.Contains(text, "\x1b") || strings.Contains(out.String(), "$(STEP_API_KEY)") || strings.Contains(out.String(), "{{x}}") {
				t.Errorf("--%s %q is in what is written", name, value)
			}
		}
	}
}
