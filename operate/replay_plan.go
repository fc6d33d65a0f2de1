package operate

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"fanout/dispatcher"
	"fanout/topic"
)

// ReplayPlan is what a replay would send, and what it would not and why.
type ReplayPlan struct {
	Name      string            `json:"name"`
	Send      int               `json:"send"`
	Groups    []DeadLetterCount `json:"groups"`    // of what it would send, by reason and subscription
	Sent      int               `json:"sent"`      // by this name before
	Replayed  int               `json:"replayed"`  // by other replays before; left out unless told otherwise
	Own       int               `json:"own"`       // dead letters of this replay's own deliveries
	Later     int               `json:"later"`     // died after this name began
	Delivered int               `json:"delivered"` // delivered meanwhile, the attempts topic says; left out unless told otherwise
	Waiting   int               `json:"waiting"`   // in a retry tier or on the replay topic; left out where Again would send them
	Older     int               `json:"older"`     // another dead letter of the same delivery is sent
	Malformed int               `json:"malformed"` // they are repaired and sent to their source topic instead
	Unusable  int               `json:"unusable"`  // their headers do not make a delivery
	Gone      int               `json:"gone"`      // of Send: their subscription does not exist, so they will be discarded
	Uncertain int               `json:"uncertain"` // of Send: read again when a tier's offsets were lost, so that they may have been delivered
	NotFound  int               `json:"notFound"`  // of the filter's IDs: no dead letter that the filter selects is one of these
	Began     time.Time         `json:"began,omitzero"`
	Receivers []Receiver        `json:"receivers,omitempty"` // those that do not get at once what is sent to them, where that was looked for
	Silent    []string          `json:"silent,omitempty"`    // instances that did not say whether receivers are parked there

	ranges map[int]topic.Range
	skip   map[position]bool
	seen   map[int]topic.Range // how far the replay topic was read
}

// planning is a plan while it is made. Dead letters are read twice: what is to be known of a delivery is known once all of its dead letters
// have been seen.
type planning struct {
	r    *Replay
	plan *ReplayPlan
	sent *sentRecords

	mu        sync.Mutex          // guards all below
	lives     map[digest]standing // by life; with Again by webhook-id
	delivered map[digest]int64    // by webhook-id, Unix ms; 0: not known to be
	waiting   map[digest]bool     // by webhook-id; with Again only
	first     time.Time           // when the first of the dead letters died
	found     map[string]bool     // of the filter's IDs
	groups    map[groupKey]*DeadLetterCount
}

type groupKey struct{ account, subscription, reason string }

// Plan finds out exactly what Run would send. The end offsets are those of now: what dies later, be it of this replay's
// own making, is not sent by it.
func (r *Replay) Plan(ctx context.Context, done *atomic.Int64, total func(int64)) (*ReplayPlan, error) {
	p := &planning{
		r: r, plan: &ReplayPlan{Name: r.cfg.Name, Groups: []DeadLetterCount{}, skip: make(map[position]bool)}, sent: newSentRecords(),
		lives: make(map[digest]standing), delivered: make(map[digest]int64), first: time.Now(), found: make(map[string]bool),
		groups: make(map[groupKey]*DeadLetterCount),
	}
	var err error
	if p.plan.ranges, err = r.letters.Ranges(ctx, &r.cfg.Filter); err != nil {
		return nil, err
	}
	if total == nil {
		total = func(int64) {}
	}
	total(2 * topic.Total(p.plan.ranges))
	if p.plan.seen, err = r.news(ctx, r.names.Replay, nil, func(m *topic.Record) error { return p.sent.take(m, r.cfg.Name) }); err != nil && !topic.NoTopic(err) {
		return nil, err
	}
	p.plan.Began = p.sent.began
	if err := r.letters.Each(ctx, &r.cfg.Filter, p.plan.ranges, done, p.gather); err != nil {
		return nil, err
	}
	if r.cfg.Again {
		p.waiting, err = findWaiting(ctx, r.cluster, p.asked)
	} else {
		err = p.readDelivered(ctx, done, total)
	}
	if err != nil {
		return nil, err
	}
	if err := r.letters.Each(ctx, &r.cfg.Filter, p.plan.ranges, done, p.judge); err != nil {
		return nil, err
	}
	return p.end(), nil
}

// life is which delivery a dead letter is of. What is sent again is sent once, however many lives it has had
// (docs/contract.md#replay-again).
func (p *planning) life(d *topic.DeadLetter) digest {
	if p.r.cfg.Again && d.ID != "" {
		return digestOf(d.ID)
	}
	return lifeOf(d)
}

// own says whether it is a dead letter of one of this replay's own deliveries.
func (p *planning) own(d *topic.DeadLetter) bool { return d.Replay == p.r.cfg.Name && d.Replay != "" }

