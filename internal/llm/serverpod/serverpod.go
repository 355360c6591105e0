// Package serverpod is the pod that an LLM server runs in: why the server is not up
// yet, whether waiting can help, and what it runs on.
package serverpod

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"wfgen.dev/internal/cluster/kube"
	"wfgen.dev/internal/cluster/stuck"
	"wfgen.dev/internal/llm"
	"wfgen.dev/internal/llm/record"
	"wfgen.dev/internal/redact"
	"wfgen.dev/internal/run/exit"
)

// Options say which pod is waited for, and how.
type Options struct {
	API       *kube.Client
	Namespace string
	Selector  string // labels, as in app=vllm,accelerator=a100
	Port      int    // of the server in its pod
	Target    string // the server's URL; empty: the pod's own address
	Model     string
	APIKey    string
	Timeout   time.Duration

	// EndPod ends the pod when it is given up, so that it neither holds nor takes a
	// GPU. One that is only interrupted ends nothing.
	EndPod bool

	// Check judges a server that is ready, by its client and the arguments of its
	// container; an error gives it up. Nil: none is judged.
	Check func(ctx context.Context, client *llm.Client, args []string) error

	Say func(string) // is told what keeps the server, when that changes
}

// Found is a server that is ready.
type Found struct {
	Target   string // URL
	Model    llm.Model
	Instance record.Instance
}

// pace is how often the pod is looked at.
const pace = 2 * time.Second

// Wait waits until the server in the pod is ready and serves the model. A pod that
// is replaced by another one with the same labels is followed. The error is
// exit.Unusable when waiting cannot help, and exit.TryAgain when the time is over.
func Wait(ctx context.Context, o Options) (Found, error) {
	w := &watch{Options: o, start: time.Now()}
	if o.Target != "" {
		client, err := llm.New(o.Target, o.APIKey)
		if err != nil {
			return Found{}, err
		}
		w.fixed = client
	}
	limited, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	found, err := w.run(limited)
	if err == nil || ctx.Err() != nil || !o.EndPod || w.pod == nil {
		return found, err
	}
	name := w.pod.Metadata.Name
	if e := o.API.FailPod(ctx, o.Namespace, name, "GivenUp", err.Error()); e != nil {
		return found, fmt.Errorf("%w (pod %s could not be ended: %w)", err, name, e)
	}
	o.Say(fmt.Sprintf("ended pod %s, so that it holds no accelerator", name))
	return found, err
}

type watch struct {
	Options
	start time.Time
	fixed *llm.Client // where Target is given

	pod   *kube.Pod // seen last
	blind bool      // pods may not be read

	said    string // text that was said last
	saidLog string
	saidAt  time.Time
	missing map[string]bool // rights whose lack was said

	text  string // of the finding that lasts
	since time.Time
}

func (w *watch) run(ctx context.Context) (Found, error) {
	var last *finding
	for {
		found, f, err := w.look(ctx)
		if err != nil || f == nil {
			return found, err
		}
		if last == nil || ctx.Err() == nil { // a look that was cut short knows less than the one before
			last = f
			w.report(f)
		}
		if last.Hopeless(time.Since(w.since)) {
			return Found{}, exit.Errorf(exit.Unusable, "%s; %s", last.Text, last.Remedy)
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return Found{}, exit.Errorf(exit.TryAgain, "gave up after %s: %s", w.Timeout, last.Text)
			}
			return Found{}, exit.Errorf(exit.TryAgain, "interrupted while waiting: %s", last.Text)
		case <-time.After(pace):
		}
	}
}

