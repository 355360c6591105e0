// Command echo stands in for a server that gives away the key which it is sent: in the
// names of its models, in headers, in its version, its metrics and its errors, and token by
// token in what it generates, until it dies of it.
//
//	echo MODEL refuses   every prompt, and says whose
//	echo MODEL streams   some answers, and dies in the middle of one
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

const answers = 30 // before it dies

func main() {
	model, way := os.Args[1], os.Args[2]
	var asked atomic.Int32
	log.Fatal(http.ListenAndServe(":8000", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		said := r.Header.Get("Authorization")
		key := strings.TrimPrefix(said, "Bearer ")
		w.Header().Set("X-Authorization", said)
		w.Header().Set("Server", key)
		switch {
		case r.URL.Path == "/v1/models":
			fmt.Fprintf(w, `{"data": [{"id": %q, "max_model_len": 4096}, {"id": "other\n\u001b[31m %s"}]}`, model, key)
		case r.URL.Path == "/version":
			fmt.Fprintf(w, `{"version": "1.0 %s"}`, key)
		case r.URL.Path == "/metrics":
			fmt.Fprintf(w, "vllm:num_requests_running{model_name=%q,key=\"%s\"} 0\nthis is no metric but %s\n", model, key, key)
		case r.Method == http.MethodPost && way == "refuses":
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprintf(w, `{"error": {"message": "%s is no key; %s%s \u001b[2J"}}`, said, strings.Repeat("x", 250), key)
		case r.Method == http.MethodPost:
			w.Header().Set("Content-Type", "text/event-stream")
			var ask struct {
				Tokens int `json:"max_tokens"`
			}
			_ = json.NewDecoder(r.Body).Decode(&ask) // or none
			n := asked.Add(1)
			for i := range ask.Tokens {
				time.Sleep(10 * time.Millisecond)
				fmt.Fprintf(w, "data: {\"choices\": [{\"text\": \"%s\"}]}\n\n", key)
				_ = http.NewResponseController(w).Flush() // the client sees it or has gone
				if n > answers && i == 4 {
					log.Fatalf("dies of %s", key)
				}
			}
			fmt.Fprintf(w, "data: {\"choices\": [{\"text\": \"\", \"finish_reason\": \"length\"}]}\n\n"+
				"data: {\"choices\": [], \"usage\": {\"prompt_tokens\": 64, \"completion_tokens\": %d}}\n\ndata: [DONE]\n\n", ask.Tokens)
		}
	})))
}
