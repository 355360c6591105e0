package templates

import (
	"strings"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wfgen.dev/internal/cluster/manifest"
	"wfgen.dev/internal/cluster/pods"
	"wfgen.dev/internal/sweep/plan"
)

// repositoryKey is the entry of the ConfigMap that describes the bucket.
const repositoryKey = "s3"

func repositoryName(p plan.Plan) string { return p.Name + "-artifacts" }

// repositoryRef is where the results go: the bucket of the configuration, the
// repository that it names, or nil for the namespace's default.
func repositoryRef(p plan.Plan) *wfv1.ArtifactRepositoryRef {
	if p.S3Bucket != "" {
		return &wfv1.ArtifactRepositoryRef{ConfigMap: repositoryName(p), Key: repositoryKey}
	}
	if configMap, key := p.Repository(); configMap != "" {
		return &wfv1.ArtifactRepositoryRef{ConfigMap: configMap, Key: key}
	}
	return nil
}

// artifactRepository describes the bucket in the one place where Argo looks for it,
// so that the artifacts of the workflow need only their keys.
func artifactRepository(p plan.Plan) manifest.Object {
	endpoint, insecure := strings.CutPrefix(p.S3Endpoint, "http://")
	endpoint = strings.TrimSuffix(strings.TrimPrefix(endpoint, "https://"), "/")
	bucket := wfv1.S3Bucket{Endpoint: endpoint, Bucket: p.S3Bucket, Region: p.S3Region}
	if insecure {
		bucket.Insecure = new(true)
	}
	if p.S3Secret == "" {
		bucket.UseSDKCreds = true
	} else {
		bucket.AccessKeySecret = pods.SecretKey(p.S3Secret, pods.AccessKey)
		bucket.SecretKeySecret = pods.SecretKey(p.S3Secret, pods.SecretAccessKey)
	}
	text, err := manifest.YAML(wfv1.ArtifactRepository{S3: &wfv1.S3ArtifactRepository{S3Bucket: bucket}})
	if err != nil {
		panic(err) // a struct of strings
	}
	o := manifest.Object{File: "artifactrepository.yaml", Value: corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: pods.Meta(p, repositoryName(p)),
		Data:       map[string]string{repositoryKey: string(text)},
	}}
	if p.S3Secret == "" {
		o.Comments = []manifest.Comment{{Path: "data", Text: "useSDKCreds: the credentials of the ServiceAccount " + p.AccountName() + " (IRSA, workload identity)."}}
	}
	return o
}
