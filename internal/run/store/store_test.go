package store

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/minio/minio-go/v7"

	"wfgen.dev/internal/redact"
	"wfgen.dev/internal/run/exit"
)

const secret = "not-for-anybodys-eyes"

// server is an S3 server over TLS, as the environment of this test names it.
type server struct {
	*httptest.Server
	backend  *s3mem.Backend
	requests atomic.Int64
	// before handles a request instead of the store where it returns true.
	before func(w http.ResponseWriter, r *http.Request) bool
}

func serve(t *testing.T) *server {
	t.Helper()
	s := &server{backend: s3mem.New()}
	if err := s.backend.CreateBucket("results"); err != nil {
		t.Fatal(err)
	}
	fake := gofakes3.New(s.backend, gofakes3.WithIntegrityCheck(true)).Server()
	s.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		if s.before == nil || !s.before(w, r) {
			fake.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(s.Close)
	bundle := filepath.Join(t.TempDir(), "ca.pem")
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(bundle, certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	environment(t, map[string]string{
		"AWS_ENDPOINT_URL":      s.URL,
		"AWS_CA_BUNDLE":         bundle,
		"AWS_ACCESS_KEY_ID":     "somebody",
		"AWS_SECRET_ACCESS_KEY": secret,
	})
	return s
}

// environment replaces all that the machine says about AWS.
func environment(t *testing.T, vars map[string]string) {
	t.Helper()
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, "")
		}
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("HOME", t.TempDir())
	for name, value := range vars {
		t.Setenv(name, value)
	}
}

func open(t *testing.T, location string, wait time.Duration) Store {
	t.Helper()
	s, err := New(t.Context(), location)
	if err != nil {
		t.Fatal(err)
	}
	if b, ok := s.(*bucket); ok {
		b.patience = wait
	}
	return s
}

// stores are one of each kind, empty.
func stores(t *testing.T) map[string]Store {
	if err := serve(t).backend.CreateBucket("whole"); err != nil {
		t.Fatal(err)
	}
	return map[string]Store{
		"directory": open(t, filepath.Join(t.TempDir(), "not", "yet", "there"), 0),
		"bucket":    open(t, "s3://results/team/sweeps", 0),
		"whole":     open(t, "s3://whole", 0),
	}
}

