package store

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"

	"wfgen.dev/internal/run/exit"
)

// bucket is a store under a prefix of an S3 bucket.
type bucket struct {
	name, prefix string
	client       minio.Core

	// How long an operation is repeated before its error is believed. A store
	// that restarts must not cost a finished measurement.
	patience time.Duration
}

const (
	patience = time.Minute
	// One part is held in memory for its checksum; at most 10,000 parts make
	// objects of up to 160 GB.
	partSize = 16 << 20
)

func newBucket(name, prefix string) (*bucket, error) {
	endpoint, options, err := fromEnvironment()
	if err != nil {
		return nil, err
	}
	client, err := minio.NewCore(endpoint, options)
	if err != nil {
		return nil, exit.Errorf(exit.Usage, "s3://%s: endpoint %s: %w", name, endpoint, err)
	}
	// The address that other AWS tools use; network policies know that one.
	client.SetS3EnableDualstack(false)
	return &bucket{name: name, prefix: prefix, client: *client, patience: patience}, nil
}

// fromEnvironment reads where the server is and how to talk to it.
func fromEnvironment() (endpoint string, o *minio.Options, err error) {
	o = &minio.Options{
		Creds:      newCredentials(),
		Secure:     true,
		Region:     firstEnv("AWS_REGION", "AWS_DEFAULT_REGION"),
		MaxRetries: 3, // within one part of an upload; retry repeats whole operations
	}
	endpoint = "s3.amazonaws.com"
	if text := firstEnv("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"); text != "" {
		u, err := url.Parse(text)
		// The text is not repeated: people put passwords into URLs.
		switch {
		case err != nil, u.Host == "", u.Scheme != "http" && u.Scheme != "https":
			return "", nil, exit.Errorf(exit.Usage, "AWS_ENDPOINT_URL: expected http://host:port or https://host:port")
		case u.User != nil:
			return "", nil, exit.Errorf(exit.Usage, "AWS_ENDPOINT_URL: holds credentials; give them as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
		case strings.Trim(u.Path, "/") != "" || u.RawQuery != "":
			return "", nil, exit.Errorf(exit.Usage, "AWS_ENDPOINT_URL: %s://%s is followed by a path; the bucket belongs into s3://bucket/prefix", u.Scheme, u.Host)
		}
		endpoint, o.Secure = u.Host, u.Scheme == "https"
	}
	if text := os.Getenv("AWS_S3_FORCE_PATH_STYLE"); text != "" {
		force, err := strconv.ParseBool(text)
		if err != nil {
			return "", nil, exit.Errorf(exit.Usage, "AWS_S3_FORCE_PATH_STYLE: %q is neither true nor false", text)
		}
		o.BucketLookup = minio.BucketLookupDNS
		if force {
			o.BucketLookup = minio.BucketLookupPath
		}
	}
	transport, err := minio.DefaultTransport(o.Secure)
	if err != nil {
		return "", nil, exit.With(exit.Usage, err)
	}
	if name := os.Getenv("AWS_CA_BUNDLE"); name != "" && o.Secure {
		pem, err := os.ReadFile(name)
		if err != nil {
			return "", nil, exit.Errorf(exit.Usage, "AWS_CA_BUNDLE: %w", err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return "", nil, exit.Errorf(exit.Usage, "AWS_CA_BUNDLE: %s holds no PEM certificate", name)
		}
		transport.TLSClientConfig.RootCAs = roots
	}
	o.Transport = brief{transport}
	return endpoint, o, nil
}

func firstEnv(names ...string) string {
	for _, name := range names {
		if v := os.Getenv(name); v != "" {
			return v
		}
	}
	return ""
}

func (b *bucket) String() string { return b.url("") }

func (b *bucket) url(key string) string {
	return scheme + path.Join(b.name, b.prefix, key)
}

func (b *bucket) object(key string) string { return path.Join(b.prefix, key) }

func (b *bucket) Put(ctx context.Context, key string, r io.Reader) error {
	if err := validKey(b.String(), key); err != nil {
		return err
	}
	body, size, done, err := rewindable(&reading{ctx: ctx, r: r})
	if err != nil {
		return exit.With(exit.TryAgain, fmt.Errorf("cannot write %s: %w", b.url(key), err))
	}
	defer done()
	return b.retry(ctx, "write", key, func() error {
		_, err := b.client.Client.PutObject(ctx, b.name, b.object(key), io.NewSectionReader(body, 0, size), size, minio.PutObjectOptions{
			ContentType:    contentType(key),
			SendContentMd5: true, // the one checksum that every server verifies
			PartSize:       partSize,
		})
		return err
	})
}

// rewindable reads all of r, so that an upload can be repeated and a source that
// fails never begins one: up to one part into memory, more into a temporary file.
func rewindable(r io.Reader) (body io.ReaderAt, size int64, done func(), err error) {
	var head bytes.Buffer
	if size, err = io.CopyN(&head, r, partSize); errors.Is(err, io.EOF) {
		return bytes.NewReader(head.Bytes()), size, func() {}, nil
	}
	if err != nil {
		return nil, 0, nil, err
	}
	f, err := os.CreateTemp("", "upload-")
	if err != nil {
		return nil, 0, nil, err
	}
	done = func() { f.Close() }
	// Without its name, the file is gone with the process, however that ends.
	if err = os.Remove(f.Name()); err == nil {
		size, err = io.Copy(f, io.MultiReader(&head, r))
	}
	if err != nil {
		done()
		return nil, 0, nil, err
	}
	return f, size, done, nil
}

// contentType makes a browser show what a link to the object leads to.
func contentType(key string) string {
	switch path.Ext(key) {
	case ".json":
		return "application/json"
	case ".html":
		return "text/html; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	case ".txt", ".log", ".md", ".yaml":
		return "text/plain; charset=utf-8"
	default:
		return "application/octet-stream"
	}
}

func (b *bucket) Open(ctx context.Context, key string) (io.ReadCloser, error) {
	if err := validKey(b.String(), key); err != nil {
		return nil, err
	}
	d := &download{ctx: ctx, bucket: b, key: key}
	if err := d.open(); err != nil {
		return nil, err
	}
	return d, nil
}

// download is an object being read. A connection that breaks is made again where
// it broke; an object that was replaced meanwhile is an error, not a mixture.
type download struct {
	ctx    context.Context
	bucket *bucket
	key    string
	body   io.ReadCloser
	etag   string
	offset int64
	size   int64 // -1: the server does not say
	stalls int   // connections in a row that broke before they brought anything
}

const maxStalls = 4

func (d *download) open() error {
	return d.bucket.retry(d.ctx, "read", d.key, func() error {
		var o minio.GetObjectOptions
		if d.offset > 0 {
			if err := o.SetRange(d.offset, 0); err != nil {
				return err
			}
			if err := o.SetMatchETag(d.etag); err != nil {
				return err
			}
		}
		body, info, _, err := d.bucket.client.GetObject(d.ctx, d.bucket.name, d.bucket.object(d.key), o)
		if err != nil {
			return err
		}
		d.body = body
		if d.offset == 0 {
			d.etag, d.size = info.ETag, info.Size
		}
		return nil
	})
}

func (d *download) Read(p []byte) (int, error) {
	for {
		n, err := d.body.Read(p)
		d.offset += int64(n)
		switch {
		case n > 0:
			d.stalls = 0
			return n, nil // an error comes back with the next read
		case err == nil:
			return 0, nil
		case d.offset >= d.size && (d.size >= 0 || err == io.EOF):
			return 0, io.EOF
		case d.stalls == maxStalls:
			return 0, d.bucket.explain(d.ctx, "read", d.key, err)
		}
		d.stalls++
		d.body.Close()
		if err := d.open(); err != nil {
			return 0, err
		}
	}
}

func (d *download) Close() error { return d.body.Close() }

func (b *bucket) List(ctx context.Context, prefix string) ([]string, error) {
	prefix, err := under(b.String(), prefix)
	if err != nil {
		return nil, err
	}
	start := b.object(prefix)
	if start != "" {
		start += "/"
	}
	var keys []string
	err = b.retry(ctx, "list", prefix, func() error {
		keys = nil
		for object := range b.client.ListObjectsIter(ctx, b.name, minio.ListObjectsOptions{Prefix: start, Recursive: true}) {
			if object.Err != nil {
				return object.Err
			}
			key := object.Key
			if b.prefix != "" {
				key = strings.TrimPrefix(key, b.prefix+"/")
			}
			// Consoles make "directories" of empty objects, and other tools
			// make keys that no directory can hold; none are ours.
			if fs.ValidPath(key) {
				keys = append(keys, key)
			}
			if len(keys) > mostKeys {
				return nil // said below: to list it again would not help
			}
		}
		return ctx.Err() // the iteration ends early without saying so
	})
	if err != nil {
		return nil, err
	}
	if err := bounded(b.String(), prefix, keys); err != nil {
		return nil, err
	}
	slices.Sort(keys)
	return keys, nil
}

// check begins an upload and gives it up: that needs the bucket and the right to
// write, and leaves no object and no need for the right to delete one.
func (b *bucket) check(ctx context.Context) error {
	const probe = "write-check"
	quick := *b
	quick.patience = min(b.patience, 5*time.Second) // a mistyped endpoint should say so soon
	return quick.retry(ctx, "write", probe, func() error {
		id, err := b.client.NewMultipartUpload(ctx, b.name, b.object(probe), minio.PutObjectOptions{})
		if err != nil {
			return err
		}
		// What cannot be given up is invisible and costs nothing, so that its
		// error is no reason to refuse the bucket.
		_ = b.client.AbortMultipartUpload(ctx, b.name, b.object(probe), id)
		return nil
	})
}

// retry repeats op, waiting twice as long each time, while its error is one that
// passes and patience lasts. The error of the last attempt is explained.
func (b *bucket) retry(ctx context.Context, verb, key string, op func() error) error {
	wait, end := time.Second/2, time.Now().Add(b.patience)
	for {
		err := op()
		if err == nil {
			return nil
		}
		err = b.explain(ctx, verb, key, err)
		if exit.Code(err) != exit.TryAgain || time.Now().Add(wait).After(end) || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
		wait = min(2*wait, 10*time.Second)
	}
}

// explain says which object, what the server said and what to do, with the exit
// code that follows: what only a person can fix is exit.Usage, what may pass is
// exit.TryAgain.
func (b *bucket) explain(ctx context.Context, verb, key string, err error) error {
	what := "cannot " + verb + " " + b.url(key)
	if ctx.Err() != nil {
		return exit.Errorf(exit.TryAgain, "%s: stopped: %w", what, ctx.Err())
	}
	endpoint := b.client.EndpointURL()
	var coded *exit.Error
	var unknown *tls.CertificateVerificationError
	var response minio.ErrorResponse
	switch {
	case errors.As(err, &coded): // from our own credentials
		return fmt.Errorf("%s: %w", what, err)
	case errors.As(err, &unknown):
		return exit.Errorf(exit.Usage, "%s: the certificate of %s is not trusted: %w; set AWS_CA_BUNDLE to the PEM file of its authority", what, endpoint.Host, err)
	case strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return exit.Errorf(exit.Usage, "%s: %s answers in plain HTTP; set AWS_ENDPOINT_URL to http://%s", what, endpoint.Host, endpoint.Host)
	case !errors.As(err, &response) || response.StatusCode == 0 && response.Code == "":
		return exit.Errorf(exit.TryAgain, "%s: no answer from %s: %w; is AWS_ENDPOINT_URL right, and the server up?", what, endpoint, err)
	}
	said := response.Code
	if response.Message != "" {
		said += ": " + response.Message
	}
	switch response.Code {
	case "NoSuchKey":
		return exit.Errorf(exit.Usage, "%s: %w", b.url(key), fs.ErrNotExist)
	case "NoSuchBucket":
		return exit.Errorf(exit.Usage, "%s: bucket %s does not exist on %s; create it or name another one", what, b.name, endpoint)
	case "InvalidBucketName":
		return exit.Errorf(exit.Usage, "%s: %q is no bucket name (%s)", what, b.name, said)
	case "AccessDenied", "AllAccessDisabled", "AccountProblem":
		return exit.Errorf(exit.Usage, "%s: %s; the credentials in use need s3:GetObject, s3:PutObject and s3:ListBucket on bucket %s", what, said, b.name)
	case "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "InvalidTokenId", "InvalidSecurity", "NotSignedUp":
		return exit.Errorf(exit.Usage, "%s: %s; check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", what, said)
	case "ExpiredToken", "TokenRefreshRequired":
		return exit.Errorf(exit.TryAgain, "%s: %s; the credentials have expired, renew them", what, said)
	case "RequestTimeTooSkewed":
		return exit.Errorf(exit.Usage, "%s: %s; set the clock of this machine", what, said)
	case "AuthorizationHeaderMalformed", "PermanentRedirect", "TemporaryRedirect", "InvalidRegion", "IllegalLocationConstraintException", "301 Moved Permanently":
		return exit.Errorf(exit.Usage, "%s: %s; set AWS_REGION to the region of bucket %s", what, said, b.name)
	case "BadDigest", "PreconditionFailed", "RequestTimeout", "SlowDown", "Throttling", "NoSuchUpload":
		// Damaged or cut off on its way, replaced while it was read, too much at once.
		return exit.Errorf(exit.TryAgain, "%s: %s", what, said)
	}
	if response.StatusCode >= 500 || response.StatusCode == http.StatusTooManyRequests || response.StatusCode == http.StatusRequestTimeout {
		return exit.Errorf(exit.TryAgain, "%s: %s answers %d (%s)", what, endpoint.Host, response.StatusCode, said)
	}
	return exit.Errorf(exit.Usage, "%s: %s answers %d (%s)", what, endpoint.Host, response.StatusCode, said)
}
