package sim

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"fanout/topic"
)

// mood is how a receiver takes what is sent to it.
type mood int

const (
	well      mood = iota
	slow           // it answers after two seconds
	flaky          // a third of its answers are 500
	down           // all of them are, for a while
	asksLater      // now and then 429 with a Retry-After
	hangs          // now and then it does not answer at all
	away           // now and then its connections are closed
	moved          // 302, always
	gone           // 410, always
	held           // its subscription is paused from the beginning: nothing may be sent to it
	moods
)

func (m mood) String() string {
	return [moods]string{"well", "slow", "flaky", "down", "asksLater", "hangs", "away", "moved", "gone", "held"}[m]
}

// dies says whether deliveries to it may end as dead letters.
func (m mood) dies() bool { return m == moved || m == gone || m == held }

// receiver is the endpoint of one subscription. Its answers follow from the seed, the request's id, and how often that has come.
type receiver struct {
	seed  uint64
	name  string
	mood  mood
	limit int // requests that may be in flight at once
	batch int // elements that one request may have; 0: it gets none

	notification string // that it asks for; a final * matches any rest; empty: all

	instances func() int  // that have been started: each has a lane of its own
	troubled  func() bool // requests may have been given up on of which the receiver knows nothing

	mu       sync.Mutex // guards all below
	json     string     // of the subscription, while it is not paused
	keys     keys
	came     map[string]int
	tried    map[string]bool // deliveries that it was sent, by id
	accepted map[string]int  // deliveries answered with 2xx, by id
	last     map[string]time.Time
	inFlight int
	until    time.Time // of what is down
	paused   time.Time // since when its subscription is; zero: it is not
	made     atomic.Bool
	covered  map[string]map[int]topic.Range // of a webhook that is made late: what a backfill has gone through; nil: it is none
	wrong    []string
}

func newReceiver(seed uint64, name string, m mood, limit int) *receiver {
	return &receiver{seed: seed, name: name, mood: m, limit: limit, came: make(map[string]int), tried: make(map[string]bool), accepted: make(map[string]int), last: make(map[string]time.Time)}
}

// strict says whether the receiver can count what is in flight as its sender does.
func (r *receiver) strict() bool { return r.mood != hangs && r.mood != away && !r.troubled() }

// pausedFor is within which a pause is in force everywhere, and what was in flight before has come.
const pausedFor = 12 * time.Second

// quiet says whether nothing may come, since the subscription is paused. The lock is held.
func (r *receiver) quiet() bool {
	return r.mood == held || !r.paused.IsZero() && time.Since(r.paused) > pausedFor && !r.troubled()
}

// pause notes that the subscription is paused, or is no longer.
func (r *receiver) pause(since time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.paused = since
}

// wants says whether the subscription asks for the notification.
func (r *receiver) wants(notification string) bool {
	begin, wide := strings.CutSuffix(r.notification, "*")
	return r.notification == "" || r.notification == notification || wide && strings.HasPrefix(notification, begin)
}

// serve answers one connection's requests.
func (r *receiver) serve(c net.Conn) {
	defer c.Close()
	in := bufio.NewReader(c)
	for {
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		body, err := io.ReadAll(req.Body)
		if err != nil || !r.answer(c, req, body) {
			return
		}
	}
}

// answer answers a request; false where the connection is done for.
func (r *receiver) answer(c net.Conn, req *http.Request, body []byte) bool {
	id := req.Header.Get("Webhook-Id")
	ids := r.elements(id, body)
	r.mu.Lock()
	if err := r.keys.check(req.Header, body, time.Now(), r.troubled()); err != nil {
		r.wrong = append(r.wrong, fmt.Sprintf("%s: %s: %v", r.name, id, err))
	}
	if bytes.Contains(body, []byte(`"`+aborted)) {
		r.wrong = append(r.wrong, fmt.Sprintf("%s: %s was sent, and its transaction was aborted: %s", r.name, id, body))
	}
	if r.quiet() {
		r.wrong = append(r.wrong, fmt.Sprintf("%s: %s was sent although the subscription is paused since %v", r.name, id, r.paused))
	}
	r.inFlight++
	if r.limit > 0 && r.inFlight > r.limit*r.instances() && r.strict() {
		r.wrong = append(r.wrong, fmt.Sprintf("%s: %d requests in flight at once, and at most %d were asked for, of each of %d instances", r.name, r.inFlight, r.limit, r.instances()))
	}
	r.came[id]++
	for _, one := range ids {
		r.tried[one] = true
	}
	status, wait, header := r.decide(id, r.came[id])
	r.mu.Unlock()
	time.Sleep(wait)
	r.mu.Lock()
	r.inFlight--
	if status >= 200 && status < 300 { // it has them, whatever becomes of the answer
		for _, one := range ids {
			r.accepted[one]++
			r.last[one] = time.Now()
		}
	}
	r.mu.Unlock()
	if status == 0 {
		return false
	}
	_, err := fmt.Fprintf(c, "HTTP/1.1 %d x\r\n%sContent-Length: 0\r\n\r\n", status, header)
	return err == nil
}

// elements are the ids of the deliveries in a request.
func (r *receiver) elements(id string, body []byte) []string {
	if r.batch == 0 {
		return []string{id}
	}
	var list []struct{ ID string }
	if err := json.Unmarshal(body, &list); err != nil || len(list) == 0 || len(list) > r.batch {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.wrong = append(r.wrong, fmt.Sprintf("%s: a batch of %d: %v", r.name, len(list), err))
		return nil
	}
	var ids []string
	for _, e := range list {
		ids = append(ids, e.ID)
	}
	return ids
}

// decide is the answer to the n-th request with an id. Status 0 closes the connection.
func (r *receiver) decide(id string, n int) (status int, wait time.Duration, header string) {
	h := fnv.New64a()
	fmt.Fprint(h, r.seed, r.name, id, n)
	dice := h.Sum64() >> 7
	wait = time.Duration(dice%40) * time.Millisecond
	switch r.mood {
	case slow:
		wait += 2 * time.Second
	case flaky:
		if dice%3 == 0 {
			return 500, wait, ""
		}
	case down:
		if time.Now().Before(r.until) {
			return 503, wait, ""
		}
	case asksLater:
		if dice%8 == 0 {
			return 429, wait, "Retry-After: 20\r\n"
		}
	case hangs:
		if dice%8 == 0 {
			return 0, 15 * time.Second, ""
		}
	case away:
		if dice%4 == 0 {
			return 0, wait, ""
		}
	case moved:
		return 302, wait, "Location: http://elsewhere.test/\r\n"
	case gone:
		return 410, wait, ""
	case well, held, moods:
	}
	return 204, wait, ""
}

// fail takes the receiver down for a while.
func (r *receiver) fail(until time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if until.After(r.until) {
		r.until = until
	}
}

// counts is how often each delivery was answered with 2xx.
func (r *receiver) counts() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.accepted)
}

// knows says whether the delivery was ever sent to it.
func (r *receiver) knows(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tried[id]
}

func (r *receiver) problems() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.wrong
}
