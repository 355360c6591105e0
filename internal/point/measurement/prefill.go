package measurement

// Prefill is one prompt to an idle server, and how long its first token took.
type Prefill struct {
	PromptTokens int      `json:"prompt_tokens"`       // counted by the server
	ClientMS     float64  `json:"client_ms"`           // time to first token, as the client saw it
	ServerMS     *float64 `json:"server_ms,omitempty"` // the same, by which the server's histogram grew
	LeftOut      string   `json:"left_out,omitempty"`  // why it does not count
}
