package version

import (
	"os"
	"regexp"
	"runtime/debug"
	"testing"
)

func TestOfBuild(t *testing.T) {
	const revision = "0123456789abcdef0123456789abcdef01234567"
	vcs := func(modified string) []debug.BuildSetting {
		return []debug.BuildSetting{{Key: "vcs.revision", Value: revision}, {Key: "vcs.modified", Value: modified}}
	}
	for name, test := range map[string]struct {
		info *debug.BuildInfo
		want string
	}{
		"nothing is known":      {nil, "dev"},
		"go run":                {&debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, "dev"},
		"go install of release": {&debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}}, "v1.2.3"},
		"checkout of a tag":     {&debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}, Settings: vcs("false")}, "v1.2.3"},
		"tag, changed":          {&debug.BuildInfo{Main: debug.Module{Version: "v1.2.3+dirty"}, Settings: vcs("true")}, "0123456789ab-dirty"},
		"after a tag":           {&debug.BuildInfo{Main: debug.Module{Version: "v1.2.4-0.20261125155300-0123456789ab"}, Settings: vcs("false")}, "0123456789ab"},
		"before any tag":        {&debug.BuildInfo{Main: debug.Module{Version: "v0.0.0-20261125155300-0123456789ab+dirty"}, Settings: vcs("true")}, "0123456789ab-dirty"},
		"candidate":             {&debug.BuildInfo{Main: debug.Module{Version: "v1.2.3-rc.1"}}, "v1.2.3-rc.1"},
	} {
		if got := ofBuild(test.info); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

func TestNames(t *testing.T) {
	t.Cleanup(func() { version, commit, registry = "", "", "" })
	version, commit = "v1.2.3", "0123456789abcdef0123"
	if got := Full(); got != "v1.2.3 (commit 0123456789ab)" {
		t.Error(got)
	}
	if got := Image(""); got != "wfgen.dev/step:v1.2.3" || Published() {
		t.Error(got)
	}
	if got := Image("registry.example.com/team/"); got != "registry.example.com/team/step:v1.2.3" {
		t.Error(got)
	}
	registry = "ghcr.io/somebody"
	if got := Image(""); got != "ghcr.io/somebody/step:v1.2.3" || !Published() {
		t.Error(got)
	}
	version = "0123456789ab-dirty"
	if got := Full(); got != version {
		t.Error(got)
	}
}

// The changelog begins with the latest release.
func TestLatest(t *testing.T) {
	text, err := os.ReadFile("../../CHANGELOG.md")
	if err != nil {
		t.Fatal(err)
	}
	first := regexp.MustCompile(`(?m)^## (v\S+)`).FindSubmatch(text)
	if first == nil || string(first[1]) != Latest {
		t.Errorf("CHANGELOG.md begins with %s, the latest release is %s", first, Latest)
	}
}
