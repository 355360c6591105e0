package render

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"wfgen.dev/internal/estimate/capacity"
	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/slo"
)

// capacityFormats are made of capacities, by the name that users give.
var capacityFormats = map[string]func([]capacity.Capacity, Options) ([]byte, error){
	"keda":     keda,
	"hpa":      hpa,
	"ray":      ray,
	"skyserve": skyserve,
	"knative":  knative,
}

// TakesCapacity tells whether a format is made of capacities rather than of parameters.
func TakesCapacity(format string) bool { return capacityFormats[format] != nil }

// The servers whose metrics count requests, with the query of those that one model has
// running and waiting; %s stands for the labels.
var queries = map[string]struct{ model, query string }{
	"vllm":   {"model_name", `sum(vllm:num_requests_running{%s}) + sum(vllm:num_requests_waiting{%[1]s})`},
	"sglang": {"model_name", `sum(sglang:num_running_reqs{%s}) + sum(sglang:num_queue_reqs{%[1]s})`},
	"epp":    {"target_model_name", `sum(llm_d_epp_request_running{%s})`}, // llm-d's endpoint picker sees all replicas together
}

// Metrics lists the servers whose metrics a scaler can follow.
func Metrics() []string { return slices.Sorted(maps.Keys(queries)) }

// Capacity writes capacities in a format, each by the safe end of its interval. A refused
// verdict among them is refused.
func Capacity(format string, cs []capacity.Capacity, o Options) ([]byte, error) {
	write, ok := capacityFormats[format]
	if !ok {
		return nil, exit.Errorf(exit.Usage, "format %q: expected one of %s", format, strings.Join(Formats(), ", "))
	}
	if o.Shape != nil {
		cs = slices.DeleteFunc(slices.Clone(cs), func(c capacity.Capacity) bool { return c.Shape != *o.Shape })
	}
	if len(cs) == 0 {
		return nil, exit.Errorf(exit.Usage, "no capacity of that shape among the inputs")
	}
	var errs []error
	seen := map[string]sweep.Shape{}
	for _, c := range cs {
		switch shape, twice := seen[c.Accelerator]; {
		case c.Model != cs[0].Model:
			errs = append(errs, exit.Errorf(exit.Usage, "capacities of %s and of %s: one object scales one model; render them apart", cs[0].Model, c.Model))
		case twice:
			errs = append(errs, exit.Errorf(exit.Usage, "%s has capacities of several shapes, and a scaler takes one; choose with --shape %s or %s", c.Accelerator, shape, c.Shape))
		case c.Rate == nil || c.Verdict.Level == fit.Refused:
			errs = append(errs, exit.Errorf(exit.Refused, "%s on %s, %s is refused: %s", c.Model, c.Accelerator, c.Shape, strings.Join(c.Verdict.Reasons, "; ")))
		case !(c.Rate.Safe() > 0 && c.InFlight.Safe() > 0):
			errs = append(errs, exit.Errorf(exit.Refused, "%s on %s, %s: the interval reaches 0, which no scaler can plan with", c.Model, c.Accelerator, c.Shape))
		}
		seen[c.Accelerator] = c.Shape
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return write(cs, o)
}

// assumed is what a reader of the output must know of each capacity.
func assumed(cs []capacity.Capacity) []string {
	var lines []string
	for _, c := range cs {
		var objectives []slo.Objective
		for _, o := range c.Objectives {
			objectives = append(objectives, o.Objective)
		}
		lines = append(lines, fmt.Sprintf("%s: requests of %s tokens within %s, arriving at random: %s requests/s and %s in flight per replica (limited by %s), at most %s in flight",
			c.Accelerator, c.Shape, slo.Format(objectives), c.Rate, c.InFlight, c.Binding, c.MostInFlight))
		if c.Check == nil {
			lines = append(lines, "  not checked by a measurement")
		} else {
			lines = append(lines, "  checked by a measurement: "+c.Check.String())
		}
		for _, r := range c.Verdict.Reasons {
			lines = append(lines, "  - "+r)
		}
	}
	return lines
}

// named is the object of an accelerator: its name, and the Deployment that is scaled.
func (o Options) named(model, accelerator string, several bool) (name, target string, err error) {
	slug := sweep.Slug(accelerator)
	name = o.Name
	if name == "" {
		name = sweep.Slug(model)
	}
	if several {
		name += "-" + slug
	}
	if o.ScaleTarget == "" {
		return "", "", exit.Errorf(exit.Usage, "--scale-target: missing; name the Deployment that is scaled, with {accelerator} in it where there are several")
	}
	if several && !strings.Contains(o.ScaleTarget, "{accelerator}") {
		return "", "", exit.Errorf(exit.Usage, "--scale-target %s: there are several accelerators, each with a Deployment of its own; write {accelerator} where their names differ", o.ScaleTarget)
	}
	return name, strings.ReplaceAll(o.ScaleTarget, "{accelerator}", slug), nil
}

// documents writes objects, each under what must be known of it.
func documents(notes []string, cs []capacity.Capacity, object func(capacity.Capacity) (any, error)) ([]byte, error) {
	var out []byte
	for i, c := range cs {
		v, err := object(c)
		if err != nil {
			return nil, err
		}
		body, err := yaml.Marshal(v)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			out = append(out, "---\n"...)
		}
		out = append(out, comment(append(slices.Clone(notes), assumed([]capacity.Capacity{c})...))...)
		out = append(out, body...)
	}
	return out, nil
}

