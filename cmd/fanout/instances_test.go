package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"fanout/admin"
	"fanout/operate"
	"fanout/subscriptions"
)

// Three instances announce themselves. All of them are asked, without the token: what is attempted on each is in one list. One is killed: it
// is said.
func TestInstancesAreAskedTogether(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "channel.email")
	const token = "0123456789abcdef0123456789abcdef"
	release := make(chan struct{})
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-release:
		case <-r.Context().Done():
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(receiver.Close)
	t.Cleanup(func() { close(release) })
	w.env = append(w.env, "FANOUT_ADMIN_TOKEN="+token)
	w.ok(t, `{account: acme, id: crm, url: "`+receiver.URL+`", events: ["*"]}`, "subscriptions", "apply", "-f", "-")
	env := w.env
	var addresses []string
	var instances []*running
	for i := range 3 {
		address := freeAddress(t)
		addresses = append(addresses, "http://"+address)
		w.env = append(slices.Clip(env), "FANOUT_ADMIN_LISTEN="+address, "FANOUT_ADMIN_ADVERTISE="+address, fmt.Sprintf("FANOUT_KAFKA_INSTANCE_ID=instance-%d", i))
		instances = append(instances, w.start(t))
	}
	w.env = env
	answered := func() (view operate.Top) {
		t.Helper()
		if err := json.Unmarshal([]byte(w.ok(t, "", "top", "--once", "--tiers=false", "-o", "json")), &view); err != nil {
			t.Fatal(err)
		}
		return view
	}
	until(t, func() (bool, string) {
		view := answered()
		return len(view.Answered) == 3 && len(view.Silent) == 0, fmt.Sprint(view)
	})
	// Somebody who can write to Redis, but has no key, announces an address of their own.
	asked := make(chan string, 100)
	evil := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked <- fmt.Sprint(r.Header) }))
	t.Cleanup(evil.Close)
	w.redis.HSet("fanout:instances", "evil", fmt.Sprintf(`{"beat":%d,"admin":{"instance":"evil","url":%q,"mac":"AAAA"}}`, time.Now().UnixNano(), evil.URL))
	// And one with the right key sees what it is asked with: not the token.
	spy := announced(t, w, token)

	page := func() string {
		t.Helper()
		first := remote{base: instances[0].admin, token: token}
		var pages []string
		for _, path := range []string{"/", "/endpoints"} {
			_, _, body, err := first.ask(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			pages = append(pages, string(body))
		}
		return strings.Join(pages, "\n")
	}
	until(t, func() (bool, string) {
		body := page()
		return strings.Contains(body, "instance-1") && strings.Contains(body, "instance-2") && strings.Contains(body, "answers"), body
	})
	_ = answered()
	for range len(spy) {
		if header := <-spy; strings.Contains(header, token) || !strings.Contains(header, "Fanout-Instance") {
			t.Errorf("an instance is asked with %s", header)
		}
	}
	if len(asked) > 0 {
		t.Errorf("an address without a right MAC is asked: %s", <-asked)
	}

	for i := range 60 {
		w.ok(t, "", "send", "--account", "acme", "--event", "EMAIL_OPEN", "--key", strconv.Itoa(i))
	}
	until(t, func() (bool, string) {
		body := page()
		return strings.Contains(body, "limited") || strings.Contains(body, "delivering"), body
	})
	// One is gone without a word: its entry is still there.
	key := instances[2].admin
	last := ""
	names, err := w.redis.HKeys("fanout:instances")
	if err != nil {
		t.Fatal(err)
	}
	held := map[string]string{}
	for _, name := range names {
		text := w.redis.HGet("fanout:instances", name)
		held[name] = text
		if strings.Contains(text, strings.TrimPrefix(key, "http://")) {
			last = name
		}
	}
	instances[2].stop()
	w.redis.HSet("fanout:instances", last, held[last])
	until(t, func() (bool, string) {
		view := answered()
		return len(view.Answered) == 3 && strings.Contains(view.Silent[addresses[2]], "refused"), fmt.Sprint(view) // the spy has answered too
	})
	until(t, func() (bool, string) {
		body := page()
		return strings.Contains(body, "has not answered since") && strings.Contains(body, addresses[2]), body
	})
}

// freeAddress is an address where something may listen.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// announced is an instance that has nothing under way, and tells with which headers it was asked.
func announced(t *testing.T, w *world, token string) chan string {
	t.Helper()
	asked := make(chan string, 1000)
	spy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- fmt.Sprint(r.Header)
		_, _ = w.Write([]byte(`{"lanes":[]}`))
	}))
	t.Cleanup(spy.Close)
	peers, err := subscriptions.NewPeers(subscriptions.Config{URL: "redis://" + w.redis.Addr()}, nil, func() subscriptions.Demand { return nil })
	if err != nil {
		t.Fatal(err)
	}
	peers.Announce("spy", spy.URL, admin.DeriveKeys(token).Heartbeat())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- peers.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return asked
}
