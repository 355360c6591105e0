package stepcli

import (
	"net/url"
	"strings"

	"github.com/urfave/cli/v2"

	"wfgen.dev/internal/redact"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/steps"
)

// keyOf is the API key for the target, empty where there is none. In a workflow who may
// only submit chooses the target: a key that is for certain servers goes to no other.
func keyOf(c *cli.Context, target string) (string, error) {
	key, list := steps.Bench.APIKey.In(c), steps.Bench.APIKeyFor.In(c)
	if key == "" || list == "" || target == "" {
		return key, nil
	}
	for _, pattern := range strings.Split(list, ",") {
		if mayHaveKey(target, strings.TrimSpace(pattern)) {
			return key, nil
		}
	}
	return "", exit.Errorf(exit.Usage, "target: %s is none of the servers that the API key is for (%s); the key's owner decides that: generate the workflow with this target-url",
		redact.URL(target), list)
}

// mayHaveKey compares the server's scheme, host and port.
func mayHaveKey(target, pattern string) bool {
	t, err1 := url.Parse(target)
	p, err2 := url.Parse(strings.Replace(pattern, "://*.", "://any.", 1))
	if err1 != nil || err2 != nil || t.Scheme != p.Scheme || t.Port() != p.Port() {
		return false
	}
	if strings.Contains(pattern, "://*.") {
		name, domain, found := strings.Cut(t.Hostname(), ".")
		return found && name != "" && strings.EqualFold(domain, strings.TrimPrefix(p.Hostname(), "any."))
	}
	return strings.EqualFold(t.Hostname(), p.Hostname())
}
