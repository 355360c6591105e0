// Package e2e tests the whole way on a real cluster: wfgen's objects, applied with
// kubectl and submitted with argo as a user does it, measure simulated servers whose
// truth is known, and what comes out is compared with it.
//
//	make e2e                  # all of it, on the cluster of KUBECONFIG
//	make e2e E2E=Sweep        # the tests of this name
//	make e2e GUIDELLM=0.7.3   # with another guidellm
//	make e2e VLLM=0.32.0      # with servers of the real vLLM too, lab.local/vllm:v0.32.0
//
// It needs kubectl and argo in PATH, an Argo Workflows controller that serves all
// namespaces, an S3 endpoint that pods and this machine reach, and a user who may
// create namespaces. Without a cluster the tests are skipped; with a KUBECONFIG whose
// cluster does not answer they fail. These are the settings, with their defaults for
// a cluster on this machine:
//
//	AWS_ENDPOINT_URL       http://10.96.0.90:9000   the object store, from here
//	AWS_ACCESS_KEY_ID      labadmin
//	AWS_SECRET_ACCESS_KEY  labsecret123
//	E2E_S3_ENDPOINT        AWS_ENDPOINT_URL         the object store, from pods
//	E2E_BUCKET             artifacts                objects stay there, under e2e-…/
//	E2E_S3_SERVICE         s3/minio                 its Service, which a test takes away;
//	                                                without it that test is skipped
//	E2E_ARGO_NAMESPACE     argo                     of the controller
//	E2E_IMAGE                                       of step, which the cluster can pull;
//	                                                without it one is built and given to
//	                                                the nodes by hack/load-image
//	IMAGE_LOAD                                      how; see hack/load-image
//	E2E_GUIDELLM_IMAGE                              of guidellm, which the cluster can pull;
//	                                                without it the tests with guidellm are
//	                                                skipped, but on a cluster on this machine
//	E2E_TOKENIZER          /opt/tokenizer           in that image, one token a word
//	E2E_PROMETHEUS         its Service in monitoring where KEDA's operator asks for metrics;
//	                                                without both of them nothing is scaled
//	E2E_KEEP                                        not empty: namespaces are left there
//
// Each test has a namespace of its own that enforces Pod Security "restricted". A test
// that fails prints what its workflows, pods and events say.
package e2e
