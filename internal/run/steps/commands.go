package steps

import (
	"time"

	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/linear4"
	"wfgen.dev/internal/sweep/precision"
	"wfgen.dev/internal/sweep/release"
)

// sharesProcess is the first guidellm that can.
var sharesProcess = release.Since(func(t release.Traits) bool { return t.SharesProcess })

// What several commands say alike.
var (
	model  = Flag[string]{Name: "model", Required: true, Usage: "`NAME` of the model, as the server lists it"}
	apiKey = Flag[string]{Name: "api-key", Usage: "`KEY` of the server; set STEP_API_KEY rather than write it here"}
	keyFor = Flag[string]{Name: "api-key-for", Usage: "servers that get the key, as `LIST` of URLs, *. standing for any host of a domain; another target is refused, so that who chooses the target cannot have the key; all servers otherwise"}
	target = Flag[string]{Name: "target", Required: true, Usage: "`URL` of the server, such as http://vllm:8000"}
	output = Flag[string]{Name: "output", Required: true, Usage: "directory or s3://bucket/prefix"}
	spread = Flag[float64]{Name: "output-spread", Default: sweep.OutputSpread, Usage: "`FRACTION` by which answers differ in length, about the same mean, so that streams do not march in step; 0: all alike"}
)

// intent says what a sweep is going to measure.
type intent struct {
	BatchSizes Flag[string]
	Shapes     Flag[string]
	MaxNumSeqs Flag[int]
	Spread     Flag[float64]
}

var intended = intent{
	BatchSizes: Flag[string]{Name: "batch-sizes", Usage: "batch sizes that are going to be measured, as `LIST`: 1,8,64 or [1,8,64]"},
	Shapes:     Flag[string]{Name: "shapes", Usage: "shapes that are going to be measured, as `LIST` such as 128/128,1024/256"},
	MaxNumSeqs: Flag[int]{Name: "max-num-seqs", Usage: "the server's max-num-seqs, if known"},
	Spread:     spread,
}

var endpoint = Flag[string]{Name: "endpoint", Default: sweep.Auto, Usage: "what the native driver asks: `completions or chat`, whose template is part of every prompt; auto: completions, and chat where the server has no other"}

// Preflight asks a server whether it can run a sweep.
var Preflight = define(struct {
	Command
	Target, Model, APIKey Flag[string]
	APIKeyFor             Flag[string]
	Endpoint              Flag[string]
	BatchSizes, Shapes    Flag[string]
	MaxNumSeqs            Flag[int]
	Spread                Flag[float64]
}{
	Command: Command{Name: "preflight"},
	Target:  target, Model: model, APIKey: apiKey, APIKeyFor: keyFor, Endpoint: endpoint,
	BatchSizes: intended.BatchSizes, Shapes: intended.Shapes, MaxNumSeqs: intended.MaxNumSeqs, Spread: intended.Spread,
})

// Wait waits until a server serves the model, and asks it whether it can run the
// sweep. It waits by itself: one that ended without success has waited enough.
var Wait = define(struct {
	Command
	Target, Model, APIKey Flag[string]
	APIKeyFor             Flag[string]
	Endpoint              Flag[string]
	Pods, Namespace       Flag[string]
	Port                  Flag[int]
	Timeout               Flag[time.Duration]
	EndPod                Flag[bool]
	Accelerator, Output   Flag[string]
	BatchSizes, Shapes    Flag[string]
	MaxNumSeqs            Flag[int]
	Spread                Flag[float64]
}{
	Command:     Command{Name: "wait", Outputs: []layout.Output{layout.OutTarget, layout.OutServer}},
	Target:      Flag[string]{Name: "target", Usage: "`URL` of the server, such as http://vllm:8000; with --pods the pod's own address otherwise"},
	Model:       model,
	APIKey:      apiKey,
	APIKeyFor:   keyFor,
	Endpoint:    endpoint,
	Pods:        Flag[string]{Name: "pods", Usage: "`LABELS` of the server's pod, such as app=vllm,accelerator=a100"},
	Namespace:   Flag[string]{Name: "namespace", Usage: "`NAMESPACE` of the pod; this pod's own otherwise"},
	Port:        Flag[int]{Name: "port", Default: 8000, Usage: "port of the server in its pod"},
	Timeout:     Flag[time.Duration]{Name: "timeout", Default: 40 * time.Minute, Usage: "how long to wait; a first start downloads the model"},
	EndPod:      Flag[bool]{Name: "end-pod", Usage: "end the pod when it is given up, so that it neither holds nor takes an accelerator; needs the right to patch pods/status"},
	Accelerator: Flag[string]{Name: "accelerator", Usage: "`NAME` of the server's accelerator, under which summary.json says why it is given up"},
	Output:      Flag[string]{Name: "output", Usage: "directory or s3://bucket/prefix for outputs/target, outputs/server and summary.json"},
	BatchSizes:  intended.BatchSizes, Shapes: intended.Shapes, MaxNumSeqs: intended.MaxNumSeqs, Spread: intended.Spread,
})