// look looks once: a server that is ready, or what keeps it.
func (w *watch) look(ctx context.Context) (Found, *finding, error) {
	f := w.lookAtPod(ctx)
	if w.blind && w.fixed == nil {
		return Found{}, nil, exit.Errorf(exit.Unusable, "%s", f.Text)
	}
	client := w.fixed
	if client == nil {
		if f != nil {
			return Found{}, f, nil
		}
		var err error
		if client, err = llm.New("http://"+net.JoinHostPort(w.pod.Status.PodIP, strconv.Itoa(w.Port)), w.APIKey); err != nil {
			return Found{}, nil, err
		}
	}
	probe, done := context.WithTimeout(ctx, 10*time.Second)
	m, err := client.Find(probe, w.Model)
	done()
	switch {
	case err == nil:
		found := Found{Target: client.Target(), Model: m, Instance: w.describe(ctx, f == nil)}
		if w.Check != nil {
			err = w.Check(ctx, client, found.Instance.Args)
		}
		return found, nil, err
	case exit.Code(err) != exit.TryAgain:
		return Found{}, nil, err
	case f == nil && w.pod != nil && w.fixed == nil:
		return Found{}, said("pod %s is ready, but %v; does a NetworkPolicy keep this pod from it, or does the server listen on 127.0.0.1 only?", w.pod.Metadata.Name, err), nil
	case f == nil || w.blind:
		return Found{}, said("%v", err), nil
	}
	return Found{}, f, nil
}

// lookAtPod is what keeps the pod's container from being ready; nil: nothing.
func (w *watch) lookAtPod(ctx context.Context) *finding {
	if w.blind {
		return &finding{}
	}
	pods, err := w.API.Pods(ctx, w.Namespace, w.Selector)
	switch {
	case kube.IsForbidden(err):
		w.blind, w.pod = true, nil
		text := fmt.Sprintf("pods of namespace %s may not be read: %v; grant it: kubectl -n %[1]s create role read-pods --verb=get,list --resource=pods,pods/log,events, and bind it to this pod's ServiceAccount", w.Namespace, err)
		if w.fixed != nil {
			w.Say(text + "; going on by the server's health alone")
		}
		return said("%s", text)
	case err != nil:
		return said("%v", err)
	}
	w.pod = choose(pods, w.Port)
	if w.pod == nil {
		return said("%s", w.nobody(ctx))
	}
	f := diagnose(*w.pod, w.Port)
	if f == nil {
		return nil
	}
	if f.Events {
		f.Hear(*w.pod, w.event(ctx, "involvedObject.uid="+w.pod.Metadata.UID))
	}
	if f.crash != nil {
		log, err := w.API.Log(ctx, w.Namespace, w.pod.Metadata.Name, f.crash.container, 200, f.crash.running)
		if w.lacks("get pods/log", err) {
			log = ""
		}
		f.explain(log)
	}
	return f
}

// choose is the pod that is waited for: one that stays before one that goes, one
// that is ready before one that is not, then the newest.
func choose(pods []kube.Pod, port int) *kube.Pod {
	rank := func(p kube.Pod) int {
		s := statusOf(p.Status.ContainerStatuses, containerOf(p, port).Name)
		switch {
		case p.Metadata.DeletionTimestamp != nil:
			return 3
		case p.Status.Phase == "Failed" || p.Status.Phase == "Succeeded":
			return 2
		case s == nil || !s.Ready:
			return 1
		}
		return 0
	}
	slices.SortStableFunc(pods, func(a, b kube.Pod) int {
		if d := rank(a) - rank(b); d != 0 {
			return d
		}
		return b.Metadata.CreationTimestamp.Compare(a.Metadata.CreationTimestamp)
	})
	if len(pods) == 0 {
		return nil
	}
	return &pods[0]
}

// nobody says that there is no pod, and what a controller says of it where that can
// be known: a quota or Pod Security keeps it from making one.
func (w *watch) nobody(ctx context.Context) string {
	text := fmt.Sprintf("no pod in namespace %s has the labels %s", w.Namespace, w.Selector)
	if e := w.event(ctx, "reason=FailedCreate"); e != "" {
		return text + "; perhaps because of this: " + e
	}
	return text
}

// event is the newest event that a field selector finds, or "".
func (w *watch) event(ctx context.Context, fields string) string {
	events, err := w.API.Events(ctx, w.Namespace, fields)
	if w.lacks("list events", err) || len(events) == 0 {
		return ""
	}
	newest := stuck.Newest(events)
	if newest.Reason == "Scheduled" {
		return ""
	}
	return stuck.OneLine(newest.Message)
}

// lacks says once that a right is missing. It is true for every error: what was
// asked for is an extra, without which waiting goes on.
func (w *watch) lacks(right string, err error) bool {
	if kube.IsForbidden(err) && !w.missing[right] {
		if w.missing == nil {
			w.missing = map[string]bool{}
		}
		w.missing[right] = true
		w.Say(fmt.Sprintf("less can be said without the right to %s: %v", right, err))
	}
	return err != nil
}

