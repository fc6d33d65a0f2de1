package subscriptions_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	redis "github.com/alicebob/miniredis/v2/server"

	"fanout/subscriptions"
)

// failing has Redis refuse some commands, for as long as on says so.
func failing(m *miniredis.Miniredis, on *atomic.Bool, commands ...string) {
	m.Server().SetPreHook(func(p *redis.Peer, command string, _ ...string) bool {
		if !on.Load() {
			return false
		}
		for _, c := range commands {
			if strings.EqualFold(c, command) {
				p.WriteError("ERR refused by the test")
				return true
			}
		}
		return false
	})
}

// A change whose reading failed is read again, by this process or from the snapshot file by the next one: the position that is kept never
// passes it.
func TestChangeThatCannotBeRead(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	cfg := subscriptions.Config{URL: redisURL(m), SnapshotFile: snapshotFile(t)}
	st := store(t, cfg.URL)
	put(t, st, "acme", "a", hook(1))
	d, stop := start(t, cfg, quickFile)
	ready(t, d)
	within(t, 5*time.Second, "a position", func() bool { return d.Position() != "" })
	var unreadable, unscannable atomic.Bool
	failing(m, &unreadable, "HGETALL", "HGET", "SCAN")
	unreadable.Store(true)
	m.HSet(key+"acme", "b", hook(2))
	if _, err := m.XAdd("fanout:changes", "*", []string{"account", "acme"}); err != nil {
		t.Fatal(err)
	}
	within(t, 5*time.Second, "the failure", func() bool { return d.Status().Error != "" })
	time.Sleep(600 * time.Millisecond) // it is tried again and again
	stop()                             // and the snapshot file is written

	unreadable.Store(false)
	unscannable.Store(true)
	failing(m, &unscannable, "SCAN") // no full load heals it
	next, stop := start(t, cfg)
	within(t, 5*time.Second, "the change, after a restart", func() bool { return next.Lookup("acme", "b") != nil })

	unreadable.Store(true)
	failing(m, &unreadable, "HGETALL", "HGET", "SCAN")
	m.HSet(key+"acme", "c", hook(3))
	if _, err := m.XAdd("fanout:changes", "*", []string{"account", "acme"}); err != nil {
		t.Fatal(err)
	}
	within(t, 5*time.Second, "the failure", func() bool { return next.Status().Error != "" })
	failing(m, &unscannable, "SCAN")
	within(t, 5*time.Second, "the change, without a restart", func() bool { return next.Lookup("acme", "c") != nil })
	stop()
}

// quickFile has the snapshot file written soon, and no full load for a long time.
func quickFile(d *subscriptions.Directory) {
	d.SetIntervalsForTest(time.Hour, 30*time.Millisecond, 20*time.Millisecond)
}

// slowFile lets a test do something before it takes the first bytes.
type slowFile struct {
	strings.Builder

	before func()
}

// Write implements io.Writer.
func (f *slowFile) Write(b []byte) (int, error) {
	if f.before != nil {
		f.before()
		f.before = nil
	}
	return f.Builder.Write(b)
}

// What changes while the snapshot file is written may be in its table or not. The position that the file names is from before that, so that
// the change is read again.
func TestSnapshotPositionIsBeforeItsTable(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	st := store(t, redisURL(m))
	put(t, st, "acme", "a", hook(1))
	d, _ := start(t, subscriptions.Config{URL: redisURL(m), SnapshotFile: "off"})
	ready(t, d)
	within(t, 5*time.Second, "a position", func() bool { return d.Position() != "" })
	was := d.Position()
	file := &slowFile{before: func() {
		put(t, st, "acme", "b", hook(2))
		within(t, 5*time.Second, "the change", func() bool { return d.Position() != was })
	}}
	if err := d.SnapshotTo(file); err != nil {
		t.Fatal(err)
	}
	if lines := strings.SplitN(file.String(), "\n", 6); lines[4] != was {
		t.Errorf("the file names position %q, and its table was begun at %q", lines[4], was)
	}
}