// Bench runs one point, those of one shape with ShareProcess, or several with Points.
var Bench = define(struct {
	Command
	Target, Model, APIKey   Flag[string]
	APIKeyFor               Flag[string]
	Accelerator, BatchSize  Flag[string]
	Rate                    Flag[float64]
	Arrivals, SLO           Flag[string]
	ShareProcess            Flag[bool]
	Points, Done            Flag[string]
	BatchSizes              Flag[string]
	PromptTokens            Flag[int]
	OutputTokens            Flag[int]
	Spread                  Flag[float64]
	MaxSeconds              Flag[float64]
	MaxRequests, MaxNumSeqs Flag[int]
	Precision               Flag[string]
	Server                  Flag[string]
	Attempts                Flag[int]
	GoOn                    Flag[bool]
	Driver, Guidellm        Flag[string]
	Endpoint                Flag[string]
	Tokenizer               Flag[string]
	Seed                    Flag[int64]
	Margin                  Flag[time.Duration]
	ProbeSeconds            Flag[float64]
	Output                  Flag[string]
}{
	Command: Command{Name: "bench", Again: true, Outputs: []layout.Output{layout.OutITL, layout.OutTTFT, layout.OutBatch, layout.OutCount}},
	Target:  target, Model: model, APIKey: apiKey, APIKeyFor: keyFor,
	Accelerator:  Flag[string]{Name: "accelerator", Required: true, Usage: "`NAME` that the results are keyed by, as the autoscaler knows it"},
	BatchSize:    Flag[string]{Name: "batch-size", Usage: "`N` requests that the server is to run together; with --share-process a list of such"},
	Rate:         Flag[float64]{Name: "rate", Usage: "instead of --batch-size, `REQUESTS` per second that arrive whatever becomes of those before them: no point of an estimate, but a check of one"},
	Arrivals:     Flag[string]{Name: "arrivals", Default: sweep.Poisson, Usage: "how those arrive: poisson (at random) or constant (at even intervals)"},
	SLO:          Flag[string]{Name: "slo", Usage: "objectives that those are held against, as `LIST` such as ttft=250ms,p90.itl=20ms"},
	ShareProcess: Flag[bool]{Name: "share-process", Usage: "run all batch sizes of --batch-size in one guidellm process (" + sharesProcess + " or newer), whose start is then paid for once; each is a point of its own, in b<N>/ below --output"},
	Points:       Flag[string]{Name: "points", Usage: "instead of --batch-size, points that are measured one after another, as the `JSON` list that step next chooses; what one does not say is as the other flags have it. Each is tried by itself, and what it leaves lies where a run keeps it, in measurements/ and reports/ below --output"},
	Done:         Flag[string]{Name: "done", Usage: "directory or s3://bucket/prefix with the measurements of an earlier attempt: those of --points that it has, or --output, are not measured again"},
	BatchSizes:   Flag[string]{Name: "batch-sizes", Usage: "all batch sizes of the sweep, as `LIST`; the largest one's report is named throughput"},
	PromptTokens: Flag[int]{Name: "prompt-tokens", Default: 128, Usage: "tokens of each prompt"},
	OutputTokens: Flag[int]{Name: "output-tokens", Default: 128, Usage: "tokens of each answer"},
	Spread:       spread,
	MaxSeconds:   Flag[float64]{Name: "max-seconds", Default: 120, Usage: "length of the measurement; 0: --max-requests decides"},
	MaxRequests:  Flag[int]{Name: "max-requests", Usage: "requests in all; 0: --max-seconds decides"},
	MaxNumSeqs:   Flag[int]{Name: "max-num-seqs", Usage: "the server's max-num-seqs, if known; a batch size above it is refused"},
	Precision:    Flag[string]{Name: "precision", Usage: "with the native driver, end the point as soon as its means are known so well: half widths of their 95 % intervals, as `SHARE` such as 1%, or itl=1%,ttft=3%; not before 24 requests of each stream, nor after --max-seconds or --max-requests"},
	Server:       Flag[string]{Name: "server", Usage: "what the server runs as: the `JSON` that step wait writes into outputs/server, or @FILE with it; {}: not known"},
	Attempts:     Flag[int]{Name: "attempts", Default: 1, Usage: "how often the point is tried where a later attempt may succeed"},
	GoOn:         Flag[bool]{Name: "go-on", Usage: "exit with 0 although the point failed, after saying why, so that what comes after it runs"},
	Driver:       Flag[string]{Name: "driver", Default: sweep.Native, Usage: "what makes the load: native or guidellm"},
	Guidellm:     Flag[string]{Name: "guidellm", Usage: "`PATH` of guidellm; otherwise looked for in PATH and in its image's place"},
	Endpoint:     endpoint,
	Tokenizer:    Flag[string]{Name: "tokenizer", Usage: "for guidellm: directory or model id of the tokenizer; the model's own otherwise"},
	Seed:         Flag[int64]{Name: "seed", Usage: "prompts are drawn from it; a different one each time otherwise, since a repeated prompt is answered from the cache"},
	Margin:       Flag[time.Duration]{Name: "margin", Default: 3 * time.Minute, Usage: "how long beyond --max-seconds the driver may take before it is stopped"},
	ProbeSeconds: Flag[float64]{Name: "probe-seconds", Default: sweep.ProbeSeconds, Usage: "where guidellm makes the load and the server's /metrics cannot say TTFT, the native driver makes the same load for so many `SECONDS` more, or until each stream has made three requests, to tell TTFT without guidellm's own delays; 0: it does not"},
	Output:       output,
})

