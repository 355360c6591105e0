// Command argolint holds Argo manifests against Argo's own offline linter (3.7) and
// against what Argo 4 refuses at apply.
//
//	go run . ../../examples
//	wfgen --accelerators A100 | go run . -
//
// It is a module of its own: the linter brings a good part of Argo with it, which
// nobody should have to build for wfgen.
package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/argoproj/argo-workflows/v3/cmd/argo/lint"
	"github.com/argoproj/argo-workflows/v3/pkg/apiclient"
	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	"github.com/argoproj/argo-workflows/v3/workflow/common"
	"github.com/sirupsen/logrus"

	"wfgen.dev/internal/cluster/argolimits"
)

func main() {
	logrus.SetLevel(logrus.ErrorLevel) // it warns of output names that are known only when a workflow runs
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "argolint:", err)
		os.Exit(1)
	}
}

// run lints files, directories and, for -, the standard input.
func run(paths []string, stdin io.Reader, stdout io.Writer) error {
	if len(paths) == 0 {
		return errors.New("nothing to lint: give files, directories or -")
	}
	groups := map[string][]string{} // by directory: what refers to each other lies together
	for _, path := range paths {
		if path == "-" {
			file, err := spool(stdin)
			if err != nil {
				return err
			}
			defer os.Remove(file)
			groups["standard input"] = []string{file}
			continue
		}
		err := filepath.WalkDir(path, func(file string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(file)) {
				groups[filepath.Dir(file)] = append(groups[filepath.Dir(file)], file)
			}
			return err
		})
		if err != nil {
			return err
		}
	}

	var errs []error
	linted := 0
	for _, group := range slices.Sorted(maps.Keys(groups)) {
		n, err := lintTogether(groups[group])
		if err != nil {
			errs = append(errs, err)
		}
		if linted += n; n > 0 {
			fmt.Fprintf(stdout, "%s: %d objects\n", group, n)
		}
	}
	if linted == 0 && len(errs) == 0 {
		return fmt.Errorf("no Argo object in %s", strings.Join(paths, ", "))
	}
	return errors.Join(errs...)
}

func spool(in io.Reader) (string, error) {
	file, err := os.CreateTemp("", "argolint-*.yaml")
	if err != nil {
		return "", err
	}
	_, err = io.Copy(file, in)
	return file.Name(), errors.Join(err, file.Close())
}

// lintTogether lints files whose objects may refer to each other, and returns how
// many Argo objects they hold.
func lintTogether(files []string) (int, error) {
	ctx, client, err := apiclient.NewClientFromOpts(apiclient.Opts{Offline: true, OfflineFiles: files})
	if err != nil {
		return 0, fmt.Errorf("%s: %w", strings.Join(files, ", "), err)
	}
	clients, err := serviceClients(client)
	if err != nil {
		return 0, err
	}
	results, err := lint.Lint(ctx, &lint.LintOptions{Files: files, Strict: true, DefaultNamespace: "default", ServiceClients: clients})
	if err != nil {
		return 0, err
	}
	var errs []error
	for _, r := range results.Results {
		for _, err := range r.Errs {
			errs = append(errs, fmt.Errorf("%s: %w", r.File, err))
		}
	}
	n := 0
	for _, file := range files {
		specs, err := read(file)
		n += len(specs)
		if err != nil {
			errs = append(errs, err)
		}
		for _, spec := range specs {
			if err := argolimits.Check(spec); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", file, err))
			}
		}
	}
	return n, errors.Join(errs...)
}

func serviceClients(client apiclient.Client) (lint.ServiceClients, error) {
	templates, err1 := client.NewWorkflowTemplateServiceClient()
	crons, err2 := client.NewCronWorkflowServiceClient()
	shared, err3 := client.NewClusterWorkflowTemplateServiceClient()
	return lint.ServiceClients{
		WorkflowsClient:               client.NewWorkflowServiceClient(),
		WorkflowTemplatesClient:       templates,
		CronWorkflowsClient:           crons,
		ClusterWorkflowTemplateClient: shared,
	}, errors.Join(err1, err2, err3)
}

// read returns the workflow specifications of a file's Argo objects.
func read(file string) ([]wfv1.WorkflowSpec, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var specs []wfv1.WorkflowSpec
	for _, parsed := range common.ParseObjects(data, true) {
		switch v := parsed.Object.(type) {
		case *wfv1.Workflow:
			specs = append(specs, v.Spec)
		case *wfv1.WorkflowTemplate:
			specs = append(specs, v.Spec)
		case *wfv1.ClusterWorkflowTemplate:
			specs = append(specs, v.Spec)
		case *wfv1.CronWorkflow:
			if v.Spec.Schedule != "" {
				err = errors.Join(err, fmt.Errorf("%s: singular schedule, removed in 4.0", file))
			}
			specs = append(specs, v.Spec.WorkflowSpec)
		}
	}
	return specs, err
}
