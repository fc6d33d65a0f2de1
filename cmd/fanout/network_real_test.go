//go:build real

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"fanout/cmd/internal/lab"
	"fanout/dispatcher/resolve/dnstest"
)

// networkSite is `fanout run` with an /etc/resolv.conf of its own, and 20 receivers by name, each of another account.
type networkSite struct {
	*site

	dns *dnstest.Server

	mu    sync.Mutex // guards first
	first time.Time  // the first request since it was last cleared
}

const networkReceivers = 20

// newNetworkSite makes one; the program sees the name server in a mount namespace of its own.
func newNetworkSite(t *testing.T, name string) *networkSite {
	t.Helper()
	lab.RequireTools(t, "unshare", "prlimit")
	s := &networkSite{site: newSite(t, name, lab.KeepIDs), dns: dnstest.New(nil)}
	addr, stop, err := s.dns.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	for i := range networkReceivers + 1 {
		s.dns.Set(fmt.Sprintf("hook.r%d.test.", i), "127.0.0.1")
		s.dns.TTL(fmt.Sprintf("hook.r%d.test.", i), 1)
		s.receiver.On(fmt.Sprintf("/r%d", i), lab.Always(lab.Answer{Header: map[string]string{"Connection": "close"}})) // the way is found each time
	}
	s.receiver.Watch(func(lab.Request, bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.first.IsZero() {
			s.first = time.Now()
		}
	})
	dir := t.TempDir()
	conf, program := filepath.Join(dir, "resolv.conf"), filepath.Join(dir, "fanout")
	script := fmt.Sprintf("#!/bin/sh\nexec unshare --map-root-user --mount sh -c 'mount --bind %s /etc/resolv.conf && exec %s \"$@\"' fanout \"$@\"\n", conf, s.program)
	for file, text := range map[string]string{conf: fmt.Sprintf("nameserver [127.0.0.1]:%d\n", addr.Port()), program: script} {
		if err := os.WriteFile(file, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s.stage = &stage{lab: s.lab, kafka: s.kafka, program: program}
	return s
}

// subscribe gives the i-th account its webhook.
func (s *networkSite) receive(t *testing.T, i int) {
	t.Helper()
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(s.receiver.URL(""), "http://"))
	text := fmt.Sprintf(`{"url":"http://hook.r%d.test:%s/r%d","events":["*"]}`, i, port, i)
	if err := s.redis.PutSubscription(t.Context(), "account-"+strconv.Itoa(i), "s", text); err != nil {
		t.Fatal(err)
	}
}

// load produces 200 events a second until ctx is done, for the accounts in turn, and returns how many.
func (s *networkSite) load(ctx context.Context) (n int) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return n
		}
		if s.produceSome(ctx, n, 20) == nil {
			n += 20
		}
	}
}

func (s *networkSite) produceSome(ctx context.Context, from, n int) error {
	var values bytes.Buffer
	for i := range n {
		fmt.Fprintf(&values, `{"accountId":"account-%d","channel":"EMAIL","type":"OPEN","trackingId":"t%d","notificationId":"n","userId":"u","id":"%d"}`+"\n", (from+i)%networkReceivers, from+i, from+i)
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), "kcat", "-P", "-b", s.kafka.Addr(), "-t", s.email())
	cmd.Stdin = &values
	return cmd.Run()
}

// forwarder is an egress proxy, which can go away and come back.
type forwarder struct {
	addr string

	mu     sync.Mutex // guards server
	server *http.Server
}

func (f *forwarder) start(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", f.addr)
	if err != nil {
		t.Fatal(err)
	}
	f.addr = l.Addr().String()
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.RequestURI = ""
		answer, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer answer.Body.Close()
		_, _ = io.Copy(io.Discard, answer.Body)
		w.Header().Set("Connection", "close")
		w.WriteHeader(answer.StatusCode)
	})}
	f.mu.Lock()
	f.server = server
	f.mu.Unlock()
	go func() { _ = server.Serve(l) }()
}

func (f *forwarder) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	_ = f.server.Close()
}