// Next chooses the points that an accelerator needs next for a precision.
var Next = define(struct {
	Command
	Accelerator, Precision Flag[string]
	BatchSizes, Shapes     Flag[string]
	MaxSeconds             Flag[float64]
	MaxGPUMinutes          Flag[float64]
	GPUs                   Flag[int]
	Round, MaxRounds       Flag[int]
	NodeOverhead           Flag[float64]
	SLO                    Flag[string]
	MaxNumSeqs             Flag[int]
	Output                 Flag[string]
}{
	Command:       Command{Name: "next", Again: true, Outputs: []layout.Output{layout.OutPoints, layout.OutEnded, layout.OutReasons}},
	Accelerator:   Flag[string]{Name: "accelerator", Required: true, Usage: "`NAME` of the accelerator that is measured"},
	Precision:     Flag[string]{Name: "precision", Required: true, Usage: "how well the parameters are wanted: half widths of their 95 % intervals, as `SHARE` such as 5% for all, or alpha=1%,beta=5%, or capacity=5%"},
	BatchSizes:    Flag[string]{Name: "batch-sizes", Required: true, Usage: "batch sizes to choose from, as `LIST`"},
	Shapes:        Flag[string]{Name: "shapes", Required: true, Usage: "shapes that are measured, as `LIST` such as 128/128,1024/256"},
	MaxSeconds:    Flag[float64]{Name: "max-seconds", Default: 120, Usage: "longest point; 0: ten minutes"},
	MaxGPUMinutes: Flag[float64]{Name: "max-gpu-minutes", Usage: "the most that the accelerator's points may take, overhead included; 0: no limit but that of the rounds"},
	GPUs:          Flag[int]{Name: "gpus", Default: 1, Usage: "GPUs of the server (tensor parallelism), which are held together"},
	Round:         Flag[int]{Name: "round", Default: 1, Usage: "number of the round that is chosen"},
	MaxRounds:     Flag[int]{Name: "max-rounds", Default: precision.MostRounds, Usage: "the most rounds"},
	NodeOverhead:  Flag[float64]{Name: "node-overhead", Usage: "what a point costs beyond what it knows itself, `SECONDS`: the start of its pod"},
	SLO:           Flag[string]{Name: "slo", Usage: "objectives, where the capacity within them is wanted"},
	MaxNumSeqs:    Flag[int]{Name: "max-num-seqs", Usage: "the server's max-num-seqs, if known"},
	Output:        Flag[string]{Name: "output", Usage: "directory or s3://bucket/prefix for outputs/points, outputs/ended and outputs/reasons"},
})

