package render

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/estimate/prefill"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/sweep/slo"
)

// prefillFormats are made of prefill records, by the name that users give.
var prefillFormats = map[string]func(prefill.Record, Options) ([]byte, error){
	"calibration": calibration,
	"keda-tokens": kedaTokens,
}

// TakesPrefill tells whether a format is made of a prefill record.
func TakesPrefill(format string) bool { return prefillFormats[format] != nil }

// Prefill writes the one record among the options, or the one of --runs-on, in a format. A
// refused record is refused.
func Prefill(format string, o Options) ([]byte, error) {
	write, ok := prefillFormats[format]
	if !ok {
		return nil, exit.Errorf(exit.Usage, "format %q: expected one of %s", format, strings.Join(Formats(), ", "))
	}
	rs := o.Prefills
	if o.RunsOn != "" {
		rs = slices.DeleteFunc(slices.Clone(rs), func(r prefill.Record) bool { return r.Accelerator != o.RunsOn })
	}
	if len(rs) != 1 {
		return nil, exit.Errorf(exit.Usage, "--format %s is of one prefill record, and %d are among the inputs; make one with step prefill, or choose with --runs-on", format, len(rs))
	}
	if r := rs[0]; !r.Usable() {
		return nil, exit.Errorf(exit.Refused, "the prefill record of %s on %s is refused: %s", r.Model, r.Accelerator, strings.Join(r.Verdict.Reasons, "; "))
	}
	return write(rs[0], o)
}

// calibrationRecord is the llm-d router's, as its pull request 2938 has it.
type calibrationRecord struct {
	SchemaVersion     int     `json:"schema_version"`
	Status            string  `json:"status"`
	Fingerprint       string  `json:"fingerprint"`
	ModelRevision     string  `json:"model_revision"`
	EngineImageDigest string  `json:"engine_image_digest"`
	ChunkTokens       int     `json:"chunk_tokens"`
	ValidSamples      int     `json:"valid_samples"`
	MedianTTFTSeconds float64 `json:"median_ttft_seconds"`
	PeakPrefill       float64 `json:"peak_prefill_tokens_per_second"`
	Applied           bool    `json:"applied"`
}

// calibration writes the llm-d router's calibration record.
func calibration(r prefill.Record, o Options) ([]byte, error) {
	valid := 0
	for _, s := range r.Samples {
		if s.LeftOut == "" {
			valid++
		}
	}
	o.note("llm-d router, calibration record of pull request 2938 (open in 2026-09): give the plugin prefillCalibrationFile, and prefillCalibrationFingerprint: %s", r.Fingerprint)
	for _, why := range r.Verdict.Reasons {
		o.note("%s on %s: %s", r.Model, r.Accelerator, why)
	}
	return layout.JSON(calibrationRecord{
		SchemaVersion: 1, Status: "OK", Fingerprint: r.Fingerprint, ModelRevision: r.Identity.ModelRevision, EngineImageDigest: r.Identity.ImageDigest,
		ChunkTokens: r.ChunkTokens, ValidSamples: valid, MedianTTFTSeconds: r.MedianTTFTMS / 1000, PeakPrefill: math.Round(10*r.TokensPerSecond) / 10, Applied: true,
	})
}

// kedaTokens writes the ScaledObject that scales by the seconds that the prompt tokens in
// flight take, as llm-d's guide for KEDA has it: those tokens over the prefill rate, and a
// threshold that leaves a request of the usual prompt its TTFT.
func kedaTokens(r prefill.Record, o Options) ([]byte, error) {
	var errs []error
	i := slices.IndexFunc(o.SLOs, func(s slo.Objective) bool { return s.Metric == slo.TTFT })
	if i < 0 {
		errs = append(errs, errors.New("--slo: no ttft among it, which the threshold is made of; such as ttft=500ms"))
	}
	if o.UncachedTokens < 1 {
		errs = append(errs, errors.New("--uncached-tokens: missing; the tokens of a usual prompt that are not found in the prefix cache"))
	}
	if o.ScaleTarget == "" {
		errs = append(errs, errors.New("--scale-target: missing; name the Deployment that is scaled"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, exit.With(exit.Usage, err)
	}
	objective := o.SLOs[i]
	rate := r.SafeTokensPerSecond()
	alone := float64(o.UncachedTokens) / rate
	threshold := objective.MS/1000 - alone
	if !(threshold > 0) {
		return nil, exit.Errorf(exit.Refused, "%s: the %d tokens of a prompt alone take %s s at %.0f tokens/s", objective, o.UncachedTokens, parameters.Format(alone), rate)
	}
	name, target, err := o.named(r.Model, r.Accelerator, false)
	if err != nil {
		return nil, err
	}
	labels := []string{fmt.Sprintf("%s=%q", queries["epp"].model, r.Model)}
	if o.Namespace != "" {
		labels = append(labels, fmt.Sprintf("namespace=%q", o.Namespace))
	}
	body, err := yaml.Marshal(scaledObject(name, target, o, fmt.Sprintf("(sum(llm_d_epp_inflight_tokens{%s}) / %.0f) or vector(0)", strings.Join(labels, ","), rate), threshold))
	if err != nil {
		return nil, err
	}
	notes := []string{
		"KEDA v2 (keda.sh/v1alpha1, checked against 2.21), token-aware as in llm-d's guide of 2026-09: seconds of prefill in flight per replica.",
		fmt.Sprintf("%s: %.0f prompt tokens/s, the divisor: the low end of the interval; %d tokens took an idle server %s ms in the median (%s)", r.Accelerator, rate, r.ChunkTokens, parameters.Format(r.MedianTTFTMS), r.Fingerprint),
		fmt.Sprintf("threshold: %s less %s s that the %d uncached tokens of a prompt take alone", objective, parameters.Format(alone), o.UncachedTokens),
	}
	if r.Verdict.Level != fit.Accepted {
		for _, why := range r.Verdict.Reasons {
			notes = append(notes, "  - "+why)
		}
	}
	return append([]byte(comment(notes)), body...), nil
}
