package templates

import (
	"regexp"
	"strconv"
	"strings"
	"testing"

	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/config"
	"wfgen.dev/internal/sweep/plan"
)

// What Argo evaluates says in its own words what the program says in Go: these tests
// hold one to the other.

var comparison = regexp.MustCompile(`^lastRetry\.(exitCode|status) == "(\w+)"$`)

// retried evaluates the expression of a retry strategy.
func retried(t *testing.T, expression, exitCode, status string) bool {
	t.Helper()
	for part := range strings.SplitSeq(expression, " || ") {
		m := comparison.FindStringSubmatch(part)
		if m == nil {
			t.Fatalf("%q is no comparison that this test knows", part)
		}
		if m[1] == "exitCode" && m[2] == exitCode || m[1] == "status" && m[2] == status {
			return true
		}
	}
	return false
}

// A lost pod is tried again. One that failed is where its command says that a later
// attempt may succeed (75), and not where it has waited as long as it was told to, nor
// where it refused what it found (65, 69).
func TestRetries(t *testing.T) {
	c := base("A100", "H100")
	c.SLO, c.PrefillChunk = "itl=20ms", 2048
	shared := c
	shared.SharePod = new(true)
	for name, again := range map[string]bool{waitTemplate: false, pointTemplate: true, pointsTemplate: false, aggregateTemplate: true, summaryTemplate: true, checkTemplate: true, prefillTemplate: true} {
		c := c
		if name == pointsTemplate { // tries each by itself
			c = shared
		}
		r := template(t, c, name).RetryStrategy
		if r == nil || r.Limit.String() != strconv.Itoa(c.Retries) {
			t.Errorf("%s: %+v, want %d retries", name, r, c.Retries)
			continue
		}
		for _, test := range []struct {
			exitCode, status string
			want             bool
		}{{"75", "Failed", again}, {"65", "Failed", false}, {"69", "Failed", false}, {"2", "Failed", false}, {"", "Error", true}} {
			if got := retried(t, r.Expression, test.exitCode, test.status); got != test.want {
				t.Errorf("%s: exit code %q, %s: tried again: %v, want %v (%s)", name, test.exitCode, test.status, got, test.want, r.Expression)
			}
		}
	}
}

// The deadline of a point follows the seconds that the workflow is submitted with.
func TestTheDeadlineOfAPointFollowsItsLength(t *testing.T) {
	expression := template(t, base("A100"), pointTemplate).ActiveDeadlineSeconds.StrVal
	n := `asInt(inputs.parameters["max-seconds"])`
	form := regexp.MustCompile(`^{{=N == 0 \? (\d+) : (\d+) \* N \+ (\d+)}}$`)
	m := form.FindStringSubmatch(strings.ReplaceAll(expression, n, "N"))
	if m == nil {
		t.Fatalf("%q is no expression that this test knows", expression)
	}
	number := func(i int) int { x, _ := strconv.Atoi(m[i]); return x }
	for _, seconds := range []int{0, 1, 120, 7200} {
		c := base("A100")
		c.MaxSeconds = seconds
		got, want := number(2)*seconds+number(3), plan.Of(c).PointDeadline()
		if seconds == 0 {
			got = number(1)
		}
		if got != want || got <= seconds {
			t.Errorf("max-seconds %d: Argo ends the point after %d s, a Job after %d", seconds, got, want)
		}
	}
}

// The first point is measured again from as many batch sizes on as in other runs.
func TestTheFirstPointIsMeasuredAgain(t *testing.T) {
	tasks := template(t, base("A100"), shapeTemplate).DAG.Tasks
	m := regexp.MustCompile(`^{{=len\(fromJSON\(workflow\.parameters\["batch-sizes"\]\)\) (>=?) (\d+)}}$`).FindStringSubmatch(tasks[1].When)
	if m == nil {
		t.Fatalf("%q is no condition that this test knows", tasks[1].When)
	}
	fewest, _ := strconv.Atoi(m[2])
	for n, sizes := 1, []int{1}; n <= 6; n, sizes = n+1, append(sizes, 2*sizes[n-1]) {
		s := sweep.Sweep{Accelerators: []sweep.Accelerator{{Name: "A100"}}, Shapes: config.Default().Sweep().Shapes, BatchSizes: sizes}
		again := len(s.Points("A100")) > n
		if got := n > fewest || n == fewest && m[1] == ">="; got != again {
			t.Errorf("%d batch sizes: Argo measures the first again: %v, other runs: %v", n, got, again)
		}
	}
}

// Two runs that load one server wait for each other; others do not.
func TestOnePointAtATimeOnAServer(t *testing.T) {
	c := base("A100")
	c.SLO, c.PrefillChunk = "itl=20ms", 2048
	locks := map[string]bool{}
	shared := c
	shared.SharePod = new(true)
	for name, c := range map[string]config.Config{pointTemplate: c, pointsTemplate: shared, checkTemplate: c, prefillTemplate: c} {
		s := template(t, c, name).Synchronization
		if s == nil || len(s.Mutexes) != 1 || !strings.Contains(s.Mutexes[0].Name, `inputs.parameters["target-url"]`) {
			t.Fatalf("%s: %+v does not follow the server", name, s)
		}
		locks[s.Mutexes[0].Name] = true
	}
	if len(locks) != 1 {
		t.Errorf("points and checks of one server have different locks: %v", locks)
	}
}
