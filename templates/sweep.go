package templates

import (
	"fmt"
	"slices"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"

	"wfgen.dev/internal/cluster/argolimits"
	"wfgen.dev/internal/sweep/plan"
)

const maxTasks = argolimits.MaxTasks

// sweepTemplates are the entrypoint, a task per accelerator and then the summary,
// and where one DAG cannot hold all accelerators, the DAGs that hold them.
func sweepTemplates(p plan.Plan) []wfv1.Template {
	deploys := map[string]string{}
	for _, g := range serverGroups(p) {
		for _, a := range g.accelerators {
			deploys[a.Name] = g.deployTemplate()
		}
	}
	tasks := make([]wfv1.DAGTask, len(p.Accelerators))
	for i, a := range p.Accelerators {
		tasks[i] = acceleratorTask(p, a, deploys)
	}
	guards, last := guardTasks(p), wfv1.DAGTask{Name: summaryTemplate, Template: summaryTemplate}
	// A limit holds for all tasks of a DAG: the guard must not take one's place.
	var fleets []wfv1.Template
	if p.ParallelAccelerators > 0 || len(tasks)+len(guards)+1 > maxTasks {
		for chunk := range slices.Chunk(tasks, maxTasks) {
			fleets = append(fleets, wfv1.Template{
				Name:        fmt.Sprintf("%s-%d", fleetTemplate, len(fleets)+1),
				Parallelism: parallelism(p.ParallelAccelerators),
				DAG:         &wfv1.DAGTemplate{FailFast: new(false), Tasks: chunk},
			})
		}
		tasks = nil
		for _, f := range fleets {
			tasks = append(tasks, wfv1.DAGTask{Name: f.Name, Template: f.Name})
		}
	}
	afterStart(p, tasks)
	if p.ParallelAccelerators > 0 { // within a fleet: one fleet after another
		for i := range tasks[1:] {
			tasks[i+1].Depends = finished(tasks[i].Name)
		}
	}
	var names []string
	for _, t := range tasks {
		names = append(names, t.Name)
	}
	last.Depends = afterAll(p, names)
	root := wfv1.Template{Name: sweepTemplate, DAG: &wfv1.DAGTemplate{FailFast: new(false), Tasks: append(append(tasks, guards...), last)}}
	return append([]wfv1.Template{root}, fleets...)
}

func parallelism(n int) *int64 {
	if n == 0 {
		return nil
	}
	return new(int64(n))
}

// acceleratorTask measures one accelerator; deploys names the templates of those whose
// servers the sweep starts.
func acceleratorTask(p plan.Plan, a plan.Accelerator, deploys map[string]string) wfv1.DAGTask {
	slug := a.Slug
	if name, deployed := deploys[a.Name]; deployed {
		args := []wfv1.Parameter{parameter(pAccelerator, a.Name), parameter(pSlug, slug)}
		return wfv1.DAGTask{Name: slug, Template: name, Arguments: arguments(append(args, nodeArguments(a)...)...)}
	}
	target := global(pTargetURL)
	if a.Own {
		target = a.TargetURL
		if len(ownTargets(p)) > 0 {
			target = global(ownTarget(a))
		}
	}
	args := []wfv1.Parameter{parameter(pAccelerator, a.Name), parameter(pSlug, slug), parameter(pTargetURL, target)}
	if limit := a.Limit(); limit != "" {
		args = append(args, parameter(pMaxNumSeqs, limit))
	}
	if p.Prefills() {
		args = append(args, parameter(pPrefillChunk, prefillChunk(p, a)))
	}
	return wfv1.DAGTask{Name: slug, Template: acceleratorTemplate, Arguments: arguments(args...)}
}
