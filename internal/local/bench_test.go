package local

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// BenchmarkDemo is what a newcomer waits for once the programs are built.
func BenchmarkDemo(b *testing.B) {
	wfgen := filepath.Join(b.TempDir(), "wfgen")
	if out, err := exec.Command("go", "build", "-o", wfgen, "wfgen.dev/cmd/wfgen").CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	for b.Loop() {
		cmd := exec.Command(wfgen, "run", "--simulate", "--accelerators", "A100,H100", "--step", program)
		cmd.Dir = b.TempDir()
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
	}
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s/op")
}

// BenchmarkStepSize is the size of step as make builds it, without symbols.
func BenchmarkStepSize(b *testing.B) {
	target := filepath.Join(b.TempDir(), "step")
	for b.Loop() {
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", target, "wfgen.dev/cmd/step")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
	}
	info, err := os.Stat(target)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(info.Size())/1e6, "MB")
}