// keda writes a ScaledObject for every accelerator. The threshold of an AverageValue is
// requests per replica; what waits counts too, or a queue would hide that replicas lack.
func keda(cs []capacity.Capacity, o Options) ([]byte, error) {
	notes := []string{
		"KEDA v2 (keda.sh/v1alpha1, checked against 2.21): requests per replica, running and waiting, by the metrics of " + o.metrics() + ".",
		"The query takes pods whose name begins with the Deployment's, as Prometheus labels them.",
	}
	return documents(notes, cs, func(c capacity.Capacity) (any, error) {
		name, target, err := o.named(c.Model, c.Accelerator, len(cs) > 1)
		if err != nil {
			return nil, err
		}
		return scaledObject(name, target, o, o.query(c, target), c.InFlight.Safe()), nil
	})
}

// scaledObject is KEDA's, with one trigger: the query's value per replica.
func scaledObject(name, target string, o Options, query string, threshold float64) any {
	return map[string]any{
		"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": metadata{Name: name, Namespace: o.Namespace},
		"spec": map[string]any{
			"scaleTargetRef":  map[string]any{"name": target},
			"minReplicaCount": 1,
			"maxReplicaCount": o.most(),
			"triggers": []any{map[string]any{
				"type": "prometheus", "metricType": "AverageValue",
				"metadata": map[string]string{"serverAddress": o.prometheus(), "query": query, "threshold": parameters.Format(threshold)},
			}},
		},
	}
}

func (o Options) metrics() string {
	if o.Metrics == "" {
		return "vllm"
	}
	return o.Metrics
}

func (o Options) prometheus() string {
	if o.Prometheus == "" {
		return "http://prometheus.monitoring.svc:9090"
	}
	return o.Prometheus
}

func (o Options) most() int {
	if o.MostReplicas == 0 {
		return 8
	}
	return o.MostReplicas
}

// query counts the requests that a Deployment has.
func (o Options) query(c capacity.Capacity, target string) string {
	q := queries[o.metrics()]
	labels := []string{fmt.Sprintf("%s=%q", q.model, c.Model)}
	if o.Namespace != "" {
		labels = append(labels, fmt.Sprintf("namespace=%q", o.Namespace))
	}
	if o.metrics() != "epp" {
		labels = append(labels, fmt.Sprintf("pod=~%q", target+"-.+"))
	}
	return fmt.Sprintf(q.query, strings.Join(labels, ","))
}