// Aggregate estimates parameters from what the points, or the accelerators, left.
var Aggregate = define(struct {
	Command
	Output, Method, Source, TTFT, Batch Flag[string]
	Range                               Flag[string]
	WeightsGB, CacheBytes               Flag[float64]
	GPUs                                Flag[int]
	Expect, Shapes, Latest              Flag[string]
	Precision                           Flag[string]
	ConfigMap, Namespace                Flag[string]
	Model, Accelerator, Evidence        Flag[string]
	Shape                               Flag[string]
	BatchSize                           Flag[int]
	DriftBand, Previous, History        Flag[string]
	FailOnDrift, Verbose                Flag[bool]

	Formats                      Flag[string]
	ScaleTarget, TargetNamespace Flag[string]
	Metrics, Prometheus          Flag[string]
	MaxReplicas                  Flag[int]
}{
	Command:     Command{Name: "aggregate", Again: true, Outputs: []layout.Output{layout.OutAlpha, layout.OutBeta, layout.OutGamma, layout.OutDelta, layout.OutVerdict, layout.OutReasons, layout.OutAnswer, layout.OutAll, layout.OutDrift, layout.OutDriftPercent}},
	Output:      output,
	Method:      Flag[string]{Name: "method", Default: sweep.WLS, Usage: "wls (weighted least squares over all points) or two-point (the smallest and the largest batch only)"},
	Source:      Flag[string]{Name: "source", Default: sweep.Auto, Usage: "whose numbers count: server (its /metrics), client, or auto (the client's ITL and, where the server saw our requests alone, its TTFT)"},
	TTFT:        Flag[string]{Name: "ttft", Default: sweep.Auto, Usage: "which TTFT of a point: mean, median, or auto (the mean, unless it is nonsense)"},
	Batch:       Flag[string]{Name: "batch", Default: sweep.Auto, Usage: "which batch size the fit is over: nominal (asked for), measured, or auto (measured, but nominal for two-point)"},
	Range:       Flag[string]{Name: "range", Usage: "the batches that the lines are for, such as `16..128`; otherwise all that were measured, or where no line holds for them those of which one predicts the most"},
	WeightsGB:   Flag[float64]{Name: "weights-gb", Usage: "`SIZE` of the model's weights, 10^9 bytes: alpha is held against the time that the accelerator's memory takes to be read once (16.1 for an 8B model in 16 bits)"},
	CacheBytes:  Flag[float64]{Name: "kv-bytes-per-token", Usage: "`BYTES` of KV cache of one token, 2 x layers x KV heads x head size x bytes of a number (131072 for Llama-3.1-8B): the term ctx of engine is held against the time that they take to be read"},
	GPUs:        Flag[int]{Name: "gpus", Default: 1, Usage: "GPUs that share the weights and the cache (tensor parallelism)"},
	Expect:      Flag[string]{Name: "expect", Usage: "accelerators that must end with parameters, as `LIST`"},
	Shapes:      Flag[string]{Name: "shapes", Usage: "the order of shapes, as `LIST` such as 128/128,1024/128; the first is that of the outputs alpha to delta"},
	Precision:   Flag[string]{Name: "precision", Usage: "how well the parameters were wanted, as `SHARE` such as 5%, or alpha=1%,beta=5%: the verdict warns of what was not reached"},
	Latest:      Flag[string]{Name: "latest", Usage: "directory or s3://bucket/prefix under which accepted parameters become latest/MODEL/ACCELERATOR/SHAPE.json"},
	ConfigMap:   Flag[string]{Name: "configmap", Usage: "`NAME` of a ConfigMap that gets the results, made where there is none"},
	Namespace:   Flag[string]{Name: "namespace", Usage: "`NAMESPACE` of the ConfigMap; this pod's own otherwise"},
	Model:       Flag[string]{Name: "model", Usage: "the model's name, for raw reports, which often hold a path or an alias"},
	Accelerator: Flag[string]{Name: "accelerator", Usage: "`NAME` of the accelerator, for raw reports, which seldom hold it"},
	Shape:       Flag[string]{Name: "shape", Usage: "`PROMPT/OUTPUT` tokens, such as 128/128, for raw reports that do not state them"},
	BatchSize:   Flag[int]{Name: "batch-size", Usage: "requests in flight, for raw reports that do not state them"},
	Evidence:    Flag[string]{Name: "evidence", Usage: "`PATH` of measurements, capacities and prefill records for the report and for --formats alone; no estimate is made of them"},
	Verbose:     Flag[bool]{Name: "verbose", Usage: "print everything that is known of each set of parameters, not the answer alone"},
	DriftBand:   Flag[string]{Name: "drift-band", Usage: "compare with the parameters that were accepted last, and tolerate this `CHANGE`, such as 5%; off: compare nothing. What moved beyond it does not become latest"},
	Previous:    Flag[string]{Name: "previous", Usage: "directory or s3://bucket/prefix with the parameters that were accepted last; those of --latest otherwise"},
	History:     Flag[string]{Name: "history", Usage: "directory or s3://bucket/prefix with earlier runs of the same: how much they differ says what another run would have, which no single one knows"},
	FailOnDrift: Flag[bool]{Name: "fail-on-drift", Usage: "exit with 3 when something moved beyond the band, after writing everything"},

	Formats:         Flag[string]{Name: "formats", Usage: "write the results for these consumers as well (formats of step render), as `LIST`: into rendered/ of --output, and into --configmap"},
	ScaleTarget:     Flag[string]{Name: "scale-target", Usage: "for these: `DEPLOYMENT` that is scaled; {accelerator} stands for the accelerator in lower case"},
	TargetNamespace: Flag[string]{Name: "target-namespace", Usage: "for these: `NAMESPACE` of the objects"},
	Metrics:         Flag[string]{Name: "metrics", Default: "vllm", Usage: "for these: whose metrics count requests: vllm, sglang or epp"},
	Prometheus:      Flag[string]{Name: "prometheus", Usage: "for keda: `URL` of Prometheus; http://prometheus.monitoring.svc:9090 otherwise"},
	MaxReplicas:     Flag[int]{Name: "max-replicas", Default: 8, Usage: "for these: most replicas of a scaler"},
})

