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
	"sync/atomic"
	"testing"

	"fanout/dispatcher/resolve"
	"fanout/dispatcher/resolve/dnstest"
	"fanout/topic"
)

// newZone is a name server for the names below .test, which answers each question about a name with the next of its
// answers, and then for ever with the last. The result is a network on which it is the only one.
func newZone(t *testing.T, names map[string][][]string) resolve.Config {
	t.Helper()
	s := dnstest.New(nil)
	for name, answers := range names {
		s.Set(name+".test.", answers[0]...)
		s.TTL(name+".test.", 0) // whoever remembers is on his own
	}
	var mu sync.Mutex
	asked := map[dnstest.Question]int{}
	s.Behave(func(q dnstest.Question) dnstest.Behaviour {
		mu.Lock()
		defer mu.Unlock()
		answers := names[strings.TrimSuffix(q.Name, ".test.")]
		if answers == nil {
			return dnstest.Behaviour{}
		}
		asked[q]++
		return dnstest.Behaviour{Addrs: answers[min(asked[q], len(answers))-1]}
	})
	return serveDNS(t, s)
}

// serveDNS has the server listen, and gives the network on which it is the only one.
func serveDNS(t *testing.T, s *dnstest.Server) resolve.Config {
	t.Helper()
	addr, stop, err := s.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	file := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(file, fmt.Appendf(nil, "nameserver [127.0.0.1]:%d\n", addr.Port()), 0o600); err != nil {
		t.Fatal(err)
	}
	return resolve.Config{ResolvConf: file}
}

// deniedURLs are the spellings in testdata/urls.json of places where no webhook may go. PORT is that of the trap, an HTTP
// server on 127.0.0.1 and [::1]; what ends in .test is the zone's.
func deniedURLs(t *testing.T) []string {
	t.Helper()
	var corpus struct{ Denied []string }
	text, err := os.ReadFile(filepath.Join("..", "..", "testdata", "urls.json"))
	if err == nil {
		err = json.Unmarshal(text, &corpus)
	}
	if err != nil || len(corpus.Denied) < 100 {
		t.Fatalf("testdata/urls.json: %d spellings, %v", len(corpus.Denied), err)
	}
	return corpus.Denied
}

