package subscriptions_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	miniserver "github.com/alicebob/miniredis/v2/server"

	"fanout/subscriptions"
)

// info has a miniredis answer INFO as a real server does.
type info struct {
	policy  atomic.Value
	evicted atomic.Int64
}

func newInfo(m *miniredis.Miniredis, policy string) *info {
	i := new(info)
	i.policy.Store(policy)
	m.Server().SetPreHook(func(c *miniserver.Peer, command string, _ ...string) bool {
		if command != "INFO" {
			return false
		}
		if i.policy.Load() == "NOPERM" {
			c.WriteError("NOPERM this user has no permissions to run the 'info' command")
			return true
		}
		c.WriteBulk(fmt.Sprintf("# Server\r\nrun_id:one\r\n\r\n# Memory\r\nmaxmemory_policy:%s\r\n\r\n# Stats\r\nevicted_keys:%d\r\n", i.policy.Load(), i.evicted.Load()))
		return true
	})
	return i
}

// What Redis has evicted stays in force, though it is less than what the loss guard refuses; what is announced goes, and an
// operator may confirm the rest.
func TestEvictedIsNotRemoved(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	info := newInfo(m, "allkeys-lru")
	for n := range 200 {
		m.HSet(fmt.Sprintf("%s%d", key, n), "hook", hook(n))
	}
	d, _ := start(t, subscriptions.Config{URL: "redis://" + m.Addr(), SnapshotFile: "off"}, quick)
	ready(t, d)
	m.Del(key + "199")
	within(t, 20*time.Second, "before anything is evicted, what is removed goes", func() bool { return d.Len() == 199 })

	info.evicted.Add(85)
	for n := range 85 {
		m.Del(fmt.Sprintf("%s%d", key, n))
	}
	within(t, 20*time.Second, "it is said", func() bool {
		s := d.Status().Shrink
		return s != nil && s.Policy == "allkeys-lru" && s.Known == 199 && s.Found == 114
	})
	info.policy.Store("noeviction") // which brings nothing back
	stays(t, 500*time.Millisecond, "all are in force", func() bool { return d.Len() == 199 && d.Status().Shrink != nil })

	st := store(t, "redis://"+m.Addr())
	if err := st.Changed(t.Context(), "0"); err != nil {
		t.Fatal(err)
	}
	within(t, 20*time.Second, "what is announced goes", func() bool { return d.Len() == 198 && d.Lookup("0", "hook") == nil })
	m.HSet(key+"new", "hook", hook(0))
	within(t, 20*time.Second, "what is new comes", func() bool { return d.Lookup("new", "hook") != nil })

	if err := st.AcceptShrink(t.Context()); err != nil {
		t.Fatal(err)
	}
	within(t, 20*time.Second, "the confirmed loss", func() bool { return d.Len() == 115 && d.Status().Shrink == nil })
	m.Del(key + "198")
	within(t, 20*time.Second, "what is removed later goes", func() bool { return d.Len() == 114 })
}

// Once all of it was written again, nothing has to be confirmed.
func TestEvictedIsWrittenAgain(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	info := newInfo(m, "allkeys-random")
	for n := range 40 {
		m.HSet(fmt.Sprintf("%s%d", key, n), "hook", hook(n))
	}
	d, _ := start(t, subscriptions.Config{URL: "redis://" + m.Addr(), SnapshotFile: "off"}, quick)
	ready(t, d)
	within(t, 20*time.Second, "all are loaded", func() bool { return d.Len() == 40 })
	info.evicted.Add(1)
	m.Del(key + "7")
	within(t, 20*time.Second, "it is said", func() bool { return d.Status().Shrink != nil })
	m.HSet(key+"7", "hook", hook(7))
	within(t, 20*time.Second, "it is over", func() bool { return d.Status().Shrink == nil && d.Len() == 40 })
	m.Del(key + "8")
	within(t, 20*time.Second, "what is removed then goes", func() bool { return d.Len() == 39 })
}

// Where Redis may not be asked, or drops nothing by itself, what is missing is removed as ever.
func TestNoEvictions(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{"noeviction", "volatile-lru", "NOPERM"} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			m := miniredis.RunT(t)
			info := newInfo(m, policy)
			for n := range 40 {
				m.HSet(fmt.Sprintf("%s%d", key, n), "hook", hook(n))
			}
			d, _ := start(t, subscriptions.Config{URL: "redis://" + m.Addr(), SnapshotFile: "off"}, quick)
			ready(t, d)
			within(t, 20*time.Second, "all are loaded", func() bool { return d.Len() == 40 })
			info.evicted.Add(1)
			m.Del(key + "7")
			within(t, 20*time.Second, "it is gone", func() bool { return d.Len() == 39 })
			e, err := store(t, "redis://"+m.Addr()).Evictions(t.Context())
			if err != nil || e.Policy != "" || e.Denied != strings.HasPrefix(policy, "NOPERM") {
				t.Errorf("%+v %v", e, err)
			}
		})
	}
}
