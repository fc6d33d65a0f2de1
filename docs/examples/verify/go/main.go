// Command receiver takes webhooks whose signature is right, each event once, and answers 401 to others. A batch is verified once.
//
//	WEBHOOK_SECRET=whsec_… go run . 127.0.0.1:9000
//
// For a whpk_ key (signatures v1a, Ed25519), which the library does not know, the standard library does the work.
package main

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

func main() {
	address := "127.0.0.1:9000"
	if len(os.Args) > 1 {
		address = os.Args[1]
	}
	secret := os.Getenv("WEBHOOK_SECRET")
	if secret == "" {
		fmt.Fprintln(os.Stderr, "set WEBHOOK_SECRET to the subscription's secret")
		os.Exit(2)
	}
	verify, err := verifier(secret)
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.ListenAndServe(address, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20)) // the raw bytes: what is signed
		if err == nil {
			err = verify(body, r.Header)
		}
		if err != nil {
			fmt.Println("refused:", err)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if err := take(body, r.Header.Get("webhook-id")); err != nil {
			log.Print(err)
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})))
}

var seen sync.Map // of ids; yours is a table, written in the transaction of your own work

// take works off the events of a request that was verified: of one event, or a batch with an id of its own in each.
func take(body []byte, id string) error {
	var batch []json.RawMessage
	if json.Unmarshal(body, &batch) != nil {
		batch = []json.RawMessage{body}
	}
	for _, event := range batch {
		element := struct{ ID string }{id}
		if err := json.Unmarshal(event, &element); err != nil {
			return err
		}
		if _, known := seen.LoadOrStore(element.ID, true); !known { // else it came before, alone or in another batch
			fmt.Println(element.ID, string(event))
		}
	}
	return nil
}

func verifier(secret string) (func(body []byte, h http.Header) error, error) {
	text, v1a := strings.CutPrefix(secret, "whpk_")
	if !v1a {
		webhook, err := standardwebhooks.NewWebhook(secret)
		return webhook.Verify, err
	}
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(key) != ed25519.PublicKeySize {
		return nil, errors.New("WEBHOOK_SECRET is not a whpk_ key")
	}
	return func(body []byte, h http.Header) error {
		id, timestamp := h.Get("webhook-id"), h.Get("webhook-timestamp")
		seconds, err := strconv.ParseInt(timestamp, 10, 64)
		if err != nil || time.Since(time.Unix(seconds, 0)).Abs() > 5*time.Minute {
			return errors.New("the timestamp is too far from now")
		}
		for s := range strings.SplitSeq(h.Get("webhook-signature"), " ") {
			signature, ok := strings.CutPrefix(s, "v1a,")
			raw, err := base64.StdEncoding.DecodeString(signature)
			if ok && err == nil && ed25519.Verify(key, append([]byte(id+"."+timestamp+"."), body...), raw) {
				return nil
			}
		}
		return errors.New("no signature matches")
	}, nil
}
