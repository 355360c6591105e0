package prefill

import (
	"bytes"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/llm/record"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/tests/schematest"
)

func probed(times ...float64) Record {
	r := Record{Model: "m", Accelerator: "H100", ChunkTokens: 8192}
	r.Instance = record.Instance{ImageDigest: "sha256:1", Args: []string{"vllm", "serve", "m", "--revision=abc", "--dtype", "bfloat16", "-tp", "2", "--max-num-seqs=64", "--enable-expert-parallel"}}
	r.Identity = IdentityOf(r.Model, r.Accelerator, "", r.ChunkTokens, r.Instance)
	for _, ms := range times {
		r.Samples = append(r.Samples, measurement.Prefill{PromptTokens: 8192, ClientMS: ms + 1, ServerMS: new(ms)})
	}
	return r
}

func TestJudge(t *testing.T) {
	steady := []float64{512, 514, 515, 513, 514, 516, 514, 514, 513, 515, 514}
	good := probed(steady...)
	good.Judge(MostSpread)
	if good.Verdict.Level != fit.Accepted || good.MedianTTFTMS != 514 || good.From != "server" || int(good.TokensPerSecond) != 15937 {
		t.Errorf("%+v", good)
	}
	// A client's times count where the server's are not all known.
	client := probed(steady...)
	client.Samples[3].ServerMS = nil
	client.Judge(MostSpread)
	if client.From != "client" || client.MedianTTFTMS != 515 {
		t.Errorf("%+v", client)
	}
	// Prompts that come late one by one move no median; where so many do that it may be
	// theirs, it is refused.
	late := probed(50, 50, 50, 50, 50, 50, 50, 50, 50, 50, 50, 50, 50, 50, 50, 65, 70, 80, 90, 200)
	late.Judge(MostSpread)
	if late.Verdict.Level != fit.Accepted || late.LowTTFTMS != 50 || late.HighTTFTMS != 50 || !(late.SpreadPercent > 50) {
		t.Errorf("%+v", late)
	}
	often := probed(50, 50, 50, 50, 50, 50, 50, 50, 50, 50, 50, 50, 50, 50, 65, 65, 70, 80, 90, 200)
	often.Judge(MostSpread)
	if often.Usable() || often.HighTTFTMS != 65 || often.SafeTokensPerSecond() >= often.TokensPerSecond {
		t.Errorf("%+v", often)
	}
	few := probed(steady...)
	few.Samples[0].LeftOut, few.Samples[1].LeftOut = "somebody else", "somebody else"
	few.Judge(MostSpread)
	wide := probed(100, 110, 120, 130, 140, 150, 160, 170, 180, 190, 200)
	wide.Judge(MostSpread)
	for says, r := range map[string]Record{"9 prompts count, and 10 are needed; 2 left out: somebody else": few, "of the median": wide} {
		if r.Usable() || !strings.Contains(r.Verdict.Reasons[0], says) {
			t.Errorf("%v does not say %q", r.Verdict, says)
		}
	}
	unnamed := probed(steady...)
	unnamed.Identity.ModelRevision = ""
	unnamed.Judge(MostSpread)
	if unnamed.Verdict.Level != fit.Warned || !strings.Contains(unnamed.Verdict.Reasons[0], "--model-revision") {
		t.Errorf("%+v", unnamed.Verdict)
	}
	for _, r := range []Record{good, few, wide} {
		data, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		schematest.Validate(t, "prefill.schema.json", data)
		schematest.Describes(t, "prefill.schema.json", r)
		if back, err := Decode(bytes.NewReader(data), "prefill.json"); err != nil || back.TokensPerSecond != r.TokensPerSecond {
			t.Errorf("read back: %v, %v", back, err)
		}
	}
}

// The interval holds the median of what the times are drawn from in 95 % of probes, and
// not in many more.
func TestTheMediansInterval(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{10, 20, 60} {
		inside := 0
		const probes = 4000
		for range probes {
			times := make([]float64, n)
			for i := range times {
				times[i] = 50 + random.ExpFloat64() // late, never early
			}
			slices.Sort(times)
			if low, high := medianInterval(times); low <= 50+math.Ln2 && 50+math.Ln2 <= high {
				inside++
			}
		}
		if share := float64(inside) / probes; share < 0.94 || share > 0.99 {
			t.Errorf("%d prompts: %.1f %% of the intervals hold the median", n, 100*share)
		}
	}
}

func TestIdentity(t *testing.T) {
	id := probed().Identity
	want := Identity{Model: "m", ModelRevision: "abc", ImageDigest: "sha256:1", DType: "bfloat16", Accelerator: "H100", TensorParallel: "2", ExpertParallel: "all", MaxNumSeqs: 64, ChunkTokens: 8192}
	if id != want {
		t.Errorf("%+v", id)
	}
	for _, change := range []func(*Identity){
		func(i *Identity) { i.ModelRevision = "abd" }, func(i *Identity) { i.ImageDigest = "sha256:2" }, func(i *Identity) { i.DType = "float16" },
		func(i *Identity) { i.Accelerator = "A100" }, func(i *Identity) { i.TensorParallel = "4" }, func(i *Identity) { i.MaxNumSeqs = 65 }, func(i *Identity) { i.ChunkTokens = 2048 },
	} {
		other := id
		change(&other)
		if other.Fingerprint() == id.Fingerprint() {
			t.Errorf("%+v has the same fingerprint", other)
		}
	}
	sglang := IdentityOf("m", "H100", "r", 8192, record.Instance{Args: []string{"sh", "-c", "exec python3 -m sglang.launch_server --tp-size 4 --ep-size=2 --max-running-requests 32"}})
	if sglang.TensorParallel != "4" || sglang.ExpertParallel != "2" || sglang.MaxNumSeqs != 32 || sglang.ModelRevision != "r" {
		t.Errorf("%+v", sglang)
	}
}

func TestDecodeRefuses(t *testing.T) {
	r := probed(1, 1, 1, 1, 1, 1, 1, 1, 1, 1)
	r.Judge(MostSpread)
	data, _ := r.Encode()
	for _, text := range []string{"[", "{}", strings.Replace(string(data), `"dtype": "bfloat16"`, `"dtype": "fp8"`, 1), strings.Replace(string(data), `"median_ttft_ms": 1`, `"median_ttft_ms": 2`, 1)} {
		if _, err := Decode(strings.NewReader(text), "p.json"); exit.Code(err) != exit.Refused {
			t.Errorf("%.80s: %v", text, err)
		}
	}
}
