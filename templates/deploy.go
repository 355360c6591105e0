package templates

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"wfgen.dev/internal/cluster/manifest"
	"wfgen.dev/internal/cluster/pods"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/run/steps"
	"wfgen.dev/internal/sweep/config"
	"wfgen.dev/internal/sweep/plan"
)

// serverGroup is a pair of templates that deploy and measure accelerators whose servers
// differ only in the values of their nodes' labels: Argo allows few templates, and a
// fleet is large.
type serverGroup struct {
	name         string // the slug of its first accelerator
	accelerators []plan.Accelerator
}

func serverGroups(p plan.Plan) []serverGroup {
	var groups []serverGroup
	for _, alike := range p.Alike() {
		groups = append(groups, serverGroup{alike[0].Slug, alike})
	}
	return groups
}

func (g serverGroup) deployTemplate() string { return "deploy-" + g.name }
func (g serverGroup) serverTemplate() string { return "server-" + g.name }

// claimTemplate is the name of what its servers' claims to devices are made from.
func (g serverGroup) claimTemplate(p plan.Plan) string { return p.Name + "-" + g.name }

func (g serverGroup) claims(p plan.Plan) []corev1.PodResourceClaim {
	return pods.Claims(g.accelerators[0], g.claimTemplate(p))
}

// nodeParameter is the input for the value of the i-th label of the nodes.
func nodeParameter(i int) string {
	if i == 0 {
		return pNode
	}
	return pNode + "-" + strconv.Itoa(i+1)
}

// nodeArguments are the values of an accelerator's labels.
func nodeArguments(a plan.Accelerator) []wfv1.Parameter {
	var list []wfv1.Parameter
	for i, label := range slices.Sorted(maps.Keys(a.Nodes)) {
		list = append(list, parameter(nodeParameter(i), a.Nodes[label]))
	}
	return list
}

func (g serverGroup) nodeInputs() []string {
	var names []string
	for i := range len(g.accelerators[0].Nodes) {
		names = append(names, nodeParameter(i))
	}
	return names
}

// deploy starts the server of an accelerator, measures it and ends it. The server is a
// daemon of this DAG: Argo ends its pod when the accelerator's part has ended, however
// it did, when the workflow is stopped, terminated or past its deadline, and with the
// workflow it is deleted. A server that does not come up is ended by the task that
// waits for it, beside it: a DAG does not end while a pod of it is pending.
func (g serverGroup) deploy(p plan.Plan) wfv1.Template {
	names := append([]string{pAccelerator, pSlug}, g.nodeInputs()...)
	target := parameter(pTargetURL, fmt.Sprintf("http://%s.%s:%d", serverHost, p.Name, config.ServerPort))
	measured := append(forward(pAccelerator, pSlug), target,
		parameter(pMaxNumSeqs, serverLimit(g.accelerators[0])),
		parameter(pServer, "{{tasks."+awaitTemplate+".outputs.parameters."+pServer+"}}"))
	if p.Prefills() {
		measured = append(measured, parameter(pPrefillChunk, prefillChunk(p, g.accelerators[0])))
	}
	return wfv1.Template{
		Name:   g.deployTemplate(),
		Inputs: inputs(names...),
		DAG: &wfv1.DAGTemplate{
			FailFast: new(false),
			Tasks: []wfv1.DAGTask{
				{
					Name:      serverTask,
					Template:  g.serverTemplate(),
					Arguments: arguments(append(forward(append([]string{pAccelerator}, g.nodeInputs()...)...), parameter(pHost, serverHost))...),
				}, {
					Name:      awaitTemplate,
					Template:  awaitTemplate,
					Arguments: arguments(append(forward(pAccelerator), target)...),
				}, {
					Name:      acceleratorTemplate,
					Template:  acceleratorTemplate,
					Depends:   awaitTemplate,
					Arguments: arguments(measured...),
				},
			},
		},
	}
}

// serverHost is the name of a server's pod, of its own in each run: the accelerator for
// people, and a hash of both.
const serverHost = `{{=sprig.trunc(40, inputs.parameters.slug) + "-" + sprig.trunc(8, sprig.sha256sum(workflow.name + "/" + inputs.parameters.slug))}}`

// largestBatch is the largest of the batch sizes of a run.
const largestBatch = `{{=max(map(fromJSON(workflow.parameters["batch-sizes"]), int(#)))}}`

// serverLimit is the max-num-seqs of a server that the sweep starts.
func serverLimit(a plan.Accelerator) string { return cmp.Or(a.Limit(), largestBatch) }

// longestRequest is the number of tokens of a run's longest request: the first shape, and
// the chunk, can be changed at submit.
func longestRequest(p plan.Plan, a plan.Accelerator) string {
	lengths := []string{plan.LongestRequestExpression(pPromptTokens, pOutputTokens)}
	if len(p.Shapes) > 1 {
		lengths = append(lengths, fmt.Sprint(plan.LongestRequest(p.Shapes[1:]...)))
	}
	switch {
	case a.PrefillChunk == 0:
	case commonChunk(p)(a):
		lengths = append(lengths, plan.LongestPromptExpression(pPrefillChunk))
	default:
		lengths = append(lengths, fmt.Sprint(plan.LongestPrompt(a.PrefillChunk)))
	}
	if len(lengths) == 1 {
		return "{{=" + lengths[0] + "}}"
	}
	return "{{=max(" + strings.Join(lengths, ", ") + ")}}"
}

