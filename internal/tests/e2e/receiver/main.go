// Command receiver stands in for whoever is told how a sweep ended: it prints every body
// that is posted to it, a line each, after the path that it was posted to.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
)

func main() {
	log.Fatal(http.ListenAndServe(":8000", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var line bytes.Buffer
		if body, err := io.ReadAll(r.Body); r.Method == http.MethodPost && err == nil && json.Compact(&line, body) == nil {
			fmt.Printf("%s %s\n", r.URL.Path, &line)
		}
	})))
}
