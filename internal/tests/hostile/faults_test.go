package hostile

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"wfgen.dev/internal/llm/simulate"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/layout"
)

// fault makes one row of docs/faults.md: what is run, with what in its environment.
type fault struct {
	env    []string
	args   []string // bench, wait and so on get a target and a model unless they have one
	stdout *os.File
	before func(out string) // the run
}

// TestFaults makes every fault of docs/faults.md, and holds the table to what comes of it.
func TestFaults(t *testing.T) {
	text, err := os.ReadFile("../../../docs/faults.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(text), "<!-- faults -->")
	table, _, ended := strings.Cut(table, "<!-- end of faults -->")
	if !found || !ended {
		t.Fatal("docs/faults.md has no table")
	}
	for _, code := range []int{exit.Done, exit.Fault, exit.Usage, exit.Drift, exit.Imprecise, exit.Refused, exit.Unusable, exit.TryAgain} {
		if !strings.Contains(string(text), fmt.Sprintf("\n| %d | ", code)) {
			t.Errorf("docs/faults.md does not list the exit code %d", code)
		}
	}
	rows := map[string][]string{}
	for _, line := range strings.Split(strings.TrimSpace(table), "\n")[2:] {
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		if len(cells) == 4 { // says nothing
			cells = []string{cells[0], cells[1], cells[2], "", strings.TrimPrefix(cells[3], "| ")}
		}
		rows[cells[0]] = cells
	}
	faults := makeFaults(t)
	for what := range faults {
		if rows[what] == nil {
			t.Errorf("docs/faults.md has no row for %q", what)
		}
	}
	for what, row := range rows {
		f, made := faults[what]
		if !made {
			t.Errorf("no test makes %q", what)
			continue
		}
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			out := filepath.Join(t.TempDir(), "out")
			if f.before != nil {
				f.before(out)
			}
			name, args := "step", slices.Clone(f.args)
			if strings.HasPrefix(args[0], "wfgen ") {
				name, args[0] = "wfgen", strings.TrimPrefix(args[0], "wfgen ")
			}
			for i := range args {
				args[i] = strings.ReplaceAll(args[i], "OUT", out)
			}
			cmd := command(t, append([]string{"TMPDIR=" + t.TempDir()}, f.env...), name, args...)
			var words bytes.Buffer
			cmd.Stdout, cmd.Stderr = &words, &words
			if f.stdout != nil {
				cmd.Stdout = f.stdout
			}
			_ = cmd.Run()
			if code := strconv.Itoa(cmd.ProcessState.ExitCode()); code != row[2] {
				t.Errorf("exit %s, the table says %s: %s", code, row[2], &words)
			}
			if says := strings.Trim(strings.TrimSpace(row[3]), "`"); !strings.Contains(words.String(), says) {
				t.Errorf("the table says that it says %q: %s", says, &words)
			}
			if kept := kept(t, out); row[4] != "what was measured" && kept != row[4] {
				t.Errorf("kept %s, the table says %s", kept, row[4])
			}
		})
	}
}

// kept names what lies in the output of a point.
func kept(t *testing.T, out string) string {
	kinds := map[string]bool{}
	_ = filepath.WalkDir(out, func(name string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // nothing was left
		case err != nil:
			t.Error(err)
		case e.IsDir() || strings.Contains(name, "/outputs/"):
		case strings.HasSuffix(name, "-log.txt"):
			kinds["log"] = true
		case strings.HasSuffix(name, "-server.json"):
			kinds["scrapes"] = true
		case strings.Contains(name, "/reports/"):
			kinds["report"] = true
		case regexp.MustCompile(`/measurement(\.partial)?\.json$`).MatchString(name):
			kinds[strings.TrimSuffix(filepath.Base(name), ".json")] = true
		default:
			kinds[name] = true
		}
		return nil
	})
	var list []string
	for kind := range kinds {
		if kind != "measurement.partial" {
			list = append(list, kind)
		}
	}
	slices.Sort(list)
	if len(list) == 0 {
		return "nothing"
	}
	return strings.Join(list, ", ")
}

