package resolve_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"fanout/dispatcher/resolve"
	"fanout/dispatcher/resolve/dnstest"
)

// BenchmarkLookup is what an address costs with 10 000 hosts, a name server on loopback beside it: kept is an answer
// that still holds, asked is one that both families are asked for.
func BenchmarkLookup(b *testing.B) {
	const hosts = 10_000
	zone := map[string][]string{}
	for i := range hosts {
		zone[fmt.Sprintf("h%d.test.", i)] = []string{fmt.Sprintf("192.0.2.%d", i%250+1)}
	}
	server := dnstest.New(zone)
	addr, stop, err := server.Listen("127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer stop()
	open := func(b *testing.B) *resolve.Resolver {
		b.Helper()
		dir := b.TempDir()
		cfg := resolve.Config{ResolvConf: filepath.Join(dir, "resolv.conf"), Hosts: filepath.Join(dir, "hosts"), Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, addr.String())
		}}
		for file, text := range map[string]string{cfg.ResolvConf: "nameserver 127.0.0.1\n", cfg.Hosts: ""} {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				b.Fatal(err)
			}
		}
		r := resolve.New(cfg)
		b.Cleanup(r.Close)
		return r
	}
	b.Run("kept", func(b *testing.B) {
		r := open(b)
		names := make([]string, hosts)
		for i := range names {
			names[i] = fmt.Sprintf("h%d.test.", i)
			if _, err := r.Lookup(b.Context(), names[i]); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if _, err := r.Lookup(b.Context(), names[i%hosts]); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("asked", func(b *testing.B) {
		server.Behave(func(dnstest.Question) dnstest.Behaviour { return dnstest.Behaviour{Addrs: []string{"192.0.2.1"}} })
		r := open(b)
		var n atomic.Int64
		b.ReportAllocs()
		b.SetParallelism(32)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := r.Lookup(b.Context(), fmt.Sprintf("new-%d.test.", n.Add(1))); err != nil {
					b.Error(err)
				}
			}
		})
	})
}
