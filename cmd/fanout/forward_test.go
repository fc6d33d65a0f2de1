package main

import (
	"context"
	"encoding/json"
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

// A customer's developer follows their own account through a portal link, without any configuration, and forwards what it gets; of others'
// they see nothing. A link that was revoked opens nothing.
func TestTailForwardsByAPortalLink(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "channel.email")
	receiver := newIDs(t)
	w.apply(t, "crm", receiver.url)
	w.ok(t, `{account: globex, id: crm, url: "`+receiver.url+`", events: ["*"]}`, "subscriptions", "apply", "-f", "-")
	const token = "0123456789abcdef0123456789abcdef"
	w.env = append(w.env, "FANOUT_ADMIN_TOKEN="+token)
	r := w.start(t)
	r.await(t, "/readyz", 200, `"ready":true`)
	ask := func(method, path string) map[string]any {
		t.Helper()
		q, err := http.NewRequestWithContext(t.Context(), method, r.admin+"/api/v1/accounts/acme/portal-links"+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		q.Header.Set("Authorization", "Bearer "+token)
		answer, err := http.DefaultTransport.RoundTrip(q)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		var made map[string]any
		_ = json.NewDecoder(answer.Body).Decode(&made) // a removal has no body
		return made
	}
	made := ask(http.MethodPost, "")
	link, _ := made["url"].(string)
	id, _ := made["id"].(string)

	var forwarded sync.Map // by webhook-id
	local := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body)
		forwarded.Store(q.Header.Get("Webhook-Id"), true)
	}))
	t.Cleanup(local.Close)
	var output writer
	outside := &app{env: []string{"HOME=" + t.TempDir()}, stdin: strings.NewReader(""), stdout: &output, stderr: &output, network: w.network}
	ended := make(chan int, 1)
	go func() {
		ended <- outside.execute(t.Context(), []string{"tail", "--portal-link", link, "--forward", local.URL})
	}()
	until(t, func() (bool, string) { return strings.Contains(output.String(), "following "), output.String() })
	w.ok(t, "", "send", "--account", "globex", "--event", "EMAIL_OPEN", "--topic", "channel.email", "--id", "theirs")
	w.events(t, "own", 1)
	own := webhook.EventID("acme", "EMAIL_OPEN", "own0", "crm")
	until(t, func() (bool, string) {
		_, ok := forwarded.Load(own)
		return ok && strings.Contains(output.String(), own+" forwarded to "+local.URL+": 200"), output.String()
	})
	if different, _ := receiver.got(); different != 2 || strings.Contains(output.String(), "globex") {
		t.Errorf("%d were delivered, want 2; it has shown\n%s", different, output.String())
	}
	if code, _, stderr := w.fanout(t, "", "tail", "--portal-link", link, "--limit", "1"); code != 1 || !strings.Contains(stderr, "(429)") {
		t.Errorf("a second stream: exit %d: %s", code, stderr)
	}

	// A stream that is open ends with its link, and no other begins.
	ask(http.MethodDelete, "/"+id)
	until(t, func() (bool, string) {
		select {
		case code := <-ended:
			return code == 1, fmt.Sprintf("exit %d: %s", code, output.String())
		default:
			return false, "it goes on: " + output.String()
		}
	})
	until(t, func() (bool, string) {
		code, _, stderr := w.fanout(t, "", "tail", "--portal-link", link)
		return code == 1 && strings.Contains(stderr, "was revoked"), fmt.Sprintf("exit %d: %s", code, stderr)
	})
	for _, args := range []string{"--portal-link https://example.com/", "--portal-link " + link + " --account acme"} {
		if code, _, stderr := w.fanout(t, "", append([]string{"tail"}, strings.Fields(args)...)...); code != 2 || !strings.Contains(stderr, "--portal-link") {
			t.Errorf("%s: exit %d: %s", args, code, stderr)
		}
	}
}