func read(t *testing.T, s Store, key string) (string, error) {
	t.Helper()
	r, err := s.Open(t.Context(), key)
	if err != nil {
		return "", err
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	return string(text), err
}

// The client of buckets waits between its attempts; here a thousandth of it.
func TestMain(m *testing.M) {
	minio.DefaultRetryUnit /= 1000
	minio.DefaultRetryCap /= 1000
	os.Exit(m.Run())
}

func TestStore(t *testing.T) {
	for name, s := range stores(t) {
		t.Run(name, func(t *testing.T) {
			if keys, err := s.List(t.Context(), ""); err != nil || len(keys) != 0 {
				t.Fatalf("empty store lists %v, %v", keys, err)
			}
			if err := Check(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			if keys, err := s.List(t.Context(), ""); err != nil || len(keys) != 0 {
				t.Fatalf("the check left %v, %v", keys, err)
			}
			for _, key := range []string{"runs/1/b.json", "runs/1/a/x.json", "runs/1.json", "runs/10/c.json", "empty"} {
				if err := s.Put(t.Context(), key, strings.NewReader(strings.TrimPrefix(key, "empty"))); err != nil {
					t.Fatal(err)
				}
			}
			for prefix, want := range map[string][]string{
				"":        {"empty", "runs/1.json", "runs/1/a/x.json", "runs/1/b.json", "runs/10/c.json"},
				"runs/1":  {"runs/1/a/x.json", "runs/1/b.json"},
				"runs/1/": {"runs/1/a/x.json", "runs/1/b.json"},
				"nothing": nil,
				"empty":   nil, // an object is not under itself
			} {
				keys, err := s.List(t.Context(), prefix)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, keys); diff != "" {
					t.Errorf("under %q (-want +got):\n%s", prefix, diff)
				}
			}
			for _, key := range []string{"runs/1/a/x.json", "empty"} {
				text, err := read(t, s, key)
				if err != nil || text != strings.TrimPrefix(key, "empty") {
					t.Errorf("%s holds %q, %v", key, text, err)
				}
			}
			if err := s.Put(t.Context(), "empty", strings.NewReader("filled")); err != nil {
				t.Fatal(err)
			}
			if text, _ := read(t, s, "empty"); text != "filled" {
				t.Errorf("overwritten object holds %q", text)
			}
			_, err := s.Open(t.Context(), "runs/2.json")
			if !errors.Is(err, fs.ErrNotExist) || exit.Code(err) != exit.Usage || !strings.Contains(err.Error(), s.String()+"/runs/2.json") {
				t.Errorf("missing object: code %d: %v", exit.Code(err), err)
			}
			for _, key := range []string{"", ".", "..", "../x", "a/../../x", "/etc/passwd", "a//b", "a/", `a\b`} {
				if err := s.Put(t.Context(), key, strings.NewReader("x")); exit.Code(err) != exit.Usage {
					t.Errorf("Put(%q) = %v", key, err)
				}
				if _, err := s.Open(t.Context(), key); exit.Code(err) != exit.Usage || errors.Is(err, fs.ErrNotExist) {
					t.Errorf("Open(%q) = %v", key, err)
				}
			}
		})
	}
}

// A source that fails half-way leaves what was there before, or nothing.
func TestPutIsWholeOrNothing(t *testing.T) {
	for name, s := range stores(t) {
		for _, size := range []int{100, partSize + 100} {
			t.Run(fmt.Sprint(name, size), func(t *testing.T) {
				broken := errors.New("the source broke")
				half := func() io.Reader {
					return io.MultiReader(bytes.NewReader(make([]byte, size)), iotest.ErrReader(broken))
				}
				if err := s.Put(t.Context(), "new", half()); !errors.Is(err, broken) || exit.Code(err) != exit.TryAgain {
					t.Errorf("code %d: %v", exit.Code(err), err)
				}
				if keys, err := s.List(t.Context(), ""); len(keys) != 0 {
					t.Errorf("left %v, %v", keys, err)
				}
				if d, ok := s.(*directory); ok {
					if left, _ := os.ReadDir(d.root); len(left) != 0 {
						t.Errorf("left %v", left)
					}
				}
			})
		}
		if err := s.Put(t.Context(), "old", strings.NewReader("before")); err != nil {
			t.Fatal(err)
		}
		_ = s.Put(t.Context(), "old", io.MultiReader(strings.NewReader("after"), iotest.ErrReader(io.ErrNoProgress)))
		if text, err := read(t, s, "old"); text != "before" {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
}

func TestLargeObject(t *testing.T) {
	data := make([]byte, 2*partSize+12345)
	if _, err := rand.Read(data); err != nil {
		t.Fatal(err)
	}
	for name, s := range stores(t) {
		// The type of the reader is hidden: nothing but Read may be needed.
		if err := s.Put(t.Context(), "large", io.MultiReader(bytes.NewReader(data))); err != nil {
			t.Fatal(err)
		}
		if text, err := read(t, s, "large"); text != string(data) {
			t.Errorf("%s: read back %d bytes that differ from the %d written: %v", name, len(text), len(data), err)
		}
	}
}

func TestOpenPath(t *testing.T) {
	for name, s := range stores(t) {
		if err := s.Put(t.Context(), "a/b.json", strings.NewReader("text")); err != nil {
			t.Fatal(err)
		}
		r, err := OpenPath(t.Context(), s.String()+"/a/b.json")
		if err != nil {
			t.Fatal(name, err)
		}
		text, err := io.ReadAll(r)
		if r.Close(); string(text) != "text" || err != nil {
			t.Errorf("%s: %q, %v", name, text, err)
		}
		if _, err := OpenPath(t.Context(), s.String()+"/a/c.json"); !errors.Is(err, fs.ErrNotExist) || exit.Code(err) != exit.Usage {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{t.TempDir(), "s3://results", "s3:///x"} {
		if _, err := OpenPath(t.Context(), name); exit.Code(err) != exit.Usage {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestUnwritableDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	places := []string{file, filepath.Join(file, "below")}
	closed := filepath.Join(t.TempDir(), "closed")
	if err := os.Mkdir(closed, 0o555); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() != 0 { // to root no mode is closed
		places = append(places, closed, filepath.Join(closed, "below"))
	} else {
		places = append(places, "/proc/no-such-place")
	}
	for _, place := range places {
		s := open(t, place, 0)
		for what, err := range map[string]error{
			"Check": Check(t.Context(), s),
			"Put":   s.Put(t.Context(), "a/b", strings.NewReader("x")),
		} {
			if exit.Code(err) != exit.Usage || !strings.Contains(err.Error(), place) {
				t.Errorf("%s in %s: code %d: %v", what, place, exit.Code(err), err)
			}
		}
	}
}

func TestFullDiskMayBeEmptied(t *testing.T) {
	if err := writeError("/results/x", &fs.PathError{Op: "write", Path: "/results/x", Err: syscall.ENOSPC}); exit.Code(err) != exit.TryAgain || !strings.Contains(err.Error(), "free space") {
		t.Errorf("code %d: %v", exit.Code(err), err)
	}
}

// Every mistake gets a code that tells whether a retry can help, and an error
// that names the place and holds no secret.
func TestBucketErrors(t *testing.T) {
	answer := func(status int, code string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Type", "application/xml")
			w.WriteHeader(status)
			fmt.Fprintf(w, "<Error><Code>%s</Code><Message>because</Message></Error>", code)
			return true
		}
	}
	tests := []struct {
		name     string
		location string
		env      map[string]string
		before   func(http.ResponseWriter, *http.Request) bool
		code     int
		says     []string
	}{
		{name: "bucket missing", location: "s3://nowhere/x", code: exit.Usage, says: []string{"nowhere", "does not exist"}},
		{name: "denied", before: answer(403, "AccessDenied"), code: exit.Usage, says: []string{"s3://results", "s3:PutObject"}},
		{name: "wrong key", before: answer(403, "SignatureDoesNotMatch"), code: exit.Usage, says: []string{"AWS_SECRET_ACCESS_KEY"}},
		{name: "wrong region", before: answer(400, "AuthorizationHeaderMalformed"), code: exit.Usage, says: []string{"AWS_REGION"}},
		{name: "overloaded", before: answer(503, "SlowDown"), code: exit.TryAgain, says: []string{"s3://results"}},
		{name: "broken", before: answer(500, "InternalError"), code: exit.TryAgain, says: []string{"500"}},
		{name: "storage full", before: answer(507, "XMinioStorageFull"), code: exit.TryAgain, says: []string{"507"}},
		{name: "down", env: map[string]string{"AWS_ENDPOINT_URL": "https://127.0.0.1:1"}, code: exit.TryAgain, says: []string{"127.0.0.1:1", "AWS_ENDPOINT_URL"}},
		{name: "plain", env: map[string]string{"AWS_ENDPOINT_URL": plain(t)}, code: exit.Usage, says: []string{"plain HTTP", "http://127.0.0.1"}},
		{name: "unknown authority", env: map[string]string{"AWS_CA_BUNDLE": ""}, code: exit.Usage, says: []string{"AWS_CA_BUNDLE"}},
		{name: "no credentials", env: map[string]string{"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, code: exit.Usage, says: []string{"no S3 credentials", "AWS_PROFILE"}},
		{name: "half credentials", env: map[string]string{"AWS_ACCESS_KEY_ID": ""}, code: exit.Usage, says: []string{"AWS_ACCESS_KEY_ID"}},
		{name: "web identity", env: map[string]string{"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_WEB_IDENTITY_TOKEN_FILE": "/no/token", "AWS_ROLE_ARN": "arn:x"}, code: exit.TryAgain, says: []string{"/no/token", "arn:x"}},
		{name: "bucket name", location: "s3://A_B", code: exit.Usage, says: []string{"A_B"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := serve(t)
			s.before = test.before
			for name, value := range test.env {
				t.Setenv(name, value)
			}
			if test.location == "" {
				test.location = "s3://results/x"
			}
			st := open(t, test.location, 0)
			_, openErr := st.Open(t.Context(), "key")
			_, listErr := st.List(t.Context(), "")
			for what, err := range map[string]error{
				"Check": Check(t.Context(), st),
				"Put":   st.Put(t.Context(), "key", strings.NewReader("x")),
				"Open":  openErr,
				"List":  listErr,
			} {
				if exit.Code(err) != test.code {
					t.Errorf("%s: code %d, want %d: %v", what, exit.Code(err), test.code, err)
					continue
				}
				for _, part := range append(test.says, test.location) {
					if !strings.Contains(err.Error(), part) {
						t.Errorf("%s: %q does not say %q", what, err, part)
					}
				}
				if strings.Contains(err.Error(), secret) || errors.Is(err, fs.ErrNotExist) && test.name != "web identity" {
					t.Errorf("%s: %v", what, err)
				}
			}
		})
	}
}

// plain is the address of a server that does not speak TLS, given as if it did.
func plain(t *testing.T) string {
	s := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(s.Close)
	return strings.Replace(s.URL, "http://", "https://", 1)
}

func TestRetry(t *testing.T) {
	for _, failures := range []int64{2, 5} { // within the client's own attempts, and beyond them
		s := serve(t)
		var failed atomic.Int64
		s.before = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPut || failed.Add(1) > failures {
				return false
			}
			_, _ = io.Copy(io.Discard, r.Body)
			http.Error(w, "<Error><Code>SlowDown</Code></Error>", http.StatusServiceUnavailable)
			return true
		}
		st := open(t, "s3://results/x", 10*time.Second)
		if err := st.Put(t.Context(), "key", strings.NewReader("whole")); err != nil {
			t.Fatal(err)
		}
		if failed.Load() != failures+1 {
			t.Errorf("%d attempts, want %d failures and a success", failed.Load(), failures)
		}
		if text, err := read(t, st, "key"); text != "whole" || err != nil {
			t.Errorf("%q, %v", text, err)
		}
	}
}

func TestRetryEndsWithItsContext(t *testing.T) {
	serve(t).before = func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	}
	st := open(t, "s3://results/x", time.Hour)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	begin := time.Now()
	err := st.Put(ctx, "key", strings.NewReader("x"))
	if exit.Code(err) != exit.TryAgain || time.Since(begin) > 5*time.Second {
		t.Errorf("after %v: code %d: %v", time.Since(begin), exit.Code(err), err)
	}
}

// A connection that breaks in the middle of an object is made again there.
func TestReadGoesOnWhereItBroke(t *testing.T) {
	s := serve(t)
	data := strings.Repeat("0123456789", 200_000)
	st := open(t, "s3://results/x", 10*time.Second)
	if err := st.Put(t.Context(), "key", strings.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	var ranges []string
	s.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || r.URL.Query().Has("location") {
			return false
		}
		if ranges = append(ranges, r.Header.Get("Range")); len(ranges) > 1 {
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		w.Header().Set("ETag", fmt.Sprintf("%q", fmt.Sprintf("%x", md5.Sum([]byte(data)))))
		w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
		_, _ = io.WriteString(w, data[:1_000_000])
		panic(http.ErrAbortHandler)
	}
	if text, err := read(t, st, "key"); text != data || err != nil {
		t.Errorf("read %d of %d bytes: %v", len(text), len(data), err)
	}
	if len(ranges) != 2 || ranges[0] != "" || ranges[1] == "" {
		t.Errorf("ranges %q", ranges)
	}
}

func TestReadGivesUp(t *testing.T) {
	serve(t).before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Has("location") {
			return false
		}
		w.Header().Set("Content-Length", "100")
		w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	if text, err := read(t, open(t, "s3://results/x", 0), "key"); exit.Code(err) != exit.TryAgain || !strings.Contains(err.Error(), "s3://results/x/key") {
		t.Errorf("%q, code %d: %v", text, exit.Code(err), err)
	}
}

// The server verifies what it got: a body that was damaged on its way is refused.
func TestChecksumIsSent(t *testing.T) {
	s := serve(t)
	s.before = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut {
			body, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(strings.NewReader(strings.Replace(string(body), "a", "b", 1)))
		}
		return false
	}
	st := open(t, "s3://results/x", 0)
	if err := st.Put(t.Context(), "key", strings.NewReader("abc")); exit.Code(err) != exit.TryAgain || !strings.Contains(err.Error(), "BadDigest") {
		t.Errorf("code %d: %v", exit.Code(err), err)
	}
	if keys, err := st.List(t.Context(), ""); len(keys) != 0 {
		t.Errorf("left %v, %v", keys, err)
	}
}

func TestSharedCredentials(t *testing.T) {
	s := serve(t)
	file := filepath.Join(t.TempDir(), "credentials")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var signer string
	s.before = func(_ http.ResponseWriter, r *http.Request) bool {
		signer = r.Header.Get("Authorization")
		return false
	}
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_PROFILE": "lab", "AWS_SHARED_CREDENTIALS_FILE": file} {
		t.Setenv(name, value)
	}
	write("[default]\naws_access_key_id = other\naws_secret_access_key = " + secret + "\n[lab]\naws_access_key_id = labkey\naws_secret_access_key = " + secret + "\n")
	if err := Check(t.Context(), open(t, "s3://results/x", 0)); err != nil || !strings.Contains(signer, "Credential=labkey/") {
		t.Errorf("%v, signed %q", err, signer)
	}
	for text, says := range map[string]string{
		"[default]\naws_access_key_id = other\n":    "lab",
		"[lab]\naws_secret_access_key " + secret:    "key = value",
		"[lab]\naws_secret_access_key = " + secret:  "partial",
		"[lab\naws_secret_access_key = " + secret:   "[section]",
		"[lab]\ncredential_process = /no/such tool": "no such file",
	} {
		write(text)
		err := Check(t.Context(), open(t, "s3://results/x", 0))
		if exit.Code(err) != exit.Usage || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), secret) {
			t.Errorf("%q: code %d: %v", text, exit.Code(err), err)
		}
	}
}

func TestAddressing(t *testing.T) {
	for _, test := range []struct{ force, host string }{
		{"", "store.example:9000"},
		{"true", "store.example:9000"},
		{"false", "results.store.example:9000"},
	} {
		environment(t, map[string]string{"AWS_ENDPOINT_URL": "https://ignored.example", "AWS_ENDPOINT_URL_S3": "https://store.example:9000", "AWS_S3_FORCE_PATH_STYLE": test.force, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "eu-west-1"})
		b := open(t, "s3://results/x", 0).(*bucket)
		u, err := b.client.Presign(t.Context(), http.MethodGet, "results", "x", time.Minute, nil)
		if err != nil || u.Host != test.host || !strings.Contains(u.RawQuery, "eu-west-1") {
			t.Errorf("%+v: %v, %v", test, u, err)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	const url = "https://user:" + secret + "@host"
	for _, test := range []struct {
		location string
		env      map[string]string
		says     string
	}{
		{"", nil, "directory"},
		{"s3://", nil, "no bucket"},
		{"s3:///prefix", nil, "no bucket"},
		{"s3://bucket/../c", nil, ".."},
		{"s3://bucket/a//c", nil, "empty"},
		{"gs://b/x", nil, "gs://"},
		{"s3://key:" + secret + "@b/x", nil, "AWS_ACCESS_KEY_ID"},
		{"s3://bucket", map[string]string{"AWS_ENDPOINT_URL": url}, "AWS_ACCESS_KEY_ID"},
		{"s3://bucket", map[string]string{"AWS_ENDPOINT_URL": "host:9000"}, "http://host:port"},
		{"s3://bucket", map[string]string{"AWS_ENDPOINT_URL": "https://host/b"}, "path"},
		{"s3://bucket", map[string]string{"AWS_S3_FORCE_PATH_STYLE": "perhaps"}, "perhaps"},
		{"s3://bucket", map[string]string{"AWS_CA_BUNDLE": "/no/such/file"}, "/no/such/file"},
		{"s3://bucket", map[string]string{"AWS_CA_BUNDLE": os.Args[0]}, "PEM"},
	} {
		environment(t, test.env)
		s, err := New(t.Context(), test.location)
		if s != nil || err == nil || exit.Code(err) != exit.Usage || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), secret) {
			t.Errorf("%q %v: code %d: %v", test.location, test.env, exit.Code(err), err)
		}
	}
}

// Whatever puts a secret of the process into what is stored, it is not stored.
func TestSecretsAreNotStored(t *testing.T) {
	serve(t)
	for _, location := range []string{t.TempDir(), "s3://results/x"} {
		s, err := New(redact.With(t.Context(), redact.Of("key-of-the-server")), location)
		if err != nil {
			t.Fatal(err)
		}
		if err := Check(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		if err := s.Put(t.Context(), "a/b.json", strings.NewReader(`{"said": "no key-of-the-server"}`)); err != nil {
			t.Fatal(err)
		}
		f, err := s.Open(t.Context(), "a/b.json")
		if err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(f); err != nil || string(text) != `{"said": "no ***"}` {
			t.Errorf("%s: %q, %v", location, text, err)
		}
		f.Close()
	}
}

// A scan reads files, and links to them; it does not wait for what never ends.
func TestListLeavesOutWhatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	for _, err := range []error{
		os.WriteFile(filepath.Join(dir, "a.json"), nil, 0o600), syscall.Mkfifo(filepath.Join(dir, "pipe.json"), 0o600),
		os.Symlink("a.json", filepath.Join(dir, "link.json")), os.Symlink("/dev/zero", filepath.Join(dir, "zero.json")),
		os.Symlink("nowhere", filepath.Join(dir, "broken.json")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s, err := New(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := s.List(t.Context(), "")
	if want := []string{"a.json", "link.json"}; err != nil || !cmp.Equal(keys, want) {
		t.Errorf("%q, %v", keys, err)
	}
}

// A link is written through, a device in place, and what is there stays when the new
// cannot be written whole.
func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, text string) error { return WriteFile(name, 0o640, strings.NewReader(text)) }
	read := func(name string) string {
		data, err := os.ReadFile(at(name))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	for _, err := range []error{
		os.Mkdir(at("else"), 0o755), os.Symlink("else/real", at("link")), os.Symlink("link", at("link-to-link")),
		os.Symlink("else/none", at("dangling")), os.Symlink("circle", at("circle")), os.Symlink("/dev/null", at("null")),
		write(at("plain"), "1"), write(at("link"), "2"), write(at("link-to-link"), "3"), write(at("dangling"), "4"), write(at("null"), "5"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := []string{read("plain"), read("else/real"), read("else/none")}; !cmp.Equal(got, []string{"1", "3", "4"}) {
		t.Errorf("%q", got)
	}
	for name, kind := range map[string]fs.FileMode{"plain": 0, "link": fs.ModeSymlink, "link-to-link": fs.ModeSymlink, "dangling": fs.ModeSymlink, "null": fs.ModeSymlink} {
		if info, err := os.Lstat(at(name)); err != nil || info.Mode().Type() != kind || kind == 0 && info.Mode().Perm() != 0o640 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	if err := write("/dev/full", "x"); exit.Code(err) != exit.TryAgain {
		t.Errorf("exit %d, %v", exit.Code(err), err)
	}
	if info, err := os.Stat("/dev/full"); err != nil || info.Mode()&fs.ModeCharDevice == 0 {
		t.Fatalf("the device is gone: %v, %v", info, err)
	}
	if err := write(at("circle"), "x"); err == nil {
		t.Error("a circle of links was written")
	}
	broken := errors.New("broken")
	if err := WriteFile(at("plain"), 0o600, io.MultiReader(strings.NewReader("half"), iotest.ErrReader(broken))); !errors.Is(err, broken) || read("plain") != "1" {
		t.Errorf("%v, %q", err, read("plain"))
	}
	pipe := at("pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	got := make(chan string)
	go func() {
		data, _ := os.ReadFile(pipe)
		got <- string(data)
	}()
	if err := write(pipe, "through"); err != nil || <-got != "through" {
		t.Errorf("%v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
		t.Errorf("left %q", left)
	}
}

func TestPlacesThatCannotBe(t *testing.T) {
	for _, location := range []string{"-", "s3://a/x", "s3://" + strings.Repeat("b", 64) + "/x", "s3://192.168.1.1/x"} {
		if _, err := New(t.Context(), location); exit.Code(err) != exit.Usage {
			t.Errorf("%s: exit %d, %v", location, exit.Code(err), err)
		}
	}
}

func TestListingsAreBounded(t *testing.T) {
	if err := bounded("s3://b", "runs", make([]string, mostKeys)); err != nil {
		t.Error(err)
	}
	if err := bounded("s3://b", "runs", make([]string, mostKeys+1)); exit.Code(err) != exit.Usage || !strings.Contains(err.Error(), "s3://b") {
		t.Errorf("%v", err)
	}
}

// What answers without end at the endpoint fills no memory, and is not asked again.
func TestAnswersAreBounded(t *testing.T) {
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		text := bytes.Repeat([]byte("x"), 1<<20)
		for err := error(nil); err == nil; { // until the client has gone
			_, err = w.Write(text)
		}
	}))
	defer func() { server.CloseClientConnections(); server.Close() }()
	environment(t, map[string]string{"AWS_ENDPOINT_URL": server.URL, "AWS_ACCESS_KEY_ID": "user", "AWS_SECRET_ACCESS_KEY": "for-the-test-alone", "AWS_REGION": "us-east-1"})
	if _, err := open(t, "s3://results/x", time.Minute).List(t.Context(), ""); exit.Code(err) != exit.Usage || !strings.Contains(err.Error(), "which no object store gives") {
		t.Errorf("code %d: %v", exit.Code(err), err)
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
}
