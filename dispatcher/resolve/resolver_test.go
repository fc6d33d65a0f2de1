package resolve_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"fanout/dispatcher/resolve"
	"fanout/dispatcher/resolve/dnstest"
)

const (
	first  = "10.0.0.1:53"
	second = "10.0.0.2:53"
)

const twoServers = "nameserver 10.0.0.1\nnameserver 10.0.0.2\n"

var anAddress = map[string][]string{"one.test.": {"192.0.2.1", "2001:db8::1"}, "four.test.": {"192.0.2.4"}, "six.test.": {"2001:db8::6"}, "empty.test.": nil}

// newResolver makes a resolver on a network of its own, with files of its own.
func newResolver(t *testing.T, network dnstest.Network, resolvConf, hosts string) *resolve.Resolver {
	t.Helper()
	dir := t.TempDir()
	cfg := resolve.Config{ResolvConf: filepath.Join(dir, "resolv.conf"), Hosts: filepath.Join(dir, "hosts"), Dial: network.Dial}
	for file, text := range map[string]string{cfg.ResolvConf: resolvConf, cfg.Hosts: hosts} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := resolve.New(cfg)
	t.Cleanup(r.Close)
	return r
}

// look looks a name up within a time-out, and says how long that took. The name is made absolute, unless it begins with ~.
func look(t *testing.T, r *resolve.Resolver, host string, timeout time.Duration) (addrs string, took time.Duration, failed *resolve.Error) {
	t.Helper()
	host, relative := strings.CutPrefix(host, "~")
	if !relative {
		host = strings.TrimSuffix(host, ".") + "."
	}
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	began := time.Now()
	answer, err := r.Lookup(ctx, host)
	took = time.Since(began)
	if err != nil {
		e, ok := errors.AsType[*resolve.Error](err)
		if !ok || e.ID == 0 || answer != nil {
			t.Fatalf("%s: %v, %v", host, answer, err)
		}
		return "", took, e
	}
	return join(answer.Addrs), took, nil
}

func join(addrs []netip.Addr) string {
	var texts []string
	for _, a := range addrs {
		texts = append(texts, a.String())
	}
	return strings.Join(texts, " ")
}

// wantAddrs looks a name up and compares what comes, and how long it took, to the millisecond.
func wantAddrs(t *testing.T, r *resolve.Resolver, host, want string, within time.Duration) {
	t.Helper()
	if got, took, err := look(t, r, host, 3*time.Second); err != nil || got != want || took != within {
		t.Errorf("%s: got %q after %v, %v; want %q after %v", host, got, took, err, want, within)
	}
}

// wantError looks a name up that has no address.
func wantError(t *testing.T, r *resolve.Resolver, host, want string, notFound bool, within time.Duration) *resolve.Error {
	t.Helper()
	got, took, err := look(t, r, host, 3*time.Second)
	if err == nil || err.Error() != want || err.NotFound != notFound || took != within {
		t.Errorf("%s: got %q, %v after %v; want %s after %v", host, got, err, took, want, within)
	}
	return err
}

func silent(dnstest.Question) dnstest.Behaviour { return dnstest.Behaviour{Silent: true} }

func code(c dnsmessage.RCode) func(dnstest.Question) dnstest.Behaviour {
	return func(dnstest.Question) dnstest.Behaviour { return dnstest.Behaviour{RCode: c} }
}

func TestAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := dnstest.New(map[string][]string{
			"one.test.": {"192.0.2.1", "2001:db8::1", "192.0.2.2"}, "empty.test.": nil, "alias.test.": {"=one.test."}, "mapped.test.": {"::ffff:192.0.2.9"},
			"dangling.test.": {"=nowhere.test."},
		})
		r := newResolver(t, dnstest.Network{first: s}, "nameserver 10.0.0.1", "")
		wantAddrs(t, r, "one.test", "2001:db8::1 192.0.2.1 192.0.2.2", 0)
		wantAddrs(t, r, "ONE.test.", "2001:db8::1 192.0.2.1 192.0.2.2", 0)
		wantAddrs(t, r, "alias.test", "2001:db8::1 192.0.2.1 192.0.2.2", 0)
		wantAddrs(t, r, "mapped.test", "192.0.2.9", 0)
		wantError(t, r, "nowhere.test", "name does not exist", true, 0)
		wantError(t, r, "empty.test", "name has no address", true, 0)
		wantError(t, r, "dangling.test", "name does not exist", true, 0)
		wantError(t, r, strings.Repeat("a.", 130)+"test", "name does not exist", true, 0)
		if n := s.Count("one.test.", dnsmessage.TypeA); n != 1 {
			t.Errorf("asked %d times", n)
		}
	})
}

