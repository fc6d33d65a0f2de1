package post_test

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"fanout/dispatcher/post"
	"fanout/dispatcher/reach"
	"fanout/dispatcher/resolve"
	"fanout/dispatcher/resolve/dnstest"
	"fanout/egress"
)

// names is a name server, and a resolver that asks it. "silent.test." gets no answer.
type names struct {
	*dnstest.Server

	resolver *resolve.Resolver
}

func newNames(t testing.TB, zone map[string][]string) *names {
	t.Helper()
	n := &names{Server: dnstest.New(zone)}
	n.Behave(func(q dnstest.Question) dnstest.Behaviour { return dnstest.Behaviour{Silent: q.Name == "silent.test."} })
	addr, stop, err := n.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	file := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(file, fmt.Appendf(nil, "nameserver [127.0.0.1]:%d\n", addr.Port()), 0o600); err != nil {
		t.Fatal(err)
	}
	n.resolver = resolve.New(resolve.Config{ResolvConf: file})
	t.Cleanup(n.resolver.Close)
	return n
}

func named(host string, port uint16) *egress.Target {
	return &egress.Target{Opened: true, Host: host, Port: port, Path: "/", HostHeader: host}
}

// TestDial says which of a name's addresses are connected to, and what it leads to when there is none. No error names
// an address.
func TestDial(t *testing.T) {
	s := serve(t, answers(ok2))
	unused, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closedPort := netip.MustParseAddrPort(unused.Addr().String()).Port()
	unused.Close()
	dns := newNames(t, map[string][]string{
		"one.test.":      {"127.0.0.1"},
		"second.test.":   {"127.0.0.77", "127.0.0.1"}, // nobody listens on the first
		"mixed.test.":    {"10.1.2.3", "169.254.169.254", "fd00::1", "127.0.0.1"},
		"private.test.":  {"10.1.2.3", "fd00::1"},
		"metadata.test.": {"169.254.169.254"},
		"mapped.test.":   {"::ffff:10.1.2.3"},
		"nat64.test.":    {"64:ff9b::a01:203"},
		"empty.test.":    {},
	})
	tests := []struct {
		host   string
		port   uint16
		kind   post.Kind // where detail is set
		detail string
	}{
		{host: "one.test", port: s.addr.Port()},
		{host: "second.test", port: s.addr.Port()},
		{host: "mixed.test", port: s.addr.Port()},
		{"one.test", closedPort, post.Connect, "connection refused"},
		{"private.test", s.addr.Port(), post.Blocked, "not public"},
		{"metadata.test", s.addr.Port(), post.Blocked, "metadata"},
		{"mapped.test", s.addr.Port(), post.Blocked, "not public"},
		{"nat64.test", s.addr.Port(), post.Blocked, "not public"},
		{"missing.test", s.addr.Port(), post.DNS, "name does not exist"},
		{"empty.test", s.addr.Port(), post.DNS, "name has no address"},
		{"silent.test", s.addr.Port(), post.DNS, "no answer to the name lookup within 400ms"},
	}
	for _, tt := range tests {
		t.Run(tt.host, func(t *testing.T) {
			c := client(t, post.Config{Resolver: dns.resolver, ConnectTimeout: 400 * time.Millisecond})
			resp, err := do(c, named(tt.host, tt.port))
			if tt.detail == "" {
				if err != nil || resp.Status != 200 {
					t.Errorf("got %d, %v", resp.Status, err)
				}
				return
			}
			wantKind(t, err, tt.kind, tt.detail)
			for _, secret := range []string{"10.", "127.", "169.", "fd00", "64:ff"} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("%q tells %s", err, secret)
				}
			}
		})
	}
}

// TestDialLiteral says that an address in the target is judged too, whoever made the target.
func TestDialLiteral(t *testing.T) {
	s := serve(t, answers(ok2))
	rules, err := egress.New(egress.Config{AllowHTTP: true})
	if err != nil {
		t.Fatal(err)
	}
	_, err = do(client(t, post.Config{Egress: rules}), s.target())
	wantKind(t, err, post.Blocked, "not public")
	if n := s.accepted.Load(); n != 0 {
		t.Errorf("%d connections", n)
	}
}

// TestOpenedForSome says that a connection to an address which is open to some accounts only is never used for the others,
// kept or not, and that a probe for one of these is judged as they are (docs/contract.md#allow-accounts).
func TestOpenedForSome(t *testing.T) {
	s := serve(t, answers(ok2))
	dns := newNames(t, map[string][]string{"inside.test.": {"127.0.0.1"}})
	c := client(t, post.Config{Resolver: dns.resolver})
	for _, opened := range []*egress.Target{named("inside.test", s.addr.Port()), s.target()} {
		closed := *opened
		closed.Opened = false
		for range 2 {
			if _, err := do(c, opened); err != nil {
				t.Errorf("%s, opened: %v", opened.Host, err)
			}
			_, err := do(c, &closed)
			wantKind(t, err, post.Blocked, "not public")
		}
		before := s.accepted.Load()
		c.Connect(t.Context(), reach.Place{Account: "globex", Host: closed.Host, Port: closed.Port})
		if n := s.accepted.Load(); n != before {
			t.Errorf("%s: a probe for another account connected", closed.Host)
		}
	}
	if n := s.accepted.Load(); n != 2 {
		t.Errorf("%d connections, want one for each target", n)
	}
}

// TestRebinding says that an address which a name gets later is judged as well: the first connection is let through, and
// the second, to what the name has become, is not.
func TestRebinding(t *testing.T) {
	s := serve(t, answers("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"))
	dns := newNames(t, map[string][]string{"bind.test.": {"127.0.0.1"}})
	c := client(t, post.Config{Resolver: dns.resolver})
	if _, err := do(c, named("bind.test", s.addr.Port())); err != nil {
		t.Fatal(err)
	}
	dns.Set("bind.test.", "10.1.2.3")
	if err := dns.resolver.Refresh(t.Context(), "bind.test."); err != nil {
		t.Fatal(err)
	}
	_, err := do(c, named("bind.test", s.addr.Port()))
	wantKind(t, err, post.Blocked, "not public")
}

// TestLookupOnce says that many who want the same name at once ask once, and a moment later not at all.
func TestLookupOnce(t *testing.T) {
	s := serve(t, answers("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"))
	dns := newNames(t, map[string][]string{"one.test.": {"127.0.0.1"}})
	c := client(t, post.Config{Resolver: dns.resolver})
	done := make(chan error)
	for range 20 {
		go func() { _, err := do(c, named("one.test", s.addr.Port())); done <- err }()
	}
	for range 20 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if n := dns.Count("one.test.", dnsmessage.TypeA); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

// TestNoEnvironmentProxy says that HTTP_PROXY changes nothing.
func TestNoEnvironmentProxy(t *testing.T) {
	p := serve(t, func(c net.Conn, _ int) { read(bufio.NewReader(c)) })
	s := serve(t, answers(ok2))
	t.Setenv("HTTP_PROXY", fmt.Sprintf("http://%s", p.addr))
	t.Setenv("http_proxy", fmt.Sprintf("http://%s", p.addr))
	if resp, err := do(client(t, post.Config{}), s.target()); err != nil || resp.Status != 200 {
		t.Errorf("got %d, %v", resp.Status, err)
	}
	if n := p.accepted.Load(); n != 0 {
		t.Error("the proxy was asked")
	}
}