// TestNetworkFaultsReal takes away DNS, the egress proxy and the descriptors amid 200 events a second for 20 receivers: nothing is
// charged, nobody parks, nothing is lost or repeated, and the first delivery comes within five seconds of the end.
func TestNetworkFaultsReal(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		lasts time.Duration
		proxy bool
		take  func(t *testing.T, s *networkSite, p *forwarder)
		give  func(t *testing.T, s *networkSite, p *forwarder)
		label string
	}{
		"dns silent": {45 * time.Second, false, func(_ *testing.T, s *networkSite, _ *forwarder) {
			s.dns.Behave(func(dnstest.Question) dnstest.Behaviour { return dnstest.Behaviour{Silent: true} })
		}, func(_ *testing.T, s *networkSite, _ *forwarder) { s.dns.Behave(nil) }, "dns"},
		"dns fails": {45 * time.Second, false, func(_ *testing.T, s *networkSite, _ *forwarder) {
			s.dns.Behave(func(dnstest.Question) dnstest.Behaviour {
				return dnstest.Behaviour{RCode: dnsmessage.RCodeServerFailure}
			})
		}, func(_ *testing.T, s *networkSite, _ *forwarder) { s.dns.Behave(nil) }, "dns"},
		"proxy": {45 * time.Second, true, func(_ *testing.T, _ *networkSite, p *forwarder) { p.stop() }, func(t *testing.T, _ *networkSite, p *forwarder) {
			t.Helper()
			p.start(t)
		}, "proxy"},
		"descriptors": {20 * time.Second, false, func(t *testing.T, s *networkSite, _ *forwarder) {
			t.Helper()
			s.descriptors(t, "4:")
		}, func(t *testing.T, s *networkSite, _ *forwarder) {
			t.Helper()
			s.descriptors(t, "4096:")
		}, "system"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newNetworkSite(t, "network-"+strings.ReplaceAll(name, " ", "-"))
			p := &forwarder{addr: "127.0.0.1:0"}
			if tt.proxy {
				p.start(t)
				t.Cleanup(p.stop)
				s.config.Set("egress.proxy", "http://"+p.addr)
			}
			for i := range networkReceivers {
				s.receive(t, i)
			}
			s.start(t)
			ctx, cancel := context.WithCancel(t.Context())
			total := make(chan int, 1)
			go func() { total <- s.load(ctx) }()
			time.Sleep(8 * time.Second)
			tt.take(t, s, p)
			began := time.Now()
			if tt.label == "dns" { // names that have been looked up go on; one that has not shows what is the matter
				s.receive(t, networkReceivers)
				time.Sleep(time.Second)
				cmd := exec.CommandContext(t.Context(), "kcat", "-P", "-b", s.kafka.Addr(), "-t", s.email())
				cmd.Stdin = strings.NewReader(fmt.Sprintf(`{"accountId":"account-%d","channel":"EMAIL","type":"OPEN","trackingId":"t","notificationId":"n","userId":"u","id":"new"}`+"\n", networkReceivers))
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
			}
			time.Sleep(time.Until(began.Add(tt.lasts)))
			s.mu.Lock()
			s.first = time.Time{}
			s.mu.Unlock()
			over := time.Now()
			tt.give(t, s, p)
			until(t, func() (bool, string) {
				s.mu.Lock()
				defer s.mu.Unlock()
				return !s.first.IsZero(), "no request"
			})
			s.mu.Lock()
			resumed := s.first.Sub(over)
			s.mu.Unlock()
			time.Sleep(5 * time.Second)
			cancel()
			n := <-total
			if tt.label == "dns" {
				n++
			}
			s.settled(t, n)
			log, err := os.ReadFile(s.fanout.Log())
			if err != nil {
				t.Fatal(err)
			}
			said, parked := strings.Count(string(log), "nothing is sent: the fault is ours"), strings.Count(string(log), `"msg":"lane parked`)
			if resumed > 5*time.Second || said != 1 || parked != 0 {
				t.Errorf("resumed after %v, said %d times, %d lanes parked", resumed, said, parked)
			}
			t.Logf("%s away for %v: %d events, first delivery %v after the end, %d lanes parked", name, tt.lasts, n, resumed.Round(10*time.Millisecond), parked)
		})
	}
}

// descriptors sets the process's soft limit.
func (s *networkSite) descriptors(t *testing.T, limit string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "prlimit", "--pid", strconv.Itoa(s.fanout.PID()), "--nofile="+limit).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// settled waits until all is delivered, and says that no attempt failed, that nothing is lost and nothing came twice.
func (s *networkSite) settled(t *testing.T, n int) {
	t.Helper()
	until(t, func() (bool, string) {
		got := s.receiver.Delivered()
		return got >= int64(n), fmt.Sprintf("%d of %d delivered", got, n)
	})
	time.Sleep(time.Second)
	m, err := s.fanout.Metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, outcome := range []string{"retry", "dead"} {
		if got := m.Sum("fanout_outcomes_total", `outcome="`+outcome+`"`); got != 0 {
			t.Errorf("%v outcomes are %s", got, outcome)
		}
	}
	// What catches up with the backlog may find its lane's queue full, as after any standstill: that spends no attempt.
	deferred, queued := m.Sum("fanout_outcomes_total", `outcome="deferred"`), m.Sum("fanout_outcomes_total", `outcome="deferred"`, `reason="queue"`)
	if deferred != queued {
		t.Errorf("%v outcomes are deferred for another reason than the queue", deferred-queued)
	}
	distinct, repeated := 0, 0
	for i := range networkReceivers + 1 {
		for _, c := range s.receiver.IDs(fmt.Sprintf("/r%d", i)) {
			distinct++
			if c.Seen > 1 {
				repeated++
			}
		}
	}
	if distinct != n || repeated != 0 {
		t.Errorf("%d of %d events arrived, %d of them more than once", distinct, n, repeated)
	}
}
