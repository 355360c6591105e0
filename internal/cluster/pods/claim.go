package pods

import (
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1beta2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wfgen.dev/internal/cluster/manifest"
	"wfgen.dev/internal/sweep/plan"
)

// claimName is the claim to a server's GPUs within its pod.
const claimName = "gpus"

// Claims are the claims of a server's pod to devices, of a template of that name; none
// where it asks for its GPUs otherwise.
func Claims(a plan.Accelerator, template string) []corev1.PodResourceClaim {
	if a.DeviceClass == "" {
		return nil
	}
	return []corev1.PodResourceClaim{{Name: claimName, ResourceClaimTemplateName: &template}}
}

// ClaimTemplate is what such claims are made from, one for each pod: all devices of one
// server. What is used of the types is in v1 as it is in v1beta2, whose Go types are older.
func ClaimTemplate(p plan.Plan, a plan.Accelerator, name string) []manifest.Object {
	if a.DeviceClass == "" {
		return nil
	}
	request := resourcev1.ExactDeviceRequest{DeviceClassName: a.DeviceClass, Count: int64(a.Count)}
	for _, expression := range a.DeviceSelectors {
		request.Selectors = append(request.Selectors, resourcev1.DeviceSelector{CEL: &resourcev1.CELDeviceSelector{Expression: expression}})
	}
	return []manifest.Object{{
		File: "resourceclaimtemplate-" + a.Slug + ".yaml",
		Value: resourcev1.ResourceClaimTemplate{
			TypeMeta:   metav1.TypeMeta{APIVersion: "resource.k8s.io/v1", Kind: "ResourceClaimTemplate"},
			ObjectMeta: Meta(p, name),
			Spec: resourcev1.ResourceClaimTemplateSpec{Spec: resourcev1.ResourceClaimSpec{
				Devices: resourcev1.DeviceClaim{Requests: []resourcev1.DeviceRequest{{Name: claimName, Exactly: &request}}},
			}},
		},
		Comments: []manifest.Comment{{Path: "apiVersion", Text: "Kubernetes 1.34 or newer, and a driver with the device class."}},
	}}
}
