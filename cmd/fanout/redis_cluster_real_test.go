//go:build real

package main

import (
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
	m.failOver(t, cluster, "fanout:account:"+held, held)
	m.failOver(t, cluster, "fanout:changes", accounts[1])
	stop()
	watched()
	m.complete(t)
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
