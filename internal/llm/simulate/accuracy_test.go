package simulate

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"wfgen.dev/internal/sweep/linear4"
)

// childConfig is the environment variable that makes the test binary a server:
// a benchmark in which client and server share a process measures neither.
const childConfig = "SIMULATE_TEST_SERVER"

func TestMain(m *testing.M) {
	if text := os.Getenv(childConfig); text != "" {
		if err := serveChild(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func serveChild(text string) error {
	var config Config
	if err := json.Unmarshal([]byte(text), &config); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s, err := New(config)
	if err != nil {
		return err
	}
	defer s.Close()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	fmt.Println(listener.Addr())
	return s.Serve(ctx, listener)
}

// BenchmarkITL measures how far the delivered latencies are from the model, with
// closed loops of several streams and the client in a process of its own. An
// operation is one request of every stream.
func BenchmarkITL(b *testing.B) {
	const prompt, output = 128, 64
	truth := latencyLaw{linear4.Model{Alpha: 6.973, Beta: 0.027, Gamma: 14.825, Delta: 0.001364}}
	for _, c := range []struct {
		name    string
		streams int
		jitter  float64
	}{{"1Stream", 1, 0}, {"64Streams", 64, 0}, {"64StreamsJitter", 64, 0.05}} {
		b.Run(c.name, func(b *testing.B) {
			address, stop := startChild(b, Config{
				Alpha: truth.Alpha, Beta: truth.Beta, Gamma: truth.Gamma, Delta: truth.Delta, Jitter: c.jitter,
			})
			body := completionBody(prompt, output)
			clients := make([]*rawClient, c.streams)
			for i := range clients {
				clients[i] = dialRaw(b, address)
				clients[i].request(b, completionBody(prompt, 1)) // warms the connection up
				clients[i].reset()
			}
			before := scrape(b, "http://"+address)
			b.ResetTimer()
			start := time.Now()
			var wg sync.WaitGroup
			for _, client := range clients {
				wg.Go(func() {
					for range b.N {
						client.request(b, body)
					}
				})
			}
			wg.Wait()
			elapsed := time.Since(start)
			b.StopTimer()
			after := scrape(b, "http://"+address)
			cpu := stop()

			var ttft, itl time.Duration
			for _, client := range clients {
				ttft += client.ttft
				itl += client.decode
			}
			requests := time.Duration(c.streams * b.N)
			wantTTFT, wantITL := truth.prefill(prompt, c.streams), truth.gap(c.streams)
			gotTTFT, gotITL := ttft/requests, itl/requests/(output-1)
			b.ReportMetric(100*(gotITL-wantITL).Seconds()/wantITL.Seconds(), "ITL-error-%")
			b.ReportMetric((gotTTFT-wantTTFT).Seconds()*1e3, "TTFT-error-ms")
			own := (after["vllm:time_to_first_token_seconds_sum"] - before["vllm:time_to_first_token_seconds_sum"]) / float64(requests)
			b.ReportMetric((own-wantTTFT.Seconds())*1e3, "server-TTFT-error-ms")
			b.ReportMetric(100*cpu.Seconds()/elapsed.Seconds(), "server-CPU-%")
		})
	}
}

func startChild(tb testing.TB, config Config) (address string, stop func() (cpu time.Duration)) {
	tb.Helper()
	text, err := json.Marshal(config)
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childConfig+"="+string(text))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		tb.Fatal(err)
	}
	return strings.TrimSpace(line), func() time.Duration {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			tb.Error(err)
		}
		return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	}
}

func completionBody(prompt, output int) []byte {
	return fmt.Appendf(nil, `{"prompt":%q,"max_tokens":%d,"ignore_eos":true,"stream":true}`,
		strings.TrimSpace(strings.Repeat("word ", prompt)), output)
}

// rawClient sends requests over one connection and adds up what it sees, with
// as little work of its own as possible.
type rawClient struct {
	conn         net.Conn
	reader       *bufio.Reader
	ttft, decode time.Duration
}

func dialRaw(tb testing.TB, address string) *rawClient {
	tb.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { conn.Close() })
	return &rawClient{conn: conn, reader: bufio.NewReader(conn)}
}

func (c *rawClient) reset() { c.ttft, c.decode = 0, 0 }

func (c *rawClient) request(tb testing.TB, body []byte) {
	request := fmt.Appendf(nil, "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	sent := time.Now()
	if _, err := c.conn.Write(request); err != nil {
		tb.Error(err)
		return
	}
	response, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		tb.Error(err)
		return
	}
	defer response.Body.Close()
	var first, last time.Time
	lines := bufio.NewReader(response.Body)
	for {
		line, err := lines.ReadSlice('\n')
		if err != nil {
			break
		}
		if bytes.HasPrefix(line, []byte("data: {")) {
			last = time.Now()
			if first.IsZero() {
				first = last
			}
		}
	}
	c.ttft += first.Sub(sent)
	c.decode += last.Sub(first)
}

// scrape reads the samples of /metrics that carry no labels but the common
// ones, or one that tells them apart: name and that label's value.
func scrape(tb testing.TB, base string) map[string]float64 {
	tb.Helper()
	response, err := http.Get(base + "/metrics")
	if err != nil {
		tb.Fatal(err)
	}
	defer response.Body.Close()
	samples := map[string]float64{}
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		name, rest, labelled := strings.Cut(lines.Text(), "{")
		labels, value, ok := strings.Cut(rest, "} ")
		if !labelled || !ok || strings.Contains(labels, `le="`) {
			continue
		}
		if _, reason, ok := strings.Cut(labels, `finished_reason="`); ok {
			name += " " + reason[:strings.Index(reason, `"`)]
		}
		number, err := strconv.ParseFloat(value, 64)
		if err != nil {
			tb.Fatalf("/metrics: %q: %v", lines.Text(), err)
		}
		samples[name] = number
	}
	return samples
}
