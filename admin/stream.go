package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"fanout/dispatcher"
)

// maxStreams is how many streams there are at once: each costs its share of every outcome.
const maxStreams = 32

// tail streams outcomes as they happen, one JSON object a line, until the client disconnects. A line {"dropped": n} says
// how many a slow client has missed since the beginning; an empty line is a sign of life.
func (a *api) tail(w http.ResponseWriter, r *http.Request) error {
	return a.stream(w, r, scope{}, func(context.Context) bool { return true })
}

// portalStream is tail for one account, through a portal link (docs/contract.md#portal-api). It ends with the link.
func (p *pages) portalStream(w http.ResponseWriter, r *http.Request) {
	g, err := p.portalBearer(r)
	var leave func()
	if err == nil {
		leave, err = p.budgets.stream(g.Account)
	}
	if err != nil {
		asProblem(err).write(w)
		return
	}
	defer leave()
	err = p.stream(w, r, scope{Portal: true, Account: g.Account, Link: g.ID}, func(ctx context.Context) bool {
		return !errors.Is(p.granted(ctx, g), errNoPortal) // Redis away ends no stream
	})
	if err != nil {
		asProblem(err).write(w)
	}
}

// stream tells what comes to pass while it lasts, in a portal of its account alone. open is asked every few seconds.
func (p *panel) stream(w http.ResponseWriter, r *http.Request, s scope, open func(context.Context) bool) error {
	known := []string{"account", "subscription", "outcome", "limit"}
	if s.Portal {
		known = known[1:]
	}
	q := newQuery(r, known...)
	account, subscription := q.text("account"), q.text("subscription")
	if s.Portal {
		account = s.Account
	}
	outcome := q.oneOf("outcome", []string{"delivered", "retry", "deferred", "dead", "discarded", "abandoned"})
	left := q.count("limit", -1, 1<<31-1)
	if err := q.err(); err != nil {
		return err
	}
	if p.streams.Add(1) > maxStreams {
		p.streams.Add(-1)
		return problemf(http.StatusTooManyRequests, "%d streams are open on this instance, which is the limit: end one first", maxStreams)
	}
	defer p.streams.Add(-1)
	watcher := p.Dispatcher.Watch(4096, func(d *dispatcher.Delivery, out *dispatcher.Outcome) bool {
		return (account == "" || d.Account == account) && (subscription == "" || d.Subscription == subscription) &&
			(outcome == "" || out.Result.String() == outcome)
	})
	defer watcher.Close()
	w.Header().Set("Content-Type", "application/x-ndjson")
	stream := http.NewResponseController(w)
	flush := func() bool {
		_ = stream.SetWriteDeadline(time.Now().Add(streamTimeout)) // of each portion: a stream has no end
		return stream.Flush() == nil
	}
	if !flush() {
		return nil
	}
	enc := json.NewEncoder(w)
	alive := time.NewTicker(5 * time.Second)
	defer alive.Stop()
	dropped := uint64(0)
	for left != 0 {
		select {
		case <-r.Context().Done():
			return nil
		case <-p.closing:
			return nil
		case one := <-watcher.Events():
			if left > 0 {
				left--
			}
			shown := newAttempt(&one)
			if s.Portal {
				shown.forCustomer()
			}
			if err := enc.Encode(shown); err != nil || len(watcher.Events()) == 0 && !flush() {
				return nil
			}
		case <-alive.C:
			line := "\n"
			if n := watcher.Dropped(); n > dropped {
				dropped = n
				line = `{"dropped":` + strconv.FormatUint(n, 10) + "}\n"
			}
			if !open(r.Context()) {
				return nil
			}
			if _, err := w.Write([]byte(line)); err != nil || !flush() {
				return nil
			}
		}
	}
	return nil
}
