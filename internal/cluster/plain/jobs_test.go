package plain

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"wfgen.dev/internal/sweep/config"
)

// Each variable gets the key that it is for, out of a Secret that the objects show how
// to fill.
func TestSecretsAreReadAsTheyAreWritten(t *testing.T) {
	c := config.Default()
	c.Accelerators = []config.Accelerator{{Name: "A100"}}
	c = c.InCluster()
	c.S3Bucket, c.S3Secret, c.APIKeySecretName = "bucket", "s3", "servers"
	c.HFSecretName = "hf"
	want := map[string][2]string{
		"AWS_ACCESS_KEY_ID":     {"s3", "accessKey"},
		"AWS_SECRET_ACCESS_KEY": {"s3", "secretKey"},
		"STEP_API_KEY":          {"servers", c.APIKeySecretKey},
		"HF_TOKEN":              {"hf", c.HFSecretKey},
	}
	written := map[string][]string{}
	var read []corev1.EnvVar
	for _, o := range Jobs(c) {
		switch v := o.Value.(type) {
		case corev1.Secret:
			for key := range v.StringData {
				written[v.Name] = append(written[v.Name], key)
			}
		case batchv1.Job:
			for _, container := range slices.Concat(v.Spec.Template.Spec.InitContainers, v.Spec.Template.Spec.Containers) {
				read = append(read, container.Env...)
			}
		}
	}
	seen := map[string]bool{}
	for _, e := range read {
		if e.ValueFrom == nil || e.ValueFrom.SecretKeyRef == nil {
			continue
		}
		seen[e.Name] = true
		ref := e.ValueFrom.SecretKeyRef
		if got := [2]string{ref.Name, ref.Key}; got != want[e.Name] {
			t.Errorf("%s is read from %v, want %v", e.Name, got, want[e.Name])
		}
		if keys, ours := written[ref.Name]; ours && !slices.Contains(keys, ref.Key) {
			t.Errorf("%s is read from key %s of Secret %s, which is written with %v", e.Name, ref.Key, ref.Name, keys)
		}
	}
	for name := range want {
		if !seen[name] {
			t.Errorf("nothing reads %s", name)
		}
	}
}

// The kubelet expands $(NAME) in arguments from all variables of a container, secrets
// included: what a user wrote must come out as it was written.
func TestArgumentsAreNotExpanded(t *testing.T) {
	c := config.Default()
	c.Accelerators = []config.Accelerator{{Name: "A100"}}
	c = c.InCluster()
	c.Model, c.APIKeySecretName = "m-$(STEP_API_KEY)-$$(HOME)", "servers"
	reference := regexp.MustCompile(`\$\$|\$\([A-Za-z_]+\)`)
	expanded := func(arg string) string {
		return reference.ReplaceAllStringFunc(arg, func(ref string) string {
			if ref == "$$" {
				return "$"
			}
			return "value of " + ref
		})
	}
	found := 0
	for _, o := range Jobs(c) {
		job, ok := o.Value.(batchv1.Job)
		if !ok {
			continue
		}
		for _, container := range slices.Concat(job.Spec.Template.Spec.InitContainers, job.Spec.Template.Spec.Containers) {
			for _, arg := range container.Args {
				name, value, _ := strings.Cut(expanded(arg), "=")
				if name != "--model" {
					continue
				}
				if found++; value != c.Model {
					t.Errorf("%s: %s reaches step as %s, want %s", container.Name, arg, value, c.Model)
				}
			}
		}
	}
	if found == 0 {
		t.Error("no container is told the model")
	}
}

// Without the image of step no Job begins: one of them ends within the time that a pod may
// take, whatever the others do.
func TestOneJobEndsWhereNoneCanBegin(t *testing.T) {
	c := config.Default()
	c.Accelerators = []config.Accelerator{{Name: "A100"}}
	c.PendingTimeout, c.StepImage = "7m", "registry.example.com/step:v1"
	jobs := map[string]batchv1.Job{}
	for _, o := range Jobs(c.InCluster()) {
		if v, ok := o.Value.(batchv1.Job); ok {
			jobs[v.Name] = v
		}
	}
	start, guard := jobs[c.Name+"-start"], jobs[c.Name+"-guard"]
	if start.Spec.ActiveDeadlineSeconds == nil || *start.Spec.ActiveDeadlineSeconds != 420 || *start.Spec.BackoffLimit != 0 ||
		!strings.Contains(start.Annotations["wfgen.dev/if-it-fails"], c.StepImage) {
		t.Errorf("start: %+v", start)
	}
	if *guard.Spec.ActiveDeadlineSeconds <= 420 || !slices.Contains(guard.Spec.Template.Spec.Containers[0].Args, "--until-ended") {
		t.Errorf("guard: %+v", guard)
	}
	c.PendingTimeout = "0"
	for _, o := range Jobs(c.InCluster()) {
		if v, ok := o.Value.(batchv1.Job); ok && v.Name != c.Name+"-a100" {
			t.Errorf("turned off, and yet %s", v.Name)
		}
	}
}
