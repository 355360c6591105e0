package serverpod

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"wfgen.dev/internal/cluster/kube"
	"wfgen.dev/internal/cluster/stuck"
)

// finding is what keeps a server from coming up.
type finding struct {
	stuck.Finding
	progress bool   // the last line of the log says how the start goes on
	crash    *crash // a container that ended
}

// said is a finding of which nothing more is known.
func said(format string, args ...any) *finding {
	return &finding{Finding: stuck.Finding{Text: fmt.Sprintf(format, args...)}}
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
	patienceOwner = time.Minute // a controller may put another pod in the place of an ended one
	mostCrashes   = 3
)

// diagnose tells from a pod alone what keeps its server from coming up; nil when
// the container is ready.
func diagnose(p kube.Pod, port int) *finding {
	name := "pod " + p.Metadata.Name
	if p.Metadata.DeletionTimestamp != nil {
		return said("%s is being deleted", name)
	}
	c := containerOf(p, port)
	status := statusOf(p.Status.ContainerStatuses, c.Name)
	if p.Status.Phase == "Failed" || p.Status.Phase == "Succeeded" {
		return ended(p, c, status)
	}
	if f := stuck.Unscheduled(p); f != nil {
		return &finding{Finding: *f}
	}
	for _, s := range p.Status.InitContainerStatuses {
		if f := waits(p, s); f != nil && !s.Ready {
			return f
		}
		if s.State.Running != nil && s.Started != nil && !*s.Started {
			return said("%s: init container %s runs", name, s.Name)
		}
	}
	if status == nil {
		return &finding{Finding: *stuck.NotCreated(p)}
	}
	if f := waits(p, *status); f != nil {
		return f
	}
	if p.Spec.RestartPolicy == "Never" && status.State.Terminated != nil {
		return ended(p, c, status)
	}
	if status.Ready {
		return nil
	}
	text := fmt.Sprintf("%s: container %s runs%s and is not ready", name, c.Name, stuck.On(p))
	if c.StartupProbe != nil && (status.Started == nil || !*status.Started) {
		text = fmt.Sprintf("%s: container %s runs%s, its startup probe has not passed yet", name, c.Name, stuck.On(p))
	}
	f := &finding{Finding: stuck.Finding{Text: text}, progress: true}
	if t := status.LastState.Terminated; t != nil {
		f.Text += fmt.Sprintf("; before, it %s", manner(*t))
		f.crash = newCrash(p, c.Name, *t, status.RestartCount)
		f.crash.running = true
	}
	return f
}

// waits is the finding of a container that waits or has ended; nil when it runs.
func waits(p kube.Pod, s kube.ContainerStatus) *finding {
	if t := s.State.Terminated; t != nil {
		if t.ExitCode == 0 && statusOf(p.Status.InitContainerStatuses, s.Name) != nil || p.Spec.RestartPolicy == "Never" {
			return nil
		}
		return crashed(p, s, *t, s.RestartCount+1)
	}
	if w := s.State.Waiting; w != nil && w.Reason == "CrashLoopBackOff" {
		if t := s.LastState.Terminated; t != nil {
			return crashed(p, s, *t, s.RestartCount+1)
		}
		f := said("pod %s: container %s crashes again and again", p.Metadata.Name, s.Name)
		f.progress = true
		return f
	}
	if f := stuck.Waiting(p, s); f != nil {
		return &finding{Finding: *f}
	}
	return nil
}

// crashed is the finding of a container that will be started again.
func crashed(p kube.Pod, s kube.ContainerStatus, t kube.Terminated, ends int) *finding {
	f := said("pod %s: container %s %s", p.Metadata.Name, s.Name, manner(t))
	f.crash = newCrash(p, s.Name, t, ends)
	if ends > 1 {
		f.Text += fmt.Sprintf(", %d times", ends)
	}
	return f
}

// ended is the finding of a pod that does not run again.
func ended(p kube.Pod, c kube.Container, s *kube.ContainerStatus) *finding {
	f := said("pod %s has ended", p.Metadata.Name)
	if why := strings.TrimSuffix(p.Status.Reason+": "+p.Status.Message, ": "); p.Status.Reason != "" {
		f.Text += ": " + stuck.OneLine(why) // Evicted, DeadlineExceeded, NodeShutdown
	}
	if s != nil && s.State.Terminated != nil {
		t := *s.State.Terminated
		f.Text += fmt.Sprintf(": container %s %s", c.Name, manner(t))
		f.crash = newCrash(p, c.Name, t, 1)
		f.crash.last = true
	}
	f.Remedy = "nothing starts it again: start the server again when the cause is fixed"
	for _, o := range p.Metadata.OwnerReferences {
		if o.Controller && slices.Contains([]string{"ReplicaSet", "StatefulSet", "Job"}, o.Kind) {
			f.Patience = patienceOwner
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
		text += ": " + stuck.OneLine(t.Message)
	}
	return text
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
		f.Text += ": " + cause
	}
	c := f.crash
	switch {
	case c.running: // its fate is open
	case remedy != "":
		f.Remedy = remedy
	case c.oom && (c.ends >= 2 || c.last):
		f.Remedy = "raise the container's memory limit (main memory, not the GPU's)"
	case c.code == 2:
		f.Remedy = "correct the server's arguments"
	case c.ends >= mostCrashes:
		f.Remedy = fmt.Sprintf("fix the cause; the whole log: kubectl -n %s logs %s -c %s --previous", c.namespace, c.pod, c.container)
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
		if line = stuck.OneLine(line); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
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

func statusOf(all []kube.ContainerStatus, name string) *kube.ContainerStatus {
	for i := range all {
		if all[i].Name == name {
			return &all[i]
		}
	}
	return nil
}
