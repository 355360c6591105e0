package report

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/sweep"
)

func TestReadLog(t *testing.T) {
	const local = "http://127.0.0.1:8400"
	shape := sweep.Shape{PromptTokens: 128, OutputTokens: 32}
	levels := []point{
		{"0.3.x", "mock-model", local, shape, 1, "console", 9.6, 30.9, 0.99, 64, 0},
		{"0.3.x", "mock-model", local, shape, 2, "console", 9.8, 33.3, 1.98, 64, 0},
		{"0.3.x", "mock-model", local, shape, 4, "console", 10.8, 48.7, 3.9, 64, 0},
		{"0.3.x", "mock-model", local, shape, 8, "console", 12.7, 41.1, 7.65, 64, 0}, // mean 96.4: the median is taken
		{"0.3.x", "mock-model", local, shape, 16, "console", 16.9, 79.6, 13.77, 64, 0},
		{"0.3.x", "mock-model", local, shape, 32, "console", 24.3, 220.1, 24.9, 64, 0},
	}
	for _, test := range []struct {
		file string
		o    Options
		want []point
	}{
		{"v0.3.1-console.log", Options{}, levels},
		{"v0.3.1-console-80-columns.log", Options{}, levels}, // wrapped by rich, as without a terminal
		{"v0.3.1-throughput-console.log", Options{BatchSize: 4, Model: "alias"}, []point{
			{"0.3.x", "alias", "http://127.0.0.1:8500", sweep.Shape{PromptTokens: 32, OutputTokens: 8}, 4, "console", 10.8, 32.8, 3.831, 138, 0}}},
	} {
		t.Run(test.file, func(t *testing.T) {
			all, err := ReadLog(strings.NewReader(string(content(t, test.file))), "l.txt", test.o)
			if err != nil {
				t.Fatal(err)
			}
			var got []point
			for _, m := range all {
				if len(m.Taken.Void) > 0 || !strings.Contains(strings.Join(m.Notes, ""), "one decimal") {
					t.Errorf("void %q, notes %q", m.Taken.Void, m.Notes)
				}
				m.Accelerator = "A100"
				if _, err := measurement.Encode(m); err != nil {
					t.Error(err)
				}
				got = append(got, summarise(m))
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestReadLogRefuses(t *testing.T) {
	log := string(content(t, "v0.3.1-console.log"))
	before, stats, _ := strings.Cut(log, "Benchmarks Stats:")
	for name, test := range map[string]struct{ log, want string }{
		"empty":         {"", "holds no table Benchmarks Stats"},
		"other program": {"INFO: started\n", "holds no table Benchmarks Stats"},
		"report":        {`{"benchmarks": []}`, "leave out --from-log"},
		"0.4 and later": {string(content(t, "v0.7.3-console.log")), "medians without the batch size"},
		"ended early":   {before, "holds no table Benchmarks Stats"},
		"cut off":       {log[:strings.LastIndex(log, "| 16.9|")+8], "COLUMNS=250"},
		"cut columns":   {before + "Benchmarks Stats:" + strings.ReplaceAll(stats, " 9.3|    9.3|  9.5\n", "\n"), "row 1 of the table Benchmarks Stats: found"},
	} {
		t.Run(name, func(t *testing.T) {
			all, err := ReadLog(strings.NewReader(test.log), "l.txt", Options{})
			if exit.Code(err) != exit.Refused || !strings.Contains(err.Error(), test.want) || len(all) > 0 {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
	t.Run("no table of counts", func(t *testing.T) {
		_, worker, _ := strings.Cut(before, "Metadata:")
		worker, _, _ = strings.Cut(worker, "Benchmarks Info:")
		all, err := ReadLog(strings.NewReader(worker+"Benchmarks Stats:"+stats), "l.txt", Options{})
		if err != nil {
			t.Fatal(err)
		}
		void(t, all[0], "not known how many requests succeeded")
	})
	t.Run("all failed", func(t *testing.T) {
		failed := strings.NewReplacer("|    64|    0|    0|", "|     0|    0|   64|").Replace(log)
		all, err := ReadLog(strings.NewReader(failed), "l.txt", Options{})
		if err != nil {
			t.Fatal(err)
		}
		void(t, all[0], "none of 64 requests succeeded")
	})
}
