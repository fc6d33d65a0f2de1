package admin

import (
	"net/http"
	"time"

	"fanout/dispatcher"
	"fanout/operate"
	"fanout/operate/letters"
	"fanout/topic"
)

// attempt is an outcome as the API shows it.
type attempt struct {
	Time         time.Time  `json:"time"`
	ID           string     `json:"id"` // webhook-id
	Account      string     `json:"account"`
	Subscription string     `json:"subscription"`
	Event        string     `json:"event"`
	Stage        string     `json:"stage"`
	Attempt      int        `json:"attempt"` // which POST of the delivery this was; 0: none was made
	Outcome      string     `json:"outcome"`
	Reason       string     `json:"reason,omitempty"`
	Status       int        `json:"status,omitempty"`
	TookMs       float64    `json:"tookMs"`
	Batch        string     `json:"batch,omitempty"`     // the request's webhook-id, where it had several deliveries, or might have had
	BatchSize    int        `json:"batchSize,omitempty"` // how many it had
	Detail       string     `json:"detail,omitempty"`
	NotBefore    *time.Time `json:"notBefore,omitempty"`
	Request      string     `json:"request,omitempty"`  // the body, at most its first KiB
	Response     string     `json:"response,omitempty"` // the body, at most its first KiB
}

// InBatch says in which batch the delivery went out; empty where it went out by itself.
func (a *attempt) InBatch() string { return topic.InBatch(a.Batch, a.BatchSize) }

func newAttempt(a *dispatcher.Attempt) attempt {
	out := attempt{
		Time: a.Time.UTC(), ID: a.ID, Account: a.Account, Subscription: a.Subscription, Event: a.Event.String(), Stage: a.Stage.String(),
		Attempt: a.Attempt, Outcome: a.Result.String(), Reason: a.Reason.String(), Status: a.Status,
		TookMs: float64(a.Took.Microseconds()) / 1000, Batch: a.Batch, BatchSize: a.BatchSize, Detail: a.Detail, Request: readable(a.Body), Response: readable(a.Response),
	}
	if !a.NotBefore.IsZero() {
		out.NotBefore = new(a.NotBefore.UTC())
	}
	return out
}

func (a *api) listAttempts(w http.ResponseWriter, r *http.Request) error {
	account, id, err := identity(r)
	if err != nil {
		return err
	}
	if a.Directory.Lookup(account, id) == nil {
		return errNoSubscription
	}
	writeJSON(w, http.StatusOK, "application/json", map[string]any{"attempts": a.recent(account, id)})
	return nil
}

func (p *panel) recent(account, id string) []attempt {
	list := []attempt{}
	for _, one := range p.Dispatcher.Recent(account, id) {
		list = append(list, newAttempt(&one))
	}
	return list
}

// newLane is a lane as the API shows it.
func newLane(l *dispatcher.LaneStatus) operate.Lane {
	at := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		return new(t.UTC())
	}
	return operate.Lane{
		Account: l.Account, Subscription: l.Subscription, State: l.State, Why: l.Why, Since: at(l.Since), Until: at(l.Until),
		InFlight: l.InFlight, Limit: l.Limit, Maximum: l.Maximum, Queued: l.Queued, OldestQueued: at(l.OldestQueued),
		Failures: l.Failures, Pace: l.Pace, MaxPerSecond: l.MaxPerSecond,
	}
}

func (a *api) listLanes(w http.ResponseWriter, r *http.Request) error {
	q := newQuery(r, "account", "state")
	account, state := q.text("account"), q.oneOf("state", []string{"open", "limited", "parked"})
	if err := q.err(); err != nil {
		return err
	}
	list := []operate.Lane{}
	for _, l := range a.Dispatcher.Lanes(func(l *dispatcher.LaneStatus) bool {
		return (account == "" || l.Account == account) && (state == "" || l.State == state)
	}) {
		one := newLane(&l)
		sub := a.Directory.Lookup(l.Account, l.Subscription)
		one.Paused = sub != nil && sub.Paused()
		list = append(list, one)
	}
	writeJSON(w, http.StatusOK, "application/json", map[string]any{"lanes": list})
	return nil
}