func zoneNames() map[string][][]string {
	one := func(addrs ...string) [][]string { return [][]string{addrs} }
	return map[string][][]string{
		"loop": one("127.0.0.1"), "127.0.0.1.wild": one("127.0.0.1"), "six": one("::1"), "mapped": one("::ffff:127.0.0.1"), "compatible": one("::127.0.0.1"),
		"nat64": one("64:ff9b::7f00:1"), "sixtofour": one("2002:7f00:1::"), "any": one("0.0.0.0"), "any6": one("::"), "alias": one("=loop.test."),
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

func (w *egressWorld) wants(denied []string) map[string]want {
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
	w.network = newZone(t, zoneNames())
	denied := deniedURLs(t)
	wants := w.wants(denied)
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
	var letters []topic.DeadLetter
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
	t.Logf("%d spellings denied, %d answers of DNS that change, 5 redirects", len(denied), 6)
}

// A range that is opened for one account is open to it and to nobody else, wherever an address is judged
// (docs/contract.md#allow-accounts).
func TestRangeIsOpenedForAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "channel.email")
	w.network = newZone(t, map[string][][]string{"inside": {{"127.0.0.1"}}})
	var seen atomic.Int32
	receiver := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		seen.Add(1)
		rw.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(receiver.Close)
	_, port, _ := strings.Cut(strings.TrimPrefix(receiver.URL, "http://"), ":")
	w.env = append(w.env, "FANOUT_EGRESS_ALLOW_ACCOUNTS=ours,theirs")
	for _, account := range []string{"ours", "globex"} {
		for id, url := range map[string]string{"literal": receiver.URL, "named": "http://inside.test:" + port} {
			w.redis.HSet("fanout:account:"+account, id, fmt.Sprintf(`{"url":%q,"events":["EMAIL_OPEN"],"secrets":["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]}`, url))
		}
	}
	r := w.start(t)
	r.await(t, "/readyz", 200, `"ready":true`)
	const notPublic = "the address is not public"

	// Deliveries, the account that may first: what it has left open must not serve the other.
	for _, account := range []string{"ours", "globex"} {
		w.ok(t, "", "send", "--account", account, "--event", "EMAIL_OPEN", "--tracking-id", "t", "--notification-id", "n", "--user-id", "u")
		r.await(t, "/metrics", 200, `fanout_outcomes_total{outcome="delivered",reason="",stage="first"} 2`)
	}
	r.await(t, "/metrics", 200, `fanout_outcomes_total{outcome="dead",reason="blocked_destination",stage="first"} 2`)
	if n := seen.Load(); n != 2 {
		t.Errorf("%d requests, want those of the account that may", n)
	}

	for _, id := range []string{"literal", "named"} {
		for account, want := range map[string]int{"ours": 0, "globex": 1} {
			if code, stdout, stderr := w.fanout(t, "", "subscriptions", "test", account, id); code != want || want == 1 && !strings.Contains(stdout+stderr, notPublic) {
				t.Errorf("subscriptions test %s %s: exit %d\n%s%s", account, id, code, stdout, stderr)
			}
			request, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, r.admin+"/api/v1/accounts/"+account+"/subscriptions/"+id+"/test", strings.NewReader(`{"event":"EMAIL_OPEN"}`))
			response, err := http.DefaultTransport.RoundTrip(request)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(response.Body)
			response.Body.Close()
			if strings.Contains(string(body), notPublic) != (want == 1) || strings.Contains(string(body), `"status":204`) != (want == 0) {
				t.Errorf("the API's test of %s %s: %d %s", account, id, response.StatusCode, body)
			}
		}
	}
	for account, want := range map[string]int{"ours": 201, "globex": 422} {
		request, _ := http.NewRequestWithContext(t.Context(), http.MethodPut, r.admin+"/api/v1/accounts/"+account+"/subscriptions/new", strings.NewReader(`{"url":"`+receiver.URL+`","events":["EMAIL_OPEN"],"enabled":false}`))
		response, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("PUT of %s: %d, want %d", account, response.StatusCode, want)
		}
		code, _, stderr := w.fanout(t, `{account: `+account+`, id: applied, url: "`+receiver.URL+`", events: ["*"], enabled: false}`, "subscriptions", "apply", "-f", "-")
		if (code == 0) != (want == 201) || want == 422 && !strings.Contains(stderr, notPublic) {
			t.Errorf("apply of %s: exit %d\n%s", account, code, stderr)
		}
	}
	for _, command := range [][]string{{"subscriptions", "list", "-o", "json"}, {"check", "-o", "json"}} {
		if _, stdout, _ := w.fanout(t, "", command...); strings.Count(stdout, notPublic) != 1 {
			t.Errorf("%v: want %q for one webhook\n%s", command, notPublic, stdout)
		}
	}
	w.env = append(w.env, "FANOUT_EGRESS_ALLOW_CIDRS=")
	if _, stdout, _ := w.fanout(t, "", "check"); !strings.Contains(stdout, "allow_cidrs opens nothing") {
		t.Errorf("check:\n%s", stdout)
	}
	for account, want := range map[string]string{"ours": "curl", "globex": notPublic} {
		w.env = append(w.env, "FANOUT_EGRESS_ALLOW_CIDRS=127.0.0.0/8")
		if _, stdout, stderr := w.fanout(t, "", "explain", "--account", account, "--subscription", "literal"); !strings.Contains(stdout, want) {
			t.Errorf("explain of %s: want %q\n%s%s", account, want, stdout, stderr)
		}
	}
}
