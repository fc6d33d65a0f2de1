package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"fanout/consumer"
)

// zone is a DNS server for the names below .test, which answers each query of a name with the next of its answers, and
// then for ever with the last.
type zone struct {
	mu    sync.Mutex // guards both
	names map[string][][]string
	asked map[dnsmessage.Question]int
}

// zoneAddr is where a zone listens; what this process resolves is asked there while there is one.
var zoneAddr = resolveByZone()

func resolveByZone() *atomic.Pointer[string] {
	var addr atomic.Pointer[string]
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, server string) (net.Conn, error) {
		var d net.Dialer
		if a := addr.Load(); a != nil {
			return d.DialContext(ctx, "udp", *a)
		}
		return d.DialContext(ctx, network, server)
	}}
	return &addr
}

func newZone(t *testing.T, names map[string][][]string) *zone {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	z := &zone{names: names, asked: make(map[dnsmessage.Question]int)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for buf := make([]byte, 1500); ; {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			if reply := z.reply(buf[:n]); reply != nil {
				_, _ = pc.WriteTo(reply, from)
			}
		}
	}()
	zoneAddr.Store(new(pc.LocalAddr().String()))
	t.Cleanup(func() {
		zoneAddr.Store(nil)
		_ = pc.Close()
		<-done
	})
	return z
}

