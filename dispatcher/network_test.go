package dispatcher_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/net/dns/dnsmessage"

	"fanout/dispatcher"
	"fanout/dispatcher/resolve"
	"fanout/dispatcher/resolve/dnstest"
	"fanout/egress"
	"fanout/event"
	"fanout/subscriptions"
)

// wired is a Dispatcher with its own HTTP client and resolver, on a network in memory: a name server, receivers that answer
// 204 and close, and perhaps a proxy.
type wired struct {
	t    *testing.T
	dir  *directory
	d    *dispatcher.Dispatcher
	dns  *dnstest.Server
	logs *observer.ObservedLogs

	mu       sync.Mutex // guards all below
	fail     error      // of each connection to a receiver or the proxy; nil: none
	got      map[string]int
	lastGot  time.Time
	outcomes []outcome
	parked   []string
}

const proxyAddr = "192.0.2.200:3128"

func newWired(t *testing.T, edit func(*dispatcher.Config)) *wired {
	t.Helper()
	core, logs := observer.New(zap.InfoLevel)
	w := &wired{t: t, dir: &directory{subs: make(map[[2]string]*subscriptions.Subscription)}, dns: dnstest.New(nil), logs: logs, got: map[string]int{}}
	file := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(file, []byte("nameserver 127.0.0.1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := config()
	cfg.Egress = egress.Config{AllowHTTP: true, AllowCIDRs: []string{"192.0.2.0/24"}}
	cfg.Network = resolve.Config{ResolvConf: file, Hosts: file, Dial: w.dial}
	if edit != nil {
		edit(&cfg)
	}
	var err error
	w.d, err = dispatcher.New(cfg, w.dir, zap.New(core), prometheus.NewRegistry(), dispatcher.WithLaneObserver(func(e dispatcher.LaneEvent) {
		if e.Kind == dispatcher.LaneParked {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.parked = append(w.parked, e.Account+"/"+e.Subscription)
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *wired) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if address == "127.0.0.1:53" {
		return dnstest.Network{address: w.dns}.Dial(ctx, network, address)
	}
	w.mu.Lock()
	err := w.fail
	w.mu.Unlock()
	if err != nil {
		return nil, &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", err)}
	}
	ours, theirs := net.Pipe()
	go w.receive(theirs)
	return ours, nil
}

// receive answers one request, whether it comes directly or as to a proxy.
func (w *wired) receive(c net.Conn) {
	defer c.Close()
	request, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, request.Body)
	w.mu.Lock()
	w.got[request.Header.Get("webhook-id")]++
	w.lastGot = time.Now()
	w.mu.Unlock()
	_, _ = io.WriteString(c, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
}

// subscribe adds a webhook, whose host has an address in the zone unless that is empty.
func (w *wired) subscribe(account, id, host, addr string) {
	w.t.Helper()
	if addr != "" {
		w.dns.Set(host+".", addr)
		w.dns.TTL(host+".", 1) // it has to be asked for all the time
	}
	sub, err := subscriptions.Parse(account, id, fmt.Appendf(nil, `{"url":"http://%s/hook","events":["*"]}`, host))
	if err != nil {
		w.t.Fatal(err)
	}
	w.dir.mu.Lock()
	w.dir.subs[[2]string{account, id}] = sub
	w.dir.mu.Unlock()
}

// delivery is one that is submitted here.
func (w *wired) delivery(id, account, subscription string) *dispatcher.Delivery {
	name, _ := event.BuiltIn().Parse("EMAIL_OPEN")
	return &dispatcher.Delivery{ID: id, Account: account, Subscription: subscription, Event: name, Body: []byte("{}"), FirstSeen: time.Now(), Settler: w}
}

// Settle implements dispatcher.Settler.
func (w *wired) Settle(_ *dispatcher.Delivery, out dispatcher.Outcome) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.outcomes = append(w.outcomes, outcome{out, time.Now()})
}

// read submits deliveries to the lanes in turn, so many a second, for as long as reading is allowed; it returns how many.
func (w *wired) read(ctx context.Context, lanes [][2]string, perSecond int) (n int) {
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return n
		}
		if w.d.WaitForCapacity(ctx) != nil {
			return n
		}
		to := lanes[n%len(lanes)]
		n++
		w.d.Submit(w.delivery(fmt.Sprintf("msg_%s_%s_%d", to[0], to[1], n), to[0], to[1]))
	}
}

// begin runs the Dispatcher, and stops it at the test's end.
func (w *wired) begin() (stop func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := w.d.Run(ctx); err != nil {
			w.t.Error(err)
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

func (w *wired) setFail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fail = err
}

// TestNetworkFaults takes away DNS, the proxy and the descriptors for a while, at the start or amid 200 events a second for 20
// receivers: nothing is charged, nobody parks, nothing is lost or repeated, and it goes on soon after.
func TestNetworkFaults(t *testing.T) {
	silence := func(w *wired) {
		w.dns.Behave(func(dnstest.Question) dnstest.Behaviour { return dnstest.Behaviour{Silent: true} })
	}
	servfail := func(w *wired) {
		w.dns.Behave(func(dnstest.Question) dnstest.Behaviour {
			return dnstest.Behaviour{RCode: dnsmessage.RCodeServerFailure}
		})
	}
	heal := func(w *wired) { w.dns.Behave(nil) }
	failing := func(err error) func(w *wired) { return func(w *wired) { w.setFail(err) } }
	proxied := func(c *dispatcher.Config) { c.Egress.Proxy = "http://" + proxyAddr }
	for name, tt := range map[string]struct {
		edit       func(*dispatcher.Config)
		begin, end func(*wired)
		lasts      time.Duration
		why        string
	}{
		"DNS is silent":        {nil, silence, heal, 45 * time.Second, "no name server answers"},
		"DNS fails":            {nil, servfail, heal, 45 * time.Second, "no name server answers"},
		"the proxy is away":    {proxied, failing(syscall.ECONNREFUSED), failing(nil), 45 * time.Second, "the egress proxy cannot be used"},
		"no descriptor":        {nil, failing(syscall.EMFILE), failing(nil), 20 * time.Second, "run out of descriptors"},
		"DNS fails, two hours": {nil, servfail, heal, 2 * time.Hour, "no name server answers"},
	} {
		for _, amid := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", amid ", amid), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWired(t, tt.edit)
					var lanes [][2]string
					for i := range 20 {
						account := fmt.Sprintf("account-%d", i%10)
						w.subscribe(account, strconv.Itoa(i), fmt.Sprintf("hook.r%d.test", i), fmt.Sprintf("192.0.2.%d", 1+i))
						lanes = append(lanes, [2]string{account, strconv.Itoa(i)})
					}
					stop := w.begin()
					ctx, cancel := context.WithCancel(t.Context())
					total := make(chan int, 1)
					if !amid {
						tt.begin(w)
					}
					go func() { total <- w.read(ctx, lanes, 200) }()
					if amid {
						time.Sleep(20 * time.Second)
						tt.begin(w)
						// Names that have been looked up go on; one that has not shows what is the matter.
						w.subscribe("new", "new", "hook.new.test", "192.0.2.100")
						w.d.Submit(w.delivery("msg_new", "new", "new"))
					}
					began := time.Now()
					time.Sleep(10 * time.Second)
					if why, since := w.d.NetworkFault(); !strings.Contains(why, tt.why) || since.Sub(began) > 6*time.Second {
						t.Errorf("fault %q, %v after it began", why, since.Sub(began))
					}
					time.Sleep(time.Until(began.Add(tt.lasts)))
					w.mu.Lock()
					before := len(w.outcomes)
					w.mu.Unlock()
					tt.end(w)
					over := time.Now()
					for {
						time.Sleep(10 * time.Millisecond)
						w.mu.Lock()
						more := len(w.outcomes) > before
						w.mu.Unlock()
						if more || time.Since(over) > time.Minute {
							break
						}
					}
					if took := time.Since(over); took > 5*time.Second {
						t.Errorf("the first delivery came %v after the end", took)
					} else {
						t.Logf("the first delivery came %v after the end", took)
					}
					time.Sleep(20 * time.Second)
					cancel()
					n := <-total
					if amid {
						n++
					}
					time.Sleep(10 * time.Second)
					w.judge(n)
					stop()
				})
			})
		}
	}
}

