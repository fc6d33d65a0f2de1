package post_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"fanout/dispatcher/post"
	"fanout/dispatcher/reach"
	"fanout/egress"
)

// forward is an egress proxy: it notes the head of each request, answers with a status where it has one for it, and
// else sends it on to one server, whatever was asked for.
type forward struct {
	to      *server
	status  int // instead of sending on; 0: none
	silent  bool
	garbage bool

	mu    sync.Mutex // guards heads
	heads []string
}

func (f *forward) play(c net.Conn, _ int) {
	for r := bufio.NewReader(c); ; {
		head := ""
		for !strings.HasSuffix(head, "\r\n\r\n") {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			head += line
		}
		f.mu.Lock()
		f.heads = append(f.heads, head)
		f.mu.Unlock()
		tunnel := strings.HasPrefix(head, "CONNECT ")
		switch {
		case f.silent:
			io.Copy(io.Discard, c)
			return
		case f.status != 0:
			fmt.Fprintf(c, "HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n", f.status)
			return
		}
		if tunnel {
			io.WriteString(c, "HTTP/1.1 200 Connection established\r\n\r\n")
			if f.garbage {
				io.WriteString(c, "HTTP/1.1 200 Poison\r\n\r\n")
			}
		}
		onward, err := net.Dial("tcp", f.to.addr.String())
		if err != nil {
			return
		}
		if !tunnel { // as a proxy does: origin form, and its own fields gone
			request, err := http.ReadRequest(bufio.NewReader(io.MultiReader(strings.NewReader(head), r)))
			if err != nil {
				return
			}
			request.Header.Del("Proxy-Authorization")
			request.Write(onward)
			answer, err := http.ReadResponse(bufio.NewReader(onward), request)
			if err == nil {
				answer.Write(c)
			}
			onward.Close()
			continue
		}
		go func() {
			io.Copy(onward, r)
			onward.Close()
		}()
		io.Copy(c, onward)
		return
	}
}

func (f *forward) asked() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.heads...)
}

// TestProxy says what a proxy is asked for: http in absolute form, https by CONNECT; the address that was checked, or the
// name where it is to look names up; and that a connection through it is kept.
func TestProxy(t *testing.T) {
	ca := newAuthority(t)
	dns := newNames(t, map[string][]string{"hook.test.": {"192.0.2.7"}})
	forProxy := ca.issue(t, func(c *x509.Certificate) { c.DNSNames = []string{"proxy.test"} })
	forHook := certFor(t, ca, "hook.test")
	hook := func(tls bool) *egress.Target {
		return &egress.Target{Opened: true, TLS: tls, Host: "hook.test", Port: 8080, Path: "/a%2Fb?c", HostHeader: "hook.test:8080"}
	}
	const auth = "Proxy-Authorization: Basic dXNlcjpwYXNz\r\n"
	for _, tt := range []struct {
		name   string
		scheme string // of the proxy
		names  bool
		target *egress.Target
		asked  string
	}{
		{"http", "http", false, hook(false), "POST http://192.0.2.7:8080/a%2Fb?c HTTP/1.1\r\n" + auth + "Host: hook.test:8080\r\n"},
		{"http by name", "http", true, hook(false), "POST http://hook.test:8080/a%2Fb?c HTTP/1.1\r\n" + auth + "Host: hook.test:8080\r\n"},
		{"https", "http", false, hook(true), "CONNECT 192.0.2.7:8080 HTTP/1.1\r\nHost: 192.0.2.7:8080\r\n" + auth + "\r\n"},
		{"https by name", "http", true, hook(true), "CONNECT hook.test:8080 HTTP/1.1\r\nHost: hook.test:8080\r\n" + auth + "\r\n"},
		{"http, TLS to the proxy", "https", false, hook(false), "POST http://192.0.2.7:8080/a%2Fb?c HTTP/1.1\r\n" + auth},
		{"https, TLS to the proxy", "https", true, hook(true), "CONNECT hook.test:8080 HTTP/1.1\r\nHost: hook.test:8080\r\n" + auth + "\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			play := answers(ok2)
			if tt.target.TLS {
				play = over(forHook, play)
			}
			f := &forward{to: serve(t, play)}
			entrance := f.play
			if tt.scheme == "https" {
				entrance = over(&tls.Config{Certificates: []tls.Certificate{forProxy}}, f.play)
			}
			p := serve(t, entrance)
			rules, err := egress.New(egress.Config{
				AllowHTTP: true, AllowCIDRs: []string{"192.0.2.0/24"}, Proxy: tt.scheme + "://user:pass@" + p.addr.String(), ProxyNames: tt.names,
			})
			if err != nil {
				t.Fatal(err)
			}
			c := client(t, post.Config{Egress: rules, Resolver: dns.resolver, RootCAs: ca.pool})
			before := len(dns.Asked())
			for range 3 {
				resp, err := do(c, tt.target)
				if err != nil || resp.Status != 200 || string(resp.Body) != "hi" {
					t.Fatalf("got %d %q, %v", resp.Status, resp.Body, err)
				}
			}
			asked := f.asked()
			if !strings.HasPrefix(asked[0], tt.asked) {
				t.Errorf("asked for %q", asked[0])
			}
			if n := p.accepted.Load(); n != 1 {
				t.Errorf("%d connections to the proxy", n)
			}
			if asked := len(dns.Asked()) > before; tt.names && asked {
				t.Error("the name was looked up here")
			}
		})
	}
}

