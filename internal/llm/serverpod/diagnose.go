package serverpod

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"wfgen.dev/internal/cluster/kube"
	"wfgen.dev/internal/redact"
)

// finding is what keeps a server from coming up.
type finding struct {
	text     string        // one line, without anything that only counts up
	remedy   string        // what to do, where waiting cannot help; empty: it may
	patience time.Duration // how long the finding must last before it is given up
	progress bool          // the last line of the log says how the start goes on
	events   bool          // events of the pod say more
	crash    *crash        // a container that ended
}

// crash is a container that ended though it should serve.
type crash struct {
	namespace, pod, container string

	code    int
	oom     bool
	ends    int  // how often
	running bool // it was started again
	last    bool // nobody starts it again
}

func newCrash(p kube.Pod, container string, t kube.Terminated, ends int) *crash {
	return &crash{namespace: p.Metadata.Namespace, pod: p.Metadata.Name, container: container, code: t.ExitCode, oom: t.Reason == "OOMKilled", ends: ends}
}

const (
	patienceImage  = time.Minute      // a tag may be pushed late; the kubelet tries at 10, 20, 40 s
	patienceConfig = 30 * time.Second // a Secret may be applied just after the pod
	patienceOwner  = time.Minute      // a controller may put another pod in the place of an ended one
	mostCrashes    = 3
)

// diagnose tells from a pod alone what keeps its server from coming up; nil when
// the container is ready.
func diagnose(p kube.Pod, port int) *finding {
	name := "pod " + p.Metadata.Name
	if p.Metadata.DeletionTimestamp != nil {
		return &finding{text: name + " is being deleted"}
	}
	c := containerOf(p, port)
	status := statusOf(p.Status.ContainerStatuses, c.Name)
	if p.Status.Phase == "Failed" || p.Status.Phase == "Succeeded" {
		return ended(p, c, status)
	}
	for _, cond := range p.Status.Conditions {
		if cond.Type == "PodScheduled" && cond.Status == "False" {
			return &finding{text: fmt.Sprintf("%s is Pending: %s", name, unscheduled(cond))}
		}
	}
	for _, s := range p.Status.InitContainerStatuses {
		if f := stuck(p, s, imageOf(p, s.Name)); f != nil && !s.Ready {
			return f
		}
		if s.State.Running != nil && s.Started != nil && !*s.Started {
			return &finding{text: fmt.Sprintf("%s: init container %s runs", name, s.Name)}
		}
	}
	if status == nil {
		return &finding{text: fmt.Sprintf("%s: its containers are not created yet%s", name, on(p)), events: true}
	}
	if f := stuck(p, *status, c.Image); f != nil {
		return f
	}
	if p.Spec.RestartPolicy == "Never" && status.State.Terminated != nil {
		return ended(p, c, status)
	}
	if status.Ready {
		return nil
	}
	text := fmt.Sprintf("%s: container %s runs%s and is not ready", name, c.Name, on(p))
	if c.StartupProbe != nil && (status.Started == nil || !*status.Started) {
		text = fmt.Sprintf("%s: container %s runs%s, its startup probe has not passed yet", name, c.Name, on(p))
	}
	f := &finding{text: text, progress: true}
	if t := status.LastState.Terminated; t != nil {
		f.text += fmt.Sprintf("; before, it %s", manner(*t))
		f.crash = newCrash(p, c.Name, *t, status.RestartCount)
		f.crash.running = true
	}
	return f
}