// hpa writes a HorizontalPodAutoscaler for every accelerator, on a metric of pods.
func hpa(cs []capacity.Capacity, o Options) ([]byte, error) {
	if o.metrics() == "epp" {
		return nil, exit.Errorf(exit.Usage, "--metrics epp: the endpoint picker counts the requests of all replicas, and the format hpa takes a metric of each pod; take --format keda")
	}
	metric := map[string]string{"vllm": "vllm_num_requests_running", "sglang": "sglang_num_running_reqs"}[o.metrics()]
	notes := []string{
		"autoscaling/v2: running requests per replica, by the custom metric " + metric + ", as prometheus-adapter names it",
		"where its rule replaces the colon.",
	}
	return documents(notes, cs, func(c capacity.Capacity) (any, error) {
		name, target, err := o.named(c.Model, c.Accelerator, len(cs) > 1)
		if err != nil {
			return nil, err
		}
		return map[string]any{
			"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": metadata{Name: name, Namespace: o.Namespace},
			"spec": map[string]any{
				"scaleTargetRef": targetRef{APIVersion: "apps/v1", Kind: "Deployment", Name: target},
				"minReplicas":    1, "maxReplicas": o.most(),
				"metrics": []any{map[string]any{
					"type": "Pods",
					"pods": map[string]any{
						"metric": map[string]any{"name": metric},
						"target": map[string]any{"type": "AverageValue", "averageValue": fmt.Sprintf("%dm", int(1000*c.InFlight.Safe()))},
					},
				}},
			},
		}, nil
	})
}

// whole is a number of requests as a whole one, down to the safe side and at least 1.
func whole(e *capacity.Estimate) int { return int(math.Max(1, math.Floor(e.Safe()))) }

// ray writes what a deployment of Ray Serve takes.
func ray(cs []capacity.Capacity, o Options) ([]byte, error) {
	notes := []string{
		"Ray Serve LLM as it is documented late in 2026: deployment_config of an LLMConfig, or the same fields of a deployment.",
		"target_ongoing_requests is the mean in flight that replicas are added above, max_ongoing_requests the most in flight.",
	}
	return documents(notes, cs, func(c capacity.Capacity) (any, error) {
		return map[string]any{"deployment_config": map[string]any{
			"autoscaling_config": map[string]any{
				"min_replicas": 1, "max_replicas": o.most(), "target_ongoing_requests": whole(c.InFlight),
			},
			"max_ongoing_requests": max(whole(c.MostInFlight), whole(c.InFlight)),
		}}, nil
	})
}

// skyserve writes the service section of SkyPilot, with all accelerators.
func skyserve(cs []capacity.Capacity, o Options) ([]byte, error) {
	qps := map[string]float64{}
	for _, c := range cs {
		qps[c.Accelerator] = math.Floor(1000*c.Rate.Safe()) / 1000
	}
	policy := map[string]any{"min_replicas": 1, "max_replicas": o.most()}
	service := map[string]any{"replica_policy": policy}
	if len(cs) > 1 {
		policy["target_qps_per_replica"] = qps
		service["load_balancing_policy"] = "instance_aware_least_load"
	} else {
		policy["target_qps_per_replica"] = qps[cs[0].Accelerator]
	}
	body, err := yaml.Marshal(map[string]any{"service": service})
	notes := []string{"SkyServe as it is documented late in 2026: requests per second and replica; accelerators are named as SkyPilot names them."}
	return append([]byte(comment(append(notes, assumed(cs)...))), body...), err
}

// knative writes the part of a Service that scales it.
func knative(cs []capacity.Capacity, o Options) ([]byte, error) {
	notes := []string{
		"Knative Serving v1 and KServe's serverless mode: target is requests per replica, all of it (Knative takes 70 % otherwise);",
		"containerConcurrency is the hard limit.",
	}
	return documents(notes, cs, func(c capacity.Capacity) (any, error) {
		return map[string]any{"spec": map[string]any{"template": map[string]any{
			"metadata": map[string]any{"annotations": map[string]string{
				"autoscaling.knative.dev/class":                         "kpa.autoscaling.knative.dev",
				"autoscaling.knative.dev/metric":                        "concurrency",
				"autoscaling.knative.dev/target":                        fmt.Sprint(whole(c.InFlight)),
				"autoscaling.knative.dev/target-utilization-percentage": "100",
				"autoscaling.knative.dev/min-scale":                     "1",
				"autoscaling.knative.dev/max-scale":                     fmt.Sprint(o.most()),
			}},
			"spec": map[string]any{"containerConcurrency": max(whole(c.MostInFlight), whole(c.InFlight))},
		}}}, nil
	})
}