// TestDeadFirstServer says that a server which does not answer costs a second, once, and that it is used again when it
// is back.
func TestDeadFirstServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dead, good := dnstest.New(nil), dnstest.New(nil)
		dead.Behave(silent)
		r := newResolver(t, dnstest.Network{first: dead, second: good}, twoServers, "")
		var added time.Duration
		for i := range 200 {
			name := fmt.Sprintf("n%d.test", i)
			good.Set(name+".", "192.0.2.1")
			got, took, err := look(t, r, name, 3*time.Second)
			if err != nil || got != "192.0.2.1" {
				t.Fatalf("%s: %q, %v", name, got, err)
			}
			added += took
			time.Sleep(3 * time.Second)
		}
		if added != time.Second {
			t.Errorf("200 look-ups in ten minutes took %v together", added)
		}
		if n := len(dead.Asked()); n < 20 || n > 100 {
			t.Errorf("the dead server was asked %d times", n)
		}
		dead.Behave(nil)
		dead.Set("back.test.", "192.0.2.9")
		good.Behave(silent)
		time.Sleep(time.Minute)
		if got, took, err := look(t, r, "back.test", 3*time.Second); err != nil || got != "192.0.2.9" || took > time.Second {
			t.Errorf("when the other one has died: %q, %v after %v", got, err, took)
		}
	})
}

// TestAllServersDead says how long that takes to find out, and that it is soon over when they are back.
func TestAllServersDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := dnstest.New(anAddress), dnstest.New(anAddress)
		a.Behave(silent)
		b.Behave(silent)
		r := newResolver(t, dnstest.Network{first: a, second: b}, twoServers, "")
		wantError(t, r, "one.test", "context deadline exceeded", false, 3*time.Second)
		time.Sleep(time.Second) // the look-up goes on for others: 5 s in all
		if _, took, err := look(t, r, "one.test", 1500*time.Millisecond); err == nil || took != 1500*time.Millisecond {
			t.Errorf("%v after %v", err, took) // who came late has another one begun
		}
		time.Sleep(4600 * time.Millisecond)
		wantError(t, r, "one.test", "no name server answers", false, 0)
		a.Behave(nil)
		b.Behave(nil)
		wantError(t, r, "one.test", "no name server answers", false, 0) // for a second a failure stands
		wantAddrs(t, r, "four.test", "192.0.2.4", 0)
		wantAddrs(t, r, "one.test", "2001:db8::1 192.0.2.1", 0) // unless the servers know something else
	})
}

// TestServersComeBack says that whoever asks while no server answers has an answer within a second of their being back.
func TestServersComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := dnstest.New(anAddress), dnstest.New(anAddress)
		a.Behave(silent)
		b.Behave(silent)
		r := newResolver(t, dnstest.Network{first: a, second: b}, twoServers, "")
		go func() {
			time.Sleep(3300 * time.Millisecond)
			a.Behave(nil)
			b.Behave(nil)
		}()
		if got, took, err := look(t, r, "one.test", 6*time.Second); err != nil || took != 4*time.Second {
			t.Errorf("%q, %v after %v", got, err, took)
		}
	})
}

