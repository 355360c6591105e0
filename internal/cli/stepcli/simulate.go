package stepcli

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"wfgen.dev/internal/llm/simulate"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/steps"
	"wfgen.dev/internal/version"
)

func simulateCommand() *cli.Command {
	return &cli.Command{
		Name:      steps.Simulate.Name,
		Usage:     "serve a simulated LLM whose latency is known",
		ArgsUsage: "[MODEL]",
		Description: `An OpenAI-compatible server (completions, chat, SSE streaming, vLLM's /metrics,
/tokenize, /health) without a model or a GPU. With --latency linear4 it delivers
tokens at the times of

   ITL  = alpha + beta * n                    ms
   TTFT = gamma + delta * promptTokens * n    ms

where n is the number of requests running. With --latency engine it works by
iterations as vLLM does, with continuous batching and chunked prefill; one takes

   base + seq * decoding + ctx * context + pre * prefilled + pre2 * pairs    ms

for the sequences that it decodes, the tokens of their contexts, and the prompt
tokens that it prefills, whose pairs add up to promptTokens^2 for each prompt.
The defaults are those of Llama-3.1-8B on one GPU.

Requests above --max-num-seqs wait, and their wait is in their TTFT. One
whitespace-separated word is one token, of prompts as of outputs. An output has
max_tokens tokens when the request says ignore_eos; otherwise it may end earlier,
at random from --seed.

It can stand where "vllm serve" does: the model as an argument, --served-model-name,
--host and --port are taken as vLLM takes them. --tensor-parallel-size, --dtype and
--no-enable-prefix-caching are taken and mean nothing: no GPU computes, and nothing is
cached. So it does where SGLang does: with --model-path it takes SGLang's arguments, has
its /server_info, and metrics under its names where --enable-metrics says so.

stdout gets one line, "listening on http://HOST:PORT", when the port is open.

Examples:
   step simulate --model llama --alpha 20 --beta 0.5 --gamma 40 --delta 0.01
   step simulate --listen 127.0.0.1:0 --jitter 0.05 --seed 7
   step simulate --latency engine --max-num-seqs 64 --wander 0.02
   step simulate --max-num-seqs 16 --fail-rate 0.1 --abort-rate 0.05
   STEP_API_KEY=secret step simulate --listen 0.0.0.0:8000
   step simulate org/llama --host 0.0.0.0 --port 8000 --max-num-seqs 64 --dtype auto
   step simulate --model-path org/llama --port 8000 --max-running-requests 64 --enable-metrics`,
		Flags: append(steps.Simulate.Flags(),
			&cli.StringFlag{Name: "served-model-name", Usage: "`NAME` that it is served by, where it is another"},
			&cli.StringFlag{Name: "host", Usage: "`ADDRESS` to listen on, instead of that of --listen"},
			&cli.IntFlag{Name: "port", Usage: "`PORT` to listen on, instead of that of --listen"},
			&cli.IntFlag{Name: "tensor-parallel-size", Usage: "vLLM's and SGLang's; without meaning here"},
			&cli.StringFlag{Name: "dtype", Usage: "vLLM's and SGLang's; without meaning here"},
			&cli.StringFlag{Name: "model-path", Usage: "SGLang's `NAME` of the model; with it the server answers as SGLang does"},
			&cli.IntFlag{Name: "max-running-requests", Usage: "SGLang's name of --max-num-seqs"},
			&cli.IntFlag{Name: "context-length", Usage: "SGLang's name of --max-model-len"},
			&cli.IntFlag{Name: "chunked-prefill-size", Usage: "SGLang's name of --max-num-batched-tokens"},
			&cli.BoolFlag{Name: "disable-radix-cache", Usage: "SGLang's; nothing is ever cached here"},
			&cli.BoolFlag{Name: "enable-metrics", Usage: "SGLang's: have /metrics, which it does not by itself"},
			&cli.BoolFlag{Name: "no-enable-prefix-caching", Usage: "vLLM's; nothing is ever cached here"},
			&cli.StringFlag{Name: "latency", Value: simulate.Linear4, Usage: "where latencies come from: `linear4 or engine`"},
			&cli.Float64Flag{Name: "base", Value: 6.72, Usage: "engine: what every iteration takes, `MS`"},
			&cli.Float64Flag{Name: "seq", Value: 0.0215, Usage: "engine: more for each decoding sequence, `MS`"},
			&cli.Float64Flag{Name: "ctx", Value: 5.37e-5, Usage: "engine: more for each token of context of the decoding sequences, `MS`"},
			&cli.Float64Flag{Name: "pre", Value: 0.0166, Usage: "engine: more for each prefilled token, `MS`"},
			&cli.Float64Flag{Name: "pre2", Value: 1.33e-6, Usage: "engine: more for each prefilled token squared, `MS`"},
			&cli.IntFlag{Name: "max-num-batched-tokens", Usage: "engine: `TOKENS` of an iteration, prompts above that are cut into chunks; linear4 has no chunks, and takes it as vLLM does", DefaultText: fmt.Sprintf("%d, or max-num-seqs if that is more", simulate.DefaultMaxNumBatchedTokens)},
			&cli.Float64Flag{Name: "wander", Usage: "relative standard `DEVIATION` of a slowly changing speed that all requests share"},
			&cli.Float64Flag{Name: "wander-memory", Value: simulate.DefaultWanderMemory, Usage: "`ITERATIONS` in which the wander is forgotten"},
			&cli.Float64Flag{Name: "fail-rate", Usage: "`FRACTION` of requests answered by status 500"},
			&cli.Float64Flag{Name: "abort-rate", Usage: "`FRACTION` of requests whose connection is cut midway"},
			&cli.BoolFlag{Name: "hang", Usage: "accept requests for tokens and never answer them"},
			&cli.DurationFlag{Name: "start-delay", Usage: "`TIME` until the server is healthy and serves its model, such as 5s"},
			&cli.BoolFlag{Name: "no-metrics", Usage: "have no /metrics, as behind a gateway that does not pass it on"},
			&cli.BoolFlag{Name: "no-usage", Usage: "never report token counts, even when asked to"},
		),
		Action: runSimulate,
	}
}

