package wfgencli

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"wfgen.dev/internal/estimate/design"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/store"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/config"
)

// defaults are only shown by the flags: the configuration brings them, under a file
// as well.
var defaults = config.Default()

// headings of the help, by what the names of flags begin with; the first that fits counts.
var headings = []struct{ heading, names string }{
	{"Servers that the sweep starts", "deploy engine simulate server-"},
	{"Storage", "artifact-repository s3- output format force run publish scale-target target-namespace prometheus max-replicas"},
	{"Images", "step-image image- guidellm-image"},
	{"Schedule and limits", "cron timezone parallel retries wait-timeout pending-timeout"},
	{"Secrets and rights", "hf-secret api-key-secret service-account"},
	{"Pods", "load-generator share-pod pod- queue-name priority-class network-policy"},
	{"Objects", "name argo create-namespace"},
}

// heading is where the help shows a flag.
func heading(name string) string {
	for _, h := range headings {
		if slices.ContainsFunc(strings.Fields(h.names), func(begin string) bool { return strings.HasPrefix(name, begin) }) {
			return h.heading
		}
	}
	return "Sweep"
}

// sweepFlags are the flags that say what to measure: generate, run and plan share
// them.
func sweepFlags() []cli.Flag {
	return []cli.Flag{
		&cli.PathFlag{Name: "config", Aliases: []string{"c"}, Usage: "configuration `FILE`, - for stdin, or s3://bucket/key; flags win over it (wfgen init writes one)"},
		&cli.StringSliceFlag{Name: "accelerators", Aliases: []string{"a"}, Usage: "`NAMES` of the GPU types, such as A100,H100"},
		&cli.StringFlag{Name: "model", Usage: "`NAME` of the model as the servers list it", DefaultText: defaults.Model},
		&cli.StringSliceFlag{Name: "target-url", Usage: "`URL` of the servers, {accelerator} standing for the name in lower case; or NAME=URL for one of them, repeatable"},
		&cli.StringFlag{Name: "batch-sizes", Usage: "`LIST` of how many requests run together, a point each", DefaultText: "1,2,4,8,16,32,64"},
		&cli.StringFlag{Name: "prompt-tokens", Usage: "`LIST` of prompt lengths; the first goes with the first of --output-tokens and so on, a single one with all", DefaultText: "128"},
		&cli.StringFlag{Name: "output-tokens", Usage: "`LIST` of output lengths", DefaultText: "128"},
		&cli.StringSliceFlag{Name: "shapes", Usage: "`LIST` of promptTokens/outputTokens, instead of the two lists above; auto: the fewest that the servers take from which the joint models predict the others"},
		&cli.IntFlag{Name: "max-model-len", Usage: "tokens of a prompt and its answer together that the servers take", DefaultText: "not known; run asks them for --shapes auto"},
		&cli.IntFlag{Name: "max-seconds", Usage: "length of a point; 0: --max-requests limits it", DefaultText: strconv.Itoa(defaults.MaxSeconds)},
		&cli.IntFlag{Name: "max-requests", Usage: "requests of a point; 0: --max-seconds limits it", DefaultText: strconv.Itoa(defaults.MaxRequests)},
		&cli.StringFlag{Name: "precision", Usage: "how well the parameters are wanted, half widths of 95 % intervals as `SHARE` such as 5% or alpha=1%,beta=5% or capacity=5%: points are chosen in rounds until they are, none longer than --max-seconds", DefaultText: "each batch size for --max-seconds"},
		&cli.Float64Flag{Name: "max-gpu-minutes", Usage: "the most that those points may take, overhead included, all accelerators together", DefaultText: "no limit"},
		&cli.IntFlag{Name: "max-num-seqs", Usage: "the most requests that a server runs at once; a batch size above it is refused", DefaultText: "not known"},
		&cli.StringFlag{Name: "driver", Usage: "what makes the load: guidellm or native", DefaultText: "guidellm; run: native"},
		&cli.StringFlag{Name: "tokenizer", Usage: "`DIR` or model id of the tokenizer for guidellm", DefaultText: "the model's own"},
		&cli.StringFlag{Name: "method", Usage: "of the estimate: wls or two-point", DefaultText: defaults.Method},
	}
}

// Flags that a run on one machine has as well as a cluster.

func sloFlag() cli.Flag {
	return &cli.StringFlag{Name: "slo", Usage: "objectives, as `LIST` such as ttft=250ms,p90.itl=20ms: report the capacity of a replica within them, and check it by requests that arrive at that rate"}
}

func prefillChunkFlag() cli.Flag {
	return &cli.IntFlag{Name: "prefill-chunk", Usage: "`TOKENS` that a server prefills in an iteration at most (its max-num-batched-tokens): measure the prefill rate of prompts as long, for the llm-d router and token-aware scaling", DefaultText: "not measured"}
}

func retriesFlag() cli.Flag {
	return &cli.IntFlag{Name: "retries", Usage: "how often a point is tried again after a failure that another attempt may fix", DefaultText: strconv.Itoa(defaults.Retries)}
}

