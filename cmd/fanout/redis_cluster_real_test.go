//go:build real

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/redis/go-redis/v9/logging"

	"fanout/cmd/internal/lab"
)

// TestRealRedisClusterFailover loses masters of a Cluster under load: one that holds accounts, then the one that holds
// the stream of changes.
func TestRealRedisClusterFailover(t *testing.T) {
	logging.Disable() // our own client's, of nodes that are down
	m := newModes(t, "redis-failover", "")
	cluster, err := m.lab.Cluster(within(t, time.Minute), lab.RedisSecurity{Password: secretWord + "-admin"}, 3, 1)
	must(t, err)
	t.Cleanup(func() {
		for _, r := range cluster.Nodes {
			_ = r.Kill()
		}
	})
	for _, r := range cluster.Nodes {
		allow(t, r)
	}
	m.config.Set("redis.url", cluster.URL()).Set("redis.username", "fanout").Set("redis.password", secretWord)
	m.put = func(account, json string) { m.putCluster(t, cluster, account, json) }
	accounts := many(1000)
	for _, account := range accounts {
		m.put(account, m.hook("/hook"))
	}
	m.start(t)
	watched := m.watch(t, len(accounts))
	stop := m.load(t, accounts...)
	t.Logf("a change in force after %s", m.change(t, accounts[0], 5*time.Second))
	stream, err := cluster.Owner(t.Context(), "fanout:changes")
	must(t, err)
	held := ""
	for _, account := range accounts {
		if r, err := cluster.Owner(t.Context(), "fanout:account:"+account); err == nil && r != stream {
			held = account
			break
		}
	}
	// A write that depends on what is stored is a transaction with the master that holds the account.
	m.must(t, "subscriptions", "rotate", held, "hook")
	m.must(t, "subscriptions", "rotate", accounts[1], "hook")
	m.failOver(t, cluster, "fanout:account:"+held, held)
	m.failOver(t, cluster, "fanout:changes", accounts[1])
	stop()
	watched()
	m.complete(t)
}

// TestRealRedisClusterEmptied empties one master of three: a third of all is gone, which is not a loss of half, and yet all
// that this one held.
func TestRealRedisClusterEmptied(t *testing.T) {
	logging.Disable() // our own client's, of nodes that are down
	m := newModes(t, "redis-emptied", "")
	cluster, err := m.lab.Cluster(within(t, time.Minute), lab.RedisSecurity{}, 3, 0)
	must(t, err)
	t.Cleanup(func() {
		for _, r := range cluster.Nodes {
			_ = r.Kill()
		}
	})
	m.config.Set("redis.url", cluster.URL())
	m.put = func(account, json string) { m.putCluster(t, cluster, account, json) }
	accounts := many(100)
	fill := func() {
		for _, account := range accounts {
			m.put(account, m.hook("/hook"))
		}
	}
	fill()
	m.start(t)
	m.send(t, 100, accounts...)
	await(t, 10*time.Second, "a first delivery", func() bool { return m.receiver.Seen("/hook") > 0 })
	watched := m.watch(t, len(accounts))
	stop := m.load(t, accounts...)

	// With the stream of changes, its position is gone: all is loaded again.
	owner, err := cluster.Owner(t.Context(), "fanout:changes")
	must(t, err)
	held := 0
	for _, account := range accounts {
		if r, err := cluster.Owner(t.Context(), "fanout:account:"+account); err == nil && r == owner {
			held++
		}
	}
	refused := func(what string, empty func()) {
		t.Helper()
		at, began := m.logLength(), time.Now()
		empty()
		m.logged(t, at, "refused a full load", fmt.Sprintf(`"known":%d,"found":%d`, len(accounts), len(accounts)-held))
		t.Logf("%s: %d of %d gone, refused after %s", what, held, len(accounts), time.Since(began).Round(time.Millisecond))
		time.Sleep(3 * time.Second) // past the second question, by which all that is missing would be dropped
		if n := m.subscriptions(t); n != len(accounts) {
			t.Errorf("%s: %d subscriptions are known, want %d", what, n, len(accounts))
		}
	}
	refused("restarted empty", func() {
		must(t, owner.Kill())
		must(t, os.RemoveAll(filepath.Join(filepath.Dir(owner.Log()), "appendonlydir")))
		must(t, owner.Start(within(t, 20*time.Second)))
	})
	began := time.Now()
	fill()
	await(t, 45*time.Second, "a load that is not refused", func() bool {
		status, err := m.fanout.Metrics(t.Context())
		return err == nil && status.Sum("fanout_subscriptions_age_seconds") < 2
	})
	t.Logf("filled again by the sync job: taken after %s", time.Since(began).Round(time.Millisecond))
	refused("flushed", func() { must(t, owner.FlushAll(t.Context())) })
	stop()
	watched()
	m.complete(t)
	m.must(t, "subscriptions", "accept")
	await(t, 10*time.Second, "what is left, once confirmed", func() bool { return m.subscriptions(t) == len(accounts)-held })
}

// allow makes fanout's user on a node; it lasts until the node ends.
func allow(t *testing.T, r *lab.Redis) {
	t.Helper()
	cli(t, r, aclLine(t, "fanout", secretWord)...)
	cli(t, r, aclCluster(t)...)
}

// putCluster writes until it is answered: a client of a Cluster has to find the promoted replica first.
func (m *modes) putCluster(t *testing.T, cluster *lab.Cluster, account, json string) {
	t.Helper()
	client := cluster.Client()
	defer client.Close()
	await(t, 10*time.Second, "a write", func() bool {
		return lab.PutSubscription(t.Context(), client, account, "hook", json) == nil
	})
}

// failOver kills the master that holds a key, and changes an account as soon as a replica serves in its place.
func (m *modes) failOver(t *testing.T, cluster *lab.Cluster, key, account string) {
	t.Helper()
	old, err := cluster.Owner(t.Context(), key)
	must(t, err)
	before, began := m.receiver.Seen(), time.Now()
	must(t, old.Kill())
	await(t, 30*time.Second, "a new master for "+key, func() bool {
		r, err := cluster.Owner(t.Context(), key)
		return err == nil && r != old
	})
	promoted := time.Since(began).Round(time.Millisecond)
	meanwhile := m.receiver.Seen() - before
	took := m.change(t, account, 10*time.Second)
	t.Logf("master of %s killed: a new one after %s, %d deliveries meanwhile; a change on it in force after %s", key, promoted, meanwhile, took)
	if took > 5*time.Second {
		t.Errorf("in force after %s, want 5s", took)
	}
	if meanwhile == 0 {
		t.Error("no deliveries while there was no master")
	}
	must(t, old.Start(within(t, 20*time.Second)))
	allow(t, old)
	await(t, 30*time.Second, "the old master as a replica", func() bool { return old.Role(t.Context()) == "slave" })
}