// judge says that so many deliveries were made, each once and none with an attempt more, that nobody parked, and that the fault
// was said once.
func (w *wired) judge(n int) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	results := map[string]int{}
	for _, o := range w.outcomes {
		results[o.Result.String()+" "+o.Reason.String()]++
	}
	// Until a silent server is found out, look-ups take three seconds: what waits behind them for two is put off, as behind any
	// slow receiver.
	delivered, deferred := results["delivered "], results["deferred queue"]
	delete(results, "delivered ")
	delete(results, "deferred queue")
	if delivered+deferred != n || len(results) > 0 || deferred > n/10 {
		w.t.Errorf("%d deliveries: %d delivered, %d deferred, %v", n, delivered, deferred, results)
	}
	repeated := 0
	for _, times := range w.got {
		if times != 1 {
			repeated++
		}
	}
	if len(w.got) != delivered || repeated > 0 {
		w.t.Errorf("%d requests for %d deliveries, %d of them repeated", len(w.got), delivered, repeated)
	}
	if len(w.parked) > 0 {
		w.t.Errorf("parked: %v", w.parked)
	}
	if lines := w.logs.FilterMessageSnippet("fault").Len(); lines != 2 {
		w.t.Errorf("%d lines of log", lines)
	}
	w.t.Logf("%d deliveries, each made once; %d put off before it was found out", delivered, deferred)
}

