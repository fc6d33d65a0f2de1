package subscriptions_test

import (
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	miniserver "github.com/alicebob/miniredis/v2/server"

	"fanout/subscriptions"
)

// The host of the master hangs, and with it the sentinel that was asked until then: the other one is asked soon, though
// go-redis gives the first one two chances.
func TestSentinelThatHangs(t *testing.T) {
	t.Parallel()
	former, next := miniredis.RunT(t), miniredis.RunT(t)
	former.HSet(key+"acme", "hook", hook(0))
	host := newProxy(t, former.Addr())
	var master atomic.Value
	master.Store(host.addr)
	asked := newProxy(t, sentinel(t, &master))
	other := newProxy(t, sentinel(t, &master))
	other.cut(true)
	d, _ := start(t, subscriptions.Config{
		URL: "redis+sentinel://" + asked.addr + "," + other.addr + "/0?master=mymaster", SnapshotFile: "off",
	})
	ready(t, d)
	if !strings.HasSuffix(d.Lookup("acme", "hook").URL(), "/0") {
		t.Fatalf("read %s", d.Lookup("acme", "hook").URL())
	}
	other.cut(false)
	host.hang(true)
	asked.hang(true)
	master.Store(next.Addr())
	put(t, store(t, redisURL(next)), "acme", "hook", hook(1))
	// Two seconds until a read of the master counts as hanging, two for the sentinel.
	took := within(t, 6*time.Second, "the new master is read", func() bool { return strings.HasSuffix(d.Lookup("acme", "hook").URL(), "/1") })
	t.Logf("the new master is read after %v", took)
}

// sentinel is one that says who is master, and its address.
func sentinel(t *testing.T, master *atomic.Value) string {
	t.Helper()
	s := miniredis.RunT(t)
	err := s.Server().Register("SENTINEL", func(c *miniserver.Peer, _ string, args []string) {
		if !strings.EqualFold(args[0], "get-master-addr-by-name") {
			c.WriteLen(0)
			return
		}
		addr, _ := master.Load().(string)
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			c.WriteError("ERR " + err.Error())
			return
		}
		c.WriteStrings([]string{host, port})
	})
	if err != nil {
		t.Fatal(err)
	}
	return s.Addr()
}