// What is told of a run, and where to.
var (
	sweepName    = Flag[string]{Name: "sweep", Usage: "`NAME` of the sweep"}
	toldModel    = Flag[string]{Name: "model", Usage: "`NAME` of the model that was measured"}
	toldOn       = Flag[string]{Name: "on", Default: "failure,drift", Usage: "which events to notify of, as `LIST`: end (all runs), failure, drift"}
	reportURL    = Flag[string]{Name: "report-url", Usage: "`URL` of the report, to be passed on"}
	slackURL     = Flag[string]{Name: "slack-url", Usage: "`URL` of Slack's incoming webhook; better given by the environment"}
	webhookURL   = Flag[string]{Name: "webhook-url", Usage: "`URL` that gets JSON; better given by the environment"}
	alertmanager = Flag[string]{Name: "alertmanager-url", Usage: "`URL` of Alertmanager; better given by the environment"}
)

// Notify tells people how a run ended. It tries by itself as long as that is worth it.
var Notify = define(struct {
	Command
	Sweep, Run, Status, Model          Flag[string]
	Failures, On, ReportURL            Flag[string]
	SlackURL, WebhookURL, Alertmanager Flag[string]
}{
	Command:    Command{Name: "notify"},
	Sweep:      sweepName.required(),
	Run:        Flag[string]{Name: "run", Required: true, Usage: "`NAME` of its run"},
	Status:     Flag[string]{Name: "status", Required: true, Usage: "how the run ended, as Argo says it: Succeeded, Failed, Error"},
	Model:      toldModel,
	Failures:   Flag[string]{Name: "failures", Usage: "Argo's workflow.failures, `JSON`"},
	On:         toldOn,
	ReportURL:  reportURL,
	SlackURL:   slackURL,
	WebhookURL: webhookURL, Alertmanager: alertmanager,
})