// later says whether it died after this replay began. Both times are the broker's.
func (p *planning) later(d *topic.DeadLetter) bool {
	return !p.plan.Began.IsZero() && d.AppendedAt.After(p.plan.Began)
}

// gather takes in what one dead letter tells of its delivery.
func (p *planning) gather(d *topic.DeadLetter) error {
	if d.Malformed() {
		return nil
	}
	life, id, by := p.life(d), digestOf(d.ID), p.sent.by(d)
	by.own = by.own || p.r.cfg.Again && p.sent.ids[id]
	usable := d.Usable() && !p.own(d) && !p.later(d)
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.lives[life]
	s.sent = s.sent.or(by)
	if usable {
		s.take(d)
	}
	p.lives[life] = s
	p.delivered[id], p.first = 0, earlier(p.first, d.DeadAt)
	return nil
}

// readDelivered reads from the attempts topic, where there is one, when those of the deliveries that succeeded last did so. The topic may hold
// far more than fits in memory, the dead letters are read first for that.
func (p *planning) readDelivered(ctx context.Context, done *atomic.Int64, total func(int64)) error {
	if len(p.delivered) == 0 {
		return nil
	}
	c, name := p.r.cluster, p.r.names.Attempts
	ranges, err := c.Ranges(ctx, name, p.first.Add(-topic.ClockSlack))
	if topic.NoTopic(err) {
		return nil // nothing is known
	}
	if err != nil {
		return err
	}
	total(topic.Total(ranges))
	return c.Scan(ctx, name, ranges, done, func(m *topic.Record) error {
		id, at, ok := deliveredAt(m, p.asked)
		if ok {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.delivered[id] = max(p.delivered[id], at)
		}
		return nil
	})
}

// asked says whether a dead letter has the webhook-id.
func (p *planning) asked(id digest) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, asked := p.delivered[id]
	return asked
}

// deliveredAt is when, in Unix ms, the delivery succeeded that a record of the attempts topic is about; false where it did not, or is not asked for.
func deliveredAt(m *topic.Record, asked func(digest) bool) (id digest, at int64, ok bool) {
	if m.Header(topic.HeaderOutcome) != dispatcher.Delivered.String() {
		return id, at, false
	}
	if id = digestOf(m.Header(topic.HeaderWebhookID)); !asked(id) { // before the value is taken apart
		return id, at, false
	}
	a, ok := topic.ParseAttempt(m.Value)
	return id, a.Time, ok
}

// judge decides what becomes of one dead letter.
func (p *planning) judge(d *topic.DeadLetter) error {
	usable := d.Usable()
	gone := usable && p.r.cfg.Gone != nil && p.r.cfg.Gone(d.Account, d.Subscription)
	at, life, id := positionOf(d), p.life(d), digestOf(d.ID)
	by, again := p.sent.by(d), p.r.cfg.Again
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.r.cfg.Filter.IDs) > 0 {
		p.found[d.ID], p.found[d.Position()] = true, true
	}
	s, plan := p.lives[life], p.plan
	switch {
	case by.own:
		plan.Sent++
	case d.Malformed():
		plan.Malformed++
	case p.own(d):
		plan.Own++
	case p.later(d):
		plan.Later++
	case s.sent.own:
		plan.Sent++
	case (s.sent.others || p.sent.resent[id].After(d.AppendedAt)) && !again:
		plan.Replayed++
	case !usable:
		plan.Unusable++
	case p.delivered[id] > d.DeadAt.UnixMilli():
		plan.Delivered++
	case p.waiting[id]:
		plan.Waiting++
	case !s.newest(d):
		plan.Older++
	default:
		plan.Send++
		if gone {
			plan.Gone++
		}
		if d.Reason == dispatcher.Expired.String() && d.Detail == dispatcher.DetailUncertain {
			plan.Uncertain++
		}
		p.count(d)
		return nil
	}
	plan.skip[at] = true
	return nil
}

// count enters a dead letter that is sent.
func (p *planning) count(d *topic.DeadLetter) {
	k := groupKey{d.Account, d.Subscription, d.Reason}
	g := p.groups[k]
	if g == nil {
		g = &DeadLetterCount{Account: k.account, Subscription: k.subscription, Reason: k.reason, First: d.DeadAt, Last: d.DeadAt}
		p.groups[k] = g
	}
	g.Count++
	g.First, g.Last = earlier(g.First, d.DeadAt), later(g.Last, d.DeadAt)
}

func (p *planning) end() *ReplayPlan {
	for _, id := range p.r.cfg.Filter.IDs {
		if !p.found[id] {
			p.plan.NotFound++
		}
	}
	for _, g := range p.groups {
		p.plan.Groups = append(p.plan.Groups, *g)
	}
	slices.SortFunc(p.plan.Groups, largestFirst)
	return p.plan
}
