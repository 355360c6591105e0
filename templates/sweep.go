package templates

import (
	"fmt"
	"slices"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"

	"wfgen.dev/internal/cluster/argolimits"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/config"
)

const maxTasks = argolimits.MaxTasks

// sweepTemplates are the entrypoint, a task per accelerator and then the summary,
// and where one DAG cannot hold all accelerators, the DAGs that hold them.
func sweepTemplates(c config.Config) []wfv1.Template {
	deploys := map[string]string{}
	for _, d := range deployments(c) {
		for _, a := range d.accelerators {
			deploys[a.Name] = d.deployTemplate()
		}
	}
	tasks := make([]wfv1.DAGTask, len(c.Accelerators))
	for i, a := range c.Accelerators {
		tasks[i] = acceleratorTask(c, a, deploys)
	}
	root := wfv1.Template{Name: sweepTemplate, Parallelism: parallelism(c.ParallelAccelerators)}
	var fleets []wfv1.Template
	if len(tasks) >= maxTasks {
		for chunk := range slices.Chunk(tasks, maxTasks) {
			fleets = append(fleets, wfv1.Template{
				Name:        fmt.Sprintf("%s-%d", fleetTemplate, len(fleets)+1),
				Parallelism: parallelism(c.ParallelAccelerators),
				DAG:         &wfv1.DAGTemplate{FailFast: ptr(false), Tasks: chunk},
			})
		}
		tasks = nil
		for _, f := range fleets {
			tasks = append(tasks, wfv1.DAGTask{Name: f.Name, Template: f.Name})
		}
		if c.ParallelAccelerators > 0 { // the limit holds within a fleet: one fleet after another
			root.Parallelism = ptr(int64(1))
		}
	}
	var names []string
	for _, t := range tasks {
		names = append(names, t.Name)
	}
	tasks = append(tasks, wfv1.DAGTask{Name: summaryTemplate, Template: summaryTemplate, Depends: finished(names...)})
	root.DAG = &wfv1.DAGTemplate{FailFast: ptr(false), Tasks: tasks}
	return append([]wfv1.Template{root}, fleets...)
}

func parallelism(n int) *int64 {
	if n == 0 {
		return nil
	}
	return ptr(int64(n))
}

// acceleratorTask measures one accelerator; deploys names the templates of those whose
// servers the sweep starts.
func acceleratorTask(c config.Config, a config.Accelerator, deploys map[string]string) wfv1.DAGTask {
	slug := sweep.Slug(a.Name)
	if name, deployed := deploys[a.Name]; deployed {
		args := []wfv1.Parameter{parameter(pAccelerator, a.Name), parameter(pSlug, slug)}
		return wfv1.DAGTask{Name: slug, Template: name, Arguments: arguments(append(args, nodeArguments(a)...)...)}
	}
	target := global(pTargetURL)
	if a.TargetURL != "" {
		target = a.TargetURL
		if len(ownTargets(c)) > 0 {
			target = global(ownTarget(a))
		}
	}
	args := []wfv1.Parameter{parameter(pAccelerator, a.Name), parameter(pSlug, slug), parameter(pTargetURL, target)}
	if limit := limit(c, a); limit != "" {
		args = append(args, parameter(pMaxNumSeqs, limit))
	}
	return wfv1.DAGTask{Name: slug, Template: acceleratorTemplate, Arguments: arguments(args...)}
}
