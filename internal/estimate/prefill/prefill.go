// Package prefill holds how fast a server computes prompts: the record of an idle probe
// with prompts of exactly one chunk, from which routers and token-aware autoscalers know
// how long the tokens in flight take. It does no I/O but decoding.
package prefill

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/gonum/stat/distuv"

	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/llm/record"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/redact"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/run/reason"
	"wfgen.dev/internal/sweep/engine"
)

// Schema names the version of prefill.json.
const Schema = "wfgen.dev/prefill/v1"

// Limits of the verdict.
const (
	// FewestSamples is how many prompts must count, as the llm-d router has it.
	FewestSamples = 10
	// MostSpread is how wide the 95 % interval of the median may be, as a share of it. That
	// single prompts come late, as they do where the node has other work at times, is no
	// fault of the median; that so many do that it might be another is.
	MostSpread = 0.1
)

// Record is prefill.json. Times are in ms, lengths in tokens.
type Record struct {
	Schema      string `json:"schema"`
	Model       string `json:"model"`
	Accelerator string `json:"accelerator"`
	ChunkTokens int    `json:"chunk_tokens"` // of every prompt: what one iteration of the server computes at most (max-num-batched-tokens)

	MedianTTFTMS    float64 `json:"median_ttft_ms,omitempty"` // of the samples that count
	LowTTFTMS       float64 `json:"low_ttft_ms,omitempty"`    // its 95 % interval; absent in records of earlier versions
	HighTTFTMS      float64 `json:"high_ttft_ms,omitempty"`
	SpreadPercent   float64 `json:"spread_percent,omitempty"`    // from their 10 to their 90 % quantile, percent of the median
	TokensPerSecond float64 `json:"tokens_per_second,omitempty"` // chunk_tokens over the median
	From            string  `json:"from,omitempty"`              // whose times: server or client

	Samples     []measurement.Prefill `json:"samples"`
	Verdict     fit.Verdict           `json:"verdict"`
	Fingerprint string                `json:"fingerprint"` // sha256: of identity
	Identity    Identity              `json:"identity"`

	MeasuredAt    float64 `json:"measured_at"` // Unix seconds
	Target        string  `json:"target,omitempty"`
	ServerVersion string  `json:"server_version,omitempty"` // as the server says it
	Tool          string  `json:"tool,omitempty"`           // version of step
	record.Instance
}

// Identity is what must be the same for the rate to be that of another server. What is
// empty is not known.
type Identity struct {
	Model           string `json:"model"`
	ModelRevision   string `json:"model_revision"`
	ImageDigest     string `json:"engine_image_digest"`
	DType           string `json:"dtype"`
	Accelerator     string `json:"accelerator"`
	TensorParallel  string `json:"tensor_parallel"`
	DataParallel    string `json:"data_parallel"`
	ExpertParallel  string `json:"expert_parallel"`
	MaxNumSeqs      int    `json:"max_num_seqs"` // 0: not known
	ChunkTokens     int    `json:"chunk_tokens"`
	QuantizedWeight string `json:"quantization"`
}

// IdentityOf reads what a server runs as. revision is that of the model, empty where only
// the arguments may say it.
func IdentityOf(model, accelerator, revision string, chunk int, i record.Instance) Identity {
	// A shell's, too; what is no text would have another fingerprint when it is read again.
	args := strings.Fields(strings.ToValidUTF8(strings.Join(i.Args, " "), "\uFFFD"))
	first := func(names ...string) string {
		for _, name := range names {
			if v := strings.Trim(engine.Argument(args, name), `"'`); v != "" {
				return v
			}
		}
		return ""
	}
	id := Identity{
		Model: model, ModelRevision: revision, ImageDigest: i.ImageDigest, DType: first("--dtype"), Accelerator: accelerator,
		TensorParallel: first("--tensor-parallel-size", "-tp", "--tp-size", "--tp"), DataParallel: first("--data-parallel-size", "-dp", "--dp-size", "--dp"),
		ExpertParallel: first("--expert-parallel-size", "--ep-size", "--ep"), MaxNumSeqs: engine.MaxNumSeqs(args), ChunkTokens: chunk,
		QuantizedWeight: first("--quantization", "-q"),
	}
	if id.ModelRevision == "" {
		id.ModelRevision = first("--revision")
	}
	if id.ExpertParallel == "" && slices.Contains(args, "--enable-expert-parallel") {
		id.ExpertParallel = "all"
	}
	return id
}