func (z *zone) reply(query []byte) []byte {
	var m dnsmessage.Message
	if m.Unpack(query) != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	m.Header = dnsmessage.Header{ID: m.ID, Response: true, RecursionAvailable: true}
	m.Additionals = nil
	name, ok := strings.CutSuffix(q.Name.String(), ".test.")
	z.mu.Lock()
	answers := z.names[name]
	var now []string
	if ok = ok && answers != nil; ok {
		now = answers[min(z.asked[q], len(answers)-1)]
		z.asked[q]++
	}
	z.mu.Unlock()
	if !ok {
		m.RCode = dnsmessage.RCodeNameError
	}
	header := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET} // a TTL of 0: whoever remembers is on his own
	for _, s := range now {
		if alias, ok := strings.CutPrefix(s, "="); ok {
			to := dnsmessage.MustNewName(alias + ".test.")
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.CNAMEResource{CNAME: to}})
			header.Name = to
			continue
		}
		switch a := netip.MustParseAddr(s); {
		case a.Is4() && q.Type == dnsmessage.TypeA:
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

// denied are spellings of places where no webhook may go. PORT is that of the trap, an HTTP server on 127.0.0.1 and
// [::1]; what ends in .test is the zone's.
var denied = strings.Fields(`
	http://127.0.0.1:PORT/ https://127.0.0.1:PORT/ http://127.0.0.1.:PORT/ HTTP://127.0.0.1:PORT/ http://127.0.0.1:PORT?x http://127.0.0.1:PORT#x
	http://127.1:PORT/ http://127.0.1:PORT/ http://2130706433:PORT/ http://017700000001:PORT/ http://0x7f000001:PORT/ http://0x7F.1:PORT/
	http://0177.0.0.1:PORT/ http://0x7f.0x0.0x0.0x1:PORT/ http://127.0.0.01:PORT/ http://127.0.0.0x1:PORT/ http://00000177.0.0.1:PORT/
	http://127.0.0.1.1:PORT/ http://4294967297:PORT/ http://127.0.0.257:PORT/ http://0:PORT/ http://0.0.0.0:PORT/ http://00.0.0.0:PORT/
	http://127。0。0。1:PORT/ http://127｡0｡0｡1:PORT/ http://１２７.0.0.1:PORT/ http://①②⑦.⓪.⓪.①:PORT/ http://127。1:PORT/
	http://%31%32%37.0.0.1:PORT/ http://127%2e0%2e0%2e1:PORT/ http://127.0.0.1%2f@example.com:PORT/ http://127.0.0.1%00.example.com:PORT/
	http://user@127.0.0.1:PORT/ http://example.com@127.0.0.1:PORT/ http://example.com:80@127.0.0.1:PORT/ http://example.com%40127.0.0.1:PORT/
	http://@127.0.0.1:PORT/ http://example.com\@127.0.0.1:PORT/ http:\\127.0.0.1:PORT/ http:127.0.0.1:PORT/ http:/127.0.0.1:PORT/ http:///127.0.0.1:PORT/
	//127.0.0.1:PORT/ 127.0.0.1:PORT/ ftp://127.0.0.1:PORT/ gopher://127.0.0.1:PORT/_POST file:///etc/passwd ws://127.0.0.1:PORT/ unix:/run/docker.sock
	jar:http://127.0.0.1:PORT/!/ javascript:fetch("http://127.0.0.1:PORT/") http+unix://127.0.0.1:PORT/ data:text/plain,x dict://127.0.0.1:PORT/
	http://[::1]:PORT/ http://[0:0:0:0:0:0:0:1]:PORT/ http://[::0001]:PORT/ http://[::]:PORT/ http://[::127.0.0.1]:PORT/ http://[::7f00:1]:PORT/
	http://[::ffff:127.0.0.1]:PORT/ http://[::ffff:7f00:1]:PORT/ http://[0:0:0:0:0:FFFF:7F00:0001]:PORT/ http://[::ffff:0:127.0.0.1]:PORT/
	http://[64:ff9b::127.0.0.1]:PORT/ http://[64:ff9b::7f00:1]:PORT/ http://[64:ff9b:1::127.0.0.1]:PORT/ http://[2002:7f00:1::]:PORT/ http://[2002:7f00:1::1]:PORT/
	http://[2001:0:0:0:0:0:80ff:fffe]:PORT/ http://[fe80::1%25lo]:PORT/ http://[::1%25lo]:PORT/ http://[::1%lo]:PORT/ http://[127.0.0.1]:PORT/ http://[v1.x]:PORT/ http://::1:PORT/
	http://127.0.0.1:22/ http://example.com:25/ http://example.com:0/ http://example.com:65536/ http://example.com:PORTx/ http://127.0.0.1:0PORT/
	http://10.0.0.1/ http://172.16.0.1/ http://192.168.1.1/ http://100.64.0.1/ http://169.254.1.1/ http://192.0.0.1/ http://192.0.2.1/ http://198.18.0.1/
	http://198.51.100.1/ http://203.0.113.1/ http://224.0.0.1/ http://240.0.0.1/ http://255.255.255.255/ http://[fc00::1]/ http://[fd00::1]/ http://[ff02::1]/ http://[2001:db8::1]/
	http://169.254.169.254/latest/meta-data/ http://2852039166/ http://0xa9fea9fe/ http://0251.0376.0251.0376/ http://[::ffff:169.254.169.254]/ http://[64:ff9b::a9fe:a9fe]/
	http://[fd00:ec2::254]/ http://168.63.129.16/ http://100.100.100.200/ http://[2002:a9fe:a9fe::]/
	http://localhost:PORT/ http://LOCALHOST:PORT/ http://localhost.:PORT/ http://ⓛocalhost:PORT/
	http://loop.test:PORT/ http://LOOP.TEST:PORT/ http://loop.test.:PORT/ http://ⓛⓞⓞⓟ.test:PORT/ http://loop。test:PORT/ http://127.0.0.1.wild.test:PORT/
	http://six.test:PORT/ http://mapped.test:PORT/ http://compatible.test:PORT/ http://nat64.test:PORT/ http://sixtofour.test:PORT/ http://any.test:PORT/ http://any6.test:PORT/
	http://alias.test:PORT/ http://every.test:PORT/ http://private.test:PORT/ http://meta.test/ http://meta6.test/ http://hop.test:PORT/ http://hop6.test:PORT/
`)

func zoneNames() map[string][][]string {
	one := func(addrs ...string) [][]string { return [][]string{addrs} }
	return map[string][][]string{
		"loop": one("127.0.0.1"), "127.0.0.1.wild": one("127.0.0.1"), "six": one("::1"), "mapped": one("::ffff:127.0.0.1"), "compatible": one("::127.0.0.1"),
		"nat64": one("64:ff9b::7f00:1"), "sixtofour": one("2002:7f00:1::"), "any": one("0.0.0.0"), "any6": one("::"), "alias": one("=loop", "127.0.0.1"),
		"every": one("127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fd00::1", "fe80::1"), "private": one("10.0.0.1", "fd00::1"),
		"meta": one("169.254.169.254"), "meta6": one("fd00:ec2::254"),
		// What is not open first, and what is open (127.0.0.2) when it is asked again.
		"hop": {{"127.0.0.1"}, {"127.0.0.2"}}, "hop6": {{"::1"}, {"127.0.0.2"}},
		// The other way round: between a check and a dial, between an attempt and the next.
		"flip": {{"127.0.0.2"}, {"127.0.0.1"}}, "flipmeta": {{"127.0.0.2"}, {"169.254.169.254"}}, "flip6": {{"127.0.0.2"}, {"::1"}}, "flipprivate": {{"127.0.0.2"}, {"10.0.0.1"}},
		"mixed": one("127.0.0.1", "127.0.0.2", "::1", "10.0.0.1"),
	}
}

// egressWorld is a trap, where nobody may come, and a receiver on 127.0.0.2, the one place that the rules open.
type egressWorld struct {
	*world
	port    string
	trapped atomic.Int32 // connections to the trap

	mu   sync.Mutex // guards seen
	seen map[string]int
}

func newEgressWorld(t *testing.T) *egressWorld {
	t.Helper()
	w := &egressWorld{world: newWorld(t, "channel.email"), seen: make(map[string]int)}
	w.env = append(w.env, "FANOUT_EGRESS_ALLOW_CIDRS=127.0.0.2/32", "FANOUT_DELIVERY_SCHEDULE=6s") // longer than an answer of DNS is remembered
	trap, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, w.port, _ = net.SplitHostPort(trap.Addr().String())
	traps := []net.Listener{trap}
	if trap6, err := net.Listen("tcp6", "[::1]:"+w.port); err == nil {
		traps = append(traps, trap6)
	}
	for _, l := range traps {
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				w.trapped.Add(1)
				_ = c.Close()
			}
		}()
	}
	open, err := net.Listen("tcp4", "127.0.0.2:"+w.port)
	if err != nil {
		t.Skipf("no second loopback address: %v", err)
	}
	receiver := &http.Server{Handler: http.HandlerFunc(w.receive)}
	go func() { _ = receiver.Serve(open) }()
	t.Cleanup(func() { _ = receiver.Close() })
	return w
}