func makeFaults(t *testing.T) map[string]fault {
	serve := func(c simulate.Config, change func(http.Handler) http.Handler) *httptest.Server {
		c.Model, c.Alpha, c.Gamma = "m", 5, 5
		s, err := simulate.New(c)
		if err != nil {
			t.Fatal(err)
		}
		handler := s.Handler()
		if change != nil {
			handler = change(handler)
		}
		h := httptest.NewServer(handler)
		t.Cleanup(func() { h.Close(); s.Close() })
		return h
	}
	good := serve(simulate.Config{MaxModelLen: 64}, nil)
	locked := serve(simulate.Config{APIKey: "key-of-the-server"}, nil)
	failing := serve(simulate.Config{FailRate: 1}, nil)
	odd := serve(simulate.Config{}, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/metrics" {
				h.ServeHTTP(w, r)
				return
			}
			recorded := httptest.NewRecorder()
			h.ServeHTTP(recorded, r)
			_, _ = w.Write(regexp.MustCompile(`(?m)^(vllm:num_requests_waiting.*) \S+$`).ReplaceAll(recorded.Body.Bytes(), []byte("$1 NaN")))
		})
	})
	away := httptest.NewServer(http.RedirectHandler(good.URL, http.StatusTemporaryRedirect))
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	secure.Config.ErrorLog = nil
	t.Cleanup(func() { away.Close(); secure.Close() })

	dir := t.TempDir()
	file := func(name, text string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("no /dev/full here")
	}
	r, gone, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	t.Cleanup(func() { full.Close(); gone.Close() })

	bench := func(target string, more ...string) []string {
		return append([]string{"bench", "--accelerator", "A100", "--target", target, "--model", "m", "--batch-size", "1", "--prompt-tokens", "8", "--output-tokens", "8",
			"--max-seconds", "0", "--max-requests", "10", "--output", "OUT"}, more...)
	}
	key := "STEP_API_KEY=key-of-the-server"
	sweep := []string{"wfgen run", "--accelerators", "A100", "--target", good.URL, "--model", "m", "--batch-sizes", "1,2", "--prompt-tokens", "8",
		"--output-tokens", "8", "--max-seconds", "0", "--max-requests", "10", "--step", filepath.Join(programs, "step"), "--output", "OUT", "--run", "r"}
	begun := func(claims string) func(string) {
		return func(out string) {
			run := filepath.Join(out, "runs", "r")
			plan := `{"schema": "wfgen.dev/plan/v1", "model": "m", "accelerators": ["A100"], "shapes": [{"prompt_tokens": 8, "output_tokens": 8}],
				"batch_sizes": [1, 2], "max_seconds": 0, "max_requests": 10, "driver": "native"}`
			for name, text := range map[string]string{"plan.json": plan, "claims/other.json": claims} {
				if err := os.MkdirAll(filepath.Dir(filepath.Join(run, name)), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(run, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	rounds := append(slices.Clone(sweep), "--precision", "5%", "--max-requests", "0", "--max-seconds", "2")
	chosen := func(out string) {
		key := filepath.Join(out, layout.RoundOf("r", "A100", 1))
		if err := os.MkdirAll(filepath.Dir(key), 0o755); err != nil {
			t.Fatal(err)
		}
		round := `{"schema": "wfgen.dev/round/v1", "number": 1, "points": [{"prompt-tokens": 8, "output-tokens": 8, "batch-size": 0, "max-seconds": 2, "again": "-again/../x"}]}`
		if err := os.WriteFile(key, []byte(round), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const worked = "../../point/report/testdata/worked-example/"
	return map[string]fault{
		"nobody at the target":                       {args: bench("http://127.0.0.1:1")},
		"the server serves another model":            {args: append(bench(good.URL), "--model", "another")},
		"the server wants another key":               {args: bench(locked.URL), env: []string{"STEP_API_KEY=another-key-than-its"}},
		"a redirect to another server":               {args: bench(away.URL), env: []string{key}},
		"a certificate of an unknown authority":      {args: bench(secure.URL)},
		"plain HTTP where TLS was asked for":         {args: bench(strings.Replace(good.URL, "http", "https", 1))},
		"a line break within the key":                {args: bench(good.URL), env: []string{"STEP_API_KEY=two\nlines-of-key"}},
		"a target that the key is not for":           {args: bench(good.URL), env: []string{key, "STEP_API_KEY_FOR=http://vllm:8000"}},
		"a batch above max-num-seqs":                 {args: append(bench(good.URL), "--batch-size", "8", "--max-requests", "80", "--max-num-seqs", "4")},
		"a shape longer than max-model-len":          {args: append(bench(good.URL), "--prompt-tokens", "100")},
		"NaN for a number":                           {args: bench(good.URL, "--output-spread", "NaN")},
		"a batch of a million":                       {args: append(bench(good.URL), "--batch-size", "1000000")},
		"a bucket's name that cannot be":             {args: append(bench(good.URL), "--output", "s3://b/x")},
		"an output that may not be written":          {args: append(bench(good.URL), "--output", "/proc/no/such")},
		"every request fails":                        {args: bench(failing.URL)},
		"a gauge that is NaN":                        {args: bench(odd.URL)},
		"a report that is none":                      {args: []string{"measure", "--accelerator", "A100", file("none.json", `{"benchmarks": 7}`)}},
		"a report without an accelerator":            {args: []string{"aggregate", worked + "synchronous.json", worked + "throughput.json", "--output", "OUT"}},
		"stdout on a full disk":                      {args: []string{"wfgen plan", "--accelerators", "A100"}, stdout: full},
		"a reader that went away":                    {args: []string{"wfgen plan", "--accelerators", "A100"}, stdout: gone},
		"a configuration without end":                {args: []string{"wfgen plan", "--config", "/dev/zero"}},
		"a second YAML document":                     {args: []string{"wfgen plan", "--config", file("two.yaml", "model: a\n---\nmodel: b\n")}},
		"a run begun with something else":            {args: append(slices.Clone(sweep), "--max-requests", "20"), before: begun("{}")},
		"a round that cannot be measured":            {args: rounds, before: chosen},
		"a duration that is none":                    {args: []string{"wfgen --accelerators", "A100", "--pending-timeout", "NaN"}},
		"a password in the model's name":             {args: []string{"wfgen --accelerators", "A100", "--model", "http://u:hunter2-hunter2@h/m"}},
		"a program step that is another one":         {args: []string{"wfgen run", "--simulate", "--accelerators", "A100", "--step", "/bin/false", "--output", "OUT"}},
		"a name longer than a file may have":         {args: []string{"compare", strings.Repeat("a", 5000), "b"}},
		"an address of notifications that redirects": {args: []string{"notify", "--sweep", "s", "--run", "r", "--status", "Failed", "--webhook-url", away.URL}},
		"a run that another process holds": {args: sweep,
			before: begun(fmt.Sprintf(`{"schema": "wfgen.dev/claim/v1", "host": "elsewhere", "pid": 1, "since": 1, "beat": %d}`, int64(4e9)))},
	}
}
