// Package kube is the little of the Kubernetes API that step asks for: pods, their logs
// and nodes, whether a workflow is terminated, and a ConfigMap for results. It is a client
// over net/http, since the API's own packages would double the size of step: measured as
// 19.9 MB, it was 27.8 MB with the types of k8s.io/api, and 46.3 MB with client-go.
package kube

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"wfgen.dev/internal/redact"
)

// serviceAccount is where the kubelet mounts a pod's identity.
const serviceAccount = "/var/run/secrets/kubernetes.io/serviceaccount"

// ErrOutside says that the process does not run in a pod, or in one without a
// ServiceAccount's token.
var ErrOutside = errors.New("the Kubernetes API is only asked from inside a pod, as the pod's ServiceAccount")

// Client asks one API server as one ServiceAccount. It is safe for concurrent use.
type Client struct {
	Namespace string // the pod's own

	base      string // URL of the API server
	tokenFile string // read for every request: the kubelet renews it; empty: none is sent
	http      *http.Client
}

// stay follows no redirect: the account's token would go along.
func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// New is a client of the API server at base; most callers want InCluster.
func New(base, namespace, tokenFile string, client *http.Client) *Client {
	return &Client{Namespace: namespace, base: strings.TrimSuffix(base, "/"), tokenFile: tokenFile, http: client}
}

// InCluster is a client with the identity of the pod that this process runs in.
// The error wraps ErrOutside where there is none.
func InCluster() (*Client, error) { return inCluster(serviceAccount) }

func inCluster(dir string) (*Client, error) {
	host, port := os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")
	if host == "" || port == "" {
		return nil, fmt.Errorf("%w: KUBERNETES_SERVICE_HOST is not set", ErrOutside)
	}
	read := func(name string) (string, error) {
		data, err := os.ReadFile(filepath.Join(dir, name))
		return strings.TrimSpace(string(data)), err
	}
	ca, err := read("ca.crt")
	if err == nil {
		_, err = read("token")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w; is automountServiceAccountToken false?", ErrOutside, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(ca)) {
		return nil, fmt.Errorf("%s: holds no certificate", filepath.Join(dir, "ca.crt"))
	}
	namespace, err := read("namespace")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOutside, err)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil // the API server is inside
	transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	return New("https://"+net.JoinHostPort(host, port), namespace, filepath.Join(dir, "token"), &http.Client{Transport: transport, CheckRedirect: stay}), nil
}

// StatusError is an answer of the API server other than success.
type StatusError struct {
	Verb    string // of the right that the request needs: list pods
	Code    int
	Message string // the server's own sentence
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("cluster, %s: HTTP %d %s", e.Verb, e.Code, e.Message)
}

// IsForbidden tells an answer for lack of rights from all others.
func IsForbidden(err error) bool {
	return hasCode(err, http.StatusForbidden) || hasCode(err, http.StatusUnauthorized)
}

// IsNotFound says that what was asked for is not there.
func IsNotFound(err error) bool { return hasCode(err, http.StatusNotFound) }

// IsInvalid says that the API server refuses what it was sent, and always will.
func IsInvalid(err error) bool {
	return hasCode(err, http.StatusUnprocessableEntity) || hasCode(err, http.StatusBadRequest) || hasCode(err, http.StatusRequestEntityTooLarge)
}

func hasCode(err error, code int) bool {
	var s *StatusError
	return errors.As(err, &s) && s.Code == code
}

// most is the largest answer that is read, and mostMessage the longest of its sentences
// that is repeated, bytes.
const (
	most        = 16 << 20
	mostMessage = 1000
)

// do sends one request and returns the body of its answer. what names the right
// that it needs, for the error.
func (c *Client) do(ctx context.Context, what, method, path string, query url.Values, contentType string, body any) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	var reader io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		reader = bytes.NewReader(data)
	}
	address := c.base + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, address, reader)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if c.tokenFile != "" {
		token, err := os.ReadFile(c.tokenFile)
		if err != nil {
			return nil, fmt.Errorf("cluster, %s: %w", what, err)
		}
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("cluster, %s: %w", what, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, most))
	if err != nil {
		return nil, fmt.Errorf("cluster, %s: %w", what, err)
	}
	if resp.StatusCode/100 == 2 {
		return data, nil
	}
	var status struct{ Message string }
	if json.Unmarshal(data, &status) != nil || status.Message == "" {
		status.Message = http.StatusText(resp.StatusCode)
	}
	return nil, &StatusError{Verb: what, Code: resp.StatusCode, Message: redact.Line(status.Message, mostMessage)}
}

func (c *Client) get(ctx context.Context, what, path string, query url.Values, into any) error {
	data, err := c.do(ctx, what, http.MethodGet, path, query, "", nil)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("cluster, %s: the answer is not the expected JSON: %w", what, err)
	}
	return nil
}

