package reach_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"fanout/dispatcher/reach"
)

// network is what a Monitor asks: everything works, or fails in the way that is set.
type network struct {
	mu     sync.Mutex // guards all below
	silent bool       // nothing answers before the asker's time is up
	broken bool       // everything fails at once
	cause  reach.Cause
	root   bool // but for the root zone, and the proxy itself
	asked  int
}

func (n *network) answer(ctx context.Context, base bool) error {
	n.mu.Lock()
	silent, broken := n.silent, n.broken && (!base || !n.root)
	n.asked++
	n.mu.Unlock()
	switch {
	case silent:
		<-ctx.Done()
		return ctx.Err()
	case broken:
		return errors.New("SERVFAIL")
	}
	return nil
}

func (n *network) set(f func(*network)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f(n)
}

func (n *network) NameServers(ctx context.Context) error         { return n.answer(ctx, true) }
func (n *network) Proxy(ctx context.Context) error               { return n.answer(ctx, true) }
func (n *network) Name(ctx context.Context, _ reach.Place) error { return n.answer(ctx, false) }
func (n *network) Connect(ctx context.Context, _ reach.Place) reach.Cause {
	if n.answer(ctx, false) != nil {
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.cause
	}
	return reach.Receiver
}

// watched is a Monitor with what it tells.
type watched struct {
	*reach.Monitor

	net  *network
	logs *observer.ObservedLogs
	reg  *prometheus.Registry

	mu      sync.Mutex // guards changes
	changes []string
}

func (w *watched) told() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.changes...)
}

// monitored runs a test with a Monitor in virtual time.
func monitored(t *testing.T, test func(t *testing.T, w *watched)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.InfoLevel)
		w := &watched{net: &network{}, logs: logs, reg: prometheus.NewRegistry()}
		w.Monitor = reach.NewMonitor(w.net, func(why string) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.changes = append(w.changes, why)
		}, zap.New(core), w.reg)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			if err := w.Run(ctx); err != nil {
				t.Error(err)
			}
		}()
		test(t, w)
		cancel()
		<-done
	})
}

// ours asks whose fault it is, and how long that took.
func (w *watched) ours(c reach.Cause, p reach.Place) (bool, time.Duration) {
	began := time.Now()
	return w.Ours(c, p, began, nil), time.Since(began)
}

func (w *watched) metric(t *testing.T, c reach.Cause) string {
	t.Helper()
	families, err := w.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if m.GetLabel()[0].GetValue() == c.String() {
				return map[float64]string{0: "0", 1: "1"}[m.GetGauge().GetValue()]
			}
		}
	}
	return "none"
}

// TestMonitorOutage goes through 45 seconds without DNS: silent, or failing at once; with something that worked before, or
// at the start.
func TestMonitorOutage(t *testing.T) {
	for name, tt := range map[string]struct {
		begin  func(*network)
		worked bool
		held   time.Duration // how long the first failure is
	}{
		"silent":               {func(n *network) { n.silent = true }, true, 2900 * time.Millisecond},
		"failing":              {func(n *network) { n.broken = true }, true, 2 * time.Second},
		"silent at the start":  {func(n *network) { n.silent = true }, false, 900 * time.Millisecond},
		"failing at the start": {func(n *network) { n.broken = true }, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			monitored(t, func(t *testing.T, w *watched) { //nolint:thelper // a test
				if tt.worked {
					w.Worked(reach.DNS, place("a", "x.a.test"), time.Now())
					w.Worked(reach.DNS, place("b", "x.b.test"), time.Now())
				}
				w.net.set(tt.begin)
				began := time.Now()
				var all sync.WaitGroup
				for range 64 {
					all.Go(func() {
						if ours, took := w.ours(reach.DNS, place("a", "x.a.test")); !ours || took != tt.held {
							t.Errorf("ours %t after %v, want %v", ours, took, tt.held)
						}
					})
				}
				all.Wait()
				if why, since := w.Fault(); why != "no name server answers" || time.Since(since) != 0 {
					t.Errorf("fault %q since %v", why, since)
				}
				if ours, took := w.ours(reach.DNS, place("c", "x.c.test")); !ours || took != 0 {
					t.Errorf("during the outage: ours %t after %v", ours, took)
				}
				if got := w.metric(t, reach.DNS) + w.metric(t, reach.Proxy) + w.metric(t, reach.System); got != "100" {
					t.Errorf("metrics %s", got)
				}
				time.Sleep(time.Until(began.Add(45 * time.Second)))
				w.net.set(func(n *network) { n.silent, n.broken = false, false })
				over := time.Now()
				for len(w.told()) < 2 {
					time.Sleep(10 * time.Millisecond)
				}
				if took := time.Since(over); took > 4*time.Second {
					t.Errorf("it was found out after %v", took)
				} else {
					t.Logf("held %v, found to be over after %v", tt.held, took)
				}
				if told := strings.Join(w.told(), "|"); told != "no name server answers|" {
					t.Errorf("told %q", told)
				}
				if n := w.logs.Len(); n != 2 {
					t.Errorf("%d lines of log: %v", n, w.logs.All())
				}
				if why, _ := w.Fault(); why != "" || w.metric(t, reach.DNS) != "0" {
					t.Errorf("fault %q, metric %s", why, w.metric(t, reach.DNS))
				}
			})
		})
	}
}

