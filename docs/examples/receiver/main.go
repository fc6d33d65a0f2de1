// Command receiver shows each webhook that it gets, and answers 204: something to point a first subscription at.
//
//	go run ./docs/examples/receiver 127.0.0.1:9000
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

func main() {
	if err := serve(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:forbidigo // this is main
	}
}

func serve(args []string, out io.Writer) error {
	address := "127.0.0.1:9000"
	if len(args) > 0 {
		address = args[0]
	}
	fmt.Fprintf(out, "waiting for webhooks at http://%s\n", address)
	server := &http.Server{Addr: address, ReadTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		fmt.Fprintf(out, "%s %s\n  webhook-signature %q\n  %s\n", r.URL.Path, r.Header.Get("webhook-id"), r.Header.Get("webhook-signature"), body)
		w.WriteHeader(http.StatusNoContent)
	})}
	return server.ListenAndServe()
}
