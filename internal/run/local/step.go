package local

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"wfgen.dev/internal/run/exit"
)

// FindStep finds the step program: the path that was given, or the one beside
// wfgen, or in a checkout (go run ./cmd/wfgen) the one built from the same
// sources, or the one in PATH.
func FindStep(ctx context.Context, given string, say func(string)) (string, error) {
	if given != "" {
		if _, err := os.Stat(given); err != nil {
			return "", exit.Errorf(exit.Usage, "--step: %w", err)
		}
		return filepath.Abs(given)
	}
	if self, err := os.Executable(); err == nil {
		if beside := filepath.Join(filepath.Dir(self), "step"); executable(beside) {
			return beside, nil
		}
	}
	if root := checkout(ctx); root != "" {
		return build(ctx, root, say)
	}
	if path, err := exec.LookPath("step"); err == nil {
		return path, nil
	}
	return "", exit.Errorf(exit.Usage, "the program step was found neither beside wfgen nor in PATH; give --step PATH")
}

func executable(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// checkout is the root of the sources when the working directory lies in them.
func checkout(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Path}} {{.Dir}}").Output()
	if err != nil {
		return ""
	}
	path, dir, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	if path != "wfgen.dev" {
		return ""
	}
	return dir
}

// build makes step from the checkout. The place is always the same, so that the
// build cache makes the next call quick.
func build(ctx context.Context, root string, say func(string)) (string, error) {
	say("building step from " + root)
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	target := filepath.Join(cache, "wfgen", "step")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", target, "./cmd/step")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building step: %w\n%s", err, out)
	}
	return target, nil
}
