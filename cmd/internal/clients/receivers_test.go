//go:build clients

package clients_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// keys are what both ends know: made here, with nothing of ours.
type keys struct {
	hmac, older, other string // whsec_
	private, public    string // whsk_, whpk_
	seed               ed25519.PrivateKey
	raw                []byte // hmac's
}

func newKeys(t *testing.T) *keys {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	k := &keys{seed: private, raw: make([]byte, 32)}
	_, _ = rand.Read(k.raw)
	whsec := func(raw []byte) string { return "whsec_" + base64.StdEncoding.EncodeToString(raw) }
	k.hmac, k.older, k.other = whsec(k.raw), whsec(private[:24]), whsec(public)
	k.private, k.public = "whsk_"+base64.StdEncoding.EncodeToString(private), "whpk_"+base64.StdEncoding.EncodeToString(public)
	return k
}

// sign signs as Standard Webhooks 1.0 has it.
func (k *keys) sign(v1a bool, id, timestamp, body string) string {
	signed := []byte(id + "." + timestamp + "." + body)
	if v1a {
		return "v1a," + base64.StdEncoding.EncodeToString(ed25519.Sign(k.seed, signed))
	}
	mac := hmac.New(sha256.New, k.raw)
	mac.Write(signed)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// TestReceivers has receivers in seven languages take requests of `fanout run`: with the official Standard Webhooks library
// for v1 where there is one, and the language's own Ed25519 for v1a.
func TestReceivers(t *testing.T) {
	s := newSite(t, "receivers", "receivers.events")
	k := newKeys(t)
	for _, program := range receivers(t) {
		t.Run(program.name, func(t *testing.T) {
			v1 := serve(t, program, k.hmac)
			var v1a *served
			if !program.onlyV1 {
				v1a = serve(t, program, k.public)
			}
			s.delivers(t, program.name, k, v1, v1a)
			refuses(t, k, v1, false)
			if v1a != nil {
				refuses(t, k, v1a, true)
			}
		})
	}
}

// receivers are those of docs/examples, in seven languages.
func receivers(t *testing.T) []client {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "receiver")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".")
	build.Dir = example(t, "verify", "go") // a module of its own: the library is not a dependency of fanout
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return []client{
		node(t, "verify", "receiver.mjs"), python(t, "verify", "receiver.py"), java(t, "verify", "Receiver.java"),
		{name: "go", args: []string{binary}},
		php(t, "verify", "receiver.php"),
		{name: "ruby", args: []string{"ruby", example(t, "verify", "receiver.rb")}},
		csharp(t, "verify", "Receiver.cs"),
	}
}

// elementID finds the ids of a batch: each is its element's first key.
var elementID = regexp.MustCompile(`\{"id":"(msg_[a-z2-7]{26})",`)

// TestReceiversOfBatches has receivers take batches whose answers are lost now and then: the events come again, in other sets under other
// ids. By the id of each element they work every event off once, and none is missing.
func TestReceiversOfBatches(t *testing.T) {
	s := newSite(t, "batches", "batches.events")
	k := newKeys(t)
	const n = 500
	for _, program := range receivers(t) {
		t.Run(program.name, func(t *testing.T) {
			r := serve(t, program, k.hmac)
			requests, lost, repeated := 0, make(map[string]bool), 0
			r.fails = func(body string) bool { // each event's answer is lost once at most
				ids := elementID.FindAllStringSubmatch(body, -1)
				known := 0
				for _, id := range ids {
					if lost[id[1]] {
						known++
					}
				}
				repeated += known
				if requests++; requests%3 != 0 || known > 0 {
					return false
				}
				for _, id := range ids {
					lost[id[1]] = true
				}
				return true
			}
			s.subscribe(t, program.name, "many", r.proxy+"/many", `,"secrets":["`+k.hmac+`"],"batch":{"max":20,"wait":"200ms"}`)
			if did := shell(t, "producer.sh").run(t, strings.NewReader(events(program.name, 0, n)), s.env(), "batches.events", program.name); did.code != 0 {
				t.Fatal(did.output)
			}
			await(t, 30*time.Second, "all events", func() bool {
				r.mu.Lock()
				again := repeated >= len(lost)
				r.mu.Unlock()
				return len(r.taken()) == n && again
			})
			r.onceEach(t)
			if len(lost) == 0 || strings.Contains(r.printed.String(), "refused") {
				t.Errorf("%d answers were lost; the receiver printed %.500s", len(lost), r.printed.String())
			}
			t.Logf("%-6s %d events in %d requests, %d of them came twice: each worked off once, nothing missing", program.name, n, requests, repeated)
		})
	}
}

