package dockerfile

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

const source = "../../.."

// read is the Dockerfile as BuildKit understands it, without a warning.
func read(t *testing.T) []instructions.Stage {
	t.Helper()
	f, err := os.Open(source + "/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	parsed, err := parser.Parse(f)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range parsed.Warnings {
		t.Errorf("%s: %s", w.Short, w.URL)
	}
	stages, _, err := instructions.Parse(parsed.AST, linter.New(&linter.Config{Warn: func(rule, description, _, message string, _ []parser.Range) {
		t.Errorf("%s: %s: %s", rule, description, message)
	}}))
	if err != nil {
		t.Fatal(err)
	}
	return stages
}

// arguments are what the Makefile and BuildKit give to a build.
var arguments = map[string]string{
	"TARGETOS": runtime.GOOS, "TARGETARCH": runtime.GOARCH, "VERSION": "v9.8.7", "COMMIT": strings.Repeat("0f", 20), "REGISTRY": "registry.example.com",
}

// An image is a directory in which the instructions of a stage have been executed.
type image struct {
	root, workdir string
	environment   []string
}

// at is a path of the image on this machine.
func (i *image) at(path string) string {
	if !filepath.IsAbs(path) {
		path = filepath.Join(i.workdir, path)
	}
	return filepath.Join(i.root, path)
}

// execute does what the instructions say. What RUN writes to the image's root is told to
// write below its directory.
func execute(t *testing.T, stage instructions.Stage, images map[string]*image) *image {
	t.Helper()
	i := &image{root: t.TempDir(), workdir: "/"}
	rooted := strings.NewReplacer(" /step", " "+i.root+"/step", " /THIRD-PARTY", " "+i.root+"/THIRD-PARTY")
	for _, command := range stage.Commands {
		switch c := command.(type) {
		case *instructions.ArgCommand:
			for _, a := range c.Args {
				value, given := arguments[a.Key]
				if !given {
					t.Errorf("nobody gives the argument %s", a.Key)
				}
				i.environment = append(i.environment, a.Key+"="+value)
			}
		case *instructions.WorkdirCommand:
			i.workdir = c.Path
		case *instructions.CopyCommand:
			for _, path := range c.SourcePaths {
				from := filepath.Join(source, path)
				if c.From != "" {
					of := images[c.From]
					if of == nil {
						t.Fatalf("%s: there is no stage %s", c, c.From)
					}
					if from = of.at(path); path == "/etc/ssl/certs/ca-certificates.crt" {
						from = path // of the base image: that of this machine
					}
				}
				to := i.at(c.DestPath)
				if strings.HasSuffix(c.DestPath, "/") {
					to = filepath.Join(to, filepath.Base(path))
				}
				copyTo(t, from, to)
			}
		case *instructions.RunCommand:
			line := strings.Join(c.CmdLine, " ")
			run := exec.Command("/bin/sh", "-c", rooted.Replace(line))
			run.Dir, run.Env = i.at("."), append(os.Environ(), i.environment...)
			if out, err := run.CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", line, err, out)
			}
		case *instructions.LabelCommand, *instructions.UserCommand, *instructions.EntrypointCommand: // hack/release compares them
		default:
			t.Errorf("%s: not known to this test", c.Name())
		}
	}
	return i
}

func copyTo(t *testing.T, from, to string) {
	t.Helper()
	info, err := os.Stat(from)
	if err != nil {
		t.Fatal(err)
	}
	if info.IsDir() {
		err = os.CopyFS(to, os.DirFS(from))
	} else {
		var data []byte
		if data, err = os.ReadFile(from); err == nil {
			if err = os.MkdirAll(filepath.Dir(to), 0o755); err == nil {
				err = os.WriteFile(to, data, info.Mode().Perm())
			}
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// What is copied is enough to build from, and the image holds a static step of the version
// and commit that were given, and the licenses of what is linked into it.
func TestDockerfile(t *testing.T) {
	stages := read(t)
	if len(stages) != 2 {
		t.Fatalf("%d stages", len(stages))
	}
	module, err := os.ReadFile(source + "/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if base, found := strings.CutPrefix(stages[0].BaseName, "golang:"); !found || !strings.Contains(string(module), "\ngo "+base+".") {
		t.Errorf("the first stage is from %s, which is not the Go of go.mod", stages[0].BaseName)
	}
	if stages[1].BaseName != "scratch" {
		t.Errorf("the image is from %s", stages[1].BaseName)
	}
	images := map[string]*image{}
	var last *image
	for _, stage := range stages {
		last = execute(t, stage, images)
		images[stage.Name] = last
	}
	out, err := exec.Command(last.at("/step"), "--version").CombinedOutput()
	if err != nil || !strings.Contains(string(out), arguments["VERSION"]) || !strings.Contains(string(out), arguments["COMMIT"][:7]) {
		t.Errorf("step --version: %v: %s", err, out)
	}
	binary, err := elf.Open(last.at("/step"))
	if err != nil {
		t.Fatal(err)
	}
	defer binary.Close()
	for _, p := range binary.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("step is linked dynamically: nothing in the image could load it")
		}
	}
	for _, path := range []string{"/licenses/LICENSE", "/licenses/THIRD-PARTY-LICENSES.txt", "/etc/ssl/certs/ca-certificates.crt"} {
		if info, err := os.Stat(last.at(path)); err != nil || info.Size() < 5000 {
			t.Errorf("%s: %v", path, err)
		}
	}
}
