package stepcli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"wfgen.dev/internal/estimate/notify"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/steps"
	"wfgen.dev/internal/sweep"
)

func notifyCommand() *cli.Command {
	return &cli.Command{
		Name:      steps.Notify.Name,
		Usage:     "notify people and machines of how a run ended",
		ArgsUsage: "[SUMMARY]",
		Description: `Reads the summary.json of a run, if it left one, and reports by Slack, by a webhook
(JSON, "wfgen.dev/notification/v1") and by Alertmanager's API v2 what came out of it:
parameters and verdicts, what drifted, what failed. Without an address, or where
nobody wants to hear of it, it does nothing. The addresses are secrets: give them as
STEP_SLACK_URL, STEP_WEBHOOK_URL, STEP_ALERTMANAGER_URL.

Tries each three times. Exits with 75 when one could not be reached, with 69 when one
refused; the others have got it all the same.

Example:
  step notify out/summary.json --sweep nightly --run nightly-x7k2p --status Succeeded --on end`,
		Flags:  steps.Notify.Flags(),
		Action: runNotify,
	}
}

// addresses are where a command tells something, and of which events; the flags are those
// of step notify, which step guard has as well.
func addresses(c *cli.Context) (list []notify.Address, events []notify.Event, err error) {
	var errs []error
	n := steps.Notify
	for _, a := range []notify.Address{
		{Kind: notify.Slack, URL: n.SlackURL.In(c)}, {Kind: notify.Webhook, URL: n.WebhookURL.In(c)}, {Kind: notify.Alertmanager, URL: n.Alertmanager.In(c)},
	} {
		if a.URL = strings.TrimSpace(a.URL); a.URL == "" { // a Secret often ends in a line break
			continue
		}
		if err := a.Check(); err != nil {
			errs = append(errs, err)
			continue
		}
		list = append(list, a)
	}
	for _, word := range sweep.Items(n.On.In(c)) {
		e := notify.Event(word)
		if !slices.Contains(notify.Events(), e) {
			errs = append(errs, fmt.Errorf("--on: found %q, expected end, failure or drift", word))
		}
		events = append(events, e)
	}
	return list, events, errors.Join(errs...)
}

// notifyOptions reads the flags and reports every mistake among them.
func notifyOptions(c *cli.Context) ([]notify.Address, []notify.Event, error) {
	list, events, err := addresses(c)
	if c.NArg() > 1 {
		err = errors.Join(err, fmt.Errorf("expected one summary at most, found %d arguments", c.NArg()))
	}
	return list, events, err
}

func runNotify(c *cli.Context) error {
	to, events, err := notifyOptions(c)
	if err != nil {
		return exit.With(exit.Usage, err)
	}
	n := steps.Notify
	run := notify.Run{
		Sweep: n.Sweep.In(c), Name: n.Run.In(c), Status: n.Status.In(c), Model: n.Model.In(c), ReportURL: n.ReportURL.In(c), Failures: n.Failures.In(c),
	}
	if c.NArg() == 1 {
		s, err := summaryIfAny(c.Args().First())
		if err != nil {
			fmt.Fprintln(c.App.ErrWriter, err) // how the run ended is worth telling without it
		}
		run.Summary = s
	}
	return tell(c.Context, notify.Of(run), to, events, c.App.ErrWriter)
}

// tell sends to all addresses at once what somebody wants to hear of, and says so. Its error
// is that of an address, one that may be tried again before others.
func tell(ctx context.Context, what notify.Notification, to []notify.Address, events []notify.Event, words io.Writer) error {
	switch {
	case !what.Wanted(events):
		fmt.Fprintf(words, "%s: nobody wants to hear of it\n", what.Event)
		return nil
	case len(to) == 0:
		fmt.Fprintf(words, "%s: no address is given\n", what.Event)
		return nil
	}
	outcomes := make([]error, len(to))
	var sending sync.WaitGroup
	for i, a := range to {
		sending.Go(func() { outcomes[i] = what.Send(ctx, a, http.DefaultClient, time.Now()) })
	}
	sending.Wait()
	var failed error
	for i, err := range outcomes {
		if err == nil {
			fmt.Fprintf(words, "%s: told %s\n", what.Event, to[i].Kind)
			continue
		}
		fmt.Fprintln(words, err)
		if failed == nil || exit.Code(err) == exit.TryAgain {
			failed = err
		}
	}
	return failed
}

// summaryIfAny is the summary in a file, nil where there is no file.
func summaryIfAny(path string) (*parameters.Summary, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s, err := parameters.DecodeSummary(f, path)
	if err != nil {
		return nil, err
	}
	return &s, nil
}