func waitTimeoutFlag() cli.Flag {
	return &cli.StringFlag{Name: "wait-timeout", Usage: "`DURATION` to wait for a server to serve the model", DefaultText: defaults.WaitTimeout}
}

func parallelAcceleratorsFlag() cli.Flag {
	return &cli.IntFlag{Name: "parallel-accelerators", Usage: "how many accelerators are measured side by side; 0 for all", DefaultText: strconv.Itoa(defaults.ParallelAccelerators)}
}

func guidellmImageFlag() cli.Flag {
	return &cli.StringFlag{Name: "guidellm-image", Usage: "`IMAGE` of guidellm, unmodified; a digest is accepted", DefaultText: defaults.GuidellmImage}
}

func sharePodFlag() cli.Flag {
	return &cli.BoolFlag{Name: "share-pod", Usage: "measure the points of one shape, or of one round of --precision, one after another in one pod, so that no GPU waits for the next one's", DefaultText: "rounds of the native driver"}
}

func applySharePod(c *cli.Context, cfg *config.Config) {
	if c.IsSet("share-pod") {
		cfg.SharePod = new(c.Bool("share-pod"))
	}
}

// without leaves out the flags that a command has no use for: one that it took and
// ignored would lie.
func without(flags []cli.Flag, names ...string) []cli.Flag {
	return slices.DeleteFunc(flags, func(f cli.Flag) bool { return slices.Contains(names, f.Names()[0]) })
}

// only are the flags of these names.
func only(flags []cli.Flag, names ...string) []cli.Flag {
	return slices.DeleteFunc(flags, func(f cli.Flag) bool { return !slices.Contains(names, f.Names()[0]) })
}

// alias gives a flag a shorter name.
func alias(flags []cli.Flag, name, short string) []cli.Flag {
	for _, f := range flags {
		if f, ok := f.(*cli.StringSliceFlag); ok && f.Name == name {
			f.Aliases = append(f.Aliases, short)
		}
	}
	return flags
}

// shareProcessFlag is for a run on one machine: in a workflow each point has a pod of
// its own.
func shareProcessFlag() cli.Flag {
	return &cli.BoolFlag{Name: "share-process", Usage: "measure all batch sizes of a shape in one guidellm process, whose start is then paid for once"}
}

// configFrom is the configuration that the command line asks for: the file over
// the defaults, flags and their environment variables over the file. The error
// holds every mistake of the sweep; what is needed only in a cluster is left to
// config.ValidateCluster.
func configFrom(c *cli.Context) (config.Config, error) {
	cfg, mistakes := readConfig(c)
	return cfg, usage(append(mistakes, cfg.Validate())...)
}

// readConfig is configFrom without the judgement of what was read, for who sets more of it.
func readConfig(c *cli.Context) (config.Config, []error) {
	cfg, mistakes := config.Default(), []error(nil)
	if path := c.Path("config"); path != "" {
		var err error
		if cfg, err = loadConfig(c.Context, path); err != nil {
			mistakes = append(mistakes, err)
		}
	}
	mistakes = append(mistakes, applySweepFlags(c, &cfg)...)
	if cfg.ShapesAuto && c.Command.Name != runName { // which asks the servers
		mistakes = append(mistakes, chooseShapes(c, &cfg, design.Limits{ModelLen: cfg.MaxModelLen}))
	}
	return cfg, mistakes
}

func loadConfig(ctx context.Context, path string) (config.Config, error) {
	f, err := store.OpenPath(ctx, path)
	if err != nil {
		return config.Default(), fmt.Errorf("configuration: %w", err)
	}
	defer f.Close()
	return config.Read(f, store.Called(path))
}

// usage makes one error of all mistakes, nil of none.
func usage(mistakes ...error) error {
	var lines []string
	for _, err := range mistakes {
		if err != nil {
			lines = append(lines, strings.Split(err.Error(), "\n")...)
		}
	}
	switch len(lines) {
	case 0:
		return nil
	case 1:
		return exit.Errorf(exit.Usage, "%s", lines[0])
	}
	return exit.Errorf(exit.Usage, "%d mistakes:\n  %s", len(lines), strings.Join(lines, "\n  "))
}

