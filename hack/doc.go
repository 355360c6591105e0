// Package hack holds manifests for clusters without Argo, as wfgen writes them.
package hack

//go:generate go test . -run ^TestManifests$ -count 1 -update
