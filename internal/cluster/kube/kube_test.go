package kube

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// identity writes what the kubelet mounts into a pod, for the server s.
func identity(t *testing.T, s *httptest.Server, token string) string {
	t.Helper()
	dir := t.TempDir()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	for name, data := range map[string]string{"ca.crt": string(ca), "token": token + "\n", "namespace": "llm"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBERNETES_SERVICE_HOST", u.Hostname())
	t.Setenv("KUBERNETES_SERVICE_PORT", u.Port())
	return dir
}

func TestInClusterReadsTheTokenAgain(t *testing.T) {
	var tokens []string
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tokens = append(tokens, r.Header.Get("Authorization"))
		_, _ = io.WriteString(w, `{"items":[{"metadata":{"name":"vllm-1"}}]}`)
	}))
	defer s.Close()
	dir := identity(t, s, "first")
	c, err := inCluster(dir)
	if err != nil {
		t.Fatal(err)
	}
	if c.Namespace != "llm" {
		t.Errorf("namespace %q", c.Namespace)
	}
	if pods, err := c.Pods(t.Context(), "llm", "app=vllm"); err != nil || len(pods) != 1 || pods[0].Metadata.Name != "vllm-1" {
		t.Errorf("%+v, %v", pods, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "token"), []byte("second"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Pods(t.Context(), "llm", "app=vllm"); err != nil {
		t.Error(err)
	}
	if len(tokens) != 2 || tokens[0] != "Bearer first" || tokens[1] != "Bearer second" {
		t.Errorf("tokens sent: %q", tokens)
	}
}

func TestOutsideOfAPodItSaysSo(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	if _, err := inCluster(t.TempDir()); !errors.Is(err, ErrOutside) {
		t.Error(err)
	}
	t.Setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
	t.Setenv("KUBERNETES_SERVICE_PORT", "443")
	if _, err := inCluster(t.TempDir()); !errors.Is(err, ErrOutside) || !strings.Contains(err.Error(), "automountServiceAccountToken") {
		t.Error(err)
	}
}

func TestForbiddenIsNotNotFound(t *testing.T) {
	code := http.StatusForbidden
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		_, _ = io.WriteString(w, `{"kind":"Status","message":"pods is forbidden: User \"system:serviceaccount:llm:default\" cannot list resource \"pods\""}`)
	}))
	defer s.Close()
	c := New(s.URL, "llm", "", s.Client())
	_, err := c.Pods(t.Context(), "llm", "a=b")
	if !IsForbidden(err) || IsNotFound(err) || !strings.Contains(err.Error(), "list pods") || !strings.Contains(err.Error(), "system:serviceaccount:llm:default") {
		t.Error(err)
	}
	code = http.StatusNotFound
	_, err = c.NodeLabels(t.Context(), "n")
	if IsForbidden(err) || !IsNotFound(err) {
		t.Error(err)
	}
	if err := c.FailPod(t.Context(), "llm", "gone", "GivenUp", "why"); err != nil {
		t.Errorf("a pod that is gone already: %v", err)
	}
}

// configMaps is the part of an API server that stores ConfigMaps.
type configMaps struct {
	stored   map[string]map[string]any // by name: data
	requests []string
	race     bool // somebody else creates the ConfigMap first
}

func (s *configMaps) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.requests = append(s.requests, r.Method+" "+r.Header.Get("Content-Type"))
	var body struct {
		Metadata struct{ Name string }
		Data     map[string]any
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	switch name := filepath.Base(r.URL.Path); r.Method {
	case http.MethodPatch:
		data, ok := s.stored[name]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		for k, v := range body.Data {
			if data[k] = v; v == nil {
				delete(data, k)
			}
		}
	case http.MethodPost:
		if s.race {
			s.stored[body.Metadata.Name] = map[string]any{}
			w.WriteHeader(http.StatusConflict)
			return
		}
		s.stored[body.Metadata.Name] = body.Data
		w.WriteHeader(http.StatusCreated)
	}
}

func TestConfigMapIsMadeOrPatched(t *testing.T) {
	for _, race := range []bool{false, true} {
		store := &configMaps{stored: map[string]map[string]any{}, race: race}
		s := httptest.NewServer(store)
		c := New(s.URL, "llm", "", s.Client())
		value := func(v string) *string { return &v }
		if err := c.PutConfigMap(t.Context(), "llm", "parameters", map[string]*string{"a": value("1"), "b": value("2"), "gone": nil}); err != nil {
			t.Fatal(err)
		}
		if err := c.PutConfigMap(t.Context(), "llm", "parameters", map[string]*string{"b": nil, "c": value("3")}); err != nil {
			t.Fatal(err)
		}
		got := store.stored["parameters"]
		if len(got) != 2 || got["a"] != "1" || got["c"] != "3" {
			t.Errorf("race %v: %v after %q", race, got, store.requests)
		}
		if store.requests[0] != "PATCH application/merge-patch+json" {
			t.Errorf("requests %q", store.requests)
		}
		s.Close()
	}
}
