package config

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"wfgen.dev/internal/redact"
	"wfgen.dev/internal/sweep/catalogue"
	"wfgen.dev/internal/sweep/engine"
)

// Server is how a server is started that the sweep measures. In the configuration
// of an accelerator it holds what differs there.
type Server struct {
	Image         string              `json:"image,omitempty"`      // empty: the engine's
	Command       []string            `json:"command,omitempty"`    // empty: the engine's
	ModelPath     string              `json:"model-path,omitempty"` // what is loaded, where it is not the model's name
	DType         string              `json:"dtype,omitempty"`
	Args          []string            `json:"args,omitempty"` // put after those of the sweep, and so win
	Env           map[string]string   `json:"env,omitempty"`
	CPU           string              `json:"cpu,omitempty"`        // asked for; empty: serverCPU for each GPU
	Memory        string              `json:"memory,omitempty"`     // asked for; empty: serverMemory for each GPU
	Shm           string              `json:"shm,omitempty"`        // size of /dev/shm, which is memory
	CachePVC      string              `json:"cache-pvc,omitempty"`  // keeps models; empty: each server downloads its own
	CacheSize     string              `json:"cache-size,omitempty"` // at most so much on the node's disk, without a PVC
	User          int64               `json:"user,omitempty"`
	RuntimeClass  string              `json:"runtime-class,omitempty"`
	PriorityClass string              `json:"priority-class,omitempty"`
	Tolerations   []corev1.Toleration `json:"tolerations,omitempty"` // nil: of the taint named like the accelerator's resource
	Affinity      map[string]any      `json:"affinity,omitempty"`    // a Kubernetes affinity, which Affinities reads
}

// ServerPort is where a deployed server listens.
const ServerPort = 8000

// What a server asks for per GPU where nothing is said: little enough for the
// smallest nodes that have one.
const (
	serverCPU    = 3
	serverMemory = 12 // GiB
)

func defaultServer() Server {
	return Server{
		DType:     "auto",
		Shm:       "8Gi",
		CacheSize: "200Gi",
		User:      1001,
	}
}

// Deploys says whether the sweep starts the accelerator's server.
func (c Config) Deploys(a Accelerator) bool { return c.Deploy && a.TargetURL == "" }

// ChunkOf is the prompt tokens that the accelerator's server computes in an iteration at
// most; 0: not told, and its prefill rate is not measured.
func (c Config) ChunkOf(a Accelerator) int { return cmp.Or(a.PrefillChunk, c.PrefillChunk) }

// Deployed are the accelerators whose servers the sweep starts.
func (c Config) Deployed() []Accelerator {
	return slices.DeleteFunc(slices.Clone(c.Accelerators), func(a Accelerator) bool { return !c.Deploys(a) })
}

// maxServers is how many different servers one workflow can hold: Argo 4 takes 200
// templates, each server needs two, and there are others.
const maxServers = 90

// Servers groups the accelerators whose servers the sweep starts: those of a group
// differ in nothing but the values of their nodes' labels.
func (c Config) Servers() [][]Accelerator {
	var groups [][]Accelerator
	index := map[string]int{}
	for _, a := range c.Deployed() {
		data, err := json.Marshal([]any{c.ServerOf(a), slices.Sorted(maps.Keys(a.Nodes())), a.GPU(), a.DeviceClass, a.DeviceSelectors, max(1, a.Count), cmp.Or(a.MaxNumSeqs, c.MaxNumSeqs), c.ChunkOf(a)})
		if err != nil {
			panic(err) // it was read from JSON
		}
		i, known := index[string(data)]
		if !known {
			i = len(groups)
			index[string(data)] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], a)
	}
	return groups
}

