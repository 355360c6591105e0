package stepcli

import (
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/urfave/cli/v2"

	"wfgen.dev/internal/clikit"
	"wfgen.dev/internal/exit"
	"wfgen.dev/internal/simulate"
)

func simulateCommand() *cli.Command {
	return &cli.Command{
		Name:  "simulate",
		Usage: "serve a simulated LLM whose latency is known",
		Description: `An OpenAI-compatible server (completions, chat, SSE streaming, vLLM's /metrics,
/tokenize, /health) without a model or a GPU. It delivers tokens at the times of

   ITL  = alpha + beta * n                    ms
   TTFT = gamma + delta * promptTokens * n    ms

where n is the number of requests running. Requests above --max-num-seqs wait,
and their wait is in their TTFT. One whitespace-separated word is one token, of
prompts as of outputs. An output has max_tokens tokens when the request says
ignore_eos; otherwise it may end earlier, at random from --seed.

stdout gets one line, "listening on http://HOST:PORT", when the port is open.

Examples:
   step simulate --model llama --alpha 20 --beta 0.5 --gamma 40 --delta 0.01
   step simulate --listen 127.0.0.1:0 --jitter 0.05 --seed 7
   step simulate --max-num-seqs 16 --fail-rate 0.1 --abort-rate 0.05
   STEP_API_KEY=secret step simulate --listen 0.0.0.0:8000`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "listen", Value: "127.0.0.1:8000", Usage: "`HOST:PORT` to listen on; port 0 is any free one"},
			&cli.StringFlag{Name: "model", Value: simulate.DefaultModel, Usage: "`NAME` of the model served"},
			&cli.Float64Flag{Name: "alpha", Value: 6.973, Usage: "ITL without load, `MS`"},
			&cli.Float64Flag{Name: "beta", Value: 0.027, Usage: "ITL added by each running request, `MS`"},
			&cli.Float64Flag{Name: "gamma", Value: 14.825, Usage: "TTFT without load, `MS`"},
			&cli.Float64Flag{Name: "delta", Value: 0.001364, Usage: "TTFT added by each prompt token and running request, `MS`"},
			&cli.Float64Flag{Name: "jitter", Usage: "relative standard `DEVIATION` of every TTFT and token gap, whose means stay exact"},
			&cli.Int64Flag{Name: "seed", Value: 1, Usage: "`SEED` of jitter, faults and early ends"},
			&cli.IntFlag{Name: "max-num-seqs", Value: simulate.DefaultMaxNumSeqs, Usage: "`REQUESTS` that run at once; the others wait"},
			&cli.IntFlag{Name: "max-model-len", Value: simulate.DefaultMaxModelLen, Usage: "`TOKENS` of a prompt and its output together"},
			&cli.StringFlag{Name: "api-key", Usage: "`KEY` demanded under /v1; better given by the environment"},
			&cli.Float64Flag{Name: "fail-rate", Usage: "`FRACTION` of requests answered by status 500"},
			&cli.Float64Flag{Name: "abort-rate", Usage: "`FRACTION` of requests whose connection is cut midway"},
			&cli.BoolFlag{Name: "hang", Usage: "accept requests for tokens and never answer them"},
			&cli.DurationFlag{Name: "start-delay", Usage: "`TIME` until the server is healthy and serves its model, such as 5s"},
			&cli.BoolFlag{Name: "no-usage", Usage: "never report token counts, even when asked to"},
		},
		Action: runSimulate,
	}
}

func runSimulate(c *cli.Context) error {
	if err := clikit.NoArgs(c); err != nil {
		return err
	}
	config := simulate.Config{
		Model:       c.String("model"),
		Version:     "step-simulate " + c.App.Version,
		Alpha:       c.Float64("alpha"),
		Beta:        c.Float64("beta"),
		Gamma:       c.Float64("gamma"),
		Delta:       c.Float64("delta"),
		Jitter:      c.Float64("jitter"),
		Seed:        c.Int64("seed"),
		MaxNumSeqs:  c.Int("max-num-seqs"),
		MaxModelLen: c.Int("max-model-len"),
		APIKey:      c.String("api-key"),
		FailRate:    c.Float64("fail-rate"),
		AbortRate:   c.Float64("abort-rate"),
		Hang:        c.Bool("hang"),
		StartDelay:  c.Duration("start-delay"),
		NoUsage:     c.Bool("no-usage"),
	}
	address := c.String("listen")
	_, _, splitErr := net.SplitHostPort(address)
	if splitErr != nil {
		splitErr = fmt.Errorf("listen: %q: expected HOST:PORT such as 127.0.0.1:8000: %w", address, splitErr)
	}
	if err := errors.Join(splitErr, config.Validate()); err != nil {
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
	fmt.Fprintf(c.App.ErrWriter, "simulating %s, linear4: alpha %v ms, beta %v ms, gamma %v ms, delta %v ms; max-num-seqs %d, jitter %v, seed %d\n",
		config.Model, config.Alpha, config.Beta, config.Gamma, config.Delta, config.MaxNumSeqs, config.Jitter, config.Seed)
	fmt.Fprintf(c.App.Writer, "listening on http://%s\n", listener.Addr())
	return server.Serve(c.Context, listener)
}