// TestBrokenZone has one account with 200 names whose zone answers SERVFAIL, beside others: only that account waits.
func TestBrokenZone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWired(t, nil)
		w.dns.Behave(func(q dnstest.Question) dnstest.Behaviour {
			if strings.HasSuffix(q.Name, ".broken.test.") {
				return dnstest.Behaviour{RCode: dnsmessage.RCodeServerFailure}
			}
			return dnstest.Behaviour{}
		})
		var good, bad [][2]string
		for i := range 20 {
			account := fmt.Sprintf("account-%d", i)
			w.subscribe(account, "s", fmt.Sprintf("hook.r%d.test", i), fmt.Sprintf("192.0.2.%d", 1+i))
			good = append(good, [2]string{account, "s"})
		}
		for i := range 200 {
			w.subscribe("broken", strconv.Itoa(i), fmt.Sprintf("n%d.broken.test", i), "192.0.2.99")
			bad = append(bad, [2]string{"broken", strconv.Itoa(i)})
		}
		stop := w.begin()
		ctx, cancel := context.WithCancel(t.Context())
		totals := make(chan int, 2)
		go func() { totals <- w.read(ctx, good, 100) }()
		go func() { totals <- w.read(ctx, bad, 100) }()
		for range 60 {
			time.Sleep(time.Second)
			if why, _ := w.d.NetworkFault(); why != "" {
				t.Fatalf("the names of one account say: %s", why)
			}
		}
		cancel()
		n := <-totals + <-totals
		time.Sleep(10 * time.Second)
		stop()
		w.mu.Lock()
		defer w.mu.Unlock()
		if delivered := len(w.got); delivered < 5900 {
			t.Errorf("%d of 6000 deliveries of the others in a minute", delivered)
		}
		for _, name := range w.parked {
			if !strings.HasPrefix(name, "broken/") {
				t.Errorf("%s is parked", name)
			}
		}
		failed := 0
		for _, o := range w.outcomes {
			if o.Result == dispatcher.Retry && o.Reason == dispatcher.DNS {
				failed++
			}
		}
		if failed == 0 {
			t.Error("nothing was charged to the broken zone")
		}
		t.Logf("%d deliveries of the others, %d failures of the broken zone's, of %d", len(w.got), failed, n)
	})
}

// TestSharedLookup says that one failed look-up which many attempts of a lane waited for is one failure: the lane does not park.
func TestSharedLookup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWired(t, nil)
		w.dns.Behave(func(q dnstest.Question) dnstest.Behaviour {
			return dnstest.Behaviour{Silent: q.Name == "hook.lost.test."}
		})
		w.subscribe("a", "s", "hook.lost.test", "192.0.2.1")
		for i := range 3 {
			w.subscribe(fmt.Sprint("b", i), "s", fmt.Sprintf("hook.r%d.test", i), "192.0.2.2")
		}
		stop := w.begin()
		for i := range 64 {
			w.d.Submit(w.delivery(fmt.Sprintf("msg_%d", i), "a", "s"))
		}
		ctx, cancel := context.WithCancel(t.Context())
		total := make(chan int, 1)
		go func() { total <- w.read(ctx, [][2]string{{"b0", "s"}, {"b1", "s"}, {"b2", "s"}}, 10) }()
		time.Sleep(4 * time.Second)
		w.dns.Behave(nil)
		l, _ := w.d.Lane("a", "s")
		if l.State == "parked" || l.Failures != 1 {
			t.Errorf("lane %+v", l)
		}
		cancel()
		<-total
		stop()
	})
}