// stuck is the finding of a container that waits or has ended; nil when it runs.
func stuck(p kube.Pod, s kube.ContainerStatus, image string) *finding {
	name := "pod " + p.Metadata.Name
	if t := s.State.Terminated; t != nil {
		if t.ExitCode == 0 && statusOf(p.Status.InitContainerStatuses, s.Name) != nil || p.Spec.RestartPolicy == "Never" {
			return nil
		}
		return crashed(p, s, *t, s.RestartCount+1)
	}
	w := s.State.Waiting
	if w == nil {
		return nil
	}
	switch w.Reason {
	case "ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "ImageInspectError":
		f := &finding{text: fmt.Sprintf("%s: image %s cannot be pulled: %s", name, image, pullMessage(w.Message)), events: !strings.Contains(w.Message, "rpc error") && !strings.Contains(w.Message, ": ")}
		if remedy := pullRemedy(w.Message); remedy != "" {
			f.remedy, f.patience = remedy, patienceImage
		}
		return f
	case "ErrImageNeverPull":
		return &finding{text: fmt.Sprintf("%s: image %s is not on node %s and must not be pulled", name, image, p.Spec.NodeName),
			remedy: "set imagePullPolicy to IfNotPresent, or load the image into the node"}
	case "InvalidImageName":
		return &finding{text: fmt.Sprintf("%s: %q is not the name of an image: %s", name, image, tail(w.Message, "invalid reference format")),
			remedy: "correct the image in the configuration"}
	case "CreateContainerConfigError":
		return &finding{text: fmt.Sprintf("%s: container %s cannot be configured: %s", name, s.Name, w.Message),
			remedy: "create it in namespace " + p.Metadata.Namespace + ", or correct its name", patience: patienceConfig}
	case "CrashLoopBackOff":
		if t := s.LastState.Terminated; t != nil {
			return crashed(p, s, *t, s.RestartCount+1)
		}
		return &finding{text: fmt.Sprintf("%s: container %s crashes again and again", name, s.Name), progress: true}
	case "ContainerCreating", "PodInitializing", "":
		return &finding{text: fmt.Sprintf("%s: container %s is being created%s", name, s.Name, on(p)), events: true}
	}
	return &finding{text: strings.TrimSuffix(fmt.Sprintf("%s: container %s waits: %s: %s", name, s.Name, w.Reason, w.Message), ": "), events: true}
}

// crashed is the finding of a container that will be started again.
func crashed(p kube.Pod, s kube.ContainerStatus, t kube.Terminated, ends int) *finding {
	f := &finding{
		text:  fmt.Sprintf("pod %s: container %s %s", p.Metadata.Name, s.Name, manner(t)),
		crash: newCrash(p, s.Name, t, ends),
	}
	if ends > 1 {
		f.text += fmt.Sprintf(", %d times", ends)
	}
	return f
}

// ended is the finding of a pod that does not run again.
func ended(p kube.Pod, c kube.Container, s *kube.ContainerStatus) *finding {
	f := &finding{text: fmt.Sprintf("pod %s has ended", p.Metadata.Name)}
	if why := strings.TrimSuffix(p.Status.Reason+": "+p.Status.Message, ": "); p.Status.Reason != "" {
		f.text += ": " + why // Evicted, DeadlineExceeded, NodeShutdown
	}
	if s != nil && s.State.Terminated != nil {
		t := *s.State.Terminated
		f.text += fmt.Sprintf(": container %s %s", c.Name, manner(t))
		f.crash = newCrash(p, c.Name, t, 1)
		f.crash.last = true
	}
	f.remedy = "nothing starts it again: start the server again when the cause is fixed"
	for _, o := range p.Metadata.OwnerReferences {
		if o.Controller && slices.Contains([]string{"ReplicaSet", "StatefulSet", "Job"}, o.Kind) {
			f.patience = patienceOwner
		}
	}
	return f
}

