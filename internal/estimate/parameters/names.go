package parameters

import "slices"

// Shortened makes names of at most so many characters, 5 or more, for columns: of a longer
// one the middle is left out. Names that would then be alike stay whole.
func Shortened(names []string, most int) func(name string) string {
	cut := func(name string) string {
		r := []rune(name)
		if len(r) <= most {
			return name
		}
		head := (most - 1) / 2
		return string(r[:head]) + "…" + string(r[len(r)-(most-1-head):])
	}
	return func(name string) string {
		short := cut(name)
		if slices.ContainsFunc(names, func(other string) bool { return other != name && (other == short || cut(other) == short) }) {
			return name
		}
		return short
	}
}
