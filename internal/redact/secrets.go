package redact

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Shortest is the length from which a secret can be told from ordinary text:
// cutting every "1" or "null" out of a report would destroy it.
const Shortest = 8

// Secrets are values that must not be written, in each way that they may be spelled.
// The zero value holds none.
type Secrets struct{ spellings [][]byte }

// Of are the secrets of these values; those too short to be told from ordinary text
// are left out.
func Of(values ...string) Secrets {
	var s Secrets
	for _, v := range values {
		if v = strings.TrimSpace(v); len(v) < Shortest {
			continue
		}
		ascii := strconv.QuoteToASCII(v) // as Python's json.dumps does
		spellings := []string{v, ascii[1 : len(ascii)-1], url.QueryEscape(v), url.PathEscape(v), base64.StdEncoding.EncodeToString([]byte(v))}
		for _, html := range []bool{false, true} {
			var b bytes.Buffer
			e := json.NewEncoder(&b)
			e.SetEscapeHTML(html)
			if e.Encode(v) == nil {
				quoted := strings.TrimSpace(b.String())
				spellings = append(spellings, quoted[1:len(quoted)-1])
			}
		}
		for _, spelling := range spellings {
			s.add([]byte(spelling))
		}
	}
	return s
}

func (s *Secrets) add(spelling []byte) {
	if !slices.ContainsFunc(s.spellings, func(have []byte) bool { return bytes.Equal(have, spelling) }) {
		s.spellings = append(s.spellings, spelling)
	}
}

// And are the secrets of both.
func (s Secrets) And(others Secrets) Secrets {
	all := Secrets{slices.Clone(s.spellings)}
	for _, spelling := range others.spellings {
		all.add(spelling)
	}
	// One may be within another, of which a part would be left if it went first.
	slices.SortStableFunc(all.spellings, func(a, b []byte) int { return len(b) - len(a) })
	return all
}

// Environment are the secrets in an environment, a list of NAME=VALUE, and among
// arguments: the values of variables and flags whose names tell it, and the passwords
// of the proxies. Variables of wfgen's own flags name Secrets and their keys; they hold
// none.
func Environment(environment, args []string) Secrets {
	var values []string
	for _, v := range environment {
		name, value, _ := strings.Cut(v, "=")
		switch {
		case strings.HasPrefix(name, "WFGEN_"):
		case Name(name):
			values = append(values, value)
		case strings.HasSuffix(strings.ToUpper(name), "_PROXY"):
			if u, err := url.Parse(value); err == nil {
				if password, set := u.User.Password(); set {
					values = append(values, password)
				}
			}
		}
	}
	for i, a := range args {
		name, value, has := strings.Cut(a, "=")
		if !strings.HasPrefix(a, "-") || !Name(name) {
			continue
		}
		if !has && i+1 < len(args) {
			value = args[i+1]
		}
		values = append(values, value)
	}
	return Of(values...).And(Secrets{})
}

type contextKey struct{}

// With is a context whose holder knows the secrets of its process.
func With(ctx context.Context, s Secrets) context.Context {
	return context.WithValue(ctx, contextKey{}, From(ctx).And(s))
}

// From are the secrets that the context knows.
func From(ctx context.Context) Secrets {
	s, _ := ctx.Value(contextKey{}).(Secrets)
	return s
}

// None tells that there are no secrets.
func (s Secrets) None() bool { return len(s.spellings) == 0 }

// Bytes masks the secrets in text.
func (s Secrets) Bytes(text []byte) []byte {
	for _, secret := range s.spellings {
		text = bytes.ReplaceAll(text, secret, []byte(Mask))
	}
	return text
}

// Words masks in words for people these secrets, and those that their place or form
// gives away, and leaves nothing that draws on a terminal.
func (s Secrets) Words(text string) string { return Clean(Text(string(s.Bytes([]byte(text))))) }

// beginning is the length of the longest end of text with which a secret begins.
func (s Secrets) beginning(text []byte) int {
	longest := 0
	for _, secret := range s.spellings {
		for n := min(len(secret)-1, len(text)); n > longest; n-- {
			if bytes.HasPrefix(secret, text[len(text)-n:]) {
				longest = n
			}
		}
	}
	return longest
}