// status is the instance at a glance.
type status struct {
	Version       string         `json:"version"`
	Started       time.Time      `json:"started"`
	Ready         bool           `json:"ready"`
	Checks        []checkResult  `json:"checks"`
	Subscriptions subsStatus     `json:"subscriptions"`
	Now           sample         `json:"now"`
	Lanes         map[string]int `json:"lanes"` // by state
	Lag           []topicLag     `json:"lag"`
	LetterIndex   *letterIndex   `json:"deadLetterIndex,omitempty"`
}

// letterIndex says how far the index of the dead letters is.
type letterIndex struct {
	Records  int64 `json:"records"`  // of the dead-letter topic
	Unread   int64 `json:"unread"`   // of them, how many it has not read yet
	Accounts int   `json:"accounts"` // that it knows
	Bytes    int64 `json:"bytes"`    // of memory
	Full     bool  `json:"full"`     // it has no room for others: their dead letters are looked for in the topic
	CaughtUp bool  `json:"caughtUp"`
}

// newLetterIndex is nil where there is no index, or nothing is known yet.
func newLetterIndex(b *letters.Builder) *letterIndex {
	if b == nil {
		return nil
	}
	at := b.Status()
	if at.Records < 0 {
		return nil
	}
	out := &letterIndex{Records: at.Records, Unread: at.Unread, CaughtUp: at.Unread == 0}
	out.Accounts, out.Bytes, out.Full = b.Index().Size()
	return out
}

type subsStatus struct {
	Loaded     bool    `json:"loaded"`
	Source     string  `json:"source,omitempty"`
	AgeSeconds float64 `json:"ageSeconds"` // since the snapshot last agreed with Redis
	Enabled    int     `json:"enabled"`
	Disabled   int     `json:"disabled"`
	Invalid    int     `json:"invalid"`
	Shrink     *shrink `json:"shrink,omitempty"` // a full load that waits for POST /api/v1/subscriptions/accept
	Error      string  `json:"error,omitempty"`
}

type shrink struct {
	Known int       `json:"known"`
	Found int       `json:"found"`
	Lost  []string  `json:"lost"` // accounts, at most twenty
	Since time.Time `json:"since"`
}

func (a *api) getStatus(w http.ResponseWriter, _ *http.Request) error {
	writeJSON(w, http.StatusOK, "application/json", a.status())
	return nil
}

func (p *panel) status() status {
	ready := p.readiness()
	now, _ := p.meter.latest()
	d := p.Directory.Status()
	s := status{
		Version: p.Version, Started: p.started.UTC(), Ready: ready.Ready, Checks: ready.Checks, Now: now.sample, Lanes: now.lanes, Lag: now.lag,
		Subscriptions: subsStatus{
			Loaded: d.Loaded, Source: d.Source, AgeSeconds: d.Age.Seconds(), Enabled: d.Enabled, Disabled: d.Disabled, Invalid: d.Invalid, Error: d.Error,
		},
	}
	s.LetterIndex = newLetterIndex(p.LetterIndex)
	if s.Lag == nil {
		s.Lag = []topicLag{}
	}
	if s.Lanes == nil {
		s.Lanes = map[string]int{}
	}
	if d.Shrink != nil {
		s.Subscriptions.Shrink = &shrink{d.Shrink.Known, d.Shrink.Found, d.Shrink.Lost, d.Shrink.Since.UTC()}
	}
	return s
}

// acceptShrink makes every instance take what Redis holds.
func (a *api) acceptShrink(w http.ResponseWriter, r *http.Request) error {
	if err := a.acceptLoss(r, scope{}); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (p *panel) acceptLoss(r *http.Request, s scope) error {
	by := p.callerOf(r, s)
	if err := p.Store.As(by.actor).AcceptShrink(r.Context()); err != nil {
		return err
	}
	p.Directory.AcceptShrink()
	p.record(by, &topic.EndpointEvent{Kind: topic.KindAccepted})
	return nil
}
