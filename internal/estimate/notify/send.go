package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/retry"
)

// Kind is how an address is talked to.
type Kind string

// The kinds.
const (
	Slack        Kind = "slack"        // an incoming webhook
	Webhook      Kind = "webhook"      // POST of the Notification as JSON
	Alertmanager Kind = "alertmanager" // its API v2
)

// Address is where a notification goes. Its URL is a secret.
type Address struct {
	Kind Kind
	URL  string
}

// Check refuses what is no address, without repeating it.
func (a Address) Check() error {
	if u, err := url.Parse(a.URL); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("%s: its address is not a URL such as https://host/path", a.Kind)
	}
	return nil
}

const (
	attempts = 3
	patience = 15 * time.Second // with one attempt
)

// Send delivers the notification, in three attempts at most, which take two minutes at
// most. Errors have exit.TryAgain where another attempt may succeed and exit.Unusable
// where the address refuses it; none of them holds the address.
func (n Notification) Send(ctx context.Context, a Address, client *http.Client, now time.Time) error {
	body, at := n.body(a, now)
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	c := *client
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // a secret goes nowhere else
	return retry.Policy{Attempts: attempts}.Do(ctx, func() error { return post(ctx, a.Kind, at, data, &c) }, func(int, error, time.Duration) {})
}

func post(ctx context.Context, kind Kind, address string, data []byte, client *http.Client) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(data))
	if err != nil {
		return exit.Errorf(exit.Usage, "%s: its address cannot be used", kind)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		var inURL *url.Error
		if errors.As(err, &inURL) {
			err = inURL.Err // without the address
		}
		return exit.Errorf(exit.TryAgain, "%s: not delivered: %w", kind, err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<16)) // so that the connection can be used again
	switch {
	case resp.StatusCode/100 == 2:
		return nil
	case resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= 500:
		return exit.Errorf(exit.TryAgain, "%s: not delivered: HTTP %d", kind, resp.StatusCode)
	}
	return exit.Errorf(exit.Unusable, "%s: refused: HTTP %d", kind, resp.StatusCode)
}

// body is what an address of that kind gets, and the URL that it is posted to.
func (n Notification) body(a Address, now time.Time) (body any, at string) {
	switch a.Kind {
	case Slack:
		return n.slack(), a.URL
	case Alertmanager:
		at = strings.TrimSuffix(a.URL, "/")
		if !strings.HasSuffix(at, alertsPath) {
			at += alertsPath
		}
		return n.alerts(now), at
	}
	return n, a.URL
}

// slack is a message as incoming webhooks take it.
// https://api.slack.com/messaging/webhooks; what it escapes: https://api.slack.com/reference/surfaces/formatting
func (n Notification) slack() any {
	escape := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")
	text := "*" + escape.Replace(n.Title) + "*\n" + escape.Replace(n.Text())
	if n.ReportURL != "" {
		text += "\n<" + escape.Replace(n.ReportURL) + "|report>"
	}
	return map[string]string{"text": text}
}

const alertsPath = "/api/v2/alerts"

// alert is postableAlert of Alertmanager's API v2.
// https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml
type alert struct {
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations"`
	StartsAt     time.Time         `json:"startsAt"`
	GeneratorURL string            `json:"generatorURL,omitempty"`
}

// alerts are one per set of parameters that drifted, or one of the run. They resolve as
// Alertmanager's resolve_timeout has it.
func (n Notification) alerts(now time.Time) []alert {
	one := func(name, severity string, labels map[string]string) alert {
		l := map[string]string{"alertname": name, "severity": severity, "sweep": n.Sweep, "model": n.Model}
		for k, v := range labels {
			l[k] = v
		}
		return alert{Labels: l, Annotations: map[string]string{"summary": n.Title, "description": n.Text()}, StartsAt: now.UTC(), GeneratorURL: n.ReportURL}
	}
	switch n.Event {
	case Failure:
		return []alert{one("WfgenSweepFailed", "warning", nil)}
	case Drift:
		var list []alert
		for _, r := range n.Results {
			if len(r.Drifted) > 0 {
				list = append(list, one("WfgenLatencyDrift", "warning", map[string]string{"accelerator": r.Accelerator, "shape": r.Shape}))
			}
		}
		return list
	}
	return []alert{one("WfgenSweepEnded", "info", nil)}
}