// ServerOf is how the accelerator's server is started: the common settings, under
// those of its own. Arguments and variables add up, everything else replaces.
func (c Config) ServerOf(a Accelerator) Server {
	s, own := c.Server, a.Server
	for _, f := range []struct{ to, from *string }{
		{&s.Image, &own.Image}, {&s.ModelPath, &own.ModelPath}, {&s.DType, &own.DType}, {&s.CPU, &own.CPU}, {&s.Memory, &own.Memory}, {&s.Shm, &own.Shm},
		{&s.CachePVC, &own.CachePVC}, {&s.CacheSize, &own.CacheSize}, {&s.RuntimeClass, &own.RuntimeClass}, {&s.PriorityClass, &own.PriorityClass},
	} {
		if *f.from != "" {
			*f.to = *f.from
		}
	}
	if len(own.Command) > 0 {
		s.Command = own.Command
	}
	if own.User != 0 {
		s.User = own.User
	}
	if own.Tolerations != nil {
		s.Tolerations = own.Tolerations
	}
	if own.Affinity != nil {
		s.Affinity = own.Affinity
	}
	s.Args = append(slices.Clone(s.Args), own.Args...)
	if len(own.Env) > 0 {
		s.Env = maps.Clone(s.Env)
		if s.Env == nil {
			s.Env = map[string]string{}
		}
		maps.Copy(s.Env, own.Env)
	}

	e := c.ServerEngine()
	s.Image = cmp.Or(s.Image, e.Image)
	if len(s.Command) == 0 {
		s.Command = slices.Clone(e.Command)
	}
	gpus := max(1, a.Count)
	if s.CPU == "" {
		s.CPU = fmt.Sprint(serverCPU * gpus)
	}
	if s.Memory == "" {
		s.Memory = fmt.Sprintf("%dGi", serverMemory*gpus)
	}
	if taint := a.resource(); s.Tolerations == nil && taint != "" {
		s.Tolerations = []corev1.Toleration{{Key: taint, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}}
	}
	return s
}

// ServerEngine is the kind of the servers that are started; of a valid configuration.
func (c Config) ServerEngine() engine.Engine {
	e, _ := engine.Find(c.Engine)
	return e
}

// GPU is the extended resource by which a pod asks for the accelerator, empty for a
// simulated one and for one that is claimed.
func (a Accelerator) GPU() string {
	if a.DeviceClass != "" {
		return ""
	}
	return a.resource()
}

// resource is the extended resource of the accelerator's nodes, whose taint has the same
// name; empty for a simulated one.
func (a Accelerator) resource() string {
	if a.Simulated {
		return ""
	}
	known, _ := catalogue.Find(a.Name)
	return cmp.Or(a.Resource, known.Resource)
}

// Nodes are the labels of the nodes that have the accelerator; a simulated one runs on
// any, and one that is claimed where there are such devices.
func (a Accelerator) Nodes() map[string]string {
	if a.Simulated {
		return nil
	}
	if a.DeviceClass != "" {
		return a.NodeSelector
	}
	if known, ok := catalogue.Find(a.Name); ok && len(a.NodeSelector) == 0 {
		return map[string]string{known.Label: known.Value}
	}
	return a.NodeSelector
}

// Affinities reads the affinity as Kubernetes does, but refuses unknown fields.
func (s Server) Affinities() (*corev1.Affinity, error) {
	if len(s.Affinity) == 0 {
		return nil, nil
	}
	data, err := json.Marshal(s.Affinity)
	if err != nil {
		return nil, err
	}
	var affinity corev1.Affinity
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	return &affinity, dec.Decode(&affinity)
}

// CheckServers returns every mistake of the servers that are to be started, joined, or
// nil. ValidateCluster does so too.
func (c Config) CheckServers() error {
	var m mistakes
	c.checkServers(&m)
	return errors.Join(m...)
}

func (c Config) checkServers(m *mistakes) {
	if !c.Deploy {
		return
	}
	if len(c.Deployed()) == 0 && len(c.Accelerators) > 0 {
		m.add("deploy: every accelerator has a target-url of its own, and no server is left to deploy")
	}
	if n := len(c.Servers()); n > maxServers {
		m.add("accelerators: %d different servers are more than the %d that one workflow can hold; give servers alike the same settings, or make several sweeps", n, maxServers)
	}
	e := c.ServerEngine()
	c.Server.check(m, "server", e)
	for _, a := range c.Accelerators {
		if c.Deploys(a) {
			a.Server.check(m, "accelerators: server of "+a.Name, e)
			if known, ok := catalogue.Find(a.Name); ok && !a.Simulated && known.Resource != "nvidia.com/gpu" && e.Image != "" && c.ServerOf(a).Image == e.Image {
				m.add("accelerators: server of %s.image: %s runs on NVIDIA GPUs alone; give one for %s", a.Name, e.Image, known.Resource)
			}
		}
	}
	for _, a := range c.Deployed() {
		chunk, own := c.ChunkOf(a), engine.ChunkTokens(c.ServerOf(a).Args)
		switch limit := cmp.Or(a.MaxNumSeqs, c.MaxNumSeqs, slices.Max(append([]int{1}, c.BatchSizes...))); {
		case chunk == 0:
		case own > 0 && own != chunk:
			m.add("prefill-chunk: %d, and the arguments of %s's server say %d; leave it out of these, the sweep gives it", chunk, a.Name, own)
		case chunk < limit:
			m.add("prefill-chunk: %d of %s is below the %d requests that its server runs at once, each of which takes a token of an iteration", chunk, a.Name, limit)
		}
	}
	if c.Server.User == 0 {
		m.add("server.user: 0 is root, which Pod Security restricted does not allow; the default is %d", defaultServer().User)
	}
}

