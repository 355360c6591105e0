// Package stuck is about pods that do not begin to run: why, from what Kubernetes says of
// them, whether waiting can help, and what to do; and a guard that ends them with that reason
// rather than let whoever waits for them wait for ever.
package stuck

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"wfgen.dev/internal/cluster/kube"
	"wfgen.dev/internal/redact"
)

const cannotBePulled = "cannot be pulled"

// Finding is what keeps a pod from running.
type Finding struct {
	Text     string        // one line, without anything that only counts up
	Remedy   string        // what to do, where waiting cannot help; empty: it may
	Cure     string        // what to do where waiting may help, but has not
	Patience time.Duration // how long a finding with a remedy must last before the pod is given up
	Events   bool          // events of the pod say more
}

// Hopeless says that waiting cannot help, once the finding has lasted so long.
func (f *Finding) Hopeless(lasted time.Duration) bool {
	return f.Remedy != "" && lasted >= f.Patience
}

const (
	patienceImage  = time.Minute      // a tag may be pushed late; the kubelet tries at 10, 20, 40 s
	patienceConfig = 30 * time.Second // a Secret may be applied just after the pod
)

// Pod tells what keeps a pod from running; nil where nothing does, or it has ended.
func Pod(p kube.Pod) *Finding {
	if p.Metadata.DeletionTimestamp != nil || p.Status.Phase == "Failed" || p.Status.Phase == "Succeeded" {
		return nil
	}
	if f := Unscheduled(p); f != nil {
		return f
	}
	if len(p.Status.ContainerStatuses) == 0 && p.Status.Phase == "Pending" {
		return NotCreated(p)
	}
	// What is most to the point: a container whose image or configuration is wrong before
	// those that merely come after it.
	var calm *Finding
	for _, s := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		switch f := Waiting(p, s); {
		case f == nil:
		case !f.Events || f.Remedy != "":
			return f
		case calm == nil:
			calm = f
		}
	}
	if slices.ContainsFunc(p.Status.InitContainerStatuses, func(s kube.ContainerStatus) bool { return s.State.Running != nil }) {
		return nil // what comes before it works
	}
	return calm
}

// Gated says whether something holds the pod back from the scheduler on purpose, such as
// a queue.
func Gated(p kube.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c kube.Condition) bool {
		return c.Type == "PodScheduled" && c.Reason == "SchedulingGated"
	})
}

// Unscheduled is the finding of a pod for which there is no node; nil where there is.
func Unscheduled(p kube.Pod) *Finding {
	for _, c := range p.Status.Conditions {
		if c.Type == "PodScheduled" && c.Status == "False" {
			return &Finding{
				Text: fmt.Sprintf("pod %s is Pending: %s", p.Metadata.Name, unscheduled(c)),
				Cure: "add such a node, free one, or ask for less; wfgen plan says what each pod asks for",
			}
		}
	}
	return nil
}

// NotCreated is the finding of a pod that has a node, and nothing else yet.
func NotCreated(p kube.Pod) *Finding {
	return &Finding{Text: fmt.Sprintf("pod %s: its containers are not created yet%s", p.Metadata.Name, On(p)), Events: true}
}

// Waiting is the finding of a container that waits; nil when it does not.
func Waiting(p kube.Pod, s kube.ContainerStatus) *Finding {
	w := s.State.Waiting
	if w == nil {
		return nil
	}
	name, image := "pod "+p.Metadata.Name, imageOf(p, s.Name)
	switch w.Reason {
	case "ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "ImageInspectError":
		f := &Finding{
			Text:   fmt.Sprintf("%s: image %s %s: %s", name, image, cannotBePulled, pullMessage(w.Message)),
			Cure:   "see that the node reaches the registry, or load the image into the node",
			Events: !strings.Contains(w.Message, "rpc error") && !strings.Contains(w.Message, ": "),
		}
		if remedy := pullRemedy(w.Message); remedy != "" {
			f.Remedy, f.Patience = remedy, patienceImage
		}
		return f
	case "ErrImageNeverPull":
		return &Finding{
			Text:   fmt.Sprintf("%s: image %s is not on node %s and must not be pulled", name, image, p.Spec.NodeName),
			Remedy: "set imagePullPolicy to IfNotPresent, or load the image into the node",
		}
	case "InvalidImageName":
		return &Finding{
			Text:   fmt.Sprintf("%s: %q is not the name of an image: %s", name, image, tail(w.Message, "invalid reference format")),
			Remedy: "correct the image in the configuration",
		}
	case "CreateContainerConfigError":
		return &Finding{
			Text:   fmt.Sprintf("%s: container %s cannot be configured: %s", name, s.Name, w.Message),
			Remedy: "create it in namespace " + p.Metadata.Namespace + ", or correct its name", Patience: patienceConfig,
		}
	case "ContainerCreating", "PodInitializing", "":
		return &Finding{Text: fmt.Sprintf("%s: container %s is being created%s", name, s.Name, On(p)), Events: true}
	}
	return &Finding{Text: strings.TrimSuffix(fmt.Sprintf("%s: container %s waits: %s: %s", name, s.Name, w.Reason, w.Message), ": "), Events: true}
}

