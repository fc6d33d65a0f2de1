package post_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"fanout/dispatcher/post"
	"fanout/dispatcher/resolve"
	"fanout/dispatcher/resolve/dnstest"
)

// TestMoves says that a receiver which moves by DNS gets its requests at the new address soon after the time to live,
// although its connections are kept and used all the time; and that while DNS fails, or says nothing new, they stay.
func TestMoves(t *testing.T) {
	for _, tt := range []struct {
		ttl  uint32
		most time.Duration // from the move to the last request at the old address
	}{{1, 31 * time.Second}, {10, 31 * time.Second}, {60, 61 * time.Second}, {86400, 5*time.Minute + time.Second}} {
		t.Run(strconv.Itoa(int(tt.ttl)), func(t *testing.T) {
			inMemory(t, []string{"192.0.2.1"}, func(t *testing.T, m *memory, c *post.Client) { //nolint:thelper // a test
				var old, moved time.Time
				at := func(last *time.Time) place {
					return playing(func(c net.Conn, _ int) {
						for r := bufio.NewReader(c); ; {
							if _, ok := read(r); !ok {
								return
							}
							*last = time.Now()
							io.WriteString(c, ok2)
						}
					})
				}
				var fresh time.Time
				m.put("192.0.2.1", at(&old))
				m.put("192.0.2.2", at(&fresh))
				m.dns.TTL("hook.test.", tt.ttl)
				requests := func(d time.Duration) {
					for until := time.Now().Add(d); time.Now().Before(until); time.Sleep(100 * time.Millisecond) {
						if resp, err := do(c, hookTarget(false)); err != nil || resp.Status != 200 {
							t.Fatal(resp.Status, err)
						}
					}
				}
				requests(7 * time.Second) // somewhere in between two look-ups
				m.dns.Set("hook.test.", "192.0.2.2")
				moved = time.Now()
				requests(6 * time.Minute)
				if late := old.Sub(moved); late > tt.most || fresh.IsZero() {
					t.Errorf("the last request at the old address came %v after the move, want %v; the first at the new one %v", late, tt.most, fresh)
				} else {
					t.Logf("TTL %ds: last request at the old address %v after the move", tt.ttl, late.Round(time.Second))
				}
				asked := m.dns.Count("hook.test.", dnsmessage.TypeA)
				if most := 3 + int(6*time.Minute/max(30*time.Second, min(time.Duration(tt.ttl)*time.Second, 5*time.Minute))); asked > most {
					t.Errorf("asked %d times in six minutes, want %d at most", asked, most)
				}
			})
		})
	}
}

// TestStays says that connections are kept while DNS fails or repeats itself, and closed when the name is gone.
func TestStays(t *testing.T) {
	inMemory(t, []string{"192.0.2.1"}, func(t *testing.T, m *memory, c *post.Client) { //nolint:thelper // a test
		m.put("192.0.2.1", playing(answers(ok2)))
		m.dns.TTL("hook.test.", 5)
		ask := func(d time.Duration) (err error) {
			for until := time.Now().Add(d); time.Now().Before(until) && err == nil; time.Sleep(time.Second) {
				_, err = do(c, hookTarget(false))
			}
			return err
		}
		if err := ask(2 * time.Minute); err != nil {
			t.Fatal(err)
		}
		m.dns.Behave(func(dnstest.Question) dnstest.Behaviour {
			return dnstest.Behaviour{RCode: dnsmessage.RCodeServerFailure}
		})
		if err := ask(2 * time.Minute); err != nil {
			t.Fatal(err)
		}
		if tried := m.tried(); tried != "192.0.2.1" {
			t.Errorf("dialled %s", tried)
		}
		m.dns.Behave(nil)
		m.dns.Delete("hook.test.")
		wantKind(t, ask(2*time.Minute), post.DNS, "does not exist")
	})
}