// servedModel is the model as a server's arguments name it: one that begins with a
// dash would be taken for an argument of its own.
var servedModel = fmt.Sprintf(`{{=(workflow.parameters["%s"] startsWith "-" ? "./" : "") + workflow.parameters["%s"]}}`, pModel, pModel)

// server is the pod that holds the GPU.
func (g serverGroup) server(p plan.Plan) wfv1.Template {
	a := g.accelerators[0]
	s := a.Server
	nodes := map[string]string{}
	for i, label := range slices.Sorted(maps.Keys(a.Nodes)) {
		nodes[label] = input(nodeParameter(i))
	}
	labels := map[string]string{pods.ComponentLabel: pods.ServerComponent, pods.AcceleratorLabel: input(pAccelerator)}
	container := pods.ServerContainer(p, a, pods.Sizes{Model: servedModel, MaxNumSeqs: serverLimit(a), MaxModelLen: longestRequest(p, a), ChunkTokens: chunkOfServer(p, a)})
	return wfv1.Template{
		Name:                  g.serverTemplate(),
		Inputs:                inputs(append([]string{pAccelerator, pHost}, g.nodeInputs()...)...),
		Daemon:                new(true),
		Metadata:              wfv1.Metadata{Labels: labels, Annotations: pods.NotToBeEvicted},
		NodeSelector:          nodes,
		Affinity:              pods.Affinity(s),
		Tolerations:           s.Tolerations,
		PriorityClassName:     pods.ServerPriority(p, s),
		SecurityContext:       pods.ServerSecurity(s),
		ActiveDeadlineSeconds: new(intstr.FromInt32(int32(min(p.Deadline(), math.MaxInt32)))),
		PodSpecPatch:          g.serverPatch(p),
		Volumes:               pods.ServerVolumes(s),
		Container:             &container,
	}
}

func (g serverGroup) comments() []manifest.Comment {
	at := "spec.templates[" + g.serverTemplate() + "]"
	return []manifest.Comment{
		{Path: "spec.templates[" + g.deployTemplate() + "]", Text: "Starts a server, measures it, ends it."},
		{Path: at + ".daemon", Text: "Argo ends the pod with the DAG that started it, and with the workflow, however they end."},
		{Path: at + ".container.args", Text: "Largest batch and longest request follow what is changed at submit."},
		{Path: at + ".container.resources", Text: "No limit of memory: what loading a model takes is not known."},
	}
}

// serverPatch is what the templates have no field for. Claims are among it on every line: a
// field for them came to Argo only after 4.1.0, and the patch is merged into that one.
func (g serverGroup) serverPatch(p plan.Plan) string {
	patch := "hostname: " + input(pHost) + "\nsubdomain: " + p.Name + "\n"
	if class := g.accelerators[0].Server.RuntimeClass; class != "" {
		patch += "runtimeClassName: " + class + "\n"
	}
	if claims := g.claims(p); len(claims) > 0 {
		text, err := manifest.YAML(map[string]any{"resourceClaims": claims})
		if err != nil {
			panic(err) // names
		}
		patch += string(text)
	}
	return patch
}

// await waits beside a server's pod until it serves the model, and says what the pod
// is. When it gives up, with the reason, it ends the pod.
func await(p plan.Plan) wfv1.Template {
	w := steps.Wait
	t := stepPod(p, awaitTemplate, p.WaitDeadline(), pods.Small, w.With(
		w.Pods.Is("workflows.argoproj.io/workflow="+run+","+pods.AcceleratorLabel+"="+input(pAccelerator)),
		w.EndPod.Set(true),
		w.Target.Is(input(pTargetURL)),
		w.Model.Is(global(pModel)),
		w.Timeout.Is(p.Config.WaitTimeout),
		w.Accelerator.Is(input(pAccelerator)),
		w.Output.Set(outDir),
	))
	t.Inputs = inputs(pAccelerator, pTargetURL)
	t.PodSpecPatch = tokenOfMain
	t.Container.Env = append(t.Container.Env, pods.APIKeyEnv(p)...)
	t.Outputs.Artifacts = []wfv1.Artifact{summaryOfAccelerator(p)} // of a wait in vain: it tells why
	t.Outputs.Parameters = outputParameters(w.Command, layout.OutServer)
	t.Outputs.Parameters[0].ValueFrom.Default = wfv1.AnyStringPtr("{}")
	return t
}

// serverNames gives servers' pods names in the cluster's DNS. A pod of a later run, or
// one that a retry made, is found by it; an address might by then be somebody else's.
func serverNames(p plan.Plan) manifest.Object {
	return manifest.Object{
		File: "service.yaml",
		Value: corev1.Service{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
			ObjectMeta: pods.Meta(p, p.Name),
			Spec: corev1.ServiceSpec{
				ClusterIP: corev1.ClusterIPNone,
				Selector:  pods.ServerLabels(p),
				Ports:     []corev1.ServicePort{{Name: "http", Port: config.ServerPort, TargetPort: intstr.FromString("http")}},
			},
		},
	}
}