func applySweepFlags(c *cli.Context, cfg *config.Config) (mistakes []error) {
	bad := func(format string, args ...any) { mistakes = append(mistakes, fmt.Errorf(format, args...)) }

	setString(c, "model", &cfg.Model)
	setString(c, "driver", &cfg.Driver)
	setString(c, "tokenizer", &cfg.Tokenizer)
	setString(c, "method", &cfg.Method)
	setString(c, "slo", &cfg.SLO)
	setInt(c, "prefill-chunk", &cfg.PrefillChunk)
	setInt(c, "max-seconds", &cfg.MaxSeconds)
	setInt(c, "max-requests", &cfg.MaxRequests)
	setInt(c, "max-num-seqs", &cfg.MaxNumSeqs)
	setInt(c, "max-model-len", &cfg.MaxModelLen)
	setString(c, "precision", &cfg.Precision)
	if c.IsSet("max-gpu-minutes") {
		cfg.MaxGPUMinutes = c.Float64("max-gpu-minutes")
	}

	if c.IsSet("batch-sizes") {
		sizes, err := sweep.ParseIntegers("batch-sizes", c.String("batch-sizes"))
		if err != nil {
			mistakes = append(mistakes, err)
		} else {
			cfg.BatchSizes = sizes
		}
	}

	if c.IsSet("accelerators") {
		cfg.Accelerators = pick(items(c.StringSlice("accelerators")), cfg.Accelerators)
	}
	for _, target := range c.StringSlice("target-url") {
		name, url, one := strings.Cut(target, "=")
		if !one || strings.Contains(name, "/") { // an = within the URL itself
			cfg.TargetURL = target
			continue
		}
		i := slices.IndexFunc(cfg.Accelerators, func(a config.Accelerator) bool { return a.Name == name })
		if i < 0 {
			bad("target-url: %s is none of the accelerators", name)
			continue
		}
		cfg.Accelerators[i].TargetURL = url
	}

	lengths := c.IsSet("prompt-tokens") || c.IsSet("output-tokens")
	switch {
	case c.IsSet("shapes") && lengths:
		bad("shapes: give these, or prompt-tokens and output-tokens, not both")
	case c.IsSet("shapes") && slices.Equal(items(c.StringSlice("shapes")), []string{sweep.Auto}):
		cfg.ShapesAuto = true
	case c.IsSet("shapes"):
		cfg.Shapes, cfg.ShapesAuto = nil, false
		for _, text := range items(c.StringSlice("shapes")) {
			shape, err := sweep.ParseShape(text)
			if err != nil {
				bad("shapes: %w", err)
				continue
			}
			cfg.Shapes = append(cfg.Shapes, config.Shape{Shape: shape})
		}
		if len(cfg.Shapes) == 0 { // what was wrong has been said
			cfg.Shapes = config.Default().Shapes
		}
	case lengths:
		cfg.ShapesAuto = false
		mistakes = append(mistakes, applyLengths(c, cfg)...)
	}
	return mistakes
}

// applyLengths pairs --prompt-tokens with --output-tokens; the one that is not
// given keeps the lengths of the configuration.
func applyLengths(c *cli.Context, cfg *config.Config) (mistakes []error) {
	var prompts, outputs []int
	for _, s := range cfg.Shapes {
		prompts, outputs = append(prompts, s.PromptTokens), append(outputs, s.OutputTokens)
	}
	for _, side := range []struct {
		flag    string
		lengths *[]int
	}{{"prompt-tokens", &prompts}, {"output-tokens", &outputs}} {
		if !c.IsSet(side.flag) {
			*side.lengths = collapse(*side.lengths)
			continue
		}
		lengths, err := sweep.ParseIntegers(side.flag, c.String(side.flag))
		if err != nil {
			mistakes = append(mistakes, err)
			continue
		}
		*side.lengths = lengths
	}
	if len(mistakes) > 0 {
		return mistakes
	}
	n := max(len(prompts), len(outputs))
	if len(prompts) != n && len(prompts) != 1 || len(outputs) != n && len(outputs) != 1 {
		return []error{fmt.Errorf("prompt-tokens, output-tokens: %d and %d lengths cannot be paired; give as many of each, or one of either", len(prompts), len(outputs))}
	}
	cfg.Shapes = nil
	for i := range n {
		cfg.Shapes = append(cfg.Shapes, config.Shape{Shape: sweep.Shape{PromptTokens: prompts[i%len(prompts)], OutputTokens: outputs[i%len(outputs)]}})
	}
	return nil
}

// collapse makes one length of a list of equal ones, so that it goes with any
// number of the others.
func collapse(lengths []int) []int {
	if distinct := slices.Compact(slices.Clone(lengths)); len(distinct) == 1 {
		return distinct
	}
	return lengths
}

// pick lists the accelerators of these names, described as in the configuration
// where it knows them.
func pick(names []string, described []config.Accelerator) []config.Accelerator {
	var picked []config.Accelerator
	for _, name := range names {
		a := config.Accelerator{Name: name}
		if i := slices.IndexFunc(described, func(a config.Accelerator) bool { return a.Name == name }); i >= 0 {
			a = described[i]
		}
		picked = append(picked, a)
	}
	return picked
}

// items are those of a flag that takes a list: "A100, H100,".
func items(given []string) []string { return sweep.Items(strings.Join(given, ",")) }

func setString(c *cli.Context, name string, to *string) {
	if c.IsSet(name) {
		*to = strings.TrimSpace(c.String(name))
	}
}

func setInt(c *cli.Context, name string, to *int) {
	if c.IsSet(name) {
		*to = c.Int(name)
	}
}
