package aggregate

import (
	"fmt"
	"slices"
	"strings"

	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/run/reason"
)

// warnOfDifferences warns of what differs among those of the points that a fit used.
func warnOfDifferences(v *fit.Verdict, ms []Source, used []int) {
	var of []Source
	for _, i := range used {
		of = append(of, ms[i])
	}
	for _, d := range differences(of) {
		v.Warn(reason.New(reason.Differs, "%s", d))
	}
}

// differences are what else than the batch size and the shape is not equal among the
// points of one fit, one sentence each. What is not known of a point differs from
// nothing. Another pod alone is none: it is the same server, started again.
func differences(ms []Source) []string {
	var found []string
	for _, d := range []struct {
		what string
		of   func(Source) string
	}{
		{"driver", driver},
		{"server version", func(m Source) string { return m.Provenance.ServerVersion }},
		{"image", func(m Source) string {
			if m.Provenance.ImageDigest != "" {
				return "" // two names of one image are no difference
			}
			return m.Provenance.Image
		}},
		{"image digest", func(m Source) string { return m.Provenance.ImageDigest }},
		{"KV cache", cache},
		{"GPU", func(m Source) string { return m.Provenance.GPU }},
		{"GPU driver", func(m Source) string { return m.Provenance.GPUDriver }},
		{"node", func(m Source) string { return m.Provenance.Node }},
	} {
		if values := collect(ms, d.of); len(values) > 1 {
			found = append(found, fmt.Sprintf("the points differ in their %s: %s", d.what, strings.Join(values, ", ")))
		}
	}
	if a := arguments(ms); len(a) > 1 {
		found = append(found, "the points differ in their server's arguments: "+strings.Join(a, " and "))
	}
	return found
}

// cache is the server's KV cache in words. How many tokens it holds is not among
// them: that varies a little whenever the server starts, and changes no latency.
func cache(m Source) string {
	c := m.Provenance.Cache
	if c == nil {
		return ""
	}
	var words []string
	if c.BlockSize > 0 {
		words = append(words, fmt.Sprintf("blocks of %d tokens", c.BlockSize))
	}
	if c.PrefixCaching != nil {
		words = append(words, "prefix caching "+map[bool]string{true: "on", false: "off"}[*c.PrefixCaching])
	}
	return strings.Join(words, "; ")
}

// arguments are the different arguments of the servers, each without what all have in
// common. Their order does not matter.
func arguments(ms []Source) []string {
	var all [][]string
	for _, m := range ms {
		if len(m.Provenance.Args) == 0 {
			continue
		}
		flags := flags(m.Provenance.Args)
		if !slices.ContainsFunc(all, func(o []string) bool { return slices.Equal(o, flags) }) {
			all = append(all, flags)
		}
	}
	if len(all) < 2 {
		return nil
	}
	var texts []string
	for _, flags := range all {
		own := slices.DeleteFunc(slices.Clone(flags), func(f string) bool {
			return !slices.ContainsFunc(all, func(o []string) bool { return !slices.Contains(o, f) })
		})
		text := strings.Join(own, " ")
		if text == "" {
			text = "without"
		}
		texts = append(texts, text)
	}
	return texts
}

// flags are arguments, sorted, each flag with its value.
func flags(args []string) []string {
	var all []string
	for _, a := range args {
		if n := len(all); n > 0 && !strings.HasPrefix(a, "-") && strings.HasPrefix(all[n-1], "-") && !strings.ContainsAny(all[n-1], "= ") {
			all[n-1] += " " + a
			continue
		}
		all = append(all, a)
	}
	slices.Sort(all)
	return all
}