// Hear adds what an event of the pod says, and what follows from it.
func (f *Finding) Hear(p kube.Pod, event string) {
	if event == "" {
		return
	}
	f.Text += ": " + event
	if missing.MatchString(event) {
		f.Remedy, f.Patience = "create it in namespace "+p.Metadata.Namespace+", or correct its name", patienceConfig
	}
}

// missing is what the kubelet says of a volume that it cannot mount for want of an object.
var missing = regexp.MustCompile(`MountVolume\.SetUp failed .*: (?:secret|configmap|references non-existent (?:secret|config) key).*`)

// Newest is the newest of some events.
func Newest(events []kube.Event) kube.Event {
	return slices.MaxFunc(events, func(a, b kube.Event) int {
		if d := a.At().Compare(b.At()); d != 0 {
			return d
		}
		return strings.Compare(b.Type, a.Type) // Warning before Normal
	})
}

// OneLine is text for a message: one line of at most 400 bytes, secrets masked.
func OneLine(text string) string {
	const most = 400
	return redact.Line(redact.Text(text), most)
}

// unscheduled says in words what the scheduler says in its own.
func unscheduled(c kube.Condition) string {
	message, _, _ := strings.Cut(c.Message, " preemption:")
	message = strings.TrimSuffix(strings.TrimSpace(message), " no new claims to deallocate,")
	if message == "" {
		return "not scheduled yet: " + c.Reason
	}
	var hints []string
	for _, h := range []struct {
		pattern *regexp.Regexp
		hint    string
	}{
		{insufficientDevice, "no node has enough free $1"},
		{insufficientOther, "no node has enough free $1"},
		{regexp.MustCompile(`didn't match (?:Pod's )?node (?:affinity|selector)`), "no node has the labels that the pod selects"},
		{regexp.MustCompile(`untolerated taint\(?s?\)? (\{[^}]*\})`), "a taint is not tolerated: $1"},
		{regexp.MustCompile(`persistentvolumeclaim "([^"]*)" not found`), "the PersistentVolumeClaim $1 does not exist"},
		{regexp.MustCompile(`unbound immediate PersistentVolumeClaims`), "its PersistentVolumeClaim is not bound: is there a StorageClass that provisions it?"},
		{regexp.MustCompile(`volume node affinity conflict`), "its PersistentVolume is in another zone or on another node"},
	} {
		if m := h.pattern.FindStringSubmatchIndex(message); m != nil {
			hints = append(hints, string(h.pattern.ExpandString(nil, h.hint, message, m)))
		}
	}
	hints = slices.Compact(hints)
	if len(hints) == 0 {
		return "no node fits: " + message
	}
	return strings.Join(hints, "; ") + " (" + strings.TrimRight(message, ". ") + ")"
}

var (
	insufficientDevice = regexp.MustCompile(`Insufficient ([a-z0-9.-]+/[A-Za-z0-9._-]*[A-Za-z0-9])`)
	insufficientOther  = regexp.MustCompile(`Insufficient (cpu|memory|ephemeral-storage|pods)\b`)
)

// pullMessage is the part of the kubelet's message that tells the cause.
func pullMessage(message string) string {
	if message == "" {
		return "no reason given yet"
	}
	for _, head := range []string{"failed to resolve reference ", "failed to resolve image: ", "rpc error: "} {
		if i := strings.LastIndex(message, head); i >= 0 {
			message = message[i+len(head):]
		}
	}
	return OneLine(socket.ReplaceAllString(message, ""))
}

// socket is a part of the network's errors that is another one every time.
var socket = regexp.MustCompile(`read (?:udp|tcp) \S+->\S+: `)

// pullRemedy is what to do where trying again does not help.
func pullRemedy(message string) string {
	text := strings.ToLower(message)
	has := func(words ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(text, w) })
	}
	switch {
	case has("no such host", "timeout", "connection refused", "temporary failure", "i/o", "toomanyrequests", "too many requests"):
		return "" // the network, or the registry's limits
	case has("unauthorized", "authorization failed", "denied", "insufficient_scope", "401", "403", "no basic auth"):
		return "give the pod an imagePullSecret that may read it; registries also say this of an image that does not exist"
	case has("not found", "manifest unknown", "does not exist", "name unknown"):
		return "correct the image's name or tag"
	case has("no match for platform", "exec format"):
		return "choose an image for the node's architecture"
	}
	return ""
}

// tail is text from a phrase on, where it holds the phrase.
func tail(text, phrase string) string {
	if i := strings.Index(text, phrase); i >= 0 {
		return text[i:]
	}
	return text
}

// On names the node of a pod, where it has one: " on node x".
func On(p kube.Pod) string {
	if p.Spec.NodeName == "" {
		return ""
	}
	return " on node " + p.Spec.NodeName
}

func imageOf(p kube.Pod, container string) string {
	for _, c := range slices.Concat(p.Spec.Containers, p.Spec.InitContainers) {
		if c.Name == container {
			return c.Image
		}
	}
	return "of " + container
}
