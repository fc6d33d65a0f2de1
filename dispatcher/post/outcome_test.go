package post_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"fanout/dispatcher"
	"fanout/dispatcher/post"
	"fanout/egress"
	"fanout/event"
	"fanout/subscriptions"
)

// directory is one subscription.
type directory struct{ sub *subscriptions.Subscription }

func (d directory) Match(dst []*subscriptions.Subscription, _ string, _ event.Name, _ string) []*subscriptions.Subscription {
	return append(dst, d.sub)
}

func (d directory) Lookup(string, string) *subscriptions.Subscription { return d.sub }

func (d directory) Version() uint64 { return 1 }

// settled is told of outcomes.
type settled chan dispatcher.Outcome

func (s settled) Settle(_ *dispatcher.Delivery, out dispatcher.Outcome) { s <- out }

// deliver brings deliveries of body to the URL, one after another, through a Dispatcher with that client.
func deliver(t *testing.T, url string, body []byte, cfg post.Config, times int) (outs []dispatcher.Outcome) {
	t.Helper()
	sub, bad := subscriptions.Parse("acme", "a", fmt.Appendf(nil, `{"url":%q,"events":["*"]}`, url))
	if bad != nil {
		t.Fatal(bad)
	}
	d, err := dispatcher.New(dispatcher.Config{
		Delivery: dispatcher.DeliveryConfig{Timeout: hostileTime, Schedule: []time.Duration{time.Second}, MaxAge: time.Hour, PermanentStatuses: []int{410}, MaxInFlight: 4},
		Lanes:    dispatcher.LanesConfig{MaxInFlight: 4, Queue: 10, QueueAge: 5 * time.Second, ParkAfter: 10, ParkMin: time.Second, ParkMax: time.Second},
		Egress:   egress.Config{AllowHTTP: true, AllowCIDRs: []string{"127.0.0.0/8"}},
	}, directory{sub}, nil, nil, dispatcher.WithExchange(client(t, cfg)))
	if err != nil {
		t.Fatal(err)
	}
	run, stop := t.Context(), sync.WaitGroup{}
	stop.Go(func() {
		if err := d.Run(run); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop.Wait)
	to := make(settled, 1)
	for range times {
		name, _ := event.BuiltIn().Parse("EMAIL_OPEN")
		d.Submit(&dispatcher.Delivery{ID: "msg_abcdefghijklmnopqrstuvwxyz", Account: "acme", Subscription: "a", Event: name, Body: body, FirstSeen: time.Now(), Settler: to})
		select {
		case out := <-to:
			outs = append(outs, out)
		case <-time.NewTimer(10 * time.Second).C:
			t.Fatal("no outcome")
		}
	}
	return outs
}

// outcome is what DESIGN.md section 3 says of a status, or of the lack of one.
func (h *hostile) outcome() string {
	switch {
	case h.status == 0:
		return "retry " + map[post.Kind]string{post.Timeout: "timeout", post.DNS: "dns", post.Connect: "connect", post.TLS: "tls", post.Connection: "connection"}[h.kind]
	case h.status < 300 && h.status >= 200:
		return "delivered " + strconv.Itoa(h.status)
	case h.status == 410:
		return "dead gone 410"
	}
	return "retry status " + strconv.Itoa(h.status)
}

func line(out *dispatcher.Outcome) string {
	parts := []string{out.Result.String(), out.Reason.String(), strconv.Itoa(out.Status)}
	return strings.Join(slices.DeleteFunc(parts, func(part string) bool { return part == "" || part == "0" }), " ")
}

// TestHostileOutcomes brings a delivery to every hostile server there is: what an operator sees of each is here.
func TestHostileOutcomes(t *testing.T) {
	authority, overTLS := hostileTLSServers(t)
	unused, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refusing := unused.Addr().String()
	unused.Close()
	dns := newNames(t, map[string][]string{"private.test.": {"10.1.2.3"}})
	type row struct {
		hostile
		url  func(addr netip.AddrPort) string
		want []string
	}
	var rows []row
	plain := func(addr netip.AddrPort) string { return "http://" + addr.String() + "/hook" }
	for _, h := range hostileServers() {
		rows = append(rows, row{h, plain, []string{h.outcome()}})
	}
	for _, h := range overTLS {
		rows = append(rows, row{h, func(addr netip.AddrPort) string { return "https://" + addr.String() + "/hook" }, []string{h.outcome()}})
	}
	fixed := func(url string) func(netip.AddrPort) string { return func(netip.AddrPort) string { return url } }
	once := func(then func(c net.Conn)) script { // answers one request, and does that with the second on the connection
		return func(c net.Conn, _ int) {
			r := bufio.NewReader(c)
			if _, ok := read(r); !ok {
				return
			}
			io.WriteString(c, ok2)
			if _, ok := read(r); ok {
				then(c)
			}
		}
	}
	rows = append(rows,
		row{hostile{name: "refuses connections", play: answer("")}, fixed("http://" + refusing + "/"), []string{"retry connect"}},
		row{hostile{name: "a name that does not exist", play: answer("")}, fixed("http://missing.test:8080/"), []string{"retry dns"}},
		row{hostile{name: "a name server that is silent", play: answer("")}, fixed("http://silent.test:8080/"), []string{"retry dns"}},
		row{hostile{name: "a name that leads inside", play: answer("")}, fixed("http://private.test:8080/"), []string{"dead blocked_destination"}},
		row{hostile{name: "gone", play: answers("HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n")}, plain, []string{"dead gone 410", "dead gone 410"}},
		row{hostile{name: "closes on reuse", play: once(func(net.Conn) {})}, plain, []string{"delivered 200", "delivered 200", "delivered 200"}},
		row{hostile{name: "resets on reuse", play: once(reset)}, plain, []string{"delivered 200", "delivered 200", "delivered 200"}},
		row{hostile{name: "closes in the header on reuse", play: once(func(c net.Conn) { io.WriteString(c, "HTTP/1.1 2") })}, plain, []string{"delivered 200", "retry connection"}},
		row{hostile{name: "stalls on reuse", play: once(func(c net.Conn) { io.Copy(io.Discard, c) })}, plain, []string{"delivered 200", "retry timeout"}},
		row{hostile{name: "a second answer nobody asked for", play: answers(ok2 + "HTTP/1.1 500 Poison\r\nContent-Length: 0\r\n\r\n")}, plain, []string{"delivered 200", "delivered 200"}},
		row{hostile{name: "over TLS, closes on reuse", play: over(&tls.Config{Certificates: []tls.Certificate{authority.issue(t, nil)}}, once(func(net.Conn) {}))}, func(addr netip.AddrPort) string { return "https://" + addr.String() + "/" }, []string{"delivered 200", "delivered 200"}},
	)
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, r.play)
			if r.body == nil {
				r.body = []byte(payload)
			}
			outs := deliver(t, r.url(s.addr), r.body, post.Config{RootCAs: authority.pool, Resolver: dns.resolver, ConnectTimeout: 400 * time.Millisecond}, len(r.want))
			for i, out := range outs {
				if got := line(&out); got != r.want[i] {
					t.Errorf("outcome %d is %s (%s), want %s", i, got, out.Detail, r.want[i])
				}
				if len(out.Response) > 1024 || len(out.Detail) > 512 {
					t.Errorf("%d bytes of response, %d of detail", len(out.Response), len(out.Detail))
				}
			}
		})
	}
	t.Logf("%d servers", len(rows))
}
