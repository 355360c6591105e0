package stuck

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"

	"wfgen.dev/internal/cluster/kube"
	"wfgen.dev/internal/run/exit"
)

// Guard ends pods that do not begin to run, so that who waits for them gets the reason
// instead. It sees to no pod that runs, and to none that a queue holds back.
type Guard struct {
	API       *kube.Client
	Namespace string
	Selector  string        // labels of the pods that it looks after
	Patience  time.Duration // how long a pod may take to begin
	// UntilEnded lets it end when there have been pods and all of them have ended.
	UntilEnded bool
	Say        func(string)
}

const (
	pace     = 3 * time.Second  // between two looks
	homeTime = 30 * time.Second // after the last pod has ended: another may take its place
)

// watched is what is known of a pod that has not begun to run.
type watched struct {
	first    time.Time // when it was seen first
	hopeless time.Time // since when it is known that waiting cannot help; zero: it may
	said     string
	ended    string // why it was ended; empty: it was not
	times    int    // that it was
}

// mostTimes a pod is ended: the kubelet of its node, which did not end it, writes its own
// view of it once or twice more.
const mostTimes = 10

// Look looks once, which shows that it may: it returns how many pods wait, and ends none.
func (g Guard) Look(ctx context.Context) (waiting int, err error) {
	pods, err := g.pods(ctx)
	for _, p := range pods {
		if p.Status.Phase == "Pending" {
			waiting++
		}
	}
	if err == nil {
		_, err = g.API.Events(ctx, g.Namespace, "reason=none")
	}
	return waiting, forbidden(err)
}

// Run watches until ctx is done, which is no error, or with UntilEnded until all pods
// have ended. The error is exit.Unusable where the rights to do so are missing.
func (g Guard) Run(ctx context.Context) error {
	seen := map[string]*watched{} // by UID
	known := map[string]bool{}    // causes for which a pod was ended: the next one need not wait as long
	busy := time.Time{}           // when a pod that had not ended was seen last
	for {
		pods, err := g.pods(ctx)
		switch {
		case kube.IsForbidden(err):
			return forbidden(err)
		case err != nil && ctx.Err() == nil:
			g.Say(err.Error()) // the API server restarts, perhaps
		}
		for _, p := range pods {
			if p.Status.Phase == "Pending" || p.Status.Phase == "Running" {
				busy = time.Now()
			}
			if err := g.see(ctx, p, seen, known); err != nil {
				return err
			}
		}
		if g.UntilEnded && err == nil && !busy.IsZero() && time.Since(busy) >= homeTime {
			return nil
		}
		select {
		case <-ctx.Done():
			g.settle(context.WithoutCancel(ctx), seen)
			return nil
		case <-time.After(pace):
		}
	}
}

// settleTime is how long the guard sees to it that what it ended stays ended, when it is
// ended itself: a workflow is over as soon as its last pod has failed.
const settleTime = 10 * time.Second

func (g Guard) settle(ctx context.Context, seen map[string]*watched) {
	for begin := time.Now(); time.Since(begin) < settleTime; time.Sleep(pace) {
		pods, err := g.pods(ctx)
		ours := false
		for _, p := range pods {
			if w := seen[p.Metadata.UID]; w != nil && w.ended != "" {
				ours = true
				if p.Status.Phase == "Pending" {
					_ = g.end(ctx, p, w) // nobody is left to be told
				}
			}
		}
		if err == nil && !ours {
			return
		}
	}
}

func (g Guard) pods(ctx context.Context) ([]kube.Pod, error) {
	return g.API.Pods(ctx, g.Namespace, g.Selector)
}

// see looks at one pod, and ends it where it has waited in vain.
func (g Guard) see(ctx context.Context, p kube.Pod, seen map[string]*watched, known map[string]bool) error {
	id := p.Metadata.UID
	if w := seen[id]; w != nil && w.ended != "" {
		if p.Status.Message == w.ended || w.times >= mostTimes {
			return nil
		}
		return g.end(ctx, p, w)
	}
	f, pulls := g.find(ctx, p)
	if f == nil {
		delete(seen, id)
		return nil
	}
	w := seen[id]
	if w == nil {
		w = &watched{first: time.Now()}
		seen[id] = w
	}
	if f.Remedy == "" {
		w.hopeless = time.Time{}
	} else if w.hopeless.IsZero() {
		w.hopeless = time.Now()
	}
	if f.Text != w.said {
		w.said = f.Text
		g.Say(f.Text)
	}
	cause := strings.ReplaceAll(f.Text, p.Metadata.Name, "")
	waited := time.Since(w.first)
	var message string
	switch {
	case f.Remedy != "" && known[cause], f.Hopeless(time.Since(w.hopeless)):
		message = f.Text + "; " + f.Remedy
	case !pulls && (known[cause] || waited >= g.Patience):
		message = fmt.Sprintf("not begun within %s: %s", g.Patience, f.Text)
		if f.Cure != "" {
			message += "; " + f.Cure
		}
	default:
		return nil
	}
	known[cause] = true
	w.ended = message
	g.Say("ended: " + message)
	return g.end(ctx, p, w)
}

// end ends a pod with the reason that was found. Of a workflow's pod Argo must not wait
// for the outputs.
func (g Guard) end(ctx context.Context, p kube.Pod, w *watched) error {
	w.times++
	var err error
	if node := p.Metadata.Annotations["workflows.argoproj.io/node-id"]; node != "" {
		err = g.API.CompleteTaskResult(ctx, g.Namespace, node)
	}
	if err == nil {
		err = g.API.FailPod(ctx, g.Namespace, p.Metadata.Name, "GivenUp", w.ended)
	}
	if kube.IsForbidden(err) {
		return forbidden(err)
	}
	if err != nil {
		g.Say(err.Error()) // it is tried again
	}
	return nil
}

// find is what keeps a pod from beginning, with what its events say; nil where nothing
// does. pulls says that an image is on its way to the node.
func (g Guard) find(ctx context.Context, p kube.Pod) (f *Finding, pulls bool) {
	if p.Status.Phase != "Pending" || Gated(p) {
		return nil, false
	}
	if f = Pod(p); f == nil {
		return nil, false
	}
	refused := strings.Contains(f.Text, cannotBePulled)
	if !f.Events && !refused {
		return f, false
	}
	events, err := g.API.Events(ctx, g.Namespace, "involvedObject.uid="+p.Metadata.UID)
	if err != nil || len(events) == 0 {
		return f, false
	}
	if refused { // for want of credentials, perhaps; registries seldom say so
		for _, e := range events {
			if e.Reason == "FailedToRetrieveImagePullSecret" {
				f.Text += "; " + OneLine(e.Message)
				break
			}
		}
		return f, false
	}
	newest := Newest(events)
	if newest.Type == "Warning" {
		f.Hear(p, OneLine(retries.ReplaceAllString(newest.Message, "")))
	}
	return f, newest.Reason == "Pulling"
}

// retries is what only counts up in an event.
var retries = regexp.MustCompile(`\(combined from similar events\): `)

// forbidden says which right is missing.
func forbidden(err error) error {
	if !kube.IsForbidden(err) {
		return err
	}
	return exit.Errorf(exit.Unusable, "pods that do not begin to run cannot be ended: %w; "+
		"apply the Role that wfgen writes, or turn this off with --pending-timeout 0", err)
}