// TestMonitorBrokenZone says that failures of one account's names are its own: the root zone answers, or others' names do.
func TestMonitorBrokenZone(t *testing.T) {
	monitored(t, func(t *testing.T, w *watched) { //nolint:thelper // a test
		w.net.set(func(n *network) { n.broken, n.root = true, true }) // nothing but the root zone
		for range 3 {
			var all sync.WaitGroup
			for range 200 {
				all.Go(func() {
					if ours, took := w.ours(reach.DNS, place("a", "x.a.test")); ours || took > 3*time.Second {
						t.Errorf("ours %t after %v", ours, took)
					}
				})
			}
			all.Wait()
			time.Sleep(time.Second)
		}
		if told := w.told(); len(told) != 0 {
			t.Errorf("told %q", told)
		}
	})
	monitored(t, func(t *testing.T, w *watched) { //nolint:thelper // a test // a success of somebody else decides at once
		w.Worked(reach.DNS, place("b", "x.b.test"), time.Now())
		go func() {
			time.Sleep(300 * time.Millisecond)
			w.Worked(reach.DNS, place("c", "x.c.test"), time.Now())
		}()
		if ours, took := w.ours(reach.DNS, place("a", "x.a.test")); ours || took != 300*time.Millisecond {
			t.Errorf("ours %t after %v", ours, took)
		}
	})
}

// TestMonitorProxyAndSystem says the same of the other causes.
func TestMonitorProxyAndSystem(t *testing.T) {
	monitored(t, func(t *testing.T, w *watched) { //nolint:thelper // a test
		w.net.set(func(n *network) { n.broken, n.cause = true, reach.Proxy })
		if ours, took := w.ours(reach.Proxy, place("a", "x.a.test")); !ours || took != 0 {
			t.Errorf("a proxy that takes no connection: ours %t after %v", ours, took)
		}
		w.net.set(func(n *network) { n.broken = false })
		time.Sleep(1100 * time.Millisecond)
		if why, _ := w.Fault(); why != "" {
			t.Errorf("still %q", why)
		}
		w.net.set(func(n *network) { n.broken, n.root = true, true }) // it takes connections, and this place's alone fail
		if ours, _ := w.ours(reach.Proxy, place("a", "x.a.test")); ours {
			t.Error("one destination that fails is the proxy's fault")
		}
		w.net.set(func(n *network) { n.cause, n.root = reach.System, false })
		if ours, took := w.ours(reach.System, place("a", "x.a.test")); !ours || took != 0 {
			t.Errorf("no descriptor: ours %t after %v", ours, took)
		}
		time.Sleep(20 * time.Second)
		w.net.set(func(n *network) { n.cause = reach.Receiver }) // it connects again, and the receiver refuses
		time.Sleep(1100 * time.Millisecond)
		if why, _ := w.Fault(); why != "" {
			t.Errorf("still %q", why)
		}
		if ours, took := w.ours(reach.Receiver, place("a", "x.a.test")); ours || took != 0 {
			t.Errorf("a receiver's failure: ours %t after %v", ours, took)
		}
	})
}

// TestMonitorStops says that nobody waits on when all stops, and that nothing is charged then.
func TestMonitorStops(t *testing.T) {
	monitored(t, func(t *testing.T, w *watched) { //nolint:thelper // a test
		w.net.set(func(n *network) { n.silent = true })
		w.Worked(reach.DNS, place("b", "x.b.test"), time.Now())
		stop := make(chan struct{})
		go func() {
			time.Sleep(100 * time.Millisecond)
			close(stop)
		}()
		began := time.Now()
		if !w.Ours(reach.DNS, place("a", "x.a.test"), began, stop) || time.Since(began) != 100*time.Millisecond {
			t.Errorf("charged, after %v", time.Since(began))
		}
	})
}

func TestMetricNames(t *testing.T) {
	reg := prometheus.NewRegistry()
	reach.NewMonitor(&network{}, func(string) {}, nil, reg)
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	if n, err := testutil.GatherAndCount(reg, "fanout_network_fault"); n != 3 || err != nil {
		t.Errorf("%d series, %v", n, err)
	}
}
