package templates

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"wfgen.dev/internal/cluster/manifest"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/config"
)

// deployment is a pair of templates that deploy and measure accelerators whose servers
// differ only in the values of their nodes' labels: Argo allows few templates, and a
// fleet is large.
type deployment struct {
	name         string // the slug of its first accelerator
	accelerators []config.Accelerator
}

func deployments(c config.Config) []deployment {
	var list []deployment
	for _, alike := range c.Servers() {
		list = append(list, deployment{sweep.Slug(alike[0].Name), alike})
	}
	return list
}

func (d deployment) deployTemplate() string { return "deploy-" + d.name }
func (d deployment) serverTemplate() string { return "server-" + d.name }

// nodeParameter is the input for the value of the i-th label of the nodes.
func nodeParameter(i int) string {
	if i == 0 {
		return pNode
	}
	return pNode + "-" + strconv.Itoa(i+1)
}

// nodeArguments are the values of an accelerator's labels.
func nodeArguments(a config.Accelerator) []wfv1.Parameter {
	var list []wfv1.Parameter
	nodes := a.Nodes()
	for i, label := range slices.Sorted(maps.Keys(nodes)) {
		list = append(list, parameter(nodeParameter(i), nodes[label]))
	}
	return list
}

func (d deployment) nodeInputs() []string {
	var names []string
	for i := range len(d.accelerators[0].Nodes()) {
		names = append(names, nodeParameter(i))
	}
	return names
}

// deploy starts the server of an accelerator, measures it and ends it. The server is a
// daemon of this DAG: Argo ends its pod when the accelerator's part has ended, however
// it did, when the workflow is stopped, terminated or past its deadline, and with the
// workflow it is deleted. A server that does not come up is ended by the task that
// waits for it, beside it: a DAG does not end while a pod of it is pending.
func (d deployment) deploy(c config.Config) wfv1.Template {
	names := append([]string{pAccelerator, pSlug}, d.nodeInputs()...)
	maxNumSeqs := limit(c, d.accelerators[0])
	if maxNumSeqs == "" {
		maxNumSeqs = largestBatch
	}
	target := parameter(pTargetURL, fmt.Sprintf("http://%s.%s:%d", serverHost, c.Name, config.ServerPort))
	return wfv1.Template{
		Name:   d.deployTemplate(),
		Inputs: inputs(names...),
		DAG: &wfv1.DAGTemplate{
			FailFast: ptr(false),
			Tasks: []wfv1.DAGTask{
				{
					Name:      serverTask,
					Template:  d.serverTemplate(),
					Arguments: arguments(append(forward(append([]string{pAccelerator}, d.nodeInputs()...)...), parameter(pHost, serverHost))...),
				}, {
					Name:      awaitTemplate,
					Template:  awaitTemplate,
					Arguments: arguments(append(forward(pAccelerator), target)...),
				}, {
					Name:     acceleratorTemplate,
					Template: acceleratorTemplate,
					Depends:  awaitTemplate,
					Arguments: arguments(append(forward(pAccelerator, pSlug),
						target,
						parameter(pMaxNumSeqs, maxNumSeqs),
						parameter(pServer, "{{tasks."+awaitTemplate+".outputs.parameters."+pServer+"}}"),
					)...),
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

// longestRequest is the number of tokens of a run's longest request: the first shape
// can be changed at submit.
func longestRequest(c config.Config) string {
	first := fmt.Sprintf(`int(asInt(workflow.parameters["%s"]) + %g * asInt(workflow.parameters["%s"])) + %d`, pPromptTokens, spread, pOutputTokens, modelMargin)
	if len(c.Shapes) == 1 {
		return "{{=" + first + "}}"
	}
	return fmt.Sprintf("{{=max(%s, %d)}}", first, modelLen(c.Shapes[1:]))
}

// server is the pod that holds the GPU.
func (d deployment) server(c config.Config) wfv1.Template {
	a := d.accelerators[0]
	s := c.ServerOf(a)
	z := sizes{model: global(pModel), maxNumSeqs: limit(c, a), maxModelLen: longestRequest(c)}
	if z.maxNumSeqs == "" {
		z.maxNumSeqs = largestBatch
	}
	nodes := map[string]string{}
	for i, label := range slices.Sorted(maps.Keys(a.Nodes())) {
		nodes[label] = input(nodeParameter(i))
	}
	labels := serverLabels(c)
	labels[acceleratorLabel] = input(pAccelerator)
	container := serverContainer(c, a, s, z)
	return wfv1.Template{
		Name:                  d.serverTemplate(),
		Inputs:                inputs(append([]string{pAccelerator, pHost}, d.nodeInputs()...)...),
		Daemon:                ptr(true),
		Metadata:              wfv1.Metadata{Labels: labels, Annotations: notToBeEvicted},
		NodeSelector:          nodes,
		Affinity:              affinity(s),
		Tolerations:           s.Tolerations,
		PriorityClassName:     s.PriorityClass,
		SecurityContext:       serverSecurity(s),
		ActiveDeadlineSeconds: ptr(intstr.FromInt32(int32(min(deadline(c), math.MaxInt32)))),
		PodSpecPatch:          serverPatch(c, s),
		Volumes:               serverVolumes(s),
		Container:             &container,
	}
}

func (d deployment) comments() []manifest.Comment {
	at := "spec.templates[" + d.serverTemplate() + "]"
	return []manifest.Comment{
		{Path: "spec.templates[" + d.deployTemplate() + "]", Text: "Starts a server, measures it, ends it."},
		{Path: at + ".daemon", Text: "Argo ends the pod with the DAG that started it, and with the workflow, however they end."},
		{Path: at + ".container.args", Text: "Largest batch and longest request follow what is changed at submit."},
		{Path: at + ".container.resources", Text: "No limit of memory: what loading a model takes is not known."},
	}
}

// serverPatch is what Argo's templates have no field for.
func serverPatch(c config.Config, s config.Server) string {
	patch := "hostname: " + input(pHost) + "\nsubdomain: " + c.Name + "\n"
	if s.RuntimeClass != "" {
		patch += "runtimeClassName: " + s.RuntimeClass + "\n"
	}
	return patch
}

// await waits beside a server's pod until it serves the model, and says what the pod
// is. When it gives up, with the reason, it ends the pod.
func await(c config.Config) wfv1.Template {
	t := stepPod(c, awaitTemplate, waitDeadline(c), small,
		"wait",
		"--pods=workflows.argoproj.io/workflow="+run+","+acceleratorLabel+"="+input(pAccelerator),
		"--end-pod",
		"--target="+input(pTargetURL),
		"--model="+global(pModel),
		"--timeout="+c.WaitTimeout,
		"--accelerator="+input(pAccelerator),
		"--output="+outDir,
	)
	t.Inputs = inputs(pAccelerator, pTargetURL)
	t.Container.Env = append(t.Container.Env, apiKeyEnv(c)...)
	t.Outputs.Artifacts = []wfv1.Artifact{summaryOfAccelerator(c)} // of a wait in vain: it tells why
	t.RetryStrategy = retry(c, `lastRetry.status == "Error"`)
	t.Outputs.Parameters = outputParameters(pServer)
	t.Outputs.Parameters[0].ValueFrom.Default = wfv1.AnyStringPtr("{}")
	return t
}
