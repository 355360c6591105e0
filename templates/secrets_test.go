package templates

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"wfgen.dev/internal/run/steps"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/config"
)

// The kubelet fills $(NAME) in an argument from all variables, and in a variable from
// those before it. So what a submitter decides, which Argo fills in, stands in variables
// before every secret, and in no argument; and a key comes with the servers that it is for.
func TestWhoMaySubmitDoesNotSeeSecrets(t *testing.T) {
	deploy := deployed("A100", "H100")
	deploy.Accelerators[1].TargetURL = "https://h100.example"
	native := base("A100", "H100")
	native.Driver = sweep.Native
	secrets, told := 0, map[string]int{}
	for _, c := range []config.Config{base("A100", "H100"), native, deploy} {
		c.APIKeySecretName, c.NotifySecretName, c.ReportURL = "servers", "notifications", "https://argo.example/{run}"
		for _, spec := range specs(Objects(c)) {
			for _, tmpl := range spec.Templates {
				var containers []corev1.Container
				if tmpl.Container != nil {
					containers = append(containers, *tmpl.Container)
				}
				for _, init := range tmpl.InitContainers {
					containers = append(containers, init.Container)
				}
				for _, container := range containers {
					for _, arg := range slices.Concat(container.Command, container.Args) {
						if strings.Contains(arg, "{{") {
							t.Errorf("%s: Argo fills in the argument %q", tmpl.Name, arg)
						}
					}
					secret, key, keyFor := "", false, ""
					for _, e := range container.Env {
						switch {
						case e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil:
							secret = e.Name
							secrets++
							if of := e.ValueFrom.SecretKeyRef.Name; of == "notifications" {
								told[tmpl.Name]++
							}
							key = key || e.Name == steps.Bench.APIKey.Variable()
						case strings.Contains(e.Value, "{{") && secret != "":
							t.Errorf("%s: %s, which Argo fills in, stands after %s", tmpl.Name, e.Name, secret)
						case e.Name == steps.Bench.APIKeyFor.Variable():
							keyFor = e.Value
						}
					}
					if key && (keyFor == "" || strings.Contains(keyFor, "{")) {
						t.Errorf("%s: the key is for %q", tmpl.Name, keyFor)
					}
					if key && c.Deploy && keyFor != "http://*."+c.Name+":8000,http://vllm-a100:8000,https://h100.example" {
						t.Errorf("%s: the key is for %q", tmpl.Name, keyFor)
					}
				}
			}
		}
	}
	for _, name := range []string{notifyTemplate, notifyBareTemplate, guardTemplate} {
		if told[name] != 9 {
			t.Errorf("%s gets %d addresses of three kinds in three sweeps", name, told[name])
		}
	}
	if len(told) != 3 {
		t.Errorf("the addresses of notifications reach %v", told)
	}
	if secrets < 6 {
		t.Errorf("%d secrets were seen", secrets)
	}
}
