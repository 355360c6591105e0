package page_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"wfgen.dev/internal/estimate/page"
)

var large = flag.Bool("large", false, "show the browser the largest pages too, as make test-browser does")
var keep = flag.String("keep", "", "directory that keeps the pages which the browser was shown")

// The headers with which argo-server sends artifacts, and a second policy, the same,
// that reports what it would block: a sandboxed page cannot say it itself.
const (
	argoPolicy = "sandbox allow-same-origin; base-uri 'none'; default-src 'none'; img-src 'self'; style-src 'self' 'unsafe-inline'"
	reporting  = "base-uri 'none'; default-src 'none'; img-src 'self'; style-src 'self' 'unsafe-inline'; report-uri /violation"
)

// look shows each page in a frame of each width, opens what is folded, and tells what
// does not fit: pictures outside of the page, texts of a picture outside of it or on
// each other, a page wider than its frame.
const look = `<!DOCTYPE html><meta charset="utf-8"><body><script>
const pages = %s, found = [];
const crossing = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 2;
const inside = (a, b) => a.left >= b.left - 1 && a.right <= b.right + 1 && a.top >= b.top - 1 && a.bottom <= b.bottom + 1;
async function show(name, width) {
  const frame = document.createElement('iframe');
  frame.style = 'border:0;height:800px;width:' + width + 'px';
  frame.src = '/page/' + name;
  const loaded = new Promise(done => frame.onload = done);
  document.body.append(frame);
  await loaded;
  const d = frame.contentDocument, say = (what) => found.push(name + ' at ' + width + ': ' + what);
  if (!d || !d.querySelector('h1')) { say('the page is not shown'); return; }
  for (const e of d.querySelectorAll('details')) e.open = true;
  const root = d.documentElement, pictures = [...d.querySelectorAll('svg')];
  if (root.scrollWidth > width) say('it is ' + root.scrollWidth + ' wide');
  for (const s of pictures) {
    const box = s.getBoundingClientRect(), id = s.closest('figure')?.id;
    if (box.width < 200 || box.height < 50 || box.right > width + 1) say(id + ' is ' + box.width + ' by ' + box.height + ' at ' + box.left);
    const texts = [...s.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
    texts.forEach(([text, b], i) => {
      if (!inside(b, box)) say(id + ': "' + text + '" leaves the picture');
      for (const [other, o] of texts.slice(i + 1)) if (crossing(b, o)) say(id + ': "' + text + '" and "' + other + '" lie on each other');
    });
  }
  found.push(name + ' at ' + width + ' has ' + pictures.length + ' pictures');
  frame.remove();
}
(async () => {
  for (const name of pages) for (const width of [1200, 400]) await show(name, width);
  await fetch('/result', {method: 'POST', body: JSON.stringify(found)});
})().catch(e => fetch('/result', {method: 'POST', body: JSON.stringify([String(e)])}));
</script>`

// Chromium shows every figure inside its frame, under Argo's headers, and blocks
// nothing of it.
func TestBrowser(t *testing.T) {
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("no chromium to look at the pages with; hack/chromium/install.sh gets it on Debian and Ubuntu")
	}
	pages := map[string][]byte{}
	for name, c := range map[string]page.Content{"mixed": mixed(t), "hostile": hostileContent(t), "nothing": {}} {
		pages[name] = pageOf(t, c)
	}
	if *large {
		pages["fleet"] = pageOf(t, fleet(t))
		if c, ok := llama(t); ok {
			pages["llama"] = pageOf(t, c)
		} else {
			t.Log("the public sweeps of Llama are not there; they are left out")
		}
	}
	// What the test must notice: a picture that the policy blocks, and texts on each other.
	pages["bad"] = []byte(`<!DOCTYPE html><h1>bad</h1><img src="data:image/gif;base64,R0lGODlhAQABAAAAACw="><figure id="f"><svg viewBox="0 0 300 90" width="300"><text x="9" y="50">one</text><text x="9" y="50">two</text><text x="290" y="20">out of it</text></svg></figure>`)

	var lock sync.Mutex
	var violations []string
	result := make(chan []string, 1)
	var names []string
	for name, data := range pages {
		names = append(names, name)
		if *keep != "" {
			if err := os.WriteFile(filepath.Join(*keep, name+".html"), data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/page/{name}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.Header().Set("Content-Security-Policy", argoPolicy)
		w.Header().Set("Content-Security-Policy-Report-Only", reporting)
		w.Header().Set("X-Frame-Options", "SAMEORIGIN")
		_, _ = w.Write(pages[r.PathValue("name")])
	})
	mux.HandleFunc("/violation", func(_ http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		lock.Lock()
		defer lock.Unlock()
		violations = append(violations, string(data))
	})
	mux.HandleFunc("/result", func(_ http.ResponseWriter, r *http.Request) {
		var found []string
		if err := json.NewDecoder(r.Body).Decode(&found); err != nil {
			found = []string{err.Error()}
		}
		result <- found
	})
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) {
		list, _ := json.Marshal(names)
		_, _ = fmt.Fprintf(w, look, list)
	})
	server := httptest.NewServer(mux)
	defer server.Close()

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
		"--user-data-dir="+t.TempDir(), "--remote-debugging-port=0", "--window-size=1300,900", server.URL)
	cmd.WaitDelay = 5 * time.Second
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cancel(); _ = cmd.Wait() }()
	var found []string
	select {
	case found = <-result:
	case <-ctx.Done():
		t.Fatalf("the browser did not come to an end: %s", said.String())
	}

	count, noticed := map[string]int{}, 0
	for _, f := range found {
		var width, n int
		name, rest, _ := strings.Cut(f, " at ")
		if _, err := fmt.Sscanf(rest, "%d has %d pictures", &width, &n); err == nil {
			count[name] = n
			continue
		}
		if name == "bad" {
			noticed++
			continue
		}
		t.Error(f)
	}
	for name, data := range pages {
		if drawn := strings.Count(string(data), "<svg "); count[name] != drawn || drawn == 0 && name != "nothing" {
			t.Errorf("%s: %d pictures were drawn, %d are shown", name, drawn, count[name])
		}
	}
	if noticed < 2*2 {
		t.Errorf("of the bad page it noticed only %d of 2 faults at 2 widths", noticed)
	}
	blocked := 0
	deadline := time.After(20 * time.Second) // reports come a moment later
	for blocked == 0 {
		lock.Lock()
		for _, v := range violations {
			if strings.Contains(v, "/page/bad") {
				blocked++
			} else {
				t.Errorf("the policy is violated: %s", v)
			}
		}
		violations = nil
		lock.Unlock()
		select {
		case <-deadline:
			t.Fatal("nobody reported that the policy blocks the picture of the bad page")
		case <-time.After(50 * time.Millisecond):
		}
	}
}
