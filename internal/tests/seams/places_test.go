package seams

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// placesOfATarget are the functions that name an accelerator's target on its way from the
// configuration to whoever measures, and what each does with it. A value that is resolved
// in one place passes few others; whoever adds one says here what for.
var placesOfATarget = map[string]string{
	"internal/sweep/config.Config.InCluster": "says the usual one",
	"internal/sweep/config.Config.Deploys":   "asks whether there is one",
	"internal/sweep/config.Config.Sweep":     "resolves it",
	"internal/sweep/plan.Of":                 "puts it into the plan",
	"internal/sweep/plan.Plan.Targets":       "lists all, for the API key",

	"internal/local.Runner.wait":    "asks for a command",
	"internal/local.Runner.bench":   "asks for a command",
	"internal/local.Runner.prefill": "asks for a command",
	"internal/local.Runner.Check":   "asks for a command",
	"internal/local.begunWith":      "keeps it with the run",

	"internal/cluster/plain.underTestOf": "asks for commands",
	"internal/cluster/pods.outsidePorts": "opens its port",
	"templates.parameters":               "makes it a parameter of the workflow",
	"templates.acceleratorTask":          "gives it to the accelerator's template",
	"templates.accelerator":              "passes it on",
	"templates.shape":                    "passes it on",
	"templates.pointArguments":           "passes it on to a point, of a shape or of a round",
	"templates.benchPod":                 "asks for a command",
	"templates.prefill":                  "asks for a command",
	"templates.checkCapacity":            "asks for a command",
	"templates.wait":                     "asks for a command",
	"templates.serverGroup.deploy":       "passes it on",
	"templates.await":                    "asks for a command",
	"templates.ownTarget":                "names the parameter of one that is an accelerator's own",
}

func TestPlacesOfATarget(t *testing.T) {
	root := filepath.Join("..", "..", "..")
	found := map[string]bool{}
	for _, dir := range []string{"internal/sweep/config", "internal/sweep/plan", "internal/local", "internal/cluster", "templates"} {
		err := filepath.WalkDir(filepath.Join(root, filepath.FromSlash(dir)), func(name string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && d.Name() == "configtest", d.IsDir() && d.Name() == "testdata":
				return filepath.SkipDir
			case !strings.HasSuffix(name, ".go"), strings.HasSuffix(name, "_test.go"), d.Name() == "validate.go": // which judges it and hands it to nobody
				return nil
			}
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
			if err != nil {
				return err
			}
			relative, err := filepath.Rel(root, filepath.Dir(name))
			for _, decl := range file.Decls {
				if f, ok := decl.(*ast.FuncDecl); ok && namesTarget(f) {
					found[fmt.Sprintf("%s.%s%s", filepath.ToSlash(relative), receiver(f), f.Name.Name)] = true
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, place := range slices.Sorted(maps.Keys(found)) {
		t.Logf("%s %s", place, placesOfATarget[place])
		if placesOfATarget[place] == "" {
			t.Errorf("%s names a target: let it read what is resolved, or say in placesOfATarget what it does with it", place)
		}
	}
	for place := range placesOfATarget {
		if !found[place] {
			t.Errorf("%s names no target any longer: take it out of placesOfATarget", place)
		}
	}
	t.Logf("%d in all", len(found))
	for way, places := range map[string][]string{
		"a run on this machine": {"internal/sweep/config.Config.Sweep", "internal/sweep/plan.Of", "internal/local.Runner.bench"},
		"a Job":                 {"internal/sweep/config.Config.Sweep", "internal/sweep/plan.Of", "internal/cluster/plain.underTestOf"},
		"a pod of a workflow": {"internal/sweep/config.Config.Sweep", "internal/sweep/plan.Of", "templates.parameters", "templates.acceleratorTask",
			"templates.accelerator", "templates.shape", "templates.pointArguments", "templates.benchPod"},
	} {
		var names []string
		for _, place := range places {
			if !found[place] {
				t.Errorf("the way to %s does not pass %s", way, place)
			}
			names = append(names, path.Base(place))
		}
		t.Logf("to %s: %d places: %s", way, len(places), strings.Join(names, ", "))
	}
}

// receiver is the type of a method and a dot, or nothing.
func receiver(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return ""
	}
	kind := f.Recv.List[0].Type
	if star, ok := kind.(*ast.StarExpr); ok {
		kind = star.X
	}
	return kind.(*ast.Ident).Name + "."
}

func namesTarget(f *ast.FuncDecl) (found bool) {
	ast.Inspect(f, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && (id.Name == "TargetURL" || id.Name == "pTargetURL") {
			found = true
		}
		return !found
	})
	return found
}