// Check holds the capacity of one accelerator against open loops.
var Check = define(struct {
	Command
	Target, Model, APIKey Flag[string]
	APIKeyFor             Flag[string]
	Endpoint              Flag[string]
	Accelerator, SLO      Flag[string]
	Shapes                Flag[string]
	MaxNumSeqs            Flag[int]
	ChunkTokens           Flag[int]
	MaxSeconds            Flag[float64]
	Price                 Flag[string]
	ConfigMap, Namespace  Flag[string]
	Server, Output        Flag[string]
}{
	Command: Command{Name: "check", Again: true, Outputs: []layout.Output{layout.OutCapacity, layout.OutConcurrency, layout.OutCost}},
	Target:  target, Model: model, APIKey: apiKey, APIKeyFor: keyFor, Endpoint: endpoint,
	Accelerator: Flag[string]{Name: "accelerator", Required: true, Usage: "`NAME` of the accelerator whose capacity is checked"},
	SLO:         Flag[string]{Name: "slo", Required: true, Usage: "objectives, as `LIST` such as ttft=250ms,p90.itl=20ms"},
	Shapes:      Flag[string]{Name: "shapes", Usage: "the order of shapes, as `LIST`; the first is the one that is checked"},
	MaxNumSeqs:  Flag[int]{Name: "max-num-seqs", Usage: "requests that the server runs at once; 0: as its arguments say, or the largest batch measured"},
	ChunkTokens: Flag[int]{Name: "max-num-batched-tokens", Usage: "tokens of an iteration of the server; 0: as its arguments say, or vLLM's default"},
	MaxSeconds:  Flag[float64]{Name: "max-seconds", Default: 120, Usage: "length of each open loop"},
	Price:       Flag[string]{Name: "price", Usage: "money per hour of one replica, as `PRICE` or A100=2.5,H100=5"},
	ConfigMap:   Flag[string]{Name: "configmap", Usage: "`NAME` of a ConfigMap that gets capacity.json, made where there is none"},
	Namespace:   Flag[string]{Name: "namespace", Usage: "`NAMESPACE` of the ConfigMap; this pod's own otherwise"},
	Server:      Flag[string]{Name: "server", Usage: "what the server runs as: the `JSON` that step wait writes into outputs/server, or @FILE with it; {}: not known"},
	Output:      output,
})

// Report makes the page of a run. It has more flags than this, for people.
var Report = define(struct {
	Command
	Output Flag[string]
}{
	Command: Command{Name: "report"},
	Output:  Flag[string]{Name: "output", Default: "-", Usage: "`FILE` or s3://bucket/key that gets the report; - for stdout"},
})

// Prefill measures how fast a server computes prompts while it does nothing else.
var Prefill = define(struct {
	Command
	Target, Model, APIKey Flag[string]
	APIKeyFor             Flag[string]
	Endpoint              Flag[string]
	Accelerator           Flag[string]
	ChunkTokens, Samples  Flag[int]
	MaxSpread             Flag[string]
	Patience              Flag[time.Duration]
	ModelRevision, Server Flag[string]
	ConfigMap, Namespace  Flag[string]
	GoOn                  Flag[bool]
	Output                Flag[string]
}{
	Command: Command{Name: "prefill", Again: true, Outputs: []layout.Output{layout.OutPrefill}},
	Target:  target, Model: model, APIKey: apiKey, APIKeyFor: keyFor, Endpoint: endpoint,
	Accelerator:   Flag[string]{Name: "accelerator", Required: true, Usage: "`NAME` of the accelerator"},
	ChunkTokens:   Flag[int]{Name: "chunk-tokens", Usage: "`TOKENS` of every prompt, the server's max-num-batched-tokens; 0: as the server's arguments in --server say"},
	Samples:       Flag[int]{Name: "samples", Default: 20, Usage: "`PROMPTS` that have to count, 10 or more"},
	MaxSpread:     Flag[string]{Name: "max-spread", Default: "10%", Usage: "`SHARE` of the median that its 95 % interval may be wide"},
	Patience:      Flag[time.Duration]{Name: "patience", Default: 30 * time.Second, Usage: "how long to wait for the server to be idle"},
	ModelRevision: Flag[string]{Name: "model-revision", Usage: "`REVISION` of the model, for the fingerprint; otherwise as the server's arguments say"},
	ConfigMap:     Flag[string]{Name: "configmap", Usage: "`NAME` of a ConfigMap that gets prefill.json, made where there is none"},
	Namespace:     Flag[string]{Name: "namespace", Usage: "`NAMESPACE` of the ConfigMap; this pod's own otherwise"},
	GoOn:          Flag[bool]{Name: "go-on", Usage: "exit with 0 although it failed, after saying why, so that what comes after it runs"},
	Server:        Flag[string]{Name: "server", Usage: "what the server runs as: the `JSON` that step wait writes into outputs/server, or @FILE with it; {}: not known"},
	Output:        output,
})

