package stepcli

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"slices"
	"strings"
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
		Usage:     "tell people and machines how a run ended",
		ArgsUsage: "[SUMMARY]",
		Description: `Reads the summary.json of a run, if it left one, and tells by Slack, by a webhook
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

// notifyOptions reads the flags and reports every mistake among them.
func notifyOptions(c *cli.Context) (addresses []notify.Address, events []notify.Event, err error) {
	var errs []error
	n := steps.Notify
	for _, a := range []notify.Address{
		{Kind: notify.Slack, URL: n.SlackURL.In(c)}, {Kind: notify.Webhook, URL: n.WebhookURL.In(c)}, {Kind: notify.Alertmanager, URL: n.Alertmanager.In(c)},
	} {
		if a.URL = strings.TrimSpace(a.URL); a.URL != "" { // a Secret often ends in a line break
			addresses, errs = append(addresses, a), append(errs, a.Check())
		}
	}
	for _, word := range sweep.Items(n.On.In(c)) {
		e := notify.Event(word)
		if !slices.Contains(notify.Events(), e) {
			errs = append(errs, fmt.Errorf("--on: found %q, expected end, failure or drift", word))
		}
		events = append(events, e)
	}
	if c.NArg() > 1 {
		errs = append(errs, fmt.Errorf("expected one summary at most, found %d arguments", c.NArg()))
	}
	return addresses, events, errors.Join(errs...)
}

func runNotify(c *cli.Context) error {
	addresses, events, err := notifyOptions(c)
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
	what := notify.Of(run)
	switch {
	case !what.Wanted(events):
		fmt.Fprintf(c.App.ErrWriter, "%s: nobody wants to hear of it\n", what.Event)
		return nil
	case len(addresses) == 0:
		fmt.Fprintf(c.App.ErrWriter, "%s: no address is given\n", what.Event)
		return nil
	}
	var failed error
	for _, a := range addresses {
		if err := what.Send(c.Context, a, http.DefaultClient, time.Now()); err != nil {
			fmt.Fprintln(c.App.ErrWriter, err)
			if failed == nil || exit.Code(err) == exit.TryAgain {
				failed = err
			}
			continue
		}
		fmt.Fprintf(c.App.ErrWriter, "%s: told %s\n", what.Event, a.Kind)
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