// TestLostAnswers loses a single answer, or all of one family.
func TestLostAnswers(t *testing.T) {
	lose := func(qtype dnsmessage.Type, n int) func(dnstest.Question) dnstest.Behaviour {
		var mu sync.Mutex
		return func(q dnstest.Question) dnstest.Behaviour {
			mu.Lock()
			defer mu.Unlock()
			if q.Type != qtype || n == 0 {
				return dnstest.Behaviour{}
			}
			n--
			return dnstest.Behaviour{Silent: true}
		}
	}
	for name, tt := range map[string]struct {
		host   string
		behave func(dnstest.Question) dnstest.Behaviour
		want   string
		within time.Duration
		later  string // what is known 1.1 s later
	}{
		"one AAAA":           {"one.test", lose(dnsmessage.TypeAAAA, 1), "192.0.2.1", 50 * time.Millisecond, "2001:db8::1 192.0.2.1"},
		"each AAAA":          {"one.test", lose(dnsmessage.TypeAAAA, -1), "192.0.2.1", 50 * time.Millisecond, "192.0.2.1"},
		"one A":              {"one.test", lose(dnsmessage.TypeA, 1), "2001:db8::1", 50 * time.Millisecond, "2001:db8::1 192.0.2.1"},
		"one A, no AAAA":     {"four.test", lose(dnsmessage.TypeA, 1), "192.0.2.4", time.Second, "192.0.2.4"},
		"each A, no address": {"six.test", lose(dnsmessage.TypeA, -1), "2001:db8::6", 50 * time.Millisecond, "2001:db8::6"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := dnstest.New(anAddress)
				s.Behave(tt.behave)
				r := newResolver(t, dnstest.Network{first: s}, "nameserver 10.0.0.1", "")
				wantAddrs(t, r, tt.host, tt.want, tt.within)
				time.Sleep(1100 * time.Millisecond)
				wantAddrs(t, r, tt.host, tt.later, 0)
			})
		})
	}
}

// TestFailingServer says that a server's failure is followed by the next server at once.
func TestFailingServer(t *testing.T) {
	for name, behave := range map[string]func(dnstest.Question) dnstest.Behaviour{
		"servfail": code(dnsmessage.RCodeServerFailure), "refused": code(dnsmessage.RCodeRefused), "notimp": code(dnsmessage.RCodeNotImplemented), "away": nil,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bad, good := dnstest.New(anAddress), dnstest.New(anAddress)
				bad.Behave(behave)
				network := dnstest.Network{first: bad, second: good}
				if behave == nil {
					delete(network, first) // its port is closed
				}
				r := newResolver(t, network, twoServers, "")
				wantAddrs(t, r, "one.test", "2001:db8::1 192.0.2.1", 0)
				if n := bad.Count("one.test.", dnsmessage.TypeA); n > 2 { // once more without EDNS, at most
					t.Errorf("the failing server was asked %d times", n)
				}
			})
		})
	}
}

func TestFailures(t *testing.T) {
	for want, c := range map[string]dnsmessage.RCode{
		"the name servers answer SERVFAIL: the zone is broken, or they cannot reach it": dnsmessage.RCodeServerFailure,
		"the name servers refuse to answer":                                             dnsmessage.RCodeRefused,
		"the name servers' answers cannot be used":                                      dnsmessage.RCodeFormatError,
	} {
		synctest.Test(t, func(t *testing.T) {
			a, b := dnstest.New(anAddress), dnstest.New(anAddress)
			a.Behave(code(c))
			b.Behave(code(c))
			r := newResolver(t, dnstest.Network{first: a, second: b}, twoServers, "")
			wantError(t, r, "one.test", want, false, 0)
		})
	}
	synctest.Test(t, func(t *testing.T) {
		r := newResolver(t, dnstest.Network{}, twoServers, "")
		err := wantError(t, r, "one.test", "no name server answers: connection refused", false, 0)
		if !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%v hides the system's reason", err)
		}
	})
}

// TestBrokenFamily says that the addresses of one family serve although the servers fail on the other, and that "there
// is none" of one family does not answer for both.
func TestBrokenFamily(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := dnstest.New(anAddress)
		s.Behave(func(q dnstest.Question) dnstest.Behaviour {
			if q.Type == dnsmessage.TypeAAAA {
				return dnstest.Behaviour{RCode: dnsmessage.RCodeServerFailure}
			}
			return dnstest.Behaviour{}
		})
		r := newResolver(t, dnstest.Network{first: s}, "nameserver 10.0.0.1", "")
		wantAddrs(t, r, "one.test", "192.0.2.1", 0)
		wantError(t, r, "empty.test", "the name servers answer SERVFAIL: the zone is broken, or they cannot reach it", false, 0)
		s.Behave(func(q dnstest.Question) dnstest.Behaviour {
			if q.Type == dnsmessage.TypeAAAA {
				return dnstest.Behaviour{RCode: dnsmessage.RCodeNameError} // as some load balancers do
			}
			return dnstest.Behaviour{Delay: 20 * time.Millisecond}
		})
		wantAddrs(t, r, "four.test", "192.0.2.4", 20*time.Millisecond)
	})
}

