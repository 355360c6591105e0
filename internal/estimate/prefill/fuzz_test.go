package prefill

import (
	"bytes"
	"encoding/binary"
	"math"
	"strings"
	"testing"

	"wfgen.dev/internal/llm/record"
	"wfgen.dev/internal/point/measurement"
)

// FuzzDecode: a record that is read can be written, and read again.
func FuzzDecode(f *testing.F) {
	good := probed(512, 514, 515, 513, 514, 516, 514, 514, 513, 515)
	good.Judge(MostSpread)
	data, err := good.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"schema":"` + Schema + `","model":"m","accelerator":"a","chunk_tokens":1,"verdict":{"level":"refused"},"fingerprint":"` + Identity{}.Fingerprint() + `"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Decode(bytes.NewReader(data), "f")
		if err != nil {
			return
		}
		again, err := r.Encode()
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		if _, err := Decode(bytes.NewReader(again), "f"); err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
	})
}

// FuzzJudge: whatever times prompts took and whatever a server says that it runs as, the
// record can be written and read again, and a rate that may be used is a rate.
func FuzzJudge(f *testing.F) {
	seed := func(args string, chunk uint32, times ...float64) {
		var b []byte
		for _, ms := range times {
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(ms))
		}
		f.Add(b, args, chunk)
	}
	seed("vllm serve m --revision=abc -tp 2", 8192, 512, 514, 515, 513, 514, 516, 514, 514, 513, 515)
	seed("--max-num-seqs=-1 --dtype", 1, 1e308, 1e308, 1e308, 1e308, 1e308, 1e308, 1e308, 1e308, 1e308, 1e308)
	seed("\xff --revision '\x1b[2J'", math.MaxUint32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5e-324)
	seed("", 0, math.NaN(), math.Inf(1), -1)
	f.Fuzz(func(t *testing.T, data []byte, args string, chunk uint32) {
		r := Record{Model: "m", Accelerator: "a", ChunkTokens: int(max(1, chunk)), Instance: record.Instance{Args: strings.Split(args, " ")}}
		r.Identity = IdentityOf(r.Model, r.Accelerator, "", r.ChunkTokens, r.Instance)
		for ; len(data) >= 8 && len(r.Samples) < 50; data = data[8:] {
			ms := math.Float64frombits(binary.LittleEndian.Uint64(data))
			r.Samples = append(r.Samples, measurement.Prefill{PromptTokens: r.ChunkTokens, ClientMS: ms, ServerMS: &ms})
		}
		r.Judge(MostSpread)
		written, err := r.Encode()
		if err != nil {
			t.Fatalf("%v: %+v", err, r)
		}
		read, err := Decode(bytes.NewReader(written), "f")
		if err != nil {
			t.Fatal(err)
		}
		if read.Usable() && (!(read.MedianTTFTMS > 0) || math.IsInf(read.MedianTTFTMS, 0) || math.IsInf(read.TokensPerSecond, 0)) {
			t.Errorf("%+v", read)
		}
	})
}
