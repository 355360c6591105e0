package stepcli

import (
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"wfgen.dev/internal/clikit"
	"wfgen.dev/internal/server"
)

func waitCommand() *cli.Command {
	return &cli.Command{
		Name:  "wait",
		Usage: "wait until a server is healthy and serves the model",
		Description: `Exits with 69 when the server serves other models, with 75 when it is not ready in time.

Example:
  step wait --target http://vllm:8000 --model unsloth/Meta-Llama-3.1-8B --timeout 40m`,
		Flags: []cli.Flag{
			targetFlag(), modelFlag(), apiKeyFlag(),
			&cli.DurationFlag{Name: "timeout", Value: 40 * time.Minute, Usage: "how long to wait; a first start downloads the model"},
		},
		Action: func(c *cli.Context) error {
			if err := clikit.NoArgs(c); err != nil {
				return err
			}
			client, err := server.New(c.String("target"), c.String("api-key"))
			if err != nil {
				return err
			}
			say := func(text string) { fmt.Fprintln(c.App.ErrWriter, text) }
			m, err := client.Wait(c.Context, c.String("model"), c.Duration("timeout"), say)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.App.Writer, "%s serves %s", client.Target(), m.ID)
			if m.MaxModelLen > 0 {
				fmt.Fprintf(c.App.Writer, ", max-model-len %d", m.MaxModelLen)
			}
			fmt.Fprintln(c.App.Writer)
			return nil
		},
	}
}

// The flags that several commands share.

func targetFlag() cli.Flag {
	return &cli.StringFlag{Name: "target", Required: true, Usage: "`URL` of the server, such as http://vllm:8000"}
}

func modelFlag() cli.Flag {
	return &cli.StringFlag{Name: "model", Required: true, Usage: "`NAME` of the model, as the server lists it"}
}

// apiKeyFlag is best given by its variable: arguments can be read by others.
func apiKeyFlag() cli.Flag {
	return &cli.StringFlag{Name: "api-key", Usage: "`KEY` of the server; set STEP_API_KEY rather than write it here"}
}
