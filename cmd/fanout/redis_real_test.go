//go:build real

package main

import (
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"fanout/cmd/internal/lab"
)

// redisCLI gives redis-cli one command.
func redisCLI(t *testing.T, r *lab.Redis, args ...string) {
	t.Helper()
	host, port, err := net.SplitHostPort(r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	tool(t, "", append([]string{"redis-cli", "-e", "-h", host, "-p", port}, args...)...)
}

// A change that a foreign client makes is in force within a second, and no state of Redis keeps deliveries back.
func TestRealRedis(t *testing.T) {
	s := newSite(t, "redis", lab.KeepIDs)
	own := s.redis
	put := func(version int) {
		redisCLI(t, own, "HSET", "fanout:account:acme", "crm", fmt.Sprintf(`{"url":%q,"events":["*"]}`, s.receiver.URL(fmt.Sprintf("/v%d", version))))
		redisCLI(t, own, "XADD", "fanout:changes", "MAXLEN", "~", "100000", "*", "account", "acme")
	}
	const changes = 20
	put(0)
	s.start(t)
	sent := 0
	send := func(n int) {
		s.events(t, sent, n)
		sent += n
	}
	var took []time.Duration
	for version := 1; version <= changes; version++ {
		put(version)
		changed := time.Now()
		path := fmt.Sprintf("/v%d", version)
		for s.receiver.Seen(path) == 0 {
			send(1)
			if time.Since(changed) > 10*time.Second {
				t.Fatalf("change %d is not in force after 10s", version)
			}
		}
		took = append(took, time.Since(changed))
	}
	slices.Sort(took)
	t.Logf("HSET and XADD of redis-cli to the first request that follows: median %s, worst of %d %s", took[changes/2].Round(time.Millisecond/10), changes, took[changes-1].Round(time.Millisecond/10))
	if worst := took[changes-1]; worst > time.Second {
		t.Errorf("a change took %s to be in force, want at most 1s", worst)
	}

	last := fmt.Sprintf("/v%d", changes)
	deliver := func(state string) {
		t.Helper()
		before, began := s.receiver.Seen(), time.Now()
		send(200)
		await(t, 10*time.Second, "deliveries while Redis is "+state, func() bool { return s.receiver.Seen() >= before+200 })
		t.Logf("Redis %s: 200 deliveries in %s", state, time.Since(began).Round(time.Millisecond))
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(own.Pause())
	deliver("stopped with SIGSTOP")
	must(own.Resume())
	deliver("resumed")
	must(own.FlushAll(t.Context()))
	deliver("emptied with FLUSHALL")
	await(t, 5*time.Second, "a snapshot file", func() bool {
		found, _ := filepath.Glob(filepath.Join(filepath.Dir(s.fanout.Log()), "subscriptions*"))
		return len(found) > 0
	})
	must(own.Kill())
	deliver("killed")
	must(s.fanout.Stop(within(t, 30*time.Second)))
	began := time.Now()
	must(s.fanout.Start())
	deliver("away since before the start")
	t.Logf("first 200 deliveries %s after a start without Redis", time.Since(began).Round(time.Millisecond))

	ids := s.receiver.IDs(last)
	for version := range changes {
		maps.Copy(ids, s.receiver.IDs(fmt.Sprintf("/v%d", version)))
	}
	if len(ids) != sent {
		t.Errorf("%d different deliveries of %d events", len(ids), sent)
	}
	s.settled(t, 10*time.Second, s.email())
}
