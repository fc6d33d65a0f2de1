package post_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fanout/dispatcher/post"
	"fanout/dispatcher/reach"
	"fanout/dispatcher/resolve"
	"fanout/dispatcher/resolve/dnstest"
	"fanout/egress"
)

// place is what happens at an address of a network in memory.
type place func(ctx context.Context) (net.Conn, error)

// blackHole never answers a SYN.
func blackHole(ctx context.Context) (net.Conn, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func failing(err error) place {
	return func(context.Context) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", err)}
	}
}

// playing connects at once, and plays a script.
func playing(play script) place {
	return func(context.Context) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() {
			defer theirs.Close()
			play(theirs, 1)
		}()
		return queue(ours), nil
	}
}

// queued is a pipe whose writes wait for nobody, as those of a socket: both ends of a TLS handshake write at the same time.
type queued struct {
	net.Conn

	more chan []byte
	gone chan struct{}
	once sync.Once
}

func queue(c net.Conn) *queued {
	q := &queued{Conn: c, more: make(chan []byte, 1000), gone: make(chan struct{})}
	go func() {
		for {
			select {
			case b := <-q.more:
				if _, err := c.Write(b); err != nil {
					return
				}
			case <-q.gone:
				return
			}
		}
	}()
	return q
}

func (q *queued) Write(b []byte) (int, error) {
	q.more <- append([]byte(nil), b...)
	return len(b), nil
}

func (q *queued) Close() error {
	q.once.Do(func() { close(q.gone) })
	return q.Conn.Close()
}

func after(d time.Duration, p place) place {
	return func(ctx context.Context) (net.Conn, error) {
		select {
		case <-time.After(d):
			return p(ctx)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// memory is a network in memory: a name server, and places by their address.
type memory struct {
	dns *dnstest.Server

	mu     sync.Mutex // guards all below
	places map[string]place
	dialed []string
}

const anyPort = 8443

func newMemory(addrs ...string) *memory {
	return &memory{dns: dnstest.New(map[string][]string{"hook.test.": addrs}), places: map[string]place{}}
}

func (m *memory) put(addr string, p place) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.places[addr] = p
}

// tried is the addresses that were dialled since it was last asked.
func (m *memory) tried() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	text := strings.Join(m.dialed, " ")
	m.dialed = nil
	return text
}

func (m *memory) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if address == "127.0.0.1:53" {
		return dnstest.Network{address: m.dns}.Dial(ctx, network, address)
	}
	addr := netip.MustParseAddrPort(address).Addr().String()
	m.mu.Lock()
	p := m.places[addr]
	m.dialed = append(m.dialed, addr)
	m.mu.Unlock()
	if p == nil {
		return nil, &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	}
	return p(ctx)
}

