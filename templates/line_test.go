package templates

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1beta2"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"wfgen.dev/internal/cluster/manifest"
	"wfgen.dev/internal/sweep/config"
	"wfgen.dev/internal/sweep/config/configtest"
)

// templatesOf are the templates of an object as its YAML has them, by name.
func templatesOf(t interface {
	Helper()
	Fatal(...any)
}, o manifest.Object) (object map[string]any, templates map[string]map[string]any) {
	t.Helper()
	data, err := manifest.YAML(o.Value, o.Comments...)
	if err == nil {
		err = yaml.Unmarshal(data, &object)
	}
	if err != nil {
		t.Fatal(err)
	}
	templates = map[string]map[string]any{}
	for _, one := range object["spec"].(map[string]any)["templates"].([]any) {
		one := one.(map[string]any)
		templates[one["name"].(string)] = one
	}
	return object, templates
}

// Whatever is asked for: what is for 3.7 holds nothing of 4.1, what is for 4.0 is the
// same, and what is for 4.1 is that with one field more, in the templates that make pods.
func TestLinesOfArgo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := configtest.Draw(3).Draw(t, "config")
		c.PendingTimeout = rapid.SampledFrom([]string{"0", "10m"}).Draw(t, "pending-timeout")
		of := func(line string) map[string]manifest.Object {
			c.Argo = line
			byFile := map[string]manifest.Object{}
			for _, o := range Objects(c) {
				byFile[o.File] = o
			}
			return byFile
		}
		old, middle, newest := of(config.Argo37), of(config.Argo40), of(config.Argo41)
		differ := func(was, is any) string {
			if reflect.DeepEqual(was, is) {
				return "" // at once, which Diff does not say
			}
			return cmp.Diff(was, is)
		}
		if diff := differ(old, middle); diff != "" {
			t.Fatalf("4.0 is not 3.7: %s", diff)
		}
		for file, o := range newest {
			if _, is41 := o.Value.(object41); !is41 {
				if diff := differ(old[file], o); diff != "" {
					t.Fatalf("%s: %s", file, diff)
				}
				continue
			}
			was, before := templatesOf(t, old[file])
			is, now := templatesOf(t, o)
			for name, template := range now {
				_, pod := template["container"]
				pending, limited := template["pendingTimeout"]
				wait, _ := time.ParseDuration(c.PendingTimeout)
				if wait > 0 {
					server, _ := time.ParseDuration(c.WaitTimeout)
					wait = max(wait, server)
				}
				if limited != (pod && wait > 0) || limited && pending != (wait+time.Minute).String() {
					t.Fatalf("%s: pendingTimeout %v where %s is asked for", name, pending, c.PendingTimeout)
				}
				if _, has := before[name]["pendingTimeout"]; has {
					t.Fatalf("%s for 3.7 has a pendingTimeout", name)
				}
				delete(template, "pendingTimeout")
			}
			if version := is["metadata"].(map[string]any)["annotations"].(map[string]any)["workflows.argoproj.io/version"]; version != ">= 4.1.0" {
				t.Fatalf("needs Argo %v", version)
			}
			delete(is["metadata"].(map[string]any)["annotations"].(map[string]any), "workflows.argoproj.io/version")
			delete(was["metadata"].(map[string]any)["annotations"].(map[string]any), "workflows.argoproj.io/version")
			if diff := cmp.Diff(was, is); diff != "" {
				t.Fatalf("%s: %s", file, diff)
			}
		}
	})
}

// A server that is claimed asks for no extended resource, and its claim is for all of its
// devices.
func TestClaims(t *testing.T) {
	c := deployed("A100", "H100", "L4")
	for i, product := range []string{"NVIDIA A100-SXM4-80GB", "NVIDIA H100 80GB HBM3"} {
		c.Accelerators[i].DeviceClass = "gpu.nvidia.com"
		c.Accelerators[i].DeviceSelectors = []string{`device.attributes["gpu.nvidia.com"].productName == "` + product + `"`}
	}
	c.Accelerators[1].Count = 2
	templates := map[string]resourcev1.ResourceClaimTemplate{}
	for _, o := range Objects(c) {
		if v, ok := o.Value.(resourcev1.ResourceClaimTemplate); ok {
			templates[v.Name] = v
		}
	}
	if len(templates) != 2 {
		t.Fatalf("%d templates of claims, want 2", len(templates))
	}
	for slug, count := range map[string]int64{"a100": 1, "h100": 2} {
		server := template(t, c, "server-"+slug)
		if claims := server.Container.Resources.Claims; len(claims) != 1 || len(server.Container.Resources.Limits) > 0 || len(server.NodeSelector) > 0 ||
			len(server.Tolerations) != 1 || server.Tolerations[0].Key != "nvidia.com/gpu" {
			t.Fatalf("%s: %+v", slug, server)
		}
		var spec corev1.PodSpec
		if err := yaml.UnmarshalStrict([]byte(strings.ReplaceAll(server.PodSpecPatch, input(pHost), "h")), &spec); err != nil {
			t.Fatal(err)
		}
		if len(spec.ResourceClaims) != 1 || spec.ResourceClaims[0].Name != server.Container.Resources.Claims[0].Name {
			t.Fatalf("%s: the container claims %+v of %+v", slug, server.Container.Resources.Claims, spec.ResourceClaims)
		}
		made := templates[*spec.ResourceClaims[0].ResourceClaimTemplateName]
		request := made.Spec.Spec.Devices.Requests[0].Exactly
		if made.APIVersion != "resource.k8s.io/v1" || request.Count != count || request.DeviceClassName != "gpu.nvidia.com" || len(request.Selectors) != 1 {
			t.Errorf("%s: %+v", slug, made)
		}
	}
	if l4 := template(t, c, "server-l4"); len(l4.Container.Resources.Claims) > 0 || strings.Contains(l4.PodSpecPatch, "resourceClaims") {
		t.Errorf("nobody claims an L4: %+v", l4)
	}
}