// report says what keeps the server when that has changed, and how a start that
// takes long goes on.
func (w *watch) report(f *finding) {
	if f.Text != w.text {
		w.text, w.since = f.Text, time.Now()
	}
	line := ""
	if f.progress {
		line = w.progress()
	}
	calm := time.Since(w.saidAt) >= 15*time.Second
	if f.Text == w.said && (line == w.saidLog || !calm) {
		return
	}
	w.said, w.saidLog, w.saidAt = f.Text, line, time.Now()
	text := fmt.Sprintf("waiting, %.0f s: %s", time.Since(w.start).Seconds(), f.Text)
	if line != "" {
		text += "; it says: " + line
	}
	w.Say(text)
}

// progress is the last line of the server's log.
func (w *watch) progress() string {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	log, err := w.API.Log(ctx, w.Namespace, w.pod.Metadata.Name, containerOf(*w.pod, w.Port).Name, 20, false)
	if w.lacks("get pods/log", err) {
		return ""
	}
	lines := logLines(log)
	if len(lines) == 0 {
		return ""
	}
	return lines[len(lines)-1]
}

// describe is what the server runs as, as far as it may be read.
func (w *watch) describe(ctx context.Context, ready bool) record.Instance {
	if w.pod == nil || !ready {
		return record.Instance{}
	}
	i := instance(*w.pod, w.Port)
	labels, err := w.API.NodeLabels(ctx, w.pod.Spec.NodeName)
	if w.lacks("get nodes", err) {
		return i
	}
	i.GPU, i.GPUDriver = hardware(labels)
	return i
}

// instance is what a pod says of the server in it.
func instance(p kube.Pod, port int) record.Instance {
	c := containerOf(p, port)
	i := record.Instance{
		Pod: p.Metadata.Name, Node: p.Spec.NodeName, Image: c.Image,
		Args: redact.Args(arguments(c)),
	}
	if s := statusOf(p.Status.ContainerStatuses, c.Name); s != nil {
		i.ImageDigest = s.ImageID[strings.LastIndexByte(s.ImageID, '@')+1:]
	}
	return i
}

// arguments are the words that the container was started with: the kubelet replaces
// $(NAME) by a variable of the container. One that holds a secret stays as it stands.
func arguments(c kube.Container) []string {
	var pairs []string
	for _, e := range c.Env {
		if e.Value != "" && !redact.Name(e.Name) {
			pairs = append(pairs, "$("+e.Name+")", e.Value)
		}
	}
	filled := strings.NewReplacer(pairs...)
	args := slices.Concat(c.Command, c.Args)
	for i, a := range args {
		args[i] = filled.Replace(a)
	}
	return args
}

// Labels of nodes that tell the GPU, as the vendors' discovery and the clouds set
// them.
var productLabels = []string{
	"nvidia.com/gpu.product", "amd.com/gpu.product-name", "beta.amd.com/gpu.product-name", "habana.ai/device.type",
	"gpu.intel.com/product", "cloud.google.com/gke-accelerator", "cloud.google.com/gke-tpu-accelerator",
	"eks.amazonaws.com/instance-gpu-name", "karpenter.k8s.aws/instance-gpu-name", "kubernetes.azure.com/accelerator",
}

// hardware is the GPU's product and its driver's version, "" where no label tells.
func hardware(labels map[string]string) (gpu, driver string) {
	for _, l := range productLabels {
		if gpu = labels[l]; gpu != "" {
			break
		}
	}
	for _, l := range []string{"nvidia.com/cuda.driver-version.full", "amd.com/gpu.driver-version", "beta.amd.com/gpu.driver-version", "habana.ai/driver.version"} {
		if driver = labels[l]; driver != "" {
			return gpu, driver
		}
	}
	// the names of NVIDIA's discovery before 0.16
	var parts []string
	for _, part := range []string{"major", "minor", "rev"} {
		if v := labels["nvidia.com/cuda.driver."+part]; v != "" {
			parts = append(parts, v)
		}
	}
	return gpu, strings.Join(parts, ".")
}