// receive redirects to the trap with the status that the path names.
func (w *egressWorld) receive(rw http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.mu.Lock()
	w.seen[r.Method+" "+r.URL.Path]++
	w.mu.Unlock()
	rw.Header().Set("Connection", "close")
	rw.Header().Set("Location", "http://127.0.0.1:"+w.port+"/")
	status := http.StatusServiceUnavailable
	_, _ = fmt.Sscanf(r.URL.Path, "/%d", &status)
	rw.WriteHeader(status)
}

// want is a dead letter.
type want struct {
	url      string
	reason   string
	attempts int
	status   int
}

func (w *egressWorld) wants() map[string]want {
	all := make(map[string]want)
	for i, url := range denied {
		all[fmt.Sprintf("denied-%d", i)] = want{url: url, reason: "blocked_destination"}
	}
	for _, name := range []string{"flip", "flipmeta", "flip6", "flipprivate"} {
		all[name] = want{url: "http://" + name + ".test:PORT/" + name, reason: "blocked_destination", attempts: 1, status: 503}
	}
	for _, status := range []int{301, 302, 303, 307, 308} {
		id := fmt.Sprintf("redirect-%d", status)
		all[id] = want{url: fmt.Sprintf("http://127.0.0.2:PORT/%d", status), reason: "attempts_exhausted", attempts: 2, status: status}
	}
	all["mixed"] = want{url: "http://mixed.test:PORT/mixed", reason: "attempts_exhausted", attempts: 2, status: 503}
	return all
}

// Through the whole of `run`: each spelling of a denied destination is dead without a connection, and so is what DNS turns
// into one later; a redirect is an answer, and no way in.
func TestRunConnectsToNothingDenied(t *testing.T) {
	t.Parallel()
	w := newEgressWorld(t)
	newZone(t, zoneNames())
	wants := w.wants()
	for id, want := range wants {
		subscription, err := json.Marshal(map[string]any{"url": strings.ReplaceAll(want.url, "PORT", w.port), "events": []string{"EMAIL_OPEN"}})
		if err != nil {
			t.Fatal(err)
		}
		w.redis.HSet("fanout:account:acme", id, string(subscription))
	}
	r := w.start(t)
	r.await(t, "/readyz", 200, `"ready":true`)
	if code, _, stderr := w.fanout(t, "", "send", "--account", "acme", "--event", "EMAIL_OPEN", "--tracking-id", "t", "--notification-id", "n", "--user-id", "u"); code != 0 {
		t.Fatal(stderr)
	}
	var letters []consumer.DeadLetter
	until(t, func() (bool, string) {
		code, stdout, stderr := w.fanout(t, "", "deadletter", "list", "-o", "json")
		if code == 0 {
			letters = nil
			if err := json.Unmarshal([]byte(stdout), &letters); err != nil {
				return false, err.Error()
			}
		}
		return len(letters) >= len(wants), fmt.Sprintf("%d of %d dead letters\n%s", len(letters), len(wants), stderr)
	})
	for _, d := range letters {
		want, ok := wants[d.Subscription]
		if !ok || d.Reason != want.reason || d.Attempts != want.attempts || d.Status != want.status {
			t.Errorf("%s: dead %s (%s) after %d attempts, status %d; want %+v", want.url, d.Reason, d.Detail, d.Attempts, d.Status, want)
		}
		delete(wants, d.Subscription)
		if want.reason == "blocked_destination" && strings.Contains(want.url, ".test") && strings.ContainsAny(d.Detail, "0123456789") {
			t.Errorf("%s: %q may tell an address", want.url, d.Detail)
		}
	}
	if len(wants) > 0 {
		t.Errorf("no dead letter of %v", wants)
	}
	if n := w.trapped.Load(); n != 0 {
		t.Errorf("%d connections to what is denied", n)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for path, n := range map[string]int{"/flip": 1, "/flipmeta": 1, "/flip6": 1, "/flipprivate": 1, "/mixed": 2, "/301": 2, "/302": 2, "/303": 2, "/307": 2, "/308": 2} {
		if w.seen["POST "+path] != n {
			t.Errorf("%d POSTs of %s, want %d", w.seen["POST "+path], path, n)
		}
	}
	if len(w.seen) != 10 {
		t.Errorf("requests %v", w.seen)
	}
	if len(denied) < 60 {
		t.Errorf("%d spellings", len(denied))
	}
	t.Logf("%d spellings denied, %d answers of DNS that change, 5 redirects", len(denied), 6)
}