// TestTransport says what is done where an answer does not fit, where the server does not know EDNS, and where what
// arrives is forged.
func TestTransport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := dnstest.New(anAddress)
		r := newResolver(t, dnstest.Network{first: s}, "nameserver 10.0.0.1", "")
		s.Behave(func(dnstest.Question) dnstest.Behaviour { return dnstest.Behaviour{Truncate: true} })
		wantAddrs(t, r, "one.test", "2001:db8::1 192.0.2.1", 0)
		s.Behave(func(q dnstest.Question) dnstest.Behaviour {
			if q.EDNS {
				return dnstest.Behaviour{RCode: dnsmessage.RCodeFormatError}
			}
			return dnstest.Behaviour{}
		})
		wantAddrs(t, r, "four.test", "192.0.2.4", 0)
		s.Behave(func(dnstest.Question) dnstest.Behaviour { return dnstest.Behaviour{Forge: true} })
		wantAddrs(t, r, "six.test", "2001:db8::6", 0)
		tcp, plain := 0, 0
		for _, q := range s.Asked() {
			if q.TCP {
				tcp++
			}
			if !q.EDNS {
				plain++
			}
		}
		if tcp != 2 || plain != 2 {
			t.Errorf("%d questions by TCP, %d without EDNS, of %v", tcp, plain, s.Asked())
		}
	})
}

// TestServerComesBack says that nobody who comes after a silent server is back waits for a look-up that was begun before, nor
// is told of its failure.
func TestServerComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := dnstest.New(anAddress)
		s.Behave(func(dnstest.Question) dnstest.Behaviour { return dnstest.Behaviour{Silent: true} })
		r := newResolver(t, dnstest.Network{first: s}, "nameserver 10.0.0.1\noptions attempts:1", "")
		for _, name := range []string{"one.test", "six.test"} {
			go func() {
				if _, _, err := look(t, r, name, time.Minute); err == nil {
					t.Error(name + ": found")
				}
			}()
		}
		time.Sleep(3 * time.Second)
		s.Behave(nil)
		wantAddrs(t, r, "four.test", "192.0.2.4", 0)
		wantAddrs(t, r, "one.test", "2001:db8::1 192.0.2.1", 0)
		time.Sleep(2 * time.Second) // the first look-ups have failed
		synctest.Wait()
		wantAddrs(t, r, "six.test", "2001:db8::6", 0)
	})
}

// TestTimeToLive says for how long an answer is kept.
func TestTimeToLive(t *testing.T) {
	for _, tt := range []struct {
		host string
		ttl  uint32
		kept time.Duration
	}{
		{"one.test", 0, time.Second},
		{"one.test", 7, 7 * time.Second},
		{"one.test", 86400, 5 * time.Minute},
		{"empty.test", 0, time.Second},
		{"empty.test", 20, 20 * time.Second},
		{"empty.test", 86400, 30 * time.Second},
		{"nowhere.test", 20, 20 * time.Second},
	} {
		t.Run(fmt.Sprint(tt.host, tt.ttl), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := dnstest.New(anAddress)
				s.TTL(tt.host+".", tt.ttl)
				r := newResolver(t, dnstest.Network{first: s}, "nameserver 10.0.0.1", "")
				for i, want := range []int{1, 1, 2} {
					look(t, r, tt.host, time.Second)
					if n := s.Count(tt.host+".", dnsmessage.TypeA); n != want {
						t.Fatalf("look-up %d: asked %d times, want %d", i+1, n, want)
					}
					if i == 0 {
						time.Sleep(tt.kept - time.Millisecond)
					} else {
						time.Sleep(time.Millisecond)
					}
				}
			})
		})
	}
}

