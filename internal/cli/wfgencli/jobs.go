package wfgencli

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"wfgen.dev/internal/cli/clikit"
	"wfgen.dev/internal/cluster/plain"
	"wfgen.dev/internal/sweep/config"
)

func jobsCommand() *cli.Command {
	return &cli.Command{
		Name:  "jobs",
		Usage: "write plain Kubernetes Jobs instead, for a cluster without Argo",
		Description: `A Job for each accelerator, which runs the step commands of the workflow one after
another: wait, each point, the estimate. The results go to the bucket, or to a
ConfigMap named like the Job. With --deploy the servers come along, as wfgen servers
writes them.

Example:
  wfgen jobs --accelerators A100 --driver native | kubectl apply -f -`,
		Flags: append(without(sweepFlags(), "precision", "max-gpu-minutes"), without(clusterFlags(), argoFlags...)...),
		Action: func(c *cli.Context) error {
			if err := clikit.NoArgs(c); err != nil {
				return err
			}
			return writeObjects(c, plain.Jobs, func(cfg config.Config) string {
				return fmt.Sprintf("kubectl wait -n %s --for=condition=complete --timeout=24h job -l app.kubernetes.io/part-of=%s", cfg.Namespace, cfg.Name)
			}, withoutArgo)
		},
	}
}

func serversCommand() *cli.Command {
	return &cli.Command{
		Name:  "servers",
		Usage: "write Deployments of the servers alone, set up for measuring",
		Description: `A Deployment and a Service named ENGINE-ACCELERATOR for each accelerator without a
target-url of its own. They hold their GPUs until they are deleted.

Examples:
  wfgen servers --accelerators A100 --engine sglang | kubectl apply -f -
  wfgen servers --accelerators A100 --model org/model --batch-sizes 1,64 | kubectl apply -f -`,
		Flags: append(without(sweepFlags(), loadFlags...), without(clusterFlags(), append(argoFlags, "slo", "deploy", "step-image", "image-registry", "guidellm-image", "service-account", "retries",
			"s3-bucket", "s3-endpoint", "s3-region", "s3-prefix", "s3-secret", "load-generator-cpu", "load-generator-memory", "load-generator-node-selector", "share-pod", "network-policy", "network-policy-ports", "pending-timeout",
			"drift-band", "fail-on-drift", "publish")...)...),
		Action: func(c *cli.Context) error {
			if err := clikit.NoArgs(c); err != nil {
				return err
			}
			return writeObjects(c, plain.Servers, func(cfg config.Config) string {
				return fmt.Sprintf("kubectl wait -n %s --for=condition=available --timeout=%s deployment -l app.kubernetes.io/part-of=%s", cfg.Namespace, cfg.WaitTimeout, cfg.Name)
			}, func(cfg config.Config) error {
				cfg.Deploy = true
				return cfg.CheckServers()
			})
		},
	}
}

// loadFlags say what is measured where and how, which is nothing to a server.
var loadFlags = []string{"target-url", "precision", "max-gpu-minutes", "max-seconds", "max-requests", "driver", "tokenizer", "method"}

// argoFlags have no meaning without Argo.
var argoFlags = []string{"argo", "publish-formats", "scale-target", "target-namespace", "prometheus-url", "max-replicas", "artifact-repository", "cron", "timezone", "parallel-accelerators", "load-generator", "notify-secret-name", "notify-on", "report-url", "links"}

// withoutArgo refuses what a configuration file asks for that Jobs cannot do.
func withoutArgo(c config.Config) error {
	var errs []error
	if len(c.Cron) > 0 {
		errs = append(errs, errors.New("cron: a Job runs once; schedules need Argo, or a CronJob of your own"))
	}
	if c.ParallelAccelerators > 0 {
		errs = append(errs, errors.New("parallel-accelerators: Jobs start side by side; apply them one after another"))
	}
	if c.LoadGenerator == config.Cluster {
		errs = append(errs, errors.New("load-generator: a shared one needs Argo"))
	}
	if len(c.PublishFormats) > 0 {
		errs = append(errs, errors.New("publish-formats: a Job knows its own accelerator; run step render over the results"))
	}
	if c.NotifySecretName != "" {
		errs = append(errs, errors.New("notify-secret-name: the end of a run is Argo's; watch Jobs by what you have for them, or run step notify"))
	}
	if len(c.Links) > 0 {
		errs = append(errs, errors.New("links: are shown by Argo's interface"))
	}
	if c.Precision != "" {
		errs = append(errs, errors.New("precision: the points of a Job are fixed; rounds of them need Argo, or wfgen run"))
	}
	if c.DriftBand != "" && c.S3Bucket == "" {
		errs = append(errs, errors.New("drift-band: what was accepted last lies in a bucket; give s3-bucket, or compare two results by step compare"))
	}
	if c.ArtifactRepository != "" {
		errs = append(errs, errors.New("artifact-repository: is Argo's; give s3-bucket, or neither for a ConfigMap"))
	}
	return errors.Join(errs...)
}
