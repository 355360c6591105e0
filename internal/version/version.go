// Package version says which build of the project this is, and what the image of step of
// that build is called: the manifests that wfgen writes name the image that was made from
// the same source.
package version

import (
	"runtime/debug"
	"strings"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
)

// Latest is the latest release: the first of CHANGELOG.md, and the one whose image the
// committed examples name, which therefore do not change with every commit.
const Latest = "v0.2.0"

// Unknown is the version of a build that nothing tells it of: go run, or a copy of the
// source without its history.
const Unknown = "dev"

// LocalRegistry begins the name of an image that no registry serves.
const LocalRegistry = "wfgen.dev"

// What the build stamps, by -ldflags '-X wfgen.dev/internal/version.version=v1.2.3'. A
// registry is stamped only where the image of this version is pushed to it.
var version, commit, registry string

// Version is a release such as v1.2.3, or of any other build the commit's first twelve
// digits, with -dirty where the checkout differs from it; else Unknown. The Makefile and
// what Go itself stamps into go build and go install agree on it.
func Version() string {
	if version != "" {
		return version
	}
	info, _ := debug.ReadBuildInfo()
	return ofBuild(info)
}

// ofBuild is the version by what Go stamped.
func ofBuild(info *debug.BuildInfo) string {
	if info == nil {
		return Unknown
	}
	revision, dirty := setting(info, "vcs.revision"), setting(info, "vcs.modified") == "true"
	if v := info.Main.Version; semver.IsValid(v) && semver.Build(v) == "" && !module.IsPseudoVersion(v) && !dirty {
		return v
	}
	switch {
	case revision == "":
		return Unknown
	case dirty:
		return short(revision) + "-dirty"
	}
	return short(revision)
}

func setting(info *debug.BuildInfo, key string) string {
	for _, s := range info.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}

func short(revision string) string { return revision[:min(len(revision), 12)] }

// Full is the version with its commit, for --version.
func Full() string {
	of := commit
	if of == "" {
		if info, ok := debug.ReadBuildInfo(); ok {
			of = setting(info, "vcs.revision")
		}
	}
	if v := Version(); of == "" || strings.HasPrefix(v, short(of)) {
		return v
	}
	return Version() + " (commit " + short(of) + ")"
}

// Image is the name of step's image of this version. An empty registry is the one that
// this version was pushed to, or LocalRegistry where it was not.
func Image(of string) string {
	if of == "" {
		of = registry
	}
	return ImageOf(of, Version())
}

// ImageOf is the name of step's image of a version in a registry, LocalRegistry if empty.
func ImageOf(registry, version string) string {
	if registry == "" {
		registry = LocalRegistry
	}
	return strings.TrimSuffix(registry, "/") + "/step:" + version
}

// Published says whether a registry serves the image of this version.
func Published() bool { return registry != "" }
