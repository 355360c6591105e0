package templates

import (
	"strings"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wfgen.dev/internal/cluster/manifest"
	"wfgen.dev/internal/sweep/config"
)

// repositoryKey is the entry of the ConfigMap that describes the bucket.
const repositoryKey = "s3"

func repositoryName(c config.Config) string { return c.Name + "-artifacts" }

// repositoryRef is where the results go: the bucket of the configuration, the
// repository that it names, or nil for the namespace's default.
func repositoryRef(c config.Config) *wfv1.ArtifactRepositoryRef {
	if c.S3Bucket != "" {
		return &wfv1.ArtifactRepositoryRef{ConfigMap: repositoryName(c), Key: repositoryKey}
	}
	if configMap, key := c.Repository(); configMap != "" {
		return &wfv1.ArtifactRepositoryRef{ConfigMap: configMap, Key: key}
	}
	return nil
}

// artifactRepository describes the bucket in the one place where Argo looks for it,
// so that the artifacts of the workflow need only their keys.
func artifactRepository(c config.Config) Object {
	endpoint, insecure := strings.CutPrefix(c.S3Endpoint, "http://")
	endpoint = strings.TrimSuffix(strings.TrimPrefix(endpoint, "https://"), "/")
	bucket := wfv1.S3Bucket{Endpoint: endpoint, Bucket: c.S3Bucket, Region: c.S3Region}
	if insecure {
		bucket.Insecure = ptr(true)
	}
	if c.S3Secret == "" {
		bucket.UseSDKCreds = true
	} else {
		bucket.AccessKeySecret = secretKey(c.S3Secret, accessKey)
		bucket.SecretKeySecret = secretKey(c.S3Secret, secretAccessKey)
	}
	text, err := manifest.YAML(wfv1.ArtifactRepository{S3: &wfv1.S3ArtifactRepository{S3Bucket: bucket}})
	if err != nil {
		panic(err) // a struct of strings
	}
	o := Object{File: "artifactrepository.yaml", Value: corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: meta(c, repositoryName(c)),
		Data:       map[string]string{repositoryKey: string(text)},
	}}
	if c.S3Secret == "" {
		o.Comments = []manifest.Comment{{Path: "data", Text: "useSDKCreds: the credentials of the ServiceAccount " + accountName(c) + " (IRSA, workload identity)."}}
	}
	return o
}

// Keys of a Secret with S3 credentials, as Argo's own examples have them.
const (
	accessKey       = "accessKey"
	secretAccessKey = "secretKey"
)

func secretKey(name, key string) *corev1.SecretKeySelector {
	return &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: name}, Key: key}
}

// exampleSecrets show which Secrets the sweep looks for. They hold placeholders: a
// real value never passes through the generator.
func exampleSecrets(c config.Config) []Object {
	var objects []Object
	add := func(file, name, text string, data map[string]string) {
		objects = append(objects, Object{
			File: file,
			Value: corev1.Secret{
				TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
				ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: c.Namespace},
				StringData: data,
			},
			Comments: []manifest.Comment{{Path: "apiVersion", Text: text}},
			Example:  true,
		})
	}
	if c.HFSecretName != "" {
		add("99-hf-secret.example.yaml", c.HFSecretName,
			"Only for tokenizers of gated models. Copy, fill in, apply; or:\nkubectl create secret generic "+c.HFSecretName+" -n "+c.Namespace+" --from-file="+c.HFSecretKey+"=/dev/stdin",
			map[string]string{c.HFSecretKey: "<Hugging Face token>"})
	}
	if c.APIKeySecretName != "" {
		add("99-api-key-secret.example.yaml", c.APIKeySecretName,
			"The API key of the servers. Copy, fill in, apply.",
			map[string]string{c.APIKeySecretKey: "<API key>"})
	}
	if c.S3Secret != "" {
		add("99-s3-secret.example.yaml", c.S3Secret,
			"Credentials of the bucket "+c.S3Bucket+". Copy, fill in, apply.",
			map[string]string{accessKey: "<access key>", secretAccessKey: "<secret key>"})
	}
	return objects
}
