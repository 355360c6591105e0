// Package redact is the one notion of what must not be shown.
//
// A secret is known by its value (the API key of the process, what secret-named
// variables of its environment hold), by its place (after a name such as api-key,
// password or Authorization, in the user part of a URL) or by its form (hf_…, sk-…,
// a JSON Web Token). Secrets finds the first kind anywhere, byte for byte, so that it
// may be applied to JSON; Text, Args and URL find the other kinds as well, and are for
// words that people read.
//
// What foreign text may do to a terminal is the other half: Clean leaves it nothing
// that moves a cursor, and Line not even a second line.
package redact

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// Mask stands where a secret stood.
const Mask = "***"

// Name tells whether a flag, variable, header or field of this name holds a secret, as
// HF_TOKEN, --api-key, X-Api-Key and db.password do. Tokens that are counted
// (max-tokens) and the names of files and of Secrets (token-file, hf-secret-name) do not.
func Name(name string) bool {
	name = strings.TrimLeft(name, "-")
	return secretName.MatchString(name) && !slices.Contains(ours, strings.ToLower(name))
}

// ours are fields of a configuration that name Secrets and keys in them.
var ours = []string{"hf-secret-key", "api-key-secret-key", "s3-secret"}

const (
	plain  = `pass(?:word|wd|phrase)s?|pwd|authorization|(?:access|api|auth|bearer|hf)[-_. ]?tokens|client[-_. ]?secret`
	keys   = `(?:api|access|account|auth|encryption|private|secret|shared|signing|subscription)[-_. ]?keys?`
	common = `token|secrets?|credentials?` // words of ordinary sentences, too
)

var (
	secretName = regexp.MustCompile(`(?i)(?:` + plain + `|` + common + `|keys?)$`)

	// value is a list, a quoted text, or a word, with the scheme of an Authorization before it.
	value = `((?:(?:bearer|basic)\s+)?(?:\[[^\]]*\]|'(?:[^'\\]|\\.)*'|\\"[^"\\]*\\"|"(?:[^"\\]|\\.)*"|[^\s,;&)}\]'"]+))`
	name  = `(?i)((?:^|[^\w.-])['"\\]*)`

	// name: value, where the name cannot be anything else; name=value and "name": value.
	said     = regexp.MustCompile(name + `([\w.-]*(?:` + plain + `|` + keys + `|[-_.]token))(\s*[:=]\s*)` + value)
	assigned = regexp.MustCompile(name + `([\w.-]*(?:` + plain + `|` + keys + `|` + common + `))(\\?['"]\s*[:=]\s*|=)` + value)
	flagged  = regexp.MustCompile(`(?i)(--[\w.-]*(?:` + plain + `|` + common + `|keys?)(?:\s+|=))(?:'[^']*'|"[^"]*"|[^\s'"-][^\s'"]*)(?:[ \t]+[^\s'"-][^\s'"]*)*`)
	told     = regexp.MustCompile(`(?i)(\b(?:` + keys + `|token|password) provided: )\S+`)
	queried  = regexp.MustCompile(`(?i)([?&](?:[\w.-]*(?:key|token|signature|credential)|sig|auth)=)[^&\s'"#]*`)
	user     = regexp.MustCompile(`(?i)([a-z][a-z0-9+.-]*://)[^/@\s'"]*@`)
	scheme   = regexp.MustCompile(`(?i)\b((?:bearer|basic)\s+)([\w.~+/=-]{6,})`)
	form     = regexp.MustCompile(`\b(?:sk-[\w-]{5,}|hf_[A-Za-z0-9]{6,}\b|gh[oprsu]_\w{6,}|github_pat_\w{6,}|glpat-[\w-]{6,}|nvapi-[\w-]{6,}|xox[abprs]-[\w-]{6,}|A(?:KIA|SIA)[A-Z0-9]{12,}|eyJ[\w-]{6,}\.[\w-]{6,}(?:\.[\w-]*)?)`)
)

// Text masks the secrets that their place or form gives away in words for people.
func Text(text string) string {
	text = user.ReplaceAllString(text, "${1}"+Mask+"@")
	text = queried.ReplaceAllString(text, "${1}"+Mask)
	text = flagged.ReplaceAllStringFunc(text, func(found string) string {
		m := flagged.FindStringSubmatch(found)
		if !Name(strings.TrimRight(m[1], "= \t\n")) {
			return found
		}
		return m[1] + Mask
	})
	for _, re := range []*regexp.Regexp{said, assigned} {
		text = re.ReplaceAllStringFunc(text, func(found string) string {
			m := re.FindStringSubmatch(found)
			if !Name(m[2]) {
				return found
			}
			return m[1] + m[2] + m[3] + Mask
		})
	}
	text = told.ReplaceAllString(text, "${1}"+Mask)
	text = scheme.ReplaceAllStringFunc(text, func(found string) string {
		m := scheme.FindStringSubmatch(found)
		if word(m[2]) { // "basic usage", "bearer authentication"
			return found
		}
		return m[1] + Mask
	})
	return form.ReplaceAllStringFunc(text, func(found string) string {
		if word(found) { // hf_transfer
			return found
		}
		return Mask
	})
}

// word tells text that is spelled as words are, which hardly a secret is.
func word(text string) bool {
	return strings.ToLower(text) == text && !strings.ContainsAny(text, "0123456789.=/+")
}

// Args masks the secrets in the arguments of a program, in a copy. What follows a flag
// that holds a secret is masked up to the next flag: vLLM takes several keys so.
func Args(args []string) []string {
	if args == nil {
		return nil
	}
	masked := make([]string, len(args))
	secret := false // what comes is the value of a flag that holds a secret
	for i, a := range args {
		name, _, has := strings.Cut(a, "=")
		switch isFlag := strings.HasPrefix(a, "-") && len(a) > 1; {
		case isFlag && Name(name) && has:
			masked[i], secret = name+"="+Mask, false
		case isFlag:
			masked[i], secret = Text(a), Name(name)
		case secret:
			masked[i] = Mask
		default:
			masked[i] = Text(a)
		}
	}
	return masked
}

// URL is a URL that may be kept and shown: without user and password, and without the
// values of the query that hold secrets. One that cannot be parsed keeps nothing of what
// may be a password.
func URL(text string) string {
	if u, err := url.Parse(text); err == nil && u.Opaque == "" {
		u.User = nil
		return Text(u.String())
	}
	scheme, _, found := strings.Cut(text, "://")
	if i := strings.LastIndexByte(text, '@'); i >= 0 && found {
		text = scheme + "://" + text[i+1:]
	} else if i >= 0 {
		text = text[i+1:]
	}
	return Text(text)
}