// TestStale says that the last good addresses serve for an hour while DNS fails, that waiting for a fresh answer is a
// second's matter and done once, and that a fresh one is soon used.
func TestStale(t *testing.T) {
	for name, behave := range map[string]func(dnstest.Question) dnstest.Behaviour{"silent": silent, "servfail": code(dnsmessage.RCodeServerFailure)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := dnstest.New(map[string][]string{"one.test.": {"192.0.2.1"}})
				r := newResolver(t, dnstest.Network{first: s}, "nameserver 10.0.0.1", "")
				wantAddrs(t, r, "one.test", "192.0.2.1", 0)
				s.Behave(behave)
				time.Sleep(61 * time.Second)
				var waited time.Duration
				for range 700 { // 58 minutes
					got, took, err := look(t, r, "one.test", 3*time.Second)
					if err != nil || got != "192.0.2.1" {
						t.Fatalf("%q, %v", got, err)
					}
					waited += took
					time.Sleep(5 * time.Second)
				}
				if waited > time.Second {
					t.Errorf("waited %v in all", waited)
				}
				s.Set("one.test.", "192.0.2.9")
				s.Behave(nil)
				time.Sleep(5 * time.Second)
				look(t, r, "one.test", time.Second) // asks
				time.Sleep(time.Second)
				wantAddrs(t, r, "one.test", "192.0.2.9", 0)
				s.Behave(behave)
				time.Sleep(time.Hour + 2*time.Minute)
				if got, _, err := look(t, r, "one.test", 6*time.Second); err == nil {
					t.Errorf("after an hour: %q", got)
				}
				s.Behave(nil)
				s.Delete("one.test.")
				time.Sleep(6 * time.Second)
				wantError(t, r, "one.test", "name does not exist", true, 0) // that is an answer, whatever was known before
			})
		})
	}
}

// TestSharedFailure says that all who wait for one look-up learn that they do, and so does who asks within a second.
func TestSharedFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := dnstest.New(anAddress)
		s.Behave(silent)
		r := newResolver(t, dnstest.Network{first: s}, "nameserver 10.0.0.1", "")
		ids := make(chan uint64, 100)
		var all sync.WaitGroup
		for i := range 64 {
			all.Go(func() {
				time.Sleep(time.Duration(i) * 20 * time.Millisecond) // with time-outs that differ
				_, _, err := look(t, r, "one.test", 3*time.Second)
				ids <- err.ID
			})
		}
		all.Wait()
		time.Sleep(time.Second)
		_, _, err := look(t, r, "one.test", 3*time.Second)
		ids <- err.ID
		close(ids)
		first := <-ids
		for id := range ids {
			if id != first {
				t.Fatalf("look-ups %d and %d", first, id)
			}
		}
		time.Sleep(2 * time.Second)
		if _, _, err := look(t, r, "one.test", 3*time.Second); err.ID == first {
			t.Error("the next look-up is the same one")
		}
	})
}