// manner is how a container ended.
func manner(t kube.Terminated) string {
	text := fmt.Sprintf("ended with exit code %d", t.ExitCode)
	if t.Reason != "" && t.Reason != "Error" && t.Reason != "Completed" {
		text += " (" + t.Reason + ")"
	}
	if t.Message != "" {
		text += ": " + oneLine(t.Message)
	}
	return text
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
	return oneLine(socket.ReplaceAllString(message, ""))
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

// causes are what an LLM server says in its log when starting it again does not
// help, and what does. The first that matches is the cause.
var causes = []struct {
	pattern *regexp.Regexp
	remedy  string
}{
	{regexp.MustCompile(`VLLM_PORT.*(appears to be a URI|URI)`), "a Service named vllm sets VLLM_PORT: set enableServiceLinks: false in the pod, or rename the Service"},
	{regexp.MustCompile(`GatedRepoError|Access to model .* is restricted|gated repo`), "the model is gated: accept its license, and give the pod a HF_TOKEN of that account"},
	{regexp.MustCompile(`RepositoryNotFoundError|is not a valid model identifier|is not a local folder`), "correct the model's name; a private model also needs HF_TOKEN"},
	{regexp.MustCompile(`HTTP(?:Error)?:? 401|401 Client Error`), "give the pod a valid HF_TOKEN"},
	{regexp.MustCompile(`No space left on device`), "enlarge the volume that holds the model cache"},
	{regexp.MustCompile(`(?:CUDA|HIP) out of memory|OutOfMemoryError|No available memory for the cache blocks|less than desired GPU memory utilization`), "the model does not fit the GPU's memory: more GPUs (tensor parallelism), a shorter max-model-len, or another gpu-memory-utilization"},
	{regexp.MustCompile(`larger than the maximum number of tokens that can be stored in KV cache|larger than the available KV cache memory|is greater than the derived max_model_len`), "lower max-model-len"},
	{regexp.MustCompile(`must be divisible by tensor parallel size|Tensor parallel size .* (?:is )?(?:larger|greater)`), "correct the tensor parallel size (the accelerator's count)"},
	{regexp.MustCompile(`Failed to infer device type|no CUDA-capable device|CUDA driver version is insufficient|NVIDIA driver on your system is too old`), "the container sees no usable GPU: check the node's driver and device plugin, and that the image is for this accelerator"},
	{regexp.MustCompile(`(?:error: |: )(?:unrecognized arguments|argument .*|invalid choice|the following arguments are required).*|flag provided but not defined.*`), "correct the server's arguments"},
}

// explain adds to a crash what the log of the container says: the cause, in one
// line, and whether waiting can help.
func (f *finding) explain(log string) {
	lines := logLines(log)
	cause, remedy := "", ""
search:
	for _, c := range causes {
		for _, line := range lines {
			if c.pattern.MatchString(line) {
				cause, remedy = line, c.remedy
				break search
			}
		}
	}
	if cause == "" {
		cause = lastError(lines)
	}
	if cause != "" {
		f.text += ": " + cause
	}
	c := f.crash
	switch {
	case c.running: // its fate is open
	case remedy != "":
		f.remedy = remedy
	case c.oom && (c.ends >= 2 || c.last):
		f.remedy = "raise the container's memory limit (main memory, not the GPU's)"
	case c.code == 2:
		f.remedy = "correct the server's arguments"
	case c.ends >= mostCrashes:
		f.remedy = fmt.Sprintf("fix the cause; the whole log: kubectl -n %s logs %s -c %s --previous", c.namespace, c.pod, c.container)
	}
}

// lastError is the line of a log that most likely tells why a program ended.
func lastError(lines []string) string {
	for i := len(lines) - 1; i >= 0; i-- {
		// vLLM's last word only points at the one before
		if errorLine.MatchString(lines[i]) && !strings.Contains(lines[i], "Engine core initialization failed") {
			return lines[i]
		}
	}
	if len(lines) == 0 {
		return ""
	}
	return lines[len(lines)-1]
}

var (
	errorLine = regexp.MustCompile(`^(?:.*\s)?[\w.]*(?:Error|Exception): |^(?:panic|fatal|error): `)
)

// logLines are the lines of a log as a terminal would show them: a progress bar is
// its last state. Keys are masked: vLLM begins with all its arguments.
func logLines(log string) []string {
	var lines []string
	for line := range strings.Lines(log) {
		line = strings.TrimRight(line, "\r\n ")
		if i := strings.LastIndexByte(line, '\r'); i >= 0 {
			line = line[i+1:]
		}
		if line = oneLine(line); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// oneLine is text for a message: one line of at most 400 bytes.
func oneLine(text string) string {
	const most = 400
	return redact.Line(redact.Text(text), most)
}

// tail is text from a phrase on, where it holds the phrase.
func tail(text, phrase string) string {
	if i := strings.Index(text, phrase); i >= 0 {
		return text[i:]
	}
	return text
}

func on(p kube.Pod) string {
	if p.Spec.NodeName == "" {
		return ""
	}
	return " on node " + p.Spec.NodeName
}

// containerOf is the container that serves the port; without one that declares it,
// the first.
func containerOf(p kube.Pod, port int) kube.Container {
	for _, c := range p.Spec.Containers {
		for _, q := range c.Ports {
			if q.ContainerPort == port {
				return c
			}
		}
	}
	if len(p.Spec.Containers) == 0 {
		return kube.Container{}
	}
	return p.Spec.Containers[0]
}

func imageOf(p kube.Pod, container string) string {
	for _, c := range slices.Concat(p.Spec.Containers, p.Spec.InitContainers) {
		if c.Name == container {
			return c.Image
		}
	}
	return "of " + container
}

func statusOf(all []kube.ContainerStatus, name string) *kube.ContainerStatus {
	for i := range all {
		if all[i].Name == name {
			return &all[i]
		}
	}
	return nil
}