// TestMaxAge says that a connection is not used for longer than it may be, and that those which were opened together do
// not end together.
func TestMaxAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory("192.0.2.1")
		var mu sync.Mutex
		var ages []time.Duration
		m.put("192.0.2.1", playing(func(c net.Conn, _ int) {
			began, last := time.Now(), time.Now()
			for r := bufio.NewReader(c); ; {
				if _, ok := read(r); !ok {
					break
				}
				last = time.Now()
				time.Sleep(10 * time.Millisecond)
				io.WriteString(c, ok2)
			}
			mu.Lock()
			ages = append(ages, last.Sub(began))
			mu.Unlock()
		}))
		var random atomic.Int32
		c := m.client(t, post.Config{Rand: func() float64 { return float64(random.Add(1)%10) / 10 }})
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				for began := time.Now(); time.Since(began) < 6*time.Minute; time.Sleep(time.Second) {
					if _, err := do(c, hookTarget(false)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		mu.Lock()
		defer mu.Unlock()
		if len(ages) < 10 {
			t.Fatalf("%d connections have ended", len(ages))
		}
		shortest, longest := ages[0], ages[0]
		for _, age := range ages[:10] {
			shortest, longest = min(shortest, age), max(longest, age)
		}
		if longest > 5*time.Minute || shortest < 4*time.Minute-2*time.Second || longest-shortest < 40*time.Second {
			t.Errorf("connections were used for %v to %v", shortest, longest)
		}
	})
}

// TestSpeaksFirst says that bytes which come before the request is sent do not answer it, on a fresh connection and a kept
// one, with TLS and without; but for a refusal of whatever might come.
func TestSpeaksFirst(t *testing.T) {
	ca := newAuthority(t)
	for _, secure := range []bool{false, true} {
		for _, tt := range []struct {
			early  string
			status int // 0: an error
		}{
			{"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 0},
			{"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", 0},
			{"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", 503},
		} {
			t.Run(fmt.Sprint(secure, tt.early[9:12]), func(t *testing.T) {
				spoken := make(chan struct{}, 10)
				play := func(c net.Conn, _ int) {
					io.WriteString(c, tt.early)
					spoken <- struct{}{}
					answers("HTTP/1.1 201 Made\r\nContent-Length: 0\r\n\r\n")(c, 1)
				}
				if secure {
					cfg := certFor(t, ca, "hook.test")
					cfg.MaxVersion = tls.VersionTLS12 // the server's turn comes last: what it says then is there when the handshake ends
					play = over(cfg, play)
				}
				s := serve(t, play)
				dns := newNames(t, map[string][]string{"hook.test.": {"127.0.0.1"}})
				slow := func(ctx context.Context, network, address string) (net.Conn, error) { // the early bytes are there when the request is written
					var d net.Dialer
					c, err := d.DialContext(ctx, network, address)
					if err == nil && !secure {
						<-spoken
						time.Sleep(20 * time.Millisecond)
					}
					if err != nil {
						return nil, err
					}
					return slowReads{c.(*net.TCPConn)}, nil
				}
				c := client(t, post.Config{Resolver: dns.resolver, RootCAs: ca.pool, Network: resolve.Config{Dial: slow}})
				target := hookTarget(secure)
				target.Port = s.addr.Port()
				exchanges := int32(2)
				if secure {
					exchanges = 1 // a resumed handshake ends with the client's turn
				}
				for i := range exchanges {
					resp, err := do(c, target)
					if tt.status != 0 {
						if err != nil || resp.Status != tt.status {
							t.Errorf("got %d, %v", resp.Status, err)
						}
					} else {
						wantKind(t, err, post.Connection, "answered before it was asked")
					}
					if n := s.accepted.Load(); n != i+1 {
						t.Errorf("%d connections for %d exchanges: one was used again", n, i+1)
					}
				}
			})
		}
	}
}

// slowReads is a socket that is read a little later than something could be.
type slowReads struct{ *net.TCPConn }

func (c slowReads) Read(b []byte) (int, error) {
	time.Sleep(20 * time.Millisecond)
	return c.TCPConn.Read(b)
}
