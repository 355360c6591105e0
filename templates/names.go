package templates

import (
	"strings"

	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/sweep/config"
)

// Templates of the workflow.
const (
	sweepTemplate       = "sweep"
	fleetTemplate       = "fleet" // fleet-1 …, when a DAG cannot hold all accelerators
	acceleratorTemplate = "accelerator"
	shapeTemplate       = "shape"
	waitTemplate        = "wait"
	awaitTemplate       = "await"
	pointTemplate       = "point"
	aggregateTemplate   = "aggregate"
	summaryTemplate     = "summary"

	serverTask = "server"
)

// Parameters of the workflow, which can be changed at submit, and inputs of its
// templates.
const (
	pModel        = "model"
	pTargetURL    = "target-url"
	pPromptTokens = "prompt-tokens"
	pOutputTokens = "output-tokens"
	pBatchSizes   = "batch-sizes"
	pMaxSeconds   = "max-seconds"
	pMaxRequests  = "max-requests"
	pTokenizer    = "tokenizer"
	pMethod       = "method"

	pAccelerator = "accelerator"  // its name as the user wrote it: the key of the results
	pSlug        = "slug"         // its name in Kubernetes
	pMaxNumSeqs  = "max-num-seqs" // of its server; 0: not known
	pBatchSize   = "batch-size"
	pResults     = "results" // key under which an accelerator's results are stored
	pServer      = "server"  // what is known of its server, for the record: JSON
	pNode        = "node"    // value of the label of its nodes
	pHost        = "host"    // name of its server's pod
)

// Directories of a pod. All lie on one emptyDir: the root file system is read-only.
const (
	tmpDir    = "/tmp"
	inDir     = "/tmp/in"
	outDir    = "/tmp/out"
	toolsDir  = "/tools" // where an init container puts step for an image without it
	stepInUse = toolsDir + "/step"
	stepPath  = "/step" // in step's own image
)

// key is the key of an object in the artifact repository. Key-only artifacts of
// known keys are how the results of many pods come together again: a later pod
// reads the whole prefix as one directory.
func key(c config.Config, parts ...string) string {
	if prefix := strings.Trim(c.S3Prefix, "/"); prefix != "" {
		parts = append([]string{prefix}, parts...)
	}
	return strings.Join(parts, "/")
}

// run is the name of the run: Argo fills it in, in keys and arguments; in a default
// value of a parameter it would stay as it is.
const run = "{{workflow.name}}"

func runKey(c config.Config, parts ...string) string {
	return key(c, append([]string{layout.Run(run)}, parts...)...)
}