// TestSearchList says which names a host is asked for as, and that none is asked for beside an absolute one.
func TestSearchList(t *testing.T) {
	const conf = "nameserver 10.0.0.1\nsearch ns.svc.cluster.test svc.cluster.test\noptions ndots:5\n"
	zone := map[string][]string{
		"hooks.ns.svc.cluster.test.": {"10.1.1.1"}, "example.test.": {"192.0.2.1"}, "example.test.svc.cluster.test.": {"10.6.6.6"}, // a wildcard's
		"hooks.": {"192.0.2.7"},
	}
	synctest.Test(t, func(t *testing.T) {
		s := dnstest.New(zone)
		r := newResolver(t, dnstest.Network{first: s}, conf, "")
		wantAddrs(t, r, "example.test", "192.0.2.1", 0)
		wantAddrs(t, r, "hooks", "192.0.2.7", 0)
		if n := len(s.Asked()); n != 4 {
			t.Errorf("%d questions for two names", n)
		}
		s.Delete("hooks.")
		time.Sleep(2 * time.Minute)
		if err := wantError(t, r, "hooks", "name does not exist", true, 0); err.ByName != "hooks.ns.svc.cluster.test." {
			t.Errorf("by name %q", err.ByName)
		}
		if err := wantError(t, r, "nowhere.test", "name does not exist", true, 0); err.ByName != "" {
			t.Errorf("by name %q", err.ByName)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s := dnstest.New(zone)
		r := newResolver(t, dnstest.Network{first: s}, conf, "")
		wantAddrs(t, r, "~hooks", "10.1.1.1", 0)
		wantAddrs(t, r, "hooks.", "192.0.2.7", 0)
		wantAddrs(t, r, "~example.test", "10.6.6.6", 0)
		wantAddrs(t, r, "example.test.", "192.0.2.1", 0)
		wantError(t, r, "~nowhere.test", "name does not exist", true, 0)
	})
}

// TestHosts says that the hosts file comes first, that what is changed in it is seen, and that localhost needs none.
func TestHosts(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "hosts")
	if err := os.WriteFile(file, []byte("192.0.2.50 one.test alias # comment\n2001:db8::50 One.Test.\nnonsense two.test\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		s := dnstest.New(anAddress)
		r := resolve.New(resolve.Config{ResolvConf: filepath.Join(dir, "none"), Hosts: file, Dial: dnstest.Network{"127.0.0.1:53": s}.Dial})
		defer r.Close()
		wantAddrs(t, r, "one.test", "192.0.2.50 2001:db8::50", 0)
		wantAddrs(t, r, "ALIAS.", "192.0.2.50", 0)
		wantAddrs(t, r, "localhost", "::1 127.0.0.1", 0)
		wantAddrs(t, r, "a.localhost", "::1 127.0.0.1", 0)
		wantError(t, r, "two.test", "name does not exist", true, 0)
		if n := len(s.Asked()); n != 2 {
			t.Errorf("%d questions", n)
		}
		if err := os.WriteFile(file, []byte("192.0.2.51 one.test\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(6 * time.Second)
		wantAddrs(t, r, "one.test", "192.0.2.51", 0)
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		time.Sleep(6 * time.Second)
		wantAddrs(t, r, "one.test", "2001:db8::1 192.0.2.1", 0)
	})
}

// TestOptions says that the options of resolv.conf hold.
func TestOptions(t *testing.T) {
	questions := func(s *dnstest.Server) string {
		var text strings.Builder
		for _, q := range s.Asked() {
			if q.TCP {
				text.WriteString("tcp ")
			}
			text.WriteString(strings.TrimPrefix(q.Type.String(), "Type") + " ")
		}
		return text.String()
	}
	synctest.Test(t, func(t *testing.T) {
		s := dnstest.New(anAddress)
		r := newResolver(t, dnstest.Network{first: s}, "nameserver 10.0.0.1\noptions use-vc no-aaaa", "")
		wantAddrs(t, r, "one.test", "192.0.2.1", 0)
		if got := questions(s); got != "tcp A " {
			t.Errorf("use-vc no-aaaa: %s", got)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s := dnstest.New(anAddress)
		s.Behave(func(dnstest.Question) dnstest.Behaviour { return dnstest.Behaviour{Delay: 30 * time.Millisecond} })
		r := newResolver(t, dnstest.Network{first: s}, "nameserver 10.0.0.1\noptions single-request", "")
		wantAddrs(t, r, "one.test", "2001:db8::1 192.0.2.1", 60*time.Millisecond)
		if got := questions(s); got != "A AAAA " {
			t.Errorf("single-request: %s", got)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s := dnstest.New(anAddress)
		s.Behave(silent)
		r := newResolver(t, dnstest.Network{first: s}, "nameserver 10.0.0.1\noptions timeout:1 attempts:3", "")
		if _, took, err := look(t, r, "one.test", 4*time.Second); err == nil || err.Error() != "no name server answers" || took != 3*time.Second {
			t.Errorf("attempts:3: %v after %v", err, took)
		}
		if n := s.Count("one.test.", dnsmessage.TypeA); n != 3 {
			t.Errorf("attempts:3: asked %d times", n)
		}
	})
	synctest.Test(t, func(t *testing.T) { // slower than a second, and there is nobody else
		s := dnstest.New(anAddress)
		s.Behave(func(dnstest.Question) dnstest.Behaviour { return dnstest.Behaviour{Delay: 1500 * time.Millisecond} })
		r := newResolver(t, dnstest.Network{first: s}, "nameserver 10.0.0.1", "")
		wantAddrs(t, r, "one.test", "2001:db8::1 192.0.2.1", 1500*time.Millisecond)
	})
	synctest.Test(t, func(t *testing.T) {
		a, b := dnstest.New(nil), dnstest.New(nil)
		r := newResolver(t, dnstest.Network{first: a, second: b}, twoServers+"options rotate", "")
		for i := range 40 {
			look(t, r, fmt.Sprintf("n%d.test", i), time.Second)
		}
		if x, y := len(a.Asked()), len(b.Asked()); x < 30 || y < 30 {
			t.Errorf("rotate: %d and %d questions", x, y)
		}
	})
}

// TestRootAndRefresh says what the questions that look into DNS itself answer.
func TestRootAndRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := dnstest.New(anAddress), dnstest.New(anAddress)
		r := newResolver(t, dnstest.Network{first: a, second: b}, twoServers, "")
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		check := func(when string, root, name bool) {
			t.Helper()
			if err := r.Root(ctx); (err == nil) != root {
				t.Errorf("%s: the root zone: %v", when, err)
			}
			if err := r.Refresh(ctx, "one.test."); (err == nil) != name {
				t.Errorf("%s: one.test: %v", when, err)
			}
		}
		check("all well", true, true)
		a.Behave(code(dnsmessage.RCodeServerFailure))
		check("one fails", true, true)
		b.Behave(code(dnsmessage.RCodeServerFailure))
		check("both fail", false, false)
		b.Behave(code(dnsmessage.RCodeRefused))
		check("one refuses", true, false)
		b.Behave(func(q dnstest.Question) dnstest.Behaviour {
			if q.Name == "." {
				return dnstest.Behaviour{}
			}
			return dnstest.Behaviour{RCode: dnsmessage.RCodeNameError}
		})
		check("the name is gone", true, true)

		if got := strings.Join(r.Servers(), " "); got != first+" "+second {
			t.Errorf("servers %s", got)
		}
		if got := r.AskServer(ctx, first); got.Err == nil || !got.Answered {
			t.Errorf("the failing server: %+v", got)
		}
		b.Behave(func(dnstest.Question) dnstest.Behaviour { return dnstest.Behaviour{Delay: 70 * time.Millisecond} })
		if got := r.AskServer(ctx, second); got != (resolve.ServerAnswer{Took: 70 * time.Millisecond, Answered: true}) {
			t.Errorf("the other one: %+v", got)
		}
	})
}

// TestBound says that what is remembered is bounded, and that of what is there the useful stays.
func TestBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := dnstest.New(map[string][]string{"one.test.": {"192.0.2.1"}})
		r := newResolver(t, dnstest.Network{first: s}, "nameserver 10.0.0.1\noptions no-aaaa", "")
		const most = 500
		r.Remember(most)
		for i := range most + 100 {
			look(t, r, fmt.Sprintf("n%d.test", i), time.Second)
			if i == most-100 {
				time.Sleep(time.Minute)
				wantAddrs(t, r, "one.test", "192.0.2.1", 0)
			}
		}
		if n := r.Known(); n > most || n < 100 {
			t.Errorf("%d names are remembered", n)
		}
		before := len(s.Asked())
		wantAddrs(t, r, "one.test", "192.0.2.1", 0)
		if len(s.Asked()) != before {
			t.Error("what is of use has been forgotten")
		}
	})
}

