package redact

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

const key = "sk-0123456789abcdef"

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		// by place
		"Authorization: Bearer abc.def was refused":                "Authorization: *** was refused",
		"header bearer abc.def was refused":                        "header bearer *** was refused",
		"api_key=abcdef is not known":                              "api_key=*** is not known",
		"Incorrect API key provided: xyz":                          "Incorrect API key provided: ***",
		"HF_TOKEN=abc vllm serve":                                  "HF_TOKEN=*** vllm serve",
		"hf_token: abc":                                            "hf_token: ***",
		"password=hunter2&x=1":                                     "password=***&x=1",
		"password: hunter2":                                        "password: ***",
		`{"token": "abc", "x": 1}`:                                 `{"token": ***, "x": 1}`,
		`{\"api_key\": \"abc\"}`:                                   `{\"api_key\": ***}`,
		"args: {'port': 8000, 'api_key': ['s3c', 'o'], 'seed': 0}": "args: {'port': 8000, 'api_key': ***, 'seed': 0}",
		"Namespace(api_key='s3cret', dtype='auto')":                "Namespace(api_key=***, dtype='auto')",
		"vllm serve --api-key K1 K2 --port 1":                      "vllm serve --api-key *** --port 1",
		"vllm serve --hf-token=K1 --port 1":                        "vllm serve --hf-token=*** --port 1",
		"AWS_SECRET_ACCESS_KEY=abc":                                "AWS_SECRET_ACCESS_KEY=***",
		"x-api-key: abc":                                           "x-api-key: ***",
		"http://me:secret@host/v1":                                 "http://***@host/v1",
		"http://token@host/v1":                                     "http://***@host/v1",
		"GET https://h/p?key=abc&n=1":                              "GET https://h/p?key=***&n=1",
		"https://b.s3/x?X-Amz-Signature=ab12&X-Amz-Credential=cd":  "https://b.s3/x?X-Amz-Signature=***&X-Amz-Credential=***",
		// by form
		"use sk-12345 here":                         "use *** here",
		"use hf_AbCdEfGh12 here":                    "use *** here",
		"Bearer dGVzdA== no":                        "Bearer *** no",
		"AKIAIOSFODNN7EXAMPLE denied":               "*** denied",
		"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln": "***",
	} {
		if got := Text(in); got != want {
			t.Errorf("%s\n got %s\nwant %s", in, got, want)
		}
	}
	for _, kept := range []string{
		"max_tokens: 128, prompt tokens=64", "ms per token: 7.1", "unexpected token: }", "basic usage of bearer authentication",
		"HF_HUB_OFFLINE=1 with hf_transfer", `hf-secret-key: "a b" is not a key of a Secret`, "s3-secret=results",
		"shared AWS credentials: a line is neither", "--tokenizer org/name --max-num-seqs 64", "scikit-learn and sk-learn",
		"http://host:8000/v1?model=a@b", "monkey=1", `secret "x" not found`, "--api-key-secret-name servers",
	} {
		if got := Text(kept); got != kept {
			t.Errorf("%s\n became %s", kept, got)
		}
	}
}

func TestArgs(t *testing.T) {
	in := []string{"vllm", "serve", "org/m", "--api-key", "K1", "K2", "--hf-token=K3", "--tokenizer", "x", "--ssl-keyfile", "f",
		"--hf-overrides", `{"password": "K4"}`, "-c", "HF_TOKEN=K5 run", "http://u:K6@h", "--api-key"}
	want := []string{"vllm", "serve", "org/m", "--api-key", "***", "***", "--hf-token=***", "--tokenizer", "x", "--ssl-keyfile", "f",
		"--hf-overrides", `{"password": ***}`, "-c", "HF_TOKEN=*** run", "http://***@h", "--api-key"}
	before := slices.Clone(in)
	if got := Args(in); !slices.Equal(got, want) || !slices.Equal(in, before) {
		t.Errorf("%q", got)
	}
	if Args(nil) != nil {
		t.Error("arguments of nothing")
	}
}