// client makes a client on the network. What is special about the addresses in tests is open.
func (m *memory) client(t *testing.T, cfg post.Config) *post.Client {
	t.Helper()
	rules, err := egress.New(egress.Config{AllowHTTP: true, AllowCIDRs: []string{"0.0.0.0/0", "::/0"}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(file, []byte("nameserver 127.0.0.1"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.Egress, cfg.Network = rules, resolve.Config{ResolvConf: file, Hosts: file, Dial: m.dial}
	return client(t, cfg)
}

// inMemory runs a test in virtual time.
func inMemory(t *testing.T, addrs []string, test func(t *testing.T, m *memory, c *post.Client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(addrs...)
		test(t, m, m.client(t, post.Config{}))
	})
}

// wantIn makes an exchange and says how long it took and which addresses it tried.
func wantIn(t *testing.T, m *memory, c *post.Client, target *egress.Target, took time.Duration, tried string) {
	t.Helper()
	began := time.Now()
	resp, err := do(c, target)
	if got := time.Since(began); err != nil || resp.Status != 200 || got != took {
		t.Errorf("%d, %v after %v; want 200 after %v", resp.Status, err, got, took)
	}
	if got := m.tried(); got != tried {
		t.Errorf("tried %s; want %s", got, tried)
	}
}

const okClose = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

func hookTarget(tls bool) *egress.Target {
	return &egress.Target{Opened: true, TLS: tls, Host: "hook.test", Port: anyPort, Path: "/", HostHeader: "hook.test"}
}

// TestDeadAddress says that a dead address costs 250 ms, and for a while no connection after it anything.
func TestDeadAddress(t *testing.T) {
	inMemory(t, []string{"192.0.2.1", "192.0.2.2"}, func(t *testing.T, m *memory, c *post.Client) { //nolint:thelper // a test
		m.put("192.0.2.1", blackHole)
		m.put("192.0.2.2", playing(answer(okClose)))
		target := hookTarget(false)
		wantIn(t, m, c, target, 250*time.Millisecond, "192.0.2.1 192.0.2.2")
		wantIn(t, m, c, target, 0, "192.0.2.2")
		time.Sleep(4 * time.Minute)
		wantIn(t, m, c, target, 0, "192.0.2.2")
		time.Sleep(time.Minute)
		wantIn(t, m, c, target, 250*time.Millisecond, "192.0.2.1 192.0.2.2")
		m.put("192.0.2.2", failing(syscall.EHOSTUNREACH))
		m.put("192.0.2.1", playing(answer(okClose)))
		wantIn(t, m, c, target, 0, "192.0.2.2 192.0.2.1")
		wantIn(t, m, c, target, 0, "192.0.2.1")
	})
}

// TestManyAddresses says how long it takes to get past 12 dead addresses of 16.
func TestManyAddresses(t *testing.T) {
	var addrs []string
	for i := range 16 {
		addrs = append(addrs, fmt.Sprintf("192.0.2.%d", i+1))
	}
	inMemory(t, addrs, func(t *testing.T, m *memory, c *post.Client) { //nolint:thelper // a test
		for i, addr := range addrs {
			m.put(addr, blackHole)
			if i >= 12 {
				m.put(addr, playing(answer(okClose)))
			}
		}
		wantIn(t, m, c, hookTarget(false), 12*3*time.Second/32, strings.Join(addrs[:13], " "))
		wantIn(t, m, c, hookTarget(false), 0, "192.0.2.13")
		t.Logf("past 12 dead addresses of 16 in %v, and then in none", 12*3*time.Second/32)
	})
	inMemory(t, addrs, func(t *testing.T, m *memory, c *post.Client) { //nolint:thelper // a test // all answer, and slowly: 400 ms away
		for _, addr := range addrs {
			m.put(addr, after(400*time.Millisecond, playing(answer(okClose))))
		}
		wantIn(t, m, c, hookTarget(false), 400*time.Millisecond, strings.Join(addrs[:5], " "))
	})
}

// TestFamilies says in which order the two families are tried, and that a machine without IPv6 loses no time by it.
func TestFamilies(t *testing.T) {
	inMemory(t, []string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1", "2001:db8::2"}, func(t *testing.T, m *memory, c *post.Client) { //nolint:thelper // a test
		for _, addr := range []string{"2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2"} {
			m.put(addr, blackHole)
		}
		m.put("192.0.2.3", playing(answer(okClose)))
		wantIn(t, m, c, hookTarget(false), 4*250*time.Millisecond, "2001:db8::1 192.0.2.1 2001:db8::2 192.0.2.2 192.0.2.3")
	})
	for _, errno := range []error{syscall.ENETUNREACH, syscall.EADDRNOTAVAIL} {
		inMemory(t, []string{"192.0.2.1", "2001:db8::1"}, func(t *testing.T, m *memory, c *post.Client) { //nolint:thelper // a test
			m.put("2001:db8::1", failing(errno))
			m.put("192.0.2.1", playing(answer(okClose)))
			wantIn(t, m, c, hookTarget(false), 0, "2001:db8::1 192.0.2.1")
			wantIn(t, m, c, hookTarget(false), 0, "192.0.2.1")
		})
	}
}

// TestHangingHandshake says that an address which accepts and then hangs is left for the next.
func TestHangingHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newAuthority(t)
		m := newMemory("192.0.2.1", "192.0.2.2", "192.0.2.3")
		c := m.client(t, post.Config{RootCAs: ca.pool})
		m.put("192.0.2.1", playing(func(c net.Conn, _ int) { io.Copy(io.Discard, c) }))
		m.put("192.0.2.2", playing(func(c net.Conn, _ int) { c.Read(make([]byte, 1)) })) // closes in the handshake
		m.put("192.0.2.3", playing(over(certFor(t, ca, "hook.test"), answer(okClose))))
		wantIn(t, m, c, hookTarget(true), 250*time.Millisecond, "192.0.2.1 192.0.2.2 192.0.2.3")
		wantIn(t, m, c, hookTarget(true), 0, "192.0.2.3")
	})
}

