package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"fanout/webhook"
)

// tail --forward POSTs to a local program what a receiver gets, with its webhook-id, signed with the secret that it has printed.
func TestTailForwards(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "channel.email")
	receiver := newIDs(t)
	w.apply(t, "crm", receiver.url)
	r := w.start(t)
	r.await(t, "/readyz", 200, `"ready":true`)

	type request struct {
		header http.Header
		body   []byte
	}
	var mu sync.Mutex // guards got
	var got []request
	local := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		body, _ := io.ReadAll(q.Body)
		mu.Lock()
		defer mu.Unlock()
		got = append(got, request{q.Header, body})
	}))
	t.Cleanup(local.Close)
	ctx, stop := context.WithCancel(t.Context())
	var output writer
	a := &app{env: w.env, stdin: strings.NewReader(""), stdout: &output, stderr: &output, network: w.network}
	ended := make(chan int, 1)
	go func() { ended <- a.execute(ctx, []string{"tail", "--forward", local.URL, "--admin", r.admin}) }()
	until(t, func() (bool, string) { return strings.Contains(output.String(), "following "), output.String() })
	w.events(t, "seen", 1)
	id := webhook.EventID("acme", "EMAIL_OPEN", "seen0", "crm")
	until(t, func() (bool, string) {
		return strings.Contains(output.String(), id+" forwarded to "+local.URL+": 200"), output.String()
	})
	stop()
	<-ended

	found := regexp.MustCompile(`signed with (whsec_\S+)`).FindStringSubmatch(output.String())
	if found == nil {
		t.Fatal(output.String())
	}
	secret, err := webhook.ParseSecret(found[1])
	if err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(got) != 1 || got[0].header.Get("Webhook-Id") != id || !strings.HasPrefix(string(got[0].body), `{"eventType":"OPEN"`) {
		t.Fatal(fmt.Sprint(got))
	}
	h := got[0].header
	if _, err := webhook.Verify([]webhook.Secret{secret}, id, h.Get("Webhook-Timestamp"), h.Get("Webhook-Signature"), got[0].body, time.Now(), time.Minute); err != nil {
		t.Error(err)
	}
	if code, _, stderr := w.fanout(t, "", "tail", "--forward", "localhost", "--admin", r.admin); code != 2 || !strings.Contains(stderr, "is not a URL") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}
