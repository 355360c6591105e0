package render

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/linear4"
)

// The VariantAutoscaling of WVA v0.0.1 to v0.4.2, as far as the parameters reach.
// Numbers are strings: the API server rejects anything else.
type variant struct {
	APIVersion string      `json:"apiVersion"`
	Kind       string      `json:"kind"`
	Metadata   metadata    `json:"metadata"`
	Spec       variantSpec `json:"spec"`
}

type metadata struct {
	Name      string            `json:"name"`
	Namespace string            `json:"namespace,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`
}

type variantSpec struct {
	ModelID        string       `json:"modelID"`
	SLOClassRef    *keyRef      `json:"sloClassRef,omitempty"`
	ScaleTargetRef *targetRef   `json:"scaleTargetRef,omitempty"`
	ModelProfile   modelProfile `json:"modelProfile"`
}

type keyRef struct {
	Name string `json:"name"`
	Key  string `json:"key"`
}

type targetRef struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Name       string `json:"name"`
}

type modelProfile struct {
	Accelerators []profile `json:"accelerators"`
}

type profile struct {
	Acc          string    `json:"acc"`
	AccCount     int       `json:"accCount"`
	MaxBatchSize int       `json:"maxBatchSize"`
	PerfParms    perfParms `json:"perfParms"`
}

type perfParms struct {
	DecodeParms  map[string]string `json:"decodeParms"`
	PrefillParms map[string]string `json:"prefillParms"`
}

// labelValue is what Kubernetes takes as the value of a label.
var labelValue = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$`)

// acceleratorLabel must equal acc, or the autoscaler silently plans with a batch of 1.
const acceleratorLabel = "inference.optimization/acceleratorName"

// variantAutoscaling writes one object for one model on any number of
// accelerators.
func variantAutoscaling(ps []parameters.Parameters, o Options) ([]byte, error) {
	v := variant{APIVersion: "llmd.ai/v1alpha1", Kind: "VariantAutoscaling"}
	v.Metadata = metadata{Name: o.Name, Namespace: o.Namespace}
	v.Spec.ModelID = ps[0].Model
	if o.Name == "" {
		v.Metadata.Name = sweep.Slug(ps[0].Model)
	}
	if o.ScaleTarget != "" {
		v.Spec.ScaleTargetRef = &targetRef{APIVersion: "apps/v1", Kind: "Deployment", Name: o.ScaleTarget}
	}
	if o.SLOName != "" {
		v.Spec.SLOClassRef = &keyRef{Name: o.SLOName, Key: o.SLOKey}
	}
	notes := []string{
		"For WVA v0.0.1 to v0.4.2, which reads perfParms since v0.0.5 with",
		"EXPERIMENTAL_HYBRID_OPTIMIZATION=on or model-only. v0.5.0 and later have no such",
		"field and learn another model (other letters) by themselves. Some versions also",
		"require sloClassRef (--slo-class) or scaleTargetRef (--scale-target).",
		"linear4, ms: " + linear4.Formula,
	}
	var names []string
	for _, p := range ps {
		switch {
		case p.Model != ps[0].Model:
			return nil, exit.Errorf(exit.Usage, "parameters of %s and of %s: one VariantAutoscaling is for one model; render them apart", ps[0].Model, p.Model)
		case slices.Contains(names, p.Accelerator):
			return nil, exit.Errorf(exit.Usage, "%s has parameters of several shapes, and a VariantAutoscaling holds one per accelerator; choose with --shape %s", p.Accelerator, shapes(ps, p.Accelerator))
		}
		names = append(names, p.Accelerator)
		most := numberOf(o.MaxBatch, p.Accelerator, int(p.BatchSize))
		v.Spec.ModelProfile.Accelerators = append(v.Spec.ModelProfile.Accelerators, profile{
			Acc: p.Accelerator, AccCount: numberOf(o.Count, p.Accelerator, 1), MaxBatchSize: most,
			PerfParms: perfParms{
				DecodeParms:  map[string]string{"alpha": parameters.Format(*p.Alpha), "beta": parameters.Format(*p.Beta)},
				PrefillParms: map[string]string{"gamma": parameters.Format(*p.Gamma), "delta": parameters.Format(*p.Delta)},
			},
		})
		notes = append(notes, fmt.Sprintf("%s: %s tokens, measured up to a batch of %.0f", p.Accelerator, p.Shape, p.BatchSize))
		if float64(most) > p.BatchSize {
			notes = append(notes, fmt.Sprintf("  maxBatchSize %d lies beyond what was measured", most))
		}
		notes = append(notes, caution(p)...)
	}
	switch {
	case o.RunsOn != "" && !slices.Contains(names, o.RunsOn):
		return nil, exit.Errorf(exit.Usage, "--runs-on %s: no parameters of it; there are %s", o.RunsOn, strings.Join(names, ", "))
	case o.RunsOn != "":
		v.Metadata.Labels = map[string]string{acceleratorLabel: o.RunsOn}
	case len(names) == 1:
		v.Metadata.Labels = map[string]string{acceleratorLabel: names[0]}
	default:
		notes = append(notes, fmt.Sprintf("Add the label %s, one of %s, or WVA plans with a batch of 1 (--runs-on).", acceleratorLabel, strings.Join(names, ", ")))
	}
	if l := v.Metadata.Labels[acceleratorLabel]; l != "" && !labelValue.MatchString(l) {
		return nil, exit.Errorf(exit.Usage, "accelerator %q cannot be the value of a label (%s), which WVA compares it with; name it with letters, digits, -, _ and . only", l, acceleratorLabel)
	}
	body, err := yaml.Marshal(v)
	if err != nil {
		return nil, err
	}
	return append([]byte(comment(notes)), body...), nil
}

// shapes lists the shapes of an accelerator as a flag takes them.
func shapes(ps []parameters.Parameters, accelerator string) string {
	var list []string
	for _, p := range ps {
		if p.Accelerator == accelerator {
			list = append(list, p.Shape.String())
		}
	}
	return strings.Join(list, " or ")
}
