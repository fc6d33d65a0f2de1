package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"fanout/dispatcher/resolve"
	"fanout/dispatcher/resolve/dnstest"
)

// inbox is a receiver that notes when each request came.
type inbox struct {
	port string

	mu    sync.Mutex // guards times
	times []time.Time
}

func newInbox(t *testing.T) *inbox {
	t.Helper()
	b := &inbox{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		b.mu.Lock()
		b.times = append(b.times, time.Now())
		b.mu.Unlock()
		w.Header().Set("Connection", "close") // the next one has to find the way again
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(s.Close)
	_, b.port, _ = net.SplitHostPort(s.Listener.Addr().String())
	return b
}

func (b *inbox) got() []time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]time.Time(nil), b.times...)
}

// send produces so many events for an account, one after another, and waits until each has arrived; it returns how long each
// took.
func (w *world) sendAwaiting(t *testing.T, b *inbox, n int) (took []time.Duration) {
	t.Helper()
	for range n {
		before, began := len(b.got()), time.Now()
		w.sendOne(t)
		until(t, func() (bool, string) { return len(b.got()) > before, fmt.Sprintf("%d requests", len(b.got())) })
		took = append(took, b.got()[before].Sub(began))
	}
	return took
}

func (w *world) sendOne(t *testing.T) {
	t.Helper()
	if code, _, stderr := w.fanout(t, "", "send", "--account", "acme", "--event", "EMAIL_OPEN", "--tracking-id", "t", "--notification-id", "n", "--user-id", "u"); code != 0 {
		t.Fatal(stderr)
	}
}

// charged is how many attempts failed or were put off, by the metrics.
func (r *running) charged(t *testing.T) int {
	t.Helper()
	n := 0
	for line := range strings.Lines(r.get(t, "/metrics")) {
		if strings.HasPrefix(line, "fanout_outcomes_total{") && !strings.Contains(line, `outcome="delivered"`) && !strings.Contains(line, `outcome="discarded"`) && !strings.HasSuffix(strings.TrimSpace(line), " 0") {
			n++
			t.Log(strings.TrimSpace(line))
		}
	}
	return n
}

func (r *running) get(t *testing.T, path string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.admin+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func (w *world) subscribe(t *testing.T, id, url string) {
	t.Helper()
	text, err := json.Marshal(map[string]any{"url": url, "events": []string{"EMAIL_OPEN"}})
	if err != nil {
		t.Fatal(err)
	}
	w.redis.HSet("fanout:account:acme", id, string(text))
}

// resolvConf is a network whose name servers are these, in this order.
func resolvConf(t *testing.T, servers ...*dnstest.Server) resolve.Config {
	t.Helper()
	var text []byte
	for _, s := range servers {
		addr, stop, err := s.Listen("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(stop)
		text = fmt.Appendf(text, "nameserver [127.0.0.1]:%d\n", addr.Port())
	}
	file := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return resolve.Config{ResolvConf: file}
}

// Through the whole of `run`: a first name server that is silent, an AAAA answer that is lost and a zone that never answers
// AAAA charge nobody, and cost a second at most, once.
func TestRunDNSTrouble(t *testing.T) {
	t.Parallel()
	silent := func(dnstest.Question) dnstest.Behaviour { return dnstest.Behaviour{Silent: true} }
	for name, tt := range map[string]struct {
		first  func(dnstest.Question) dnstest.Behaviour // of the only server, or of the first of two
		second bool
		most   time.Duration // that anything took longer than without the trouble
	}{
		"silent first server": {silent, true, 1100 * time.Millisecond},
		"lost AAAA": {func() func(dnstest.Question) dnstest.Behaviour {
			var once sync.Once
			return func(q dnstest.Question) (b dnstest.Behaviour) {
				if q.Type == dnsmessage.TypeAAAA {
					once.Do(func() { b.Silent = true })
				}
				return b
			}
		}(), false, 200 * time.Millisecond},
		"zone without AAAA": {func(q dnstest.Question) dnstest.Behaviour {
			return dnstest.Behaviour{Silent: q.Type == dnsmessage.TypeAAAA}
		}, false, 200 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, b := newWorld(t, "channel.email"), newInbox(t)
			zone := map[string][]string{"hook.test.": {"127.0.0.1"}}
			first := dnstest.New(zone)
			first.TTL("hook.test.", 0)
			first.Behave(tt.first)
			servers := []*dnstest.Server{first}
			if tt.second {
				second := dnstest.New(zone)
				second.TTL("hook.test.", 0)
				servers = append(servers, second)
			}
			w.network = resolvConf(t, servers...)
			w.subscribe(t, "s", "http://hook.test:"+b.port+"/")
			r := w.start(t)
			r.await(t, "/readyz", 200, `"ready":true`)
			took := w.sendAwaiting(t, b, 6)
			slow := 0
			for _, d := range took {
				if d > tt.most+time.Second { // sending and reading take their time too
					t.Errorf("one took %v", d)
				}
				if d > time.Second {
					slow++
				}
			}
			if slow > 1 {
				t.Errorf("%d of six took longer than a second: %v", slow, took)
			}
			if n := r.charged(t); n != 0 {
				t.Errorf("%d outcomes that are none of a delivery", n)
			}
			t.Logf("six events, one after another: %v", took)
		})
	}
}

// Through the whole of `run`: while no name server answers nothing is charged, it is said once in each place, readiness stays,
// and it goes on within five seconds.
func TestRunWithoutDNS(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t, "channel.email"), newInbox(t)
	s := dnstest.New(map[string][]string{"hook.test.": {"127.0.0.1"}})
	s.Behave(func(dnstest.Question) dnstest.Behaviour {
		return dnstest.Behaviour{RCode: dnsmessage.RCodeServerFailure}
	})
	w.network = resolvConf(t, s)
	w.subscribe(t, "s", "http://hook.test:"+b.port+"/")
	r := w.start(t)
	r.await(t, "/readyz", 200, `"ready":true`)
	for range 20 {
		w.sendOne(t)
	}
	r.await(t, "/readyz", 200, "no name server answers")
	r.await(t, "/metrics", 200, `fanout_network_fault{cause="dns"} 1`)
	asked := len(s.Asked())
	until(t, func() (bool, string) { // the look-ups go on, and lead to nothing
		n := len(s.Asked()) - asked
		return n >= 4, fmt.Sprintf("%d questions", n)
	})
	if n := len(b.got()); n != 0 {
		t.Fatalf("%d requests without DNS", n)
	}
	if n := r.charged(t); n != 0 {
		t.Errorf("%d outcomes while nothing could be sent", n)
	}
	s.Behave(nil)
	over := time.Now()
	until(t, func() (bool, string) { return len(b.got()) == 20, fmt.Sprintf("%d requests", len(b.got())) })
	if took := b.got()[0].Sub(over); took > 5*time.Second {
		t.Errorf("the first request came %v after the end", took)
	} else {
		t.Logf("the first request came %v after the end", took.Round(time.Millisecond))
	}
	r.await(t, "/metrics", 200, `fanout_network_fault{cause="dns"} 0`)
	if n := r.charged(t); n != 0 {
		t.Errorf("%d outcomes that are none of a delivery", n)
	}
	log := r.log.String()
	if n := strings.Count(log, "nothing is sent: the fault is ours"); n != 1 {
		t.Errorf("the log says it %d times", n)
	}
	if n := strings.Count(log, "the fault of our own is over"); n != 1 {
		t.Errorf("the log says that it is over %d times", n)
	}
}