// TestProxyRefuses says how each refusal is explained, and which of them tell of the proxy rather than the receiver.
func TestProxyRefuses(t *testing.T) {
	dns := newNames(t, map[string][]string{"hook.test.": {"192.0.2.7"}, "private.test.": {"10.1.2.3"}})
	target := &egress.Target{Opened: true, TLS: true, Host: "hook.test", Port: 443, Path: "/", HostHeader: "hook.test"}
	plain := &egress.Target{Opened: true, Host: "hook.test", Port: 80, Path: "/", HostHeader: "hook.test"}
	for _, tt := range []struct {
		name   string
		proxy  *forward
		target *egress.Target
		names  bool
		kind   post.Kind
		cause  reach.Cause
		detail string
		asked  int
	}{
		{"407", &forward{status: 407}, target, false, post.Connect, reach.Proxy, "other credentials (407)", 1},
		{"407 to http", &forward{status: 407}, plain, false, post.Connect, reach.Proxy, "other credentials (407)", 1},
		{"403", &forward{status: 403}, target, false, post.Connect, reach.Receiver, "does not allow this destination (403); where it filters by name, set egress.proxy_names", 1},
		{"405", &forward{status: 405}, target, false, post.Connect, reach.Receiver, "does not take CONNECT (405)", 1},
		{"502", &forward{status: 502}, target, false, post.Connect, reach.Receiver, "cannot reach the destination (502)", 1},
		{"503", &forward{status: 503}, target, false, post.Connect, reach.Receiver, "cannot reach the destination (503)", 1},
		{"504", &forward{status: 504}, target, false, post.Connect, reach.Receiver, "in time (504)", 1},
		{"429", &forward{status: 429}, target, false, post.Connect, reach.Receiver, "the egress proxy answered 429", 1},
		{"silent", &forward{silent: true}, target, false, post.Timeout, reach.Proxy, "no answer of the egress proxy within 400ms", 1},
		{"says too much", &forward{garbage: true}, target, false, post.Connect, reach.Receiver, "not asked for", 1},
		{"private name", &forward{}, &egress.Target{Opened: true, TLS: true, Host: "private.test", Port: 443}, false, post.Blocked, reach.Receiver, "not public", 0},
		{"private address", &forward{}, &egress.Target{Opened: true, Host: "10.0.0.1", Addr: netip.MustParseAddr("10.0.0.1"), Port: 80}, true, post.Blocked, reach.Receiver, "not public", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.proxy.to = serve(t, answers(ok2))
			p := serve(t, tt.proxy.play)
			rules, err := egress.New(egress.Config{AllowHTTP: true, AllowCIDRs: []string{"192.0.2.0/24"}, Proxy: "http://" + p.addr.String(), ProxyNames: tt.names})
			if err != nil {
				t.Fatal(err)
			}
			resp, err := do(client(t, post.Config{Egress: rules, Resolver: dns.resolver, ConnectTimeout: 400 * time.Millisecond}), tt.target)
			wantKind(t, err, tt.kind, tt.detail)
			wantCause(t, err, tt.cause)
			if n := len(tt.proxy.asked()); n != tt.asked {
				t.Errorf("the proxy was asked %d times", n)
			}
			if resp.Status != 0 {
				t.Errorf("status %d", resp.Status)
			}
		})
	}
}

// TestProxyAway says that a proxy which cannot be used is not the receiver's fault.
func TestProxyAway(t *testing.T) {
	ca := newAuthority(t)
	unused, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	away := unused.Addr().String()
	unused.Close()
	dns := newNames(t, map[string][]string{"hook.test.": {"192.0.2.7"}})
	plain := serve(t, func(c net.Conn, _ int) { read(bufio.NewReader(c)) })
	strange := serve(t, over(&tls.Config{Certificates: []tls.Certificate{ca.issue(t, nil)}}, answers(ok2)))
	for proxy, detail := range map[string]string{
		"http://" + away:                   "cannot be reached: connection refused",
		"http://nowhere.test:3128":         "the egress proxy's name cannot be looked up",
		"https://" + plain.addr.String():   "cannot be reached: ",
		"https://" + strange.addr.String(): "cannot be reached: certificate is signed by an unknown authority",
	} {
		rules, err := egress.New(egress.Config{AllowHTTP: true, AllowCIDRs: []string{"192.0.2.0/24"}, Proxy: proxy})
		if err != nil {
			t.Fatal(err)
		}
		_, err = do(client(t, post.Config{Egress: rules, Resolver: dns.resolver, RootCAs: x509.NewCertPool(), ConnectTimeout: 400 * time.Millisecond}), named("hook.test", 8080))
		if proxy == "https://"+strange.addr.String() {
			// Without a root of any kind that is this machine's fault.
			wantCause(t, err, reach.System)
			_, err = do(client(t, post.Config{Egress: rules, Resolver: dns.resolver, RootCAs: newAuthority(t).pool, ConnectTimeout: 400 * time.Millisecond}), named("hook.test", 8080))
		}
		wantKind(t, err, post.Connect, detail)
		wantCause(t, err, reach.Proxy)
	}
}
