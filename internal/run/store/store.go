// Package store reads and writes the files of a run in a directory or in an S3
// bucket, with the same names in both.
//
// The S3 side takes its configuration from where every AWS tool does:
//
//	AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN
//	AWS_PROFILE, AWS_SHARED_CREDENTIALS_FILE, AWS_CONFIG_FILE
//	AWS_WEB_IDENTITY_TOKEN_FILE, AWS_ROLE_ARN       (IRSA; else the pod's or the instance's role)
//	AWS_REGION, AWS_DEFAULT_REGION
//	AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL           (https://host:port; default AWS itself)
//	AWS_S3_FORCE_PATH_STYLE                         (default: path style for every endpoint that is not AWS)
//	AWS_CA_BUNDLE                                   (PEM file of a private certificate authority)
package store

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/minio/minio-go/v7/pkg/s3utils"

	"wfgen.dev/internal/redact"
	"wfgen.dev/internal/run/exit"
)

// Store holds objects under slash-separated keys.
type Store interface {
	// Put writes an object whole or not at all.
	Put(ctx context.Context, key string, r io.Reader) error
	// Open reads an object; errors.Is(err, fs.ErrNotExist) tells that it is not there.
	Open(ctx context.Context, key string) (io.ReadCloser, error)
	// List returns the keys that lie under prefix, sorted, relative to the store.
	// The prefix is a path, as of a directory: "runs/1" does not list runs/10.
	// Empty, it lists the whole store. Nothing there is an empty list, no error.
	List(ctx context.Context, prefix string) ([]string, error)
	// String is where the store is, as the user wrote it.
	String() string
}

const scheme = "s3://"

// New is the store at location, a directory or s3://bucket/prefix. It touches
// neither: use Check to learn whether the place can be written. A location or
// an AWS environment that cannot be right is an error with code exit.Usage.
func New(ctx context.Context, location string) (Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, exit.With(exit.TryAgain, err)
	}
	s, err := at(location)
	if secrets := redact.From(ctx); err == nil && !secrets.None() {
		s = &reticent{s, secrets}
	}
	return s, err
}

// reticent is a store into which the secrets of its process do not get, whoever put
// them into what is to be stored.
type reticent struct {
	Store
	secrets redact.Secrets
}

func (s *reticent) Put(ctx context.Context, key string, r io.Reader) error {
	return s.Store.Put(ctx, key, s.secrets.Reader(r))
}

func at(location string) (Store, error) {
	if !IsRemote(location) {
		if location == "" {
			return nil, exit.Errorf(exit.Usage, "store: no location given; give a directory or s3://bucket/prefix")
		}
		if location == "-" {
			return nil, exit.Errorf(exit.Usage, "store: - is stdout, and several files are written; give a directory (./- for one of that name) or s3://bucket/prefix")
		}
		if name, _, found := strings.Cut(location, "://"); found {
			return nil, exit.Errorf(exit.Usage, "store: %s:// is not supported; give a directory or s3://bucket/prefix", name)
		}
		return &directory{root: location}, nil
	}
	bucket, prefix, err := parse(location)
	if err != nil {
		return nil, err
	}
	b, err := newBucket(bucket, prefix)
	if err != nil {
		return nil, err // not b, which would make an interface that is not nil
	}
	return b, nil
}

// mostKeys is the most that one listing may hold: a mistaken place must not fill the
// memory of a small pod. The largest sweep leaves less than half of it.
const mostKeys = 1_000_000

// bounded refuses a listing that was cut at mostKeys.
func bounded(place, prefix string, keys []string) error {
	if len(keys) > mostKeys {
		return exit.Errorf(exit.Usage, "%s, below %q: more than %d objects, which no run has; name the run", place, prefix, mostKeys)
	}
	return nil
}

// IsRemote tells whether location is in an object store rather than on this machine.
func IsRemote(location string) bool { return strings.HasPrefix(location, scheme) }

// Stdin names the standard input where a file is expected.
const Stdin = "-"

// Called is what errors call a file that OpenPath opens.
func Called(name string) string {
	if name == Stdin {
		return "stdin"
	}
	return name
}

type stdin struct{}

