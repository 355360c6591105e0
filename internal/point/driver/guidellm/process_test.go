package guidellm

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// buffer is a writer that may be read meanwhile.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func shell(t *testing.T, script string) (process, *buffer) {
	t.Helper()
	out := &buffer{}
	return process{path: "/bin/sh", args: []string{"-c", script}, dir: t.TempDir(), env: os.Environ(), output: out, grace: 300 * time.Millisecond}, out
}

// alive tells whether a process that wrote its number into a file stays.
func alive(t *testing.T, dir, file string) bool {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	// One that was killed needs a moment to die.
	for limit := time.Now().Add(2 * time.Second); time.Now().Before(limit); time.Sleep(10 * time.Millisecond) {
		stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
		if err != nil || strings.Contains(string(stat), ") Z ") { // a zombie waits for its new parent only
			return false
		}
	}
	return true
}

func TestOutcome(t *testing.T) {
	for _, test := range []struct {
		script string
		code   int
		signal syscall.Signal
	}{
		{"exit 0", 0, 0},
		{"exit 75", 75, 0},
		{"exit 137", 137, 0},
		{"kill -KILL $$", -1, syscall.SIGKILL},
		{"kill -SEGV $$", -1, syscall.SIGSEGV},
	} {
		p, _ := shell(t, test.script)
		end, err := p.run(t.Context())
		if err != nil || end.code != test.code || end.signal != test.signal || end.stopped != nil {
			t.Errorf("%s: %+v, %v", test.script, end, err)
		}
	}
	p, _ := shell(t, "")
	p.path = "/no/such/binary"
	if _, err := p.run(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no binary: %v", err)
	}
}

func TestOutputComesAsItIsSaid(t *testing.T) {
	p, out := shell(t, "echo one; echo two >&2; while [ ! -e go ]; do sleep 0.05; done; printf three")
	done := make(chan outcome)
	go func() {
		end, _ := p.run(context.Background())
		done <- end
	}()
	for limit := time.Now().Add(10 * time.Second); out.String() != "one\ntwo\n"; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("output %q while it runs", out)
		}
	}
	if err := os.WriteFile(filepath.Join(p.dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if end := <-done; end.code != 0 || out.String() != "one\ntwo\nthree" {
		t.Errorf("%+v, output %q", end, out)
	}
}

// A child of a child that ignores SIGTERM, as its parent does.
const threeGenerations = `trap "" TERM
sh -c 'echo $$ > grandchild; sleep 60; sleep 60' &
echo $$ > child
while [ ! -s grandchild ]; do sleep 0.02; done
touch ready
`

func TestDeadlineEndsTheGroup(t *testing.T) {
	t.Parallel()
	p, _ := shell(t, threeGenerations+"wait; sleep 60")
	p.deadline = time.Second
	begin := time.Now()
	end, err := p.run(t.Context())
	if err != nil || !errors.Is(end.stopped, errDeadline) || end.signal != syscall.SIGKILL {
		t.Errorf("%+v, %v", end, err)
	}
	if took := time.Since(begin); took < time.Second || took > 10*time.Second {
		t.Errorf("took %v", took)
	}
	if alive(t, p.dir, "child") || alive(t, p.dir, "grandchild") {
		t.Error("somebody is left")
	}
}

func TestCancelEndsTheGroup(t *testing.T) {
	t.Parallel()
	p, _ := shell(t, threeGenerations+"wait; sleep 60")
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("told to")
	go func() {
		for limit := time.Now().Add(10 * time.Second); time.Now().Before(limit); time.Sleep(10 * time.Millisecond) {
			if _, err := os.Stat(filepath.Join(p.dir, "ready")); err == nil {
				break
			}
		}
		cancel(why)
	}()
	end, err := p.run(ctx)
	if err != nil || !errors.Is(end.stopped, why) {
		t.Errorf("%+v, %v", end, err)
	}
	if alive(t, p.dir, "child") || alive(t, p.dir, "grandchild") {
		t.Error("somebody is left")
	}
}

// Who ends upon SIGTERM is not made to wait for the rest of the grace.
func TestTermSuffices(t *testing.T) {
	t.Parallel()
	p, out := shell(t, `trap "echo bye; exit 3" TERM; echo up; while :; do sleep 0.05; done`)
	p.deadline, p.grace = 500*time.Millisecond, time.Minute
	end, err := p.run(t.Context())
	if err != nil || end.code != 3 || !errors.Is(end.stopped, errDeadline) || !strings.HasSuffix(out.String(), "bye\n") || end.seconds > 20 {
		t.Errorf("%+v, %v, output %q", end, err, out)
	}
}

// A process that crashes or ends leaves no children behind, and does not keep
// its parent waiting for their output.
func TestOrphansAreKilled(t *testing.T) {
	for _, last := range []string{"exit 0", "kill -KILL $$"} {
		p, _ := shell(t, threeGenerations+last)
		end, err := p.run(t.Context())
		if err != nil || end.stopped != nil || end.seconds > 10 {
			t.Errorf("%+v, %v", end, err)
		}
		if alive(t, p.dir, "grandchild") {
			t.Errorf("%s: the child is left", last)
		}
	}
}

func TestOneThatLeftTheGroupIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	p, _ := shell(t, "setsid sleep 6 & echo out")
	end, err := p.run(t.Context())
	if err != nil || end.code != 0 || end.seconds > 5 {
		t.Errorf("%+v, %v", end, err)
	}
}
