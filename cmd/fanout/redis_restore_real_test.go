//go:build real

package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"fanout/cmd/internal/lab"
)

// Redis is restored from a backup as docs/production.md says. The backup is older than what fanout knows: its
// subscriptions are in force again within seconds, and no event is lost meanwhile.
func TestRealRedisRestoredFromABackup(t *testing.T) {
	s := newSite(t, "restore", lab.KeepIDs)
	own, err := s.lab.Redis(within(t, 20*time.Second), "--appendonly", "no")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = own.Kill() })
	s.redis = own
	put := func(path string) {
		redisCLI(t, own, "HSET", "fanout:account:acme", "crm", fmt.Sprintf(`{"url":%q,"events":["*"]}`, s.receiver.URL(path)))
		redisCLI(t, own, "XADD", "fanout:changes", "MAXLEN", "~", "100000", "*", "account", "acme")
	}
	sent := 0
	reaches := func(path string) time.Duration {
		t.Helper()
		before, began := s.receiver.Seen(path), time.Now()
		for s.receiver.Seen(path) == before {
			if time.Since(began) > 15*time.Second {
				t.Fatalf("no event reaches %s within 15s", path)
			}
			s.events(t, sent, 1)
			sent++
		}
		return time.Since(began)
	}
	put("/before")
	s.start(t)
	reaches("/before")

	host, port, err := net.SplitHostPort(own.Addr())
	if err != nil {
		t.Fatal(err)
	}
	backup := filepath.Join(t.TempDir(), "fanout-backup.rdb")
	tool(t, "", "redis-cli", "-h", host, "-p", port, "--rdb", backup)
	put("/after")
	reaches("/after")

	if err := own.Kill(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(backup)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(own.Log()), "dump.rdb"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := own.Start(within(t, 20*time.Second)); err != nil {
		t.Fatal(err)
	}
	t.Logf("what the backup holds is in force %s after Redis is back", reaches("/before").Round(time.Millisecond))
	s.settled(t, 10*time.Second, s.email())
	if ids := len(s.receiver.IDs("/before")) + len(s.receiver.IDs("/after")); ids != sent {
		t.Errorf("%d different deliveries of %d events", ids, sent)
	}
}