// Fingerprint is the same for equal identities: sha256: and the hash of their JSON.
func (i Identity) Fingerprint() string {
	data, err := json.Marshal(i)
	if err != nil {
		panic(err) // texts and numbers
	}
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Judge makes the numbers and the verdict of the samples.
func (r *Record) Judge(mostSpread float64) {
	r.Verdict, r.Fingerprint = fit.NewVerdict(), r.Identity.Fingerprint()
	var client, server []float64
	why := map[string]int{}
	for i := range r.Samples {
		s := &r.Samples[i]
		if s.ServerMS != nil && !possible(*s.ServerMS) { // a histogram that was set back, perhaps
			s.ServerMS = nil
		}
		if !possible(s.ClientMS) {
			s.ClientMS, s.LeftOut = 0, cmp.Or(s.LeftOut, impossible)
		}
		if s.LeftOut != "" {
			why[s.LeftOut]++
			continue
		}
		client = append(client, s.ClientMS)
		if s.ServerMS != nil {
			server = append(server, *s.ServerMS)
		}
	}
	times := client
	if r.From = "client"; len(server) == len(client) {
		times, r.From = server, "server"
	}
	if len(times) < FewestSamples {
		text := fmt.Sprintf("%d prompts count, and %d are needed", len(times), FewestSamples)
		for _, w := range slices.Sorted(maps.Keys(why)) {
			text += fmt.Sprintf("; %d left out: %s", why[w], w)
		}
		r.Verdict.Refuse(reason.New(reason.Few, "%s", text).Cured("keep others off the server, and ask for more samples"))
		return
	}
	slices.Sort(times)
	r.MedianTTFTMS = measurement.Quantile(times, 0.5)
	r.LowTTFTMS, r.HighTTFTMS = medianInterval(times)
	r.SpreadPercent = 100 * (measurement.Quantile(times, 0.9) - measurement.Quantile(times, 0.1)) / r.MedianTTFTMS
	r.TokensPerSecond = 1000 * float64(r.ChunkTokens) / r.MedianTTFTMS
	if width := (r.HighTTFTMS - r.LowTTFTMS) / r.MedianTTFTMS; !(width <= mostSpread) {
		r.Verdict.Refuse(reason.New(reason.Scatter, "the same work on an idle server took now %.4g, now %.4g ms: so wide is the 95 %% interval of the median of %d prompts, %.3g %% of it, where %.3g %% are let pass",
			r.LowTTFTMS, r.HighTTFTMS, len(times), 100*width, 100*mostSpread).Cured("fix the clocks, keep others off the node, and measure again, with more --samples"))
	}
	for _, unknown := range []struct{ name, value, cure string }{
		{"the model's revision", r.Identity.ModelRevision, "give --model-revision"},
		{"the digest of the server's image", r.Identity.ImageDigest, "give --server with image_digest, as step wait writes it"},
	} {
		if unknown.value == "" {
			r.Verdict.Warn(reason.New(reason.Other, "the fingerprint does not hold %s, which is not known: another one would have the same", unknown.name).Cured("%s", unknown.cure))
		}
	}
}

// impossible is why a prompt does not count whose time cannot be one.
const impossible = "no time that a prompt can take"

// possible tells whether a prompt can take so many ms: more than a nanosecond, and less
// than a month.
func possible(ms float64) bool { return ms > 1e-6 && ms < 3e9 }

// medianInterval is the 95 % interval of the median of values in ascending order, which
// holds whatever their distribution: from the k-th of them to the k-th last, where so few
// as k-1 of n tosses of a coin show heads in 2.5 % of cases at most.
func medianInterval(values []float64) (low, high float64) {
	coin := distuv.Binomial{N: float64(len(values)), P: 0.5}
	k := 0
	for coin.CDF(float64(k)) <= 0.025 {
		k++
	}
	k = max(k, 1)
	return values[k-1], values[len(values)-k]
}

// SafeTokensPerSecond is the low end of the rate's interval, or the rate where there is none.
func (r *Record) SafeTokensPerSecond() float64 {
	if r.HighTTFTMS > 0 {
		return 1000 * float64(r.ChunkTokens) / r.HighTTFTMS
	}
	return r.TokensPerSecond
}

// Usable says whether the rate may be used.
func (r *Record) Usable() bool { return r.Verdict.Level != fit.Refused && r.TokensPerSecond > 0 }

// Encode is the file: indented JSON, the schema filled in.
func (r Record) Encode() ([]byte, error) {
	r.Schema = Schema
	if err := r.validate(); err != nil {
		return nil, fmt.Errorf("prefill: %w", err)
	}
	return layout.JSONWithin(r, "prefill record", mostBytes)
}

// mostBytes is the most that a record may hold: a thousand samples are a fifth of it.
const mostBytes = 1 << 20

// Decode reads a record; name is what errors call it. Unknown fields are ignored. The
// error names every mistake and has the code of refused data.
func Decode(in io.Reader, name string) (Record, error) {
	var r Record
	if err := layout.ReadJSON(in, name, "prefill record", &r, mostBytes); err != nil {
		return r, err
	}
	if err := r.validate(); err != nil {
		return r, exit.Errorf(exit.Refused, "%s: %w", name, err)
	}
	return r, nil
}

func (r *Record) validate() error {
	if r.Schema != Schema {
		return fmt.Errorf("schema: found %q, expected %q", r.Schema, Schema)
	}
	var errs []error
	for _, n := range []struct{ field, name string }{{"model", r.Model}, {"accelerator", r.Accelerator}} {
		if n.name == "" || !redact.Plain(n.name) {
			errs = append(errs, fmt.Errorf("%s: found %q, expected a name without control characters", n.field, n.name))
		}
	}
	if r.ChunkTokens < 1 {
		errs = append(errs, fmt.Errorf("chunk_tokens: %d is below 1", r.ChunkTokens))
	}
	if want := r.Identity.Fingerprint(); r.Fingerprint != want {
		errs = append(errs, fmt.Errorf("fingerprint: %s is not that of the identity, %s", r.Fingerprint, want))
	}
	switch r.Verdict.Level {
	case fit.Accepted, fit.Warned:
		if !(r.MedianTTFTMS > 0) || math.Abs(r.TokensPerSecond*r.MedianTTFTMS/1000/float64(r.ChunkTokens)-1) > 1e-6 {
			errs = append(errs, fmt.Errorf("tokens_per_second: %v is not chunk_tokens over median_ttft_ms", r.TokensPerSecond))
		}
	case fit.Refused:
	default:
		errs = append(errs, fmt.Errorf("verdict.level: found %q, expected %s, %s or %s", r.Verdict.Level, fit.Accepted, fit.Warned, fit.Refused))
	}
	return errors.Join(errs...)
}