// WithStdin gives a command its standard input, which OpenPath then opens.
func WithStdin(ctx context.Context, in io.Reader) context.Context {
	return context.WithValue(ctx, stdin{}, in)
}

// OpenPath reads one file, given by its path, as s3://bucket/key, or as - for the
// standard input of the context, which can be read once.
// errors.Is(err, fs.ErrNotExist) tells that it is not there.
func OpenPath(ctx context.Context, name string) (io.ReadCloser, error) {
	if name == Stdin {
		if in, ok := ctx.Value(stdin{}).(io.Reader); ok && in != nil {
			return io.NopCloser(in), nil
		}
	}
	if !IsRemote(name) {
		return openFile(name)
	}
	bucket, key, err := parse(name)
	if err != nil {
		return nil, err
	}
	if key == "" {
		return nil, exit.Errorf(exit.Usage, "%s: names a bucket, not an object; give s3://%s/key", name, bucket)
	}
	s, err := newBucket(bucket, "")
	if err != nil {
		return nil, err
	}
	return s.Open(ctx, key)
}

// Check tells whether objects can be written to s, and leaves none behind: a
// sweep asks before it spends an hour of GPU time. A directory is created.
func Check(ctx context.Context, s Store) error {
	if r, ok := s.(*reticent); ok {
		s = r.Store
	}
	if c, ok := s.(interface{ check(context.Context) error }); ok {
		return c.check(ctx)
	}
	return nil
}

// parse splits s3://bucket/prefix. Its errors do not repeat what may be a
// password in front of the bucket.
func parse(location string) (bucket, prefix string, err error) {
	bucket, prefix, _ = strings.Cut(strings.TrimPrefix(location, scheme), "/")
	if strings.ContainsAny(bucket, "@:") {
		return "", "", exit.Errorf(exit.Usage, "store: an s3:// location holds credentials or a port; give s3://bucket/prefix, the credentials as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, the server as AWS_ENDPOINT_URL")
	}
	if bucket == "" {
		return "", "", exit.Errorf(exit.Usage, "%s: no bucket; give s3://bucket/prefix", location)
	}
	if err := s3utils.CheckValidBucketName(bucket); err != nil {
		return "", "", exit.Errorf(exit.Usage, "store: %q can be no bucket: %w", bucket, err)
	}
	prefix = strings.Trim(prefix, "/")
	if prefix != "" && !fs.ValidPath(prefix) {
		return "", "", exit.Errorf(exit.Usage, "%s: the prefix holds an empty, . or .. segment; give s3://bucket/prefix", location)
	}
	return bucket, prefix, nil
}

// validKey refuses keys that would leave the store or mean different things in
// a directory and in a bucket.
func validKey(store, key string) error {
	if !fs.ValidPath(key) || key == "." || strings.Contains(key, "\\") {
		return exit.Errorf(exit.Usage, "%s: %q is no key: expected names joined by single slashes, without . and ..", store, key)
	}
	return nil
}

// under normalises the prefix of a List.
func under(store, prefix string) (string, error) {
	prefix = strings.Trim(prefix, "/")
	if prefix == "" || prefix == "." {
		return "", nil
	}
	return prefix, validKey(store, prefix)
}

// reading gives up when ctx ends, and remembers whose fault an error was.
type reading struct {
	ctx context.Context
	r   io.Reader
	err error // of the source, other than its end
}

func (r *reading) Read(p []byte) (int, error) {
	n, err := 0, error(nil)
	if r.ctx != nil {
		err = r.ctx.Err()
	}
	if err == nil {
		n, err = r.r.Read(p)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = err
	}
	return n, err
}

// openFile opens a regular file: reading a directory would fail only later.
func openFile(name string) (io.ReadCloser, error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, exit.Errorf(exit.Usage, "%s: %w", name, fs.ErrNotExist)
	}
	if err != nil {
		return nil, exit.Errorf(exit.Usage, "cannot read: %w", err)
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = exit.Errorf(exit.Usage, "%s: is a directory, expected a file", name)
	}
	if err != nil {
		f.Close()
		return nil, exit.With(exit.Usage, err)
	}
	return f, nil
}