func TestURL(t *testing.T) {
	for in, want := range map[string]string{
		"http://vllm:8000/v1":        "http://vllm:8000/v1",
		"http://u:p@vllm":            "http://vllm",
		"http://token@vllm:8000/v1":  "http://vllm:8000/v1",
		"http://vllm?api_key=abc":    "http://vllm?api_key=***",
		"http://u:p@[vllm":           "http://[vllm",
		"http://u:p/q@vllm":          "http://vllm",
		"u:p@vllm":                   "vllm",
		"http://u:%zz@vllm":          "http://vllm",
		"s3://AKIA1:secret@bucket/x": "s3://bucket/x",
	} {
		if got := URL(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func TestEnvironment(t *testing.T) {
	s := Environment([]string{"STEP_API_KEY=" + key, "HF_TOKEN=hf_of_somebody", "WFGEN_API_KEY_SECRET_KEY=the-api-key", "HOME=/home/somebody",
		"https_proxy=http://me:of-the-proxy@proxy:1", "SHORT_TOKEN=short"},
		[]string{"bench", "--api-key", "given-as-flag", "--api-key=given-at-once", "--s3-secret", "name-of-one", "--model", "org/model"})
	for text, want := range map[string]string{
		key: Mask, "hf_of_somebody": Mask, "of-the-proxy": Mask, "given-as-flag": Mask, "given-at-once": Mask,
		"the-api-key": "the-api-key", "/home/somebody": "/home/somebody", "short": "short", "name-of-one": "name-of-one", "org/model": "org/model",
	} {
		if got := string(s.Bytes([]byte(text))); got != want {
			t.Errorf("%s: %s", text, got)
		}
	}
}

// However a text comes in pieces, the secret does not get through, and nothing
// else is changed.
func TestInPieces(t *testing.T) {
	s := Of(key, "hf_token_of_somebody", "", "short")
	text := `{"Authorization": "Bearer ` + key + `", "sk-": 1, "sk-0123": "` + key[:10] + `", "t": "hf_token_of_somebody", "short": "` + key + key + `"}` + key[:5]
	want := strings.NewReplacer(key, Mask, "hf_token_of_somebody", Mask).Replace(text)
	for size := 1; size <= len(text); size++ {
		var out strings.Builder
		w := s.Writer(&out)
		for rest := text; rest != ""; {
			n := min(size, len(rest))
			if _, err := w.Write([]byte(rest[:n])); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if err := w.Flush(); err != nil || out.String() != want {
			t.Fatalf("pieces of %d: %q, %v", size, out.String(), err)
		}
	}
	for _, r := range []io.Reader{strings.NewReader(text), iotest.OneByteReader(strings.NewReader(text)), iotest.DataErrReader(strings.NewReader(text))} {
		if got, err := io.ReadAll(s.Reader(r)); err != nil || string(got) != want {
			t.Errorf("read: %q, %v", got, err)
		}
	}
	if _, err := io.ReadAll(s.Reader(iotest.ErrReader(io.ErrUnexpectedEOF))); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the source's error became %v", err)
	}
}

// A key is found as JSON, Python, URLs and Secrets write it, too.
func TestSpellings(t *testing.T) {
	s := Of("p\"ass\\wörd<&>")
	for _, spelled := range []string{
		"p\"ass\\wörd<&>", `p\"ass\\wörd<&>`, `p\"ass\\w\u00f6rd<&>`, `p\"ass\\wörd\u003c\u0026\u003e`, "p%22ass%5Cw%C3%B6rd%3C%26%3E", "cCJhc3Ncd8O2cmQ8Jj4=",
	} {
		if got := string(s.Bytes([]byte("a " + spelled + " b"))); got != "a *** b" {
			t.Errorf("%s: %s", spelled, got)
		}
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"plain\ttext\n":                  "plain\ttext\n",
		"\x1b[2J\x1b[31mACCEPTED\x1b[0m": "ACCEPTED",
		"\x1b]0;title\x07x":              "x",
		"\x1b]8;;http://evil\x1b\\link":  "link",
		"a\rb":                           `a\x0db`,
		"a\r\nb":                         "a\nb",
		"\x1bc\x08\x7f\u009b":            `\x1bc\x08\x7f\x9b`,
		"bytes \xff\xfe":                 `bytes \xff\xfe`,
		"turned \u202etxt":               `turned \u202etxt`,
		"ITL 7.0 ± 0.1 ms, \u00e9, 模型, \U0001F600": "ITL 7.0 ± 0.1 ms, \u00e9, 模型, \U0001F600",
	} {
		if got := Clean(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if got := Line("model\n\tACCEPTED \x1b[1m"+strings.Repeat("x", 50), 20); got != "model ACCEPTED xxxxx…" {
		t.Errorf("%q", got)
	}
	if !Plain("org/Model-8B ö") || Plain("a\nb") || Plain("a\tb") || Plain("a\x1b[1m") || Plain("\xff") {
		t.Error("what a name may hold")
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("disk full") }

// What cannot be stored is dropped, so that who says it is not blocked, and told
// in the end.
func TestErrorsAreKept(t *testing.T) {
	w := Of(key).Writer(full{})
	for range 3 {
		if n, err := w.Write([]byte("abc")); n != 3 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	}
	if err := w.Flush(); err == nil || err.Error() != "disk full" {
		t.Errorf("%v", err)
	}
}

func TestLines(t *testing.T) {
	var out strings.Builder
	l := Of(key).WordsTo(&out)
	for _, piece := range []string{"the key is sk-01234", "56789abcdef\x1b", "[1m!\npassword: ", "x\nend ", key} {
		if _, err := io.WriteString(l, piece); err != nil {
			t.Fatal(err)
		}
	}
	if want := "the key is ***!\npassword: ***\n"; out.String() != want {
		t.Errorf("%q", out.String())
	}
	if err := l.Flush(); err != nil || !strings.HasSuffix(out.String(), "\nend ***") {
		t.Errorf("%q, %v", out.String(), err)
	}
	out.Reset()
	d := Of(key).DataTo(&out)
	if _, err := io.WriteString(d, "api-key: name\t"+key+"\n"); err != nil || out.String() != "api-key: name\t***\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
}

func FuzzText(f *testing.F) {
	f.Add("--api-key K1 K2", key)
	f.Add("http://u:p@h \x1b[2J", "hunter2-hunter2")
	f.Fuzz(func(t *testing.T, text, secret string) {
		s := Of(secret)
		got := s.Words(text)
		if dirty(got) {
			t.Errorf("%q still acts on a terminal", got)
		}
		if v := strings.TrimSpace(secret); len(v) >= Shortest && strings.Contains(string(s.Bytes([]byte(text+v))), v) && !strings.Contains(v, "*") {
			t.Errorf("%q is left in %q", v, text+v)
		}
	})
}