// TestNoAddressConnects says what all tries together lead to: the time that there is, and no more, and the error that
// says most.
func TestNoAddressConnects(t *testing.T) {
	hangs := playing(func(c net.Conn, _ int) { io.Copy(io.Discard, c) })
	for _, tt := range []struct {
		name   string
		places []place
		took   time.Duration
		kind   post.Kind
		cause  reach.Cause
		detail string
	}{
		{"refused", []place{failing(syscall.ECONNREFUSED), failing(syscall.ECONNREFUSED)}, 0, post.Connect, reach.Receiver, "connection refused"},
		{"one dead", []place{blackHole, failing(syscall.ECONNREFUSED)}, 3 * time.Second, post.Timeout, reach.Receiver, "no connection within 3s"},
		{"hanging handshakes", []place{hangs, hangs}, 3 * time.Second, post.Timeout, reach.Receiver, "TLS handshake not finished within 3s"},
		{"one address", []place{blackHole}, 3 * time.Second, post.Timeout, reach.Receiver, "no connection within 3s"},
		{"one address, hanging", []place{hangs}, 3 * time.Second, post.Timeout, reach.Receiver, "TLS handshake not finished within 3s"},
		{"no descriptor", []place{failing(syscall.EMFILE), failing(syscall.ECONNREFUSED)}, 0, post.Connect, reach.System, "no file descriptor left"},
		{"no descriptor here", []place{failing(syscall.ENFILE)}, 0, post.Connect, reach.System, "this machine has no file descriptor left"},
		{"no buffers", []place{failing(syscall.ENOBUFS)}, 0, post.Connect, reach.System, "no memory left for sockets"},
		{"no port", []place{failing(syscall.EADDRNOTAVAIL)}, 0, post.Connect, reach.System, "no local port left"},
		{"unreachable", []place{failing(syscall.ENETUNREACH)}, 0, post.Connect, reach.Receiver, "network unreachable"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var addrs []string
			for i := range tt.places {
				addrs = append(addrs, fmt.Sprintf("192.0.2.%d", i+1))
			}
			inMemory(t, addrs, func(t *testing.T, m *memory, c *post.Client) { //nolint:thelper // a test
				for i, p := range tt.places {
					m.put(addrs[i], p)
				}
				began := time.Now()
				_, err := do(c, hookTarget(true))
				wantKind(t, err, tt.kind, tt.detail)
				wantCause(t, err, tt.cause)
				if took := time.Since(began); took != tt.took {
					t.Errorf("it took %v, want %v", took, tt.took)
				}
			})
		})
	}
}

// TestLookupFailures says how failures of DNS are told from a name that does not exist, and that one failure which many
// wait for is one.
func TestLookupFailures(t *testing.T) {
	inMemory(t, nil, func(t *testing.T, m *memory, c *post.Client) { //nolint:thelper // a test
		m.dns.Delete("hook.test.")
		_, err := do(c, hookTarget(false))
		wantKind(t, err, post.DNS, "name does not exist")
		wantCause(t, err, reach.Receiver)
		m.dns.Behave(func(dnstest.Question) dnstest.Behaviour { return dnstest.Behaviour{Silent: true} })
		time.Sleep(time.Minute)
		ids := make(chan uint64, 64)
		var all sync.WaitGroup
		for range cap(ids) {
			all.Go(func() {
				_, err := do(c, hookTarget(false))
				wantKind(t, err, post.DNS, "no answer to the name lookup within 3s")
				wantCause(t, err, reach.DNS)
				ids <- asError(t, err).Lookup
			})
		}
		all.Wait()
		close(ids)
		first := <-ids
		for id := range ids {
			if id != first || id == 0 {
				t.Fatalf("look-ups %d and %d", first, id)
			}
		}
	})
}

// TestMemoryStream says that an exchange needs nothing of a socket: it is made, made again on the kept connection, and
// made on a new one when that turns out to be closed.
func TestMemoryStream(t *testing.T) {
	inMemory(t, []string{"192.0.2.1"}, func(t *testing.T, m *memory, c *post.Client) { //nolint:thelper // a test
		m.put("192.0.2.1", playing(func(c net.Conn, _ int) {
			r := bufio.NewReader(c)
			for range 3 {
				if _, ok := read(r); !ok {
					return
				}
				io.WriteString(c, ok2)
			}
		}))
		for i, tried := range []string{"192.0.2.1", "", "", "192.0.2.1", ""} {
			wantIn(t, m, c, hookTarget(false), 0, tried)
			if i == 2 {
				synctest.Wait()
			}
		}
		m.put("192.0.2.1", playing(stall("")))
		time.Sleep(time.Minute)
		began := time.Now()
		_, err := do(c, hookTarget(false))
		wantKind(t, err, post.Timeout, "no answer within 10s")
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}
