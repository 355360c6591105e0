package llm

import (
	"context"
	"errors"
	"net/http"
)

// Settings are what a server tells of how it was started.
type Settings struct {
	Version       string
	MaxNumSeqs    int    // requests that run at once; 0: it does not say
	PrefixCaching *bool  // nil: it does not say
	Role          string // half of a pair, prefill or decode; empty: it does both, or does not say
}

// Settings asks as SGLang is asked (sglang/srt/entrypoints/http_server.py: /server_info,
// /get_server_info before 0.5.6; internal_states have the limit since about 0.5.10).
// Others tell nothing there. Of the answer, which holds
// all arguments and so the key, these fields alone are read.
func (c *Client) Settings(ctx context.Context) Settings {
	var info struct {
		Version            string `json:"version"`
		MaxRunningRequests int    `json:"max_running_requests"`
		DisableRadixCache  *bool  `json:"disable_radix_cache"`
		DisaggregationMode string `json:"disaggregation_mode"`
		InternalStates     []struct {
			MaxRunningRequests int `json:"effective_max_running_requests_per_dp"` // of one of its replicas
		} `json:"internal_states"`
	}
	err := c.getJSON(ctx, "/server_info", nil, &info)
	var status *StatusError
	if errors.As(err, &status) && status.Code == http.StatusNotFound {
		err = c.getJSON(ctx, "/get_server_info", nil, &info)
	}
	if err != nil || info.DisableRadixCache == nil { // somebody else's
		return Settings{}
	}
	s := Settings{Version: c.Said(info.Version), MaxNumSeqs: max(0, info.MaxRunningRequests), PrefixCaching: new(!*info.DisableRadixCache)}
	if s.MaxNumSeqs == 0 { // nobody said: what it found room for
		for _, state := range info.InternalStates {
			s.MaxNumSeqs += max(0, state.MaxRunningRequests)
		}
	}
	if info.DisaggregationMode == "prefill" || info.DisaggregationMode == "decode" {
		s.Role = info.DisaggregationMode
	}
	return s
}