// check judges the settings that are given to a server of a kind.
func (s Server) check(m *mistakes, at string, e engine.Engine) {
	if s.Image != "" {
		checkImage(m, at+".image", s.Image)
	}
	for _, q := range []struct{ field, value string }{
		{"cpu", s.CPU}, {"memory", s.Memory}, {"shm", s.Shm}, {"cache-size", s.CacheSize},
	} {
		checkQuantity(m, at+"."+q.field, q.value)
	}
	for _, n := range []struct{ field, name string }{
		{"cache-pvc", s.CachePVC}, {"runtime-class", s.RuntimeClass}, {"priority-class", s.PriorityClass},
	} {
		if n.name != "" && len(validation.IsDNS1123Subdomain(n.name)) > 0 {
			m.add("%s.%s: %q is not a Kubernetes name: lower case letters, digits, dashes and dots", at, n.field, n.name)
		}
	}
	if s.User < 0 {
		m.add("%s.user: %d is negative", at, s.User)
	}
	for _, arg := range s.Args {
		if name, _, _ := strings.Cut(arg, "="); e.Gives(name) {
			m.add("%s.args: %s is given by the sweep itself (model, count, batch-sizes or max-num-seqs decide it)", at, name)
		}
	}
	for _, words := range []struct {
		field string
		list  []string
	}{{"command", s.Command}, {"args", s.Args}} {
		if masked := redact.Args(words.list); !slices.Equal(masked, words.list) {
			m.add("%s.%s: %s looks like it holds a secret, which would be readable in every object; use hf-secret-name or api-key-secret-name",
				at, words.field, strings.Join(masked, " "))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Env)) {
		if len(validation.IsEnvVarName(name)) > 0 {
			m.add("%s.env: %q is not the name of an environment variable", at, name)
		}
		if redact.Name(name) || redact.Text(s.Env[name]) != s.Env[name] {
			m.add("%s.env: %s looks like a secret, which would be readable in every object; use hf-secret-name or api-key-secret-name", at, name)
		}
	}
	checkTolerations(m, at+".tolerations", s.Tolerations)
	if _, err := s.Affinities(); err != nil {
		m.add("%s.affinity: not a Kubernetes affinity: %v", at, err)
	}
	for _, text := range append(append([]string{s.ModelPath, s.DType}, s.Command...), s.Args...) {
		if why := interpreted(text); why != "" {
			m.add("%s: %q %s", at, text, why)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Env)) {
		if why := interpreted(s.Env[name]); why != "" {
			m.add("%s.env: %s=%q %s", at, name, s.Env[name], why)
		}
	}
}

func checkTolerations(m *mistakes, at string, tolerations []corev1.Toleration) {
	for i, t := range tolerations {
		switch {
		case t.Operator != "" && t.Operator != corev1.TolerationOpExists && t.Operator != corev1.TolerationOpEqual:
			m.add("%s[%d].operator: %q is neither Exists nor Equal", at, i, t.Operator)
		case t.Key == "" && t.Operator != corev1.TolerationOpExists:
			m.add("%s[%d]: without a key the operator must be Exists", at, i)
		case t.Key != "" && len(validation.IsQualifiedName(t.Key)) > 0:
			m.add("%s[%d].key: %q is not the key of a taint", at, i, t.Key)
		case t.Operator == corev1.TolerationOpExists && t.Value != "":
			m.add("%s[%d]: Exists takes no value, found %q", at, i, t.Value)
		}
		if !slices.Contains([]corev1.TaintEffect{"", corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute}, t.Effect) {
			m.add("%s[%d].effect: %q is none of NoSchedule, PreferNoSchedule and NoExecute", at, i, t.Effect)
		}
	}
}