// The flags that belong to one kind of latency.
var (
	linear4Flags = []string{steps.Simulate.Alpha.Name, steps.Simulate.Beta.Name, steps.Simulate.Gamma.Name, steps.Simulate.Delta.Name}
	engineFlags  = []string{"base", "seq", "ctx", "pre", "pre2"}
)

// otherFlags refuses flags of a latency, or of a server, other than what was asked for.
func otherFlags(c *cli.Context) error {
	latency := c.String("latency")
	var errs []error
	for _, kind := range []struct {
		name  string
		flags []string
	}{{simulate.Linear4, linear4Flags}, {simulate.Engine, engineFlags}} {
		for _, name := range kind.flags {
			if kind.name != latency && c.IsSet(name) {
				errs = append(errs, fmt.Errorf("%s: belongs to --latency %s, and --latency is %s; leave one of them out", name, kind.name, latency))
			}
		}
	}
	for _, name := range sglangFlags {
		if c.IsSet(name) && !c.IsSet("model-path") {
			errs = append(errs, fmt.Errorf("%s: is SGLang's; give the model as it is given: --model-path", name))
		}
	}
	return errors.Join(errs...)
}

// simulatedModel is the name that the model is served by: vLLM takes the model as an
// argument, and may serve it under another name.
func simulatedModel(c *cli.Context) (string, error) {
	switch {
	case c.NArg() > 1:
		return "", exit.Errorf(exit.Usage, "simulate: one model is served, found %d arguments: %s", c.NArg(), strings.Join(c.Args().Slice(), " "))
	case c.NArg() == 1 && c.IsSet("model"):
		return "", exit.Errorf(exit.Usage, "simulate: the model is given twice, as %s and by --model %s; leave one out", c.Args().First(), steps.Simulate.Model.In(c))
	case c.IsSet("model-path") && (c.NArg() == 1 || c.IsSet("model") || c.IsSet("max-num-seqs") || c.IsSet("max-model-len")):
		return "", exit.Errorf(exit.Usage, "simulate: --model-path makes it SGLang's, whose arguments are --served-model-name, --max-running-requests, --context-length")
	}
	return cmp.Or(c.String("served-model-name"), c.Args().First(), c.String("model-path"), steps.Simulate.Model.In(c)), nil
}

// simulatedAddress is where to listen: as --listen says, or as vLLM is told.
func simulatedAddress(c *cli.Context) (string, error) {
	host, port, err := net.SplitHostPort(steps.Simulate.Listen.In(c))
	if err != nil {
		return "", fmt.Errorf("listen: %q: expected HOST:PORT such as 127.0.0.1:8000: %w", steps.Simulate.Listen.In(c), err)
	}
	if c.IsSet("listen") && (c.IsSet("host") || c.IsSet("port")) {
		return "", errors.New("listen: says the same as host and port; give it, or them")
	}
	if c.IsSet("host") {
		host = c.String("host")
	}
	if c.IsSet("port") {
		port = strconv.Itoa(c.Int("port"))
	}
	return net.JoinHostPort(host, port), nil
}