func namespaced(namespace, kind, name string) string {
	path := "/api/v1/namespaces/" + url.PathEscape(namespace) + "/" + kind
	if name != "" {
		path += "/" + url.PathEscape(name)
	}
	return path
}

// Pods lists the pods of a namespace that have the labels; right: list pods.
func (c *Client) Pods(ctx context.Context, namespace, selector string) ([]Pod, error) {
	var list struct{ Items []Pod }
	err := c.get(ctx, "list pods", namespaced(namespace, "pods", ""), url.Values{"labelSelector": {selector}}, &list)
	return list.Items, err
}

// FailPod ends a pod for good, with the reason for who looks at it: the scheduler and
// the kubelet let go of a pod that has failed, and its owner sees that it did. One that
// is deleted while it is pending would be made again. Right: patch pods/status. One that
// is gone already is no error.
func (c *Client) FailPod(ctx context.Context, namespace, name, reason, message string) error {
	_, err := c.do(ctx, "patch pods/status", http.MethodPatch, namespaced(namespace, "pods", name)+"/status", nil, "application/merge-patch+json",
		map[string]any{"status": map[string]string{"phase": "Failed", "reason": reason, "message": message}})
	if IsNotFound(err) {
		return nil
	}
	return err
}

// CompleteTaskResult says of a node of an Argo workflow that its pod will report no more.
// Argo believes no failure of a pod whose executor has begun to report and has not ended.
// Right: patch workflowtaskresults. A node that has reported nothing is no error.
func (c *Client) CompleteTaskResult(ctx context.Context, namespace, node string) error {
	path := "/apis/argoproj.io/v1alpha1/namespaces/" + url.PathEscape(namespace) + "/workflowtaskresults/" + url.PathEscape(node)
	_, err := c.do(ctx, "patch workflowtaskresults", http.MethodPatch, path, nil, "application/merge-patch+json",
		map[string]any{"metadata": map[string]any{"labels": map[string]string{"workflows.argoproj.io/report-outputs-completed": "true"}}})
	if IsNotFound(err) {
		return nil
	}
	return err
}

// Terminate is the Shutdown of a workflow that somebody terminated.
const Terminate = "Terminate"

// Shutdown is how somebody ends an Argo workflow before its time: Terminate or Stop; empty
// where nobody does. Right: get workflows.
func (c *Client) Shutdown(ctx context.Context, namespace, workflow string) (string, error) {
	var w struct{ Spec struct{ Shutdown string } }
	err := c.get(ctx, "get workflows", "/apis/argoproj.io/v1alpha1/namespaces/"+url.PathEscape(namespace)+"/workflows/"+url.PathEscape(workflow), nil, &w)
	return w.Spec.Shutdown, err
}

// Log is the end of a container's log, at most lines long; previous asks for that
// of the container before its last restart. Right: get pods/log.
func (c *Client) Log(ctx context.Context, namespace, pod, container string, lines int, previous bool) (string, error) {
	query := url.Values{"container": {container}, "tailLines": {strconv.Itoa(lines)}, "limitBytes": {"262144"}}
	if previous {
		query.Set("previous", "true")
	}
	data, err := c.do(ctx, "get pods/log", http.MethodGet, namespaced(namespace, "pods", pod)+"/log", query, "", nil)
	return string(data), err
}

// Events lists events of a namespace that match a field selector, such as
// involvedObject.uid=…; right: list events.
func (c *Client) Events(ctx context.Context, namespace, fields string) ([]Event, error) {
	var list struct{ Items []Event }
	err := c.get(ctx, "list events", namespaced(namespace, "events", ""), url.Values{"fieldSelector": {fields}}, &list)
	return list.Items, err
}

// NodeLabels are the labels of a node; right: get nodes (of a ClusterRole).
func (c *Client) NodeLabels(ctx context.Context, name string) (map[string]string, error) {
	var node struct{ Metadata Metadata }
	err := c.get(ctx, "get nodes", "/api/v1/nodes/"+url.PathEscape(name), nil, &node)
	return node.Metadata.Labels, err
}

// PutConfigMap sets keys of a ConfigMap and removes those whose value is nil. Other
// keys stay as they are. A ConfigMap that is not there is made. Rights: patch and
// create configmaps.
func (c *Client) PutConfigMap(ctx context.Context, namespace, name string, data map[string]*string) error {
	patch := func() error {
		_, err := c.do(ctx, "patch configmaps", http.MethodPatch, namespaced(namespace, "configmaps", name), nil,
			"application/merge-patch+json", map[string]any{"data": data})
		return err
	}
	if err := patch(); !IsNotFound(err) {
		return err
	}
	set := map[string]string{}
	for k, v := range data {
		if v != nil {
			set[k] = *v
		}
	}
	_, err := c.do(ctx, "create configmaps", http.MethodPost, namespaced(namespace, "configmaps", ""), nil, "application/json",
		map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": name}, "data": set})
	if hasCode(err, http.StatusConflict) { // somebody else made it in between
		return patch()
	}
	return err
}
