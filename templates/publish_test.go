package templates

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"

	"wfgen.dev/internal/sweep/config"
)

// A sweep that publishes may write into its own ConfigMap, which is there, and no other;
// one that does not may write into none.
func TestPublish(t *testing.T) {
	c := base("A100", "H100")
	c.SLO, c.PublishFormats, c.ScaleTarget = "itl=20ms", []string{"keda"}, "vllm-{accelerator}"
	for publish, want := range map[string]int{"": 0, config.ConfigMap: 1} {
		c.Publish = publish
		maps, rules := 0, 0
		for _, o := range Objects(c) {
			switch v := o.Value.(type) {
			case corev1.ConfigMap:
				if v.Name == c.Name+"-results" {
					maps++
				}
			case rbacv1.Role:
				for _, r := range v.Rules {
					if slices.Contains(r.Resources, "configmaps") {
						rules++
						if !slices.Equal(r.Verbs, []string{"patch"}) || !slices.Equal(r.ResourceNames, []string{c.Name + "-results"}) {
							t.Errorf("too much: %+v", r)
						}
					}
				}
			}
		}
		if maps != want || rules != want {
			t.Errorf("publish %q: %d ConfigMaps, %d rules, want %d", publish, maps, rules, want)
		}
		s := template(t, c, summaryTemplate)
		if asked := slices.Contains(s.Container.Args, "--configmap="+c.Name+"-results"); asked != (want == 1) {
			t.Errorf("publish %q: %q", publish, s.Container.Args)
		}
		if token := s.PodSpecPatch == tokenOfMain; token != (want == 1) {
			t.Errorf("publish %q: the pod has the account's identity: %v", publish, token)
		}
		for _, one := range []string{"a100", "h100"} {
			if s.Inputs.GetArtifactByName("capacity-"+one) == nil {
				t.Errorf("the summary does not read the capacity of %s", one)
			}
		}
		if s.Outputs.GetArtifactByName("rendered") == nil || !slices.Contains(s.Container.Args, "--formats=keda") {
			t.Errorf("%q leaves %+v", s.Container.Args, s.Outputs.Artifacts)
		}
	}
	c.PublishFormats = nil
	if s := template(t, c, summaryTemplate); s.Outputs.GetArtifactByName("rendered") != nil {
		t.Errorf("nobody asked for %+v", s.Outputs.Artifacts)
	}
}