// TestReceiversOfBatchesCrash kills fanout with SIGKILL while it waits for answers to batches that receivers have worked off. It sends
// those again: by the id of each element the receivers work every event off once, and none is missing.
func TestReceiversOfBatchesCrash(t *testing.T) {
	s := newSite(t, "crash", "crash.events")
	k := newKeys(t)
	const n = 1000
	killed := make(chan struct{})
	programs := []client{node(t, "verify", "receiver.mjs"), python(t, "verify", "receiver.py")}
	all, came := make([]*served, len(programs)), make([]int, len(programs))
	for i, program := range programs {
		r := serve(t, program, k.hmac)
		r.fails = func(body string) bool {
			came[i] += len(elementID.FindAllString(body, -1))
			if came[i] >= n/2 {
				<-killed
			}
			return false
		}
		all[i] = r
		s.subscribe(t, program.name, "many", r.proxy+"/many", `,"secrets":["`+k.hmac+`"],"maxInFlight":4,"batch":{"max":20,"wait":"50ms"}`)
		if did := shell(t, "producer.sh").run(t, strings.NewReader(events(program.name, 0, n)), s.env(), "crash.events", program.name); did.code != 0 {
			t.Fatal(did.output)
		}
	}
	for _, r := range all {
		await(t, 30*time.Second, "half of the events", func() bool { return len(r.taken()) >= n/2 })
	}
	err := s.fanout.Kill()
	close(killed)
	if err := errors.Join(err, s.fanout.Start(), s.fanout.Ready(within(t, time.Minute))); err != nil {
		t.Fatal(err)
	}
	for i, r := range all {
		await(t, time.Minute, "all events", func() bool {
			r.mu.Lock()
			defer r.mu.Unlock()
			return len(r.taken()) == n && came[i] > n
		})
		r.onceEach(t)
		if strings.Contains(r.printed.String(), "refused") {
			t.Errorf("the receiver printed %.500s", r.printed.String())
		}
		t.Logf("%-6s %d of %d events came twice: each worked off once, nothing missing", programs[i].name, came[i]-n, n)
	}
}

// taken are the tracking ids that the receiver has printed, and how often.
func (r *served) taken() map[string]int {
	tracking := make(map[string]int)
	for _, m := range takenLine.FindAllStringSubmatch(r.printed.String(), -1) {
		tracking[m[2]]++
	}
	return tracking
}

var takenLine = regexp.MustCompile(`(?m)^(msg_[a-z2-7]{26}) .*"trackingId": ?"(t[0-9]+)"`)

// onceEach is an error for what the receiver has worked off more than once.
func (r *served) onceEach(t *testing.T) {
	t.Helper()
	for id, times := range r.taken() {
		if times != 1 {
			t.Errorf("%s was worked off %d times", id, times)
		}
	}
}

// served is a receiver's process, and a proxy before it that notes what passes.
type served struct {
	address, proxy string

	mu   sync.Mutex // guards seen
	seen map[string]exchange

	fails   func(body string) bool // where it is not nil, says whether fanout is to think that the receiver did not take it
	printed lines
}

// lines are what a receiver has printed.
type lines struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// exchange is a request of fanout, the last one to its path, and what the receiver answered.
type exchange struct {
	header http.Header
	body   string
	status int
}