// sglangFlags are those of SGLang that vLLM does not have.
var sglangFlags = []string{"max-running-requests", "context-length", "chunked-prefill-size", "disable-radix-cache", "enable-metrics"}

// asSGLang makes the server one of SGLang's, where it is told its model as SGLang is.
func asSGLang(c *cli.Context, config *simulate.Config) {
	if config.SGLang = c.IsSet("model-path"); !config.SGLang {
		return
	}
	config.NoMetrics = config.NoMetrics || !c.Bool("enable-metrics")
	if c.IsSet("max-running-requests") {
		config.MaxNumSeqs = c.Int("max-running-requests")
	}
	if c.IsSet("context-length") {
		config.MaxModelLen = c.Int("context-length")
	}
}

func runSimulate(c *cli.Context) error {
	model, err := simulatedModel(c)
	if err != nil {
		return err
	}
	config := simulate.Config{
		Model:        model,
		Version:      "step-simulate " + version.Version(),
		Latency:      c.String("latency"),
		Jitter:       steps.Simulate.Jitter.In(c),
		Wander:       c.Float64("wander"),
		WanderMemory: c.Float64("wander-memory"),
		Seed:         steps.Simulate.Seed.In(c),
		MaxNumSeqs:   steps.Simulate.MaxNumSeqs.In(c),
		MaxModelLen:  steps.Simulate.MaxModelLen.In(c),
		APIKey:       steps.Simulate.APIKey.In(c),
		FailRate:     c.Float64("fail-rate"),
		AbortRate:    c.Float64("abort-rate"),
		Hang:         c.Bool("hang"),
		StartDelay:   c.Duration("start-delay"),
		NoMetrics:    c.Bool("no-metrics"),
		NoUsage:      c.Bool("no-usage"),
	}
	asSGLang(c, &config)
	var law string
	if config.Latency == simulate.Engine {
		config.Base, config.Seq, config.Ctx = c.Float64("base"), c.Float64("seq"), c.Float64("ctx")
		config.Pre, config.Pre2 = c.Float64("pre"), c.Float64("pre2")
		config.MaxNumBatchedTokens = c.Int("max-num-batched-tokens")
		if n := c.Int("chunked-prefill-size"); n > 0 {
			config.MaxNumBatchedTokens = n
		}
		if config.MaxNumBatchedTokens == 0 {
			config.MaxNumBatchedTokens = max(simulate.DefaultMaxNumBatchedTokens, config.MaxNumSeqs)
		}
		law = fmt.Sprintf("base %v ms, seq %v ms, ctx %v ms, pre %v ms, pre2 %v ms; max-num-batched-tokens %d",
			config.Base, config.Seq, config.Ctx, config.Pre, config.Pre2, config.MaxNumBatchedTokens)
	} else {
		config.Alpha, config.Beta = steps.Simulate.Alpha.In(c), steps.Simulate.Beta.In(c)
		config.Gamma, config.Delta = steps.Simulate.Gamma.In(c), steps.Simulate.Delta.In(c)
		law = fmt.Sprintf("alpha %v ms, beta %v ms, gamma %v ms, delta %v ms", config.Alpha, config.Beta, config.Gamma, config.Delta)
	}
	address, splitErr := simulatedAddress(c)
	if err := errors.Join(splitErr, otherFlags(c), config.Validate()); err != nil {
		return exit.Errorf(exit.Usage, "simulate: %w", err)
	}
	listener, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return exit.Errorf(exit.Usage, "simulate: %s is in use by another process; give a different port, or port 0 for any free one, with --listen", address)
	}
	if err != nil {
		return exit.Errorf(exit.Usage, "simulate: cannot listen on %s: %w; give an address of this machine with --listen", address, err)
	}
	server, err := simulate.New(config)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	defer server.Close()
	fmt.Fprintf(c.App.ErrWriter, "simulating %s, %s: %s; max-num-seqs %d, jitter %v, wander %v, seed %d\n",
		config.Model, config.Latency, law, config.MaxNumSeqs, config.Jitter, config.Wander, config.Seed)
	fmt.Fprintf(c.App.Writer, "listening on http://%s\n", listener.Addr())
	return server.Serve(c.Context, listener)
}
