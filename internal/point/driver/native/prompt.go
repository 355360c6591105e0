package native

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"

	"wfgen.dev/internal/llm/completion"
)

// words are common enough that each, after a space, is one token in every
// tokenizer trained on English text, and one word for a server that counts words.
var words = strings.Fields(`the of and to in is was for on that with as at by from have
this not are but had his they she which you one we all were her there been their has will
would when who what about up more out so some into than them can other its time only
could new these two may then first any my now such like our over even most me after also
made did many before must through where much your way well down should because each just
those people how too little state good very make world still see own men work long here
get both between life being under never day same another know while last might us great
old year off come since go against came right used take three`)

// prompter writes prompts of the asked number of tokens, no two alike: a
// repeated prompt would be answered from the server's prefix cache.
type prompter struct {
	words  int     // words that make the asked number of tokens
	tokens float64 // tokens that such prompts were counted to have
}

func (p prompter) prompt(r *rand.Rand) string {
	var b strings.Builder
	for i := range p.words {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(words[r.IntN(len(words))])
	}
	return b.String()
}

// calibrate finds how many words make a prompt of the asked tokens, by the server's
// /tokenize or, where that counts nothing, by the usage of one-token requests. A server
// without /tokenize need not say so by its status: a gateway answers anything with its
// page, and llama.cpp, which wants another field, with no tokens. Special tokens that
// the server adds are part of the count.
func calibrate(asked int, r *rand.Rand, tokenize, usage func(prompt string) (int, error)) (prompter, error) {
	count := tokenize
	if count == nil {
		count = usage
	}
	var best prompter
	for n := asked; ; {
		p := prompter{words: n}
		counted, err := count(p.prompt(r))
		if tokenize != nil && (err != nil || counted < 1) {
			tokenize, count = nil, usage
			counted, err = count(p.prompt(r))
		}
		if err != nil {
			return best, err
		}
		if counted < 1 {
			return best, fmt.Errorf("the server counted %d tokens in a prompt of %d words: %w", counted, n, completion.ErrNoUsage)
		}
		p.tokens = float64(counted)
		if best.words > 0 && math.Abs(p.tokens-float64(asked)) >= math.Abs(best.tokens-float64(asked)) {
			return best, nil // as near as whole words come
		}
		best = p
		n = max(1, n+int(math.Round(float64((asked-counted)*n)/float64(counted))))
		if n == best.words {
			return best, nil
		}
	}
}
