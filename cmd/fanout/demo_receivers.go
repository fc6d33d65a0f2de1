//go:build !nodemo

package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"fanout/webhook"
)

// receiver is a webhook endpoint of the demo, with the subscription that names it.
type receiver struct {
	account, id string
	manner      string // for people
	status      func() int
	share       int // of 10 events

	url    string
	text   string // of the secret
	secret webhook.Secret
	server *http.Server

	unsigned atomic.Int64 // requests whose signature did not verify

	mu            sync.Mutex // guards what follows
	taken         int        // different webhook-ids that were answered with 200
	recent, older map[string]struct{}
}

// remembered is how many webhook-ids a receiver remembers at least.
const remembered = 100_000

type receivers []*receiver

// startReceivers starts three. Their shares are 10 in all.
func startReceivers(ctx context.Context) (receivers, error) {
	var turn atomic.Int64
	all := receivers{
		{account: "acme", id: "crm", manner: "well: answers 200", share: 5, status: func() int { return http.StatusOK }},
		{account: "globex", id: "analytics", manner: "flaky: answers every third request with 503", share: 4, status: func() int {
			if turn.Add(1)%3 == 0 {
				return http.StatusServiceUnavailable
			}
			return http.StatusOK
		}},
		{account: "initech", id: "legacy", manner: "dead: hangs up on every connection", share: 1},
	}
	for _, r := range all {
		if err := r.start(ctx); err != nil {
			all.close()
			return nil, err
		}
	}
	return all, nil
}

func (r *receiver) start(ctx context.Context) error {
	key := make([]byte, 24)
	_, _ = rand.Read(key) // it never fails
	r.text, r.recent = "whsec_"+base64.StdEncoding.EncodeToString(key), map[string]struct{}{}
	var err error
	if r.secret, err = webhook.ParseSecret(r.text); err != nil {
		return fmt.Errorf("secret: %w", err)
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	r.url = "http://" + listener.Addr().String() + "/webhooks"
	if r.status == nil {
		listener = deaf{listener}
	}
	r.server = &http.Server{Handler: r, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = r.server.Serve(listener) }() // until close
	return nil
}

// deaf hangs up at once. (Were nobody to listen, somebody else might come to.)
type deaf struct{ net.Listener }

// Accept returns an error only where the listener is closed.
func (d deaf) Accept() (net.Conn, error) {
	for {
		conn, err := d.Listener.Accept()
		if err != nil {
			return nil, fmt.Errorf("accept: %w", err)
		}
		_ = conn.Close() // that is all it does
	}
}

// subscription is its JSON, as Redis holds it.
func (r *receiver) subscription() string {
	return fmt.Sprintf(`{"url":%q,"events":["*"],"secrets":[%q],"description":%q}`, r.url, r.text, r.manner)
}

// ServeHTTP does what a good receiver does: verify, then remember the webhook-id, since a delivery may come twice.
func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(io.LimitReader(request.Body, 1<<20))
	if err != nil {
		return // the sender has gone
	}
	h := request.Header
	id := h.Get("webhook-id")
	if _, err := webhook.Verify([]webhook.Secret{r.secret}, id, h.Get("webhook-timestamp"), h.Get("webhook-signature"), body, time.Now(), time.Minute); err != nil {
		r.unsigned.Add(1)
		http.Error(w, "bad signature", http.StatusUnauthorized)
		return
	}
	status := r.status()
	if status == http.StatusOK {
		r.take(id)
	}
	w.WriteHeader(status)
}

// take remembers a webhook-id.
func (r *receiver) take(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, again := r.recent[id]
	if _, before := r.older[id]; again || before {
		return
	}
	if len(r.recent) == remembered {
		r.older, r.recent = r.recent, map[string]struct{}{}
	}
	r.recent[id] = struct{}{}
	r.taken++
}

// received counts the different webhook-ids that were answered with 200.
func (r *receiver) received() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.taken
}

func (all receivers) close() {
	var errs []error
	for _, r := range all {
		if r.server != nil {
			errs = append(errs, r.server.Close())
		}
	}
	_ = errors.Join(errs...) // the demo ends anyway
}
