package subscriptions_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"fanout/subscriptions"
)

// Whoever writes to Redis without the key sends nobody anywhere: not with an address of their own, nor with somebody else's MAC.
func TestAnnouncementsWithoutARightMACAreNotBelieved(t *testing.T) {
	m := miniredis.RunT(t)
	key := []byte("the key that is derived from the token")
	announce := func(name string) *subscriptions.Peers {
		p := newPeers(t, redisURL(m), nil)
		p.Announce(name, "http://10.0.0.1:8080", key)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		t.Cleanup(func() { cancel(); <-done })
		return p
	}
	first := announce("one")
	announce("two")
	cfg := subscriptions.Config{URL: redisURL(m)}
	names := func(key []byte) string {
		all, err := subscriptions.Announced(t.Context(), cfg, key)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, one := range all {
			if one.URL != "http://10.0.0.1:8080" {
				t.Errorf("%s is believed to be at %s", one.Name, one.URL)
			}
			names = append(names, one.Name)
		}
		return strings.Join(names, " ")
	}
	within(t, 5*time.Second, "both", func() bool { return names(key) == "one two" })
	within(t, 5*time.Second, "the other", func() bool { all := first.Instances(); return len(all) == 1 && all[0].Name == "two" })
	if got := names([]byte("another key")) + names(nil); got != "" {
		t.Errorf("with another key %q are believed", got)
	}

	held, err := m.HKeys("fanout:instances")
	if err != nil {
		t.Fatal(err)
	}
	var heartbeat map[string]any
	if err := json.Unmarshal([]byte(m.HGet("fanout:instances", held[0])), &heartbeat); err != nil {
		t.Fatal(err)
	}
	whole, _ := json.Marshal(heartbeat)
	forged := map[string]string{"under another name": string(whole), "no JSON": "{"}
	said := heartbeat["admin"].(map[string]any)
	for _, part := range []string{"url", "instance", "mac"} {
		was := said[part]
		said[part] = "http://evil.example:80"
		text, _ := json.Marshal(heartbeat)
		forged[held[0]+part], said[part] = string(text), was
	}
	for name, text := range forged {
		m.HSet("fanout:instances", name, text)
	}
	m.HSet("fanout:instances", "of another time", strings.Replace(string(whole), `"beat":1`, `"beat":2`, 1))
	if got := names(key); got != "one two" {
		t.Errorf("believed are %q", got)
	}
}