// serve starts a receiver that knows one secret, and waits until it listens.
func serve(t *testing.T, program client, secret string) *served {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &served{address: listener.Addr().String(), seen: make(map[string]exchange)}
	_ = listener.Close()
	cmd := program.command(context.WithoutCancel(t.Context()), []string{"WEBHOOK_SECRET=" + secret}, r.address)
	cmd.Stdout, cmd.Stderr = &r.printed, &r.printed
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("the receiver for %.5s printed\n%s", secret, r.printed.String())
		}
	})
	await(t, 30*time.Second, "a receiver in "+program.name, func() bool {
		c, err := net.Dial("tcp", r.address)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(request.Body)
		status := 0
		if err == nil {
			status, err = r.post(request.Header, string(body))
		}
		if err != nil {
			t.Error(err)
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.seen[request.URL.Path] = exchange{request.Header, string(body), status}
		if r.fails != nil && r.fails(string(body)) {
			status = http.StatusBadRequest // they come again in halves: in other sets
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(proxy.Close)
	r.proxy = proxy.URL
	return r
}

// post sends a request to the receiver as it is, and returns the status.
func (r *served) post(header http.Header, body string) (int, error) {
	request, err := http.NewRequest(http.MethodPost, "http://"+r.address+"/hooks", strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	request.Header = header
	answer, err := (&http.Client{}).Do(request)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	return answer.StatusCode, err
}

func (r *served) at(path string) (exchange, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.seen[path]
	return e, ok
}

// delivers has fanout send one event, with a body beyond ASCII, to subscriptions with all kinds of secrets. v1a is nil where the language
// has no Ed25519.
func (s *site) delivers(t *testing.T, account string, k *keys, v1, v1a *served) {
	t.Helper()
	cases := []struct {
		id, secrets string
		to          *served
		versions    string
		status      int
	}{
		{"one", `"` + k.hmac + `"`, v1, "v1", 204},
		{"rotation-to-new", `"` + k.other + `","` + k.hmac + `"`, v1, "v1 v1", 204},
		{"rotation-from-old", `"` + k.hmac + `","` + k.older + `"`, v1, "v1 v1", 204},
		{"v1a-then-v1", `"` + k.private + `","` + k.hmac + `"`, v1, "v1a v1", 204},
		{"wrong-secret", `"` + k.other + `"`, v1, "v1", 401},
		{"ed25519", `"` + k.private + `"`, v1a, "v1a", 204},
		{"v1-then-v1a", `"` + k.hmac + `","` + k.private + `"`, v1a, "v1 v1a", 204},
		{"v1-for-v1a", `"` + k.hmac + `"`, v1a, "v1", 401},
	}
	if v1a == nil {
		cases = cases[:5]
	}
	for _, c := range cases {
		s.subscribe(t, account, c.id, c.to.proxy+"/"+c.id, `,"secrets":[`+c.secrets+`]`)
	}
	if did := shell(t, "producer.sh").run(t, strings.NewReader(events(account, 0, 1)), s.env(), "receivers.events", account); did.code != 0 {
		t.Fatal(did.output)
	}
	for _, c := range cases {
		var e exchange
		await(t, 20*time.Second, "a request to "+c.id, func() (ok bool) {
			e, ok = c.to.at("/" + c.id)
			return ok
		})
		var versions []string
		for each := range strings.SplitSeq(e.header.Get("webhook-signature"), " ") {
			version, _, _ := strings.Cut(each, ",")
			versions = append(versions, version)
		}
		if got := strings.Join(versions, " "); got != c.versions || e.status != c.status || e.body != body(0) {
			t.Errorf("%s: signed %s, answered %d, want %s and %d; %s", c.id, got, e.status, c.versions, c.status, e.body)
		}
		t.Logf("%-6s %-17s signed %-6s answered %d", account, c.id, c.versions, e.status)
	}
}

// refuses tampers with a request that fanout sent and the receiver took.
func refuses(t *testing.T, k *keys, r *served, v1a bool) {
	t.Helper()
	sent, ok := r.at(map[bool]string{false: "/one", true: "/ed25519"}[v1a])
	if !ok {
		t.Fatal("there is no request to tamper with")
	}
	id, at, signature := sent.header.Get("webhook-id"), sent.header.Get("webhook-timestamp"), sent.header.Get("webhook-signature")
	ago := func(d time.Duration) string { return strconv.FormatInt(time.Now().Add(-d).Unix(), 10) }
	fresh, old, ahead := ago(time.Minute), ago(10*time.Minute), ago(-10*time.Minute)
	for _, c := range []struct {
		name, id, at, signature, body string
		status                        int
	}{
		{"as it was", id, at, signature, sent.body, 204},
		{"a signature of another version before it", id, at, "v9,AAAA " + signature, sent.body, 204},
		{"a minute old", id, fresh, k.sign(v1a, id, fresh, sent.body), sent.body, 204},
		{"ten minutes old", id, old, k.sign(v1a, id, old, sent.body), sent.body, 401},
		{"ten minutes ahead", id, ahead, k.sign(v1a, id, ahead, sent.body), sent.body, 401},
		{"body changed", id, at, signature, strings.Replace(sent.body, "日", "目", 1), 401},
		{"body longer", id, at, signature, sent.body + " ", 401},
		{"another id", id + "a", at, signature, sent.body, 401},
		{"another timestamp", id, fresh, signature, sent.body, 401},
		{"the other version only", id, at, k.sign(!v1a, id, at, sent.body), sent.body, 401},
		{"signature cut", id, at, signature[:len(signature)-4], sent.body, 401},
		{"no signature", id, at, "", sent.body, 401},
	} {
		header := sent.header.Clone()
		header.Set("webhook-id", c.id)
		header.Set("webhook-timestamp", c.at)
		header.Set("webhook-signature", c.signature)
		if status, err := r.post(header, c.body); status != c.status || err != nil {
			t.Errorf("%s (v1a %t): answered %d, want %d: %v", c.name, v1a, status, c.status, err)
		}
	}
}