// TestClose says that Close ends what is asked.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := dnstest.New(anAddress)
		s.Behave(silent)
		r := newResolver(t, dnstest.Network{first: s}, "nameserver 10.0.0.1", "")
		go func() {
			time.Sleep(100 * time.Millisecond)
			r.Close()
		}()
		if _, took, err := look(t, r, "one.test", 3*time.Second); err == nil || took > 150*time.Millisecond {
			t.Errorf("%v after %v", err, took)
		}
	})
}

// TestRealSockets says that it works over UDP and TCP as well.
func TestRealSockets(t *testing.T) {
	s := dnstest.New(anAddress)
	addr, stop, err := s.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	dir := t.TempDir()
	file := filepath.Join(dir, "resolv.conf")
	if err := os.WriteFile(file, fmt.Appendf(nil, "nameserver [127.0.0.1]:%d", addr.Port()), 0o600); err != nil {
		t.Fatal(err)
	}
	r := resolve.New(resolve.Config{ResolvConf: file, Hosts: filepath.Join(dir, "none")})
	defer r.Close()
	if got, _, err := look(t, r, "one.test", 3*time.Second); err != nil || got != "2001:db8::1 192.0.2.1" {
		t.Errorf("by UDP: %q, %v", got, err)
	}
	s.Behave(func(dnstest.Question) dnstest.Behaviour { return dnstest.Behaviour{Truncate: true} })
	if got, _, err := look(t, r, "four.test", 3*time.Second); err != nil || got != "192.0.2.4" {
		t.Errorf("by TCP: %q, %v", got, err)
	}
}
