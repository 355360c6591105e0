package templates

import (
	"strings"

	"wfgen.dev/internal/cluster/pods"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/run/steps"
	"wfgen.dev/internal/sweep/plan"
)

// Templates of the workflow.
const (
	sweepTemplate       = "sweep"
	startTemplate       = "start"
	guardTemplate       = "guard"
	fleetTemplate       = "fleet" // fleet-1 …, when a DAG cannot hold all accelerators
	acceleratorTemplate = "accelerator"
	shapeTemplate       = "shape"
	roundTemplate       = "round"
	nextTemplate        = "next"
	waitTemplate        = "wait"
	awaitTemplate       = "await"
	pointTemplate       = "point"
	pointsTemplate      = "points" // instead of it, where points share a pod
	aggregateTemplate   = "aggregate"
	prefillTemplate     = "prefill"
	checkTemplate       = "check"
	summaryTemplate     = "summary"
	endTemplate         = "end"
	notifyTemplate      = "notify"
	notifyBareTemplate  = "notify-without-summary"

	serverTask     = "server"
	notStartedTask = "not-started"
)

// Parameters of the workflow, which can be changed at submit, and inputs of its
// templates. Those that a step is given are named as its flags.
var (
	pModel        = steps.Bench.Model.Name
	pPromptTokens = steps.Bench.PromptTokens.Name
	pOutputTokens = steps.Bench.OutputTokens.Name
	pBatchSizes   = steps.Bench.BatchSizes.Name
	pMaxSeconds   = steps.Bench.MaxSeconds.Name
	pMaxRequests  = steps.Bench.MaxRequests.Name
	pTokenizer    = steps.Bench.Tokenizer.Name
	pMethod       = steps.Aggregate.Method.Name
	pSLO          = steps.Check.SLO.Name

	pPrecision = steps.Next.Precision.Name
	pMinutes   = steps.Next.MaxGPUMinutes.Name
	pGPUs      = steps.Next.GPUs.Name
	pRound     = steps.Next.Round.Name

	pDriftBand = steps.Aggregate.DriftBand.Name

	pAccelerator = steps.Bench.Accelerator.Name // its name as the user wrote it: the key of the results
	pMaxNumSeqs  = steps.Bench.MaxNumSeqs.Name  // of its server; 0: not known
	pBatchSize   = steps.Bench.BatchSize.Name
	pPoints      = steps.Bench.Points.Name
	pServer      = string(layout.OutServer) // what is known of its server, for the record: JSON
)

const (
	pTargetURL    = "target-url"
	pAgain        = "again"         // what a point's name ends with that is measured again
	pSlug         = "slug"          // of the accelerator: its name in Kubernetes
	pResults      = "results"       // key under which an accelerator's results are stored
	pNode         = "node"          // value of the label of its nodes
	pHost         = "host"          // name of its server's pod
	pPrefillChunk = "prefill-chunk" // tokens of one chunk of an accelerator's server; 0: its prefill rate is not measured
	pSweep        = "sweep"         // name of the sweep that a shared template works for
)

// Directories of a pod.
const (
	inDir  = pods.Tmp + "/in"
	outDir = pods.Tmp + "/out"
)

// key is the key of an object in the artifact repository. Key-only artifacts of
// known keys are how the results of many pods come together again: a later pod
// reads the whole prefix as one directory.
func key(p plan.Plan, parts ...string) string {
	if prefix := strings.Trim(p.S3Prefix, "/"); prefix != "" {
		parts = append([]string{prefix}, parts...)
	}
	return strings.Join(parts, "/")
}

// run is the name of the run: Argo fills it in, in keys and arguments; in a default
// value of a parameter it would stay as it is.
const run = "{{workflow.name}}"

func runKey(p plan.Plan, parts ...string) string {
	return key(p, append([]string{layout.Run(run)}, parts...)...)
}
