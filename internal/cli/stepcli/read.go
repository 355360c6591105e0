package stepcli

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"wfgen.dev/internal/sweep"
)

// read parses the text of a flag; a mistake in it is added to errs under the flag's name.
func read[T any](c *cli.Context, errs *[]error, flag string, parse func(text string) (T, error)) T {
	value, err := parse(c.String(flag))
	if err != nil {
		*errs = append(*errs, fmt.Errorf("--%s: %w", flag, err))
	}
	return value
}

// numbers reads 4, or A100=4,H100=8; the number of all others is under "".
func numbers(text string) (map[string]int, error) {
	return byAccelerator(text, "a number from 1 up, or ACCELERATOR=NUMBER", func(value string) (int, bool) {
		n, err := strconv.Atoi(value)
		return n, err == nil && n >= 1
	})
}

// prices reads 2.5, or A100=2.5,H100=5; that of all others is under "".
func prices(text string) (map[string]float64, error) {
	return byAccelerator(text, "money per hour, or ACCELERATOR=MONEY", func(value string) (float64, bool) {
		x, err := strconv.ParseFloat(value, 64)
		return x, err == nil && x >= 0 && !math.IsInf(x, 0)
	})
}

func byAccelerator[T any](text, expected string, parse func(value string) (T, bool)) (map[string]T, error) {
	found := map[string]T{}
	for _, item := range sweep.Items(text) {
		name, value, named := strings.Cut(item, "=")
		if !named {
			name, value = "", item
		}
		x, ok := parse(value)
		if !ok {
			return nil, fmt.Errorf("%q: expected %s", item, expected)
		}
		if _, twice := found[name]; twice {
			return nil, fmt.Errorf("%q: %s is given twice", item, cmp.Or(name, "what is for all others"))
		}
		found[name] = x
	}
	return found, nil
}

// strangers says which accelerators of a flag are none of those at hand: those of another
// sweep, or a slip of the hand.
func strangers[T any](c *cli.Context, flag string, of map[string]T, accelerators []string) {
	for _, name := range slices.Sorted(maps.Keys(of)) {
		if name != "" && !slices.Contains(accelerators, name) {
			fmt.Fprintf(c.App.ErrWriter, "--%s: left out: %s is none of the accelerators, %s\n", flag, name, strings.Join(accelerators, ", "))
		}
	}
}
