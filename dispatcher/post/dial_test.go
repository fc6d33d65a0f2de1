package post_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"fanout/dispatcher/egress"
	"fanout/dispatcher/post"
)

// names is a DNS server for a few names; a name with no entry does not exist, and "silent.test." gets no answer.
type names struct {
	mu      sync.Mutex // guards zone
	zone    map[string][]string
	asked   atomic.Int32
	resolve *net.Resolver
}

func newNames(t *testing.T, zone map[string][]string) *names {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &names{zone: zone}
	n.resolve = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", pc.LocalAddr().String())
	}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for buf := make([]byte, 1500); ; {
			size, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			if reply := n.reply(buf[:size]); reply != nil {
				pc.WriteTo(reply, from)
			}
		}
	}()
	t.Cleanup(func() { pc.Close(); <-done })
	return n
}

func (n *names) set(name string, addrs ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.zone[name] = addrs
}

func (n *names) reply(query []byte) []byte {
	var m dnsmessage.Message
	if m.Unpack(query) != nil || len(m.Questions) != 1 || m.Questions[0].Name.String() == "silent.test." {
		return nil
	}
	q := m.Questions[0]
	n.mu.Lock()
	addrs, known := n.zone[q.Name.String()]
	n.mu.Unlock()
	m.Header = dnsmessage.Header{ID: m.ID, Response: true, RecursionAvailable: true}
	m.Additionals = nil
	if !known {
		m.RCode = dnsmessage.RCodeNameError
	}
	header := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 60}
	for _, s := range addrs {
		a := netip.MustParseAddr(s)
		switch {
		case a.Is4() && q.Type == dnsmessage.TypeA:
			n.asked.Add(1)
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: a.As4()}})
		case a.Is6() && q.Type == dnsmessage.TypeAAAA:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
		}
	}
	reply, err := m.Pack()
	if err != nil {
		return nil
	}
	return reply
}

func named(host string, port uint16) *egress.Target {
	return &egress.Target{Host: host, Port: port, Path: "/", HostHeader: host}
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
		{"empty.test", s.addr.Port(), post.DNS, "name does not exist"},
		{"silent.test", s.addr.Port(), post.DNS, "no answer to the name lookup within 400ms"},
	}
	for _, tt := range tests {
		t.Run(tt.host, func(t *testing.T) {
			c := client(t, post.Config{Resolver: dns.resolve, ConnectTimeout: 400 * time.Millisecond})
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

// TestRebinding says that an address which a name gets later is judged as well: the first connection is let through, and
// the second, to what the name has become, is not.
func TestRebinding(t *testing.T) {
	s := serve(t, answers("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"))
	dns := newNames(t, map[string][]string{"bind.test.": {"127.0.0.1"}})
	c := client(t, post.Config{Resolver: dns.resolve})
	if _, err := do(c, named("bind.test", s.addr.Port())); err != nil {
		t.Fatal(err)
	}
	dns.set("bind.test.", "10.1.2.3")
	c.ForgetNames()
	_, err := do(c, named("bind.test", s.addr.Port()))
	wantKind(t, err, post.Blocked, "not public")
}

// TestLookupOnce says that many who want the same name at once ask once, and a moment later not at all.
func TestLookupOnce(t *testing.T) {
	s := serve(t, answers("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"))
	dns := newNames(t, map[string][]string{"one.test.": {"127.0.0.1"}})
	c := client(t, post.Config{Resolver: dns.resolve})
	done := make(chan error)
	for range 20 {
		go func() { _, err := do(c, named("one.test", s.addr.Port())); done <- err }()
	}
	for range 20 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if n := dns.asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

// TestProxy says what a proxy is asked for, that names are judged before it is asked, and that it is exempt itself.
func TestProxy(t *testing.T) {
	ca := newAuthority(t)
	dns := newNames(t, map[string][]string{"hook.test.": {"192.0.2.7"}, "private.test.": {"10.1.2.3"}})
	rules := func(proxy *server) *egress.Rules {
		r, err := egress.New(egress.Config{AllowHTTP: true, AllowCIDRs: []string{"192.0.2.0/24"}, Proxy: "http://user:pass@" + proxy.addr.String()})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	asked := make(chan string, 1)
	tunnel := func(reply string, then script) script {
		return func(c net.Conn, n int) {
			var head strings.Builder
			for one := make([]byte, 1); !strings.HasSuffix(head.String(), "\r\n\r\n"); {
				if _, err := c.Read(one); err != nil {
					return
				}
				head.Write(one)
			}
			asked <- head.String()
			io.WriteString(c, reply)
			then(c, n)
		}
	}
	hang := func(c net.Conn, _ int) { io.Copy(io.Discard, c) }
	const established = "HTTP/1.1 200 Connection established\r\n\r\n"
	tests := []struct {
		name   string
		proxy  script
		target *egress.Target
		asked  string
		kind   post.Kind
		detail string
	}{
		{name: "http", proxy: tunnel(established, answers(ok2)), target: named("hook.test", 8080), asked: "CONNECT 192.0.2.7:8080 HTTP/1.1\r\nHost: 192.0.2.7:8080\r\nProxy-Authorization: Basic dXNlcjpwYXNz\r\n\r\n"},
		{name: "https", proxy: tunnel(established, over(certFor(t, ca, "hook.test"), answers(ok2))), target: &egress.Target{TLS: true, Host: "hook.test", Port: 443, Path: "/", HostHeader: "hook.test"}, asked: "CONNECT 192.0.2.7:443 "},
		{name: "refuses", proxy: tunnel("HTTP/1.1 403 No\r\n\r\n", hang), target: named("hook.test", 8080), asked: "CONNECT ", kind: post.Connect, detail: "the egress proxy answered 403"},
		{name: "never answers", proxy: tunnel("", hang), target: named("hook.test", 8080), asked: "CONNECT ", kind: post.Timeout, detail: "no connection within 400ms"},
		{name: "says too much", proxy: tunnel(established+"HTTP/1.1 200 Poison\r\n\r\n", hang), target: named("hook.test", 8080), asked: "CONNECT ", kind: post.Connect, detail: "not asked for"},
		{name: "private", proxy: tunnel(established, hang), target: named("private.test", 8080), kind: post.Blocked, detail: "not public"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := serve(t, tt.proxy)
			c := client(t, post.Config{Egress: rules(p), Resolver: dns.resolve, RootCAs: ca.pool, ConnectTimeout: 400 * time.Millisecond})
			resp, err := do(c, tt.target)
			if tt.detail != "" {
				wantKind(t, err, tt.kind, tt.detail)
			} else if err != nil || resp.Status != 200 {
				t.Errorf("got %d, %v", resp.Status, err)
			}
			if tt.asked == "" {
				if n := p.accepted.Load(); n != 0 {
					t.Errorf("the proxy was asked")
				}
			} else if got := <-asked; !strings.HasPrefix(got, tt.asked) {
				t.Errorf("asked for %q", got)
			}
		})
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