// Guard ends pods that do not begin to run, and tells when their workflow is terminated.
var Guard = define(struct {
	Command
	Pods, Namespace                    Flag[string]
	PendingTimeout                     Flag[time.Duration]
	Once, UntilEnded                   Flag[bool]
	Workflow, Sweep, Model             Flag[string]
	On, ReportURL                      Flag[string]
	SlackURL, WebhookURL, Alertmanager Flag[string]
}{
	Command:        Command{Name: "guard"},
	Pods:           Flag[string]{Name: "pods", Required: true, Usage: "`LABELS` of the pods, such as workflows.argoproj.io/workflow=NAME"},
	Namespace:      Flag[string]{Name: "namespace", Usage: "`NAMESPACE` of the pods; this pod's own otherwise"},
	PendingTimeout: Flag[time.Duration]{Name: "pending-timeout", Default: 10 * time.Minute, Usage: "how long a pod may take to begin, images that are being pulled not counted"},
	Once:           Flag[bool]{Name: "once", Usage: "look once, which shows that the rights are there, and end no pod"},
	UntilEnded:     Flag[bool]{Name: "until-ended", Usage: "end when all the pods have ended"},
	Workflow:       Flag[string]{Name: "workflow", Usage: "`NAME` of the workflow that the pods belong to: if it is terminated, say so at the addresses below"},
	Sweep:          sweepName,
	Model:          toldModel,
	On:             toldOn,
	ReportURL:      reportURL,
	SlackURL:       slackURL,
	WebhookURL:     webhookURL, Alertmanager: alertmanager,
})

// InstallTo copies step itself to its argument.
var InstallTo = define(struct{ Command }{Command{Name: "install-to"}})

// Simulate serves a simulated LLM. It has more flags than these, for people.
var Simulate = define(struct {
	Command
	Listen, Model             Flag[string]
	Alpha, Beta, Gamma, Delta Flag[float64]
	Jitter                    Flag[float64]
	Seed                      Flag[int64]
	MaxNumSeqs, MaxModelLen   Flag[int]
	APIKey                    Flag[string]
}{
	Command:     Command{Name: "simulate"},
	Listen:      Flag[string]{Name: "listen", Default: "127.0.0.1:8000", Usage: "`HOST:PORT` to listen on; port 0 is any free one"},
	Model:       Flag[string]{Name: "model", Default: sweep.SimulatedModel, Usage: "`NAME` of the model served"},
	Alpha:       Flag[float64]{Name: "alpha", Default: linear4.Reference.Alpha, Usage: "linear4: ITL without load, `MS`"},
	Beta:        Flag[float64]{Name: "beta", Default: linear4.Reference.Beta, Usage: "linear4: ITL added by each running request, `MS`"},
	Gamma:       Flag[float64]{Name: "gamma", Default: linear4.Reference.Gamma, Usage: "linear4: TTFT without load, `MS`"},
	Delta:       Flag[float64]{Name: "delta", Default: linear4.Reference.Delta, Usage: "linear4: TTFT added by each prompt token and running request, `MS`"},
	Jitter:      Flag[float64]{Name: "jitter", Usage: "relative standard `DEVIATION` of every TTFT and token gap (engine: of every iteration), whose means stay exact"},
	Seed:        Flag[int64]{Name: "seed", Default: 1, Usage: "`SEED` of jitter, wander, faults and early ends"},
	MaxNumSeqs:  Flag[int]{Name: "max-num-seqs", Default: sweep.SimulatedMaxNumSeqs, Usage: "`REQUESTS` that run at once; the others wait"},
	MaxModelLen: Flag[int]{Name: "max-model-len", Default: sweep.SimulatedMaxModelLen, Usage: "`TOKENS` of a prompt and its output together"},
	APIKey:      Flag[string]{Name: "api-key", Usage: "`KEY` demanded under /v1; better given by the environment"},
})
