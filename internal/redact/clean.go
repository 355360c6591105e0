package redact

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// sequence is what moves a terminal's cursor, colours it, or sets its title.
var sequence = regexp.MustCompile("\x1b\\[[0-?]*[ -/]*[@-~]|\x1b\\][^\x07\x1b\n]*(?:\x07|\x1b\\\\)")

// Clean leaves of text what a terminal shows and does not act upon: sequences of
// escapes go, and other control characters, marks that turn the direction of writing,
// and bytes that are no text are spelled out. Newlines and tabs stay.
func Clean(text string) string {
	if !dirty(text) {
		return text
	}
	text = strings.ReplaceAll(sequence.ReplaceAllString(text, ""), "\r\n", "\n")
	var b strings.Builder
	for i, r := range text {
		switch {
		case r == utf8.RuneError && isInvalid(text[i:]):
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case !acts(r):
			b.WriteRune(r)
		case r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// Line is text from elsewhere for use in a message or a table: one line, cleaned, of
// at most so many bytes (0: any number).
func Line(text string, most int) string {
	if most > 0 && len(text) > 4*most {
		text = text[:4*most]
	}
	text = Clean(strings.Join(strings.Fields(sequence.ReplaceAllString(text, "")), " "))
	if most > 0 && len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

// Plain tells whether text can be a name: nothing in it acts on a terminal, ends a
// line or separates cells of a table.
func Plain(text string) bool {
	return !dirty(text) && !strings.ContainsAny(text, "\n\t")
}

func dirty(text string) bool {
	return !utf8.ValidString(text) || strings.ContainsFunc(text, acts)
}

// acts tells the characters that are not shown but obeyed.
func acts(r rune) bool {
	switch {
	case r == '\n', r == '\t':
		return false
	case unicode.IsControl(r), r == '\u2028', r == '\u2029':
		return true
	}
	return unicode.Is(unicode.Bidi_Control, r)
}

func isInvalid(text string) bool {
	_, size := utf8.DecodeRuneInString(text)
	return size <= 1
}
