package store

import (
	"errors"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"

	"wfgen.dev/internal/run/exit"
)

// chain finds credentials as AWS tools do: the environment, the shared files, a
// web identity, the role of the pod or the instance. Unlike the library's own
// chain it does not drop an error and go on without credentials, after which
// the server says "access denied" to somebody who has the access.
type chain struct {
	credentials.Expiry
}

func newCredentials() *credentials.Credentials { return credentials.New(&chain{}) }

// Retrieve is for callers of old; the client calls RetrieveWithCredContext.
func (c *chain) Retrieve() (credentials.Value, error) { return c.RetrieveWithCredContext(nil) }

func (c *chain) RetrieveWithCredContext(cc *credentials.CredContext) (credentials.Value, error) {
	none := credentials.Value{}
	env := credentials.EnvAWS{}
	if v, err := env.RetrieveWithCredContext(cc); err == nil && v.AccessKeyID != "" && v.SecretAccessKey != "" {
		c.SetExpiration(time.Now().Add(24*time.Hour), 0) // the environment does not change
		return v, nil
	}
	for _, pair := range [][2]string{{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}, {"AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"}} {
		if os.Getenv(pair[0]) != "" {
			return none, exit.Errorf(exit.Usage, "%s is set and %s is not; set both", pair[0], pair[1])
		}
	}
	webIdentity := os.Getenv("AWS_WEB_IDENTITY_TOKEN_FILE")
	if webIdentity == "" || os.Getenv("AWS_PROFILE") != "" {
		file := credentials.FileAWSCredentials{}
		v, err := file.RetrieveWithCredContext(cc)
		switch {
		case err == nil && v.AccessKeyID != "" && v.SecretAccessKey != "":
			c.SetExpiration(orTomorrow(v.Expiration), 0)
			return v, nil
		case err == nil, errors.Is(err, fs.ErrNotExist) && os.Getenv("AWS_PROFILE") == "":
		case strings.Contains(err.Error(), "delimiter"), strings.Contains(err.Error(), "unclosed"):
			// The library quotes the line, which may hold the secret.
			return none, exit.Errorf(exit.Usage, "shared AWS credentials: a line is neither [section] nor key = value; correct the file")
		case os.Getenv("AWS_PROFILE") != "":
			return none, exit.Errorf(exit.Usage, "AWS_PROFILE %s: %w", os.Getenv("AWS_PROFILE"), err)
		case !strings.Contains(err.Error(), "does not exist"): // files that lack the default profile are as none
			return none, exit.Errorf(exit.Usage, "shared AWS credentials: %w", err)
		}
	}
	container := firstEnv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI")
	if webIdentity == "" && container == "" && strings.EqualFold(os.Getenv("AWS_EC2_METADATA_DISABLED"), "true") {
		return none, noCredentials
	}
	role := credentials.IAM{Client: &http.Client{Timeout: 10 * time.Second}}
	if webIdentity == "" && container == "" {
		role.Client.Timeout = 2 * time.Second // the instance's metadata is near, or is not there
	}
	v, err := role.RetrieveWithCredContext(cc)
	switch {
	case err == nil && v.AccessKeyID != "":
		c.SetExpiration(orTomorrow(v.Expiration), credentials.DefaultExpiryWindow)
		return v, nil
	case webIdentity != "":
		return none, exit.Errorf(exit.TryAgain, "web identity %s for role %s: %w", webIdentity, os.Getenv("AWS_ROLE_ARN"), err)
	case container != "":
		return none, exit.Errorf(exit.TryAgain, "credentials of the container's role: %w", err)
	default:
		return none, noCredentials
	}
}

var noCredentials = exit.Errorf(exit.Usage, "no S3 credentials found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the pod a role")

func orTomorrow(t time.Time) time.Time {
	if t.IsZero() {
		return time.Now().Add(24 * time.Hour)
	}
	return t
}
