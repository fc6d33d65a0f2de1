package admin

import (
	"bytes"
	"context"
	"math"
	"sync"
	"time"

	"fanout/dispatcher"
	"fanout/topic"
)

// Bounds of the last day that a webhook's page shows. The topic is read for it while somebody looks.
const (
	dayStep     = 30 * time.Minute
	dayColumns  = 48
	dayEvery    = 5 * time.Second
	dayPatience = 3 * time.Second // of one reading
	dayForgets  = time.Minute     // a day that nobody has looked at for so long is counted again
	daysKept    = 64
)

// days are the last 24 hours of the webhooks that somebody looks at: the attempts of all instances, counted from the attempts topic
// (docs/contract.md#attempts-shown), the newest first. Where there are many it takes several readings, and the page says how far they have come.
type days struct {
	mu sync.Mutex // guards all below, and what by points to
	by map[[2]string]*day
}

// day is what was counted of one webhook.
type day struct {
	slots   map[int64]*daySlot // by number, counted from 1970
	ends    map[int]int64      // of each partition: what lies behind is not counted yet
	older   map[int]topic.Range
	reached time.Time // the oldest attempt that is counted
	whole   bool      // nothing older is left to count
	read    time.Time // when the last reading ended
	off     bool      // there is no attempts topic
	reading bool
}

// daySlot is half an hour.
type daySlot struct {
	delivered, retried, deferred, dead int
	posts                              int // requests, or parts of one
	took                               histogram
}

func (s *daySlot) add(a *topic.Attempt) {
	switch a.Outcome {
	case dispatcher.Delivered.String():
		s.delivered++
	case dispatcher.Retry.String():
		s.retried++
	case dispatcher.Dead.String():
		s.dead++
	case dispatcher.Deferred.String():
		s.deferred++
	}
	if a.Attempt > 0 {
		s.posts++
		s.took.observe(float64(a.TookMillis))
	}
}

// success is the share of the requests that were answered with 2xx; NaN where none was made.
func (s *daySlot) success() float64 {
	if s.posts == 0 {
		return math.NaN()
	}
	return float64(s.delivered) / float64(max(s.posts, s.delivered))
}

func slotOf(t time.Time) int64 { return t.Unix() / int64(dayStep/time.Second) }

// dayBody is the day as the page shows it.
type dayBody struct {
	Off      bool      // there is no attempts topic
	Counting bool      // the first reading has not ended
	Reached  time.Time // attempts before then are not counted yet; zero: all are
	Step     time.Duration
	Charts   []*chart

	Posts, Dead       int
	Success, P50, P95 *float64
}

// look returns a webhook's day as it is known. The first who looks waits for one reading.
func (d *days) look(ctx context.Context, p *panel, s scope, account, id string) dayBody {
	key, now := [2]string{account, id}, time.Now()
	d.mu.Lock()
	one := d.of(key, now)
	if !one.reading && now.Sub(one.read) > dayEvery {
		one.reading = true
		first := one.read.IsZero()
		d.mu.Unlock()
		if first {
			d.ask(ctx, p, s, key, one)
		} else {
			p.behind(ctx, 2*dayPatience, func(ctx context.Context) { d.ask(ctx, p, s, key, one) })
		}
		d.mu.Lock()
	}
	defer d.mu.Unlock()
	return one.body(now)
}

// of is what is known of a webhook, nothing where nobody has looked for a while. The caller holds mu.
func (d *days) of(key [2]string, now time.Time) *day {
	if one := d.by[key]; one != nil && (one.reading || now.Sub(one.read) < dayForgets) {
		return one
	}
	if d.by == nil {
		d.by = make(map[[2]string]*day)
	}
	for other, one := range d.by {
		if len(d.by) >= daysKept && !one.reading {
			delete(d.by, other)
		}
	}
	one := &day{slots: make(map[int64]*daySlot)}
	d.by[key] = one
	return one
}

// ask counts what is new, and then what is older, for as long as its patience lasts.
func (d *days) ask(ctx context.Context, p *panel, s scope, key [2]string, one *day) {
	ctx, cancel := context.WithTimeout(ctx, dayPatience)
	defer cancel()
	err := d.count(ctx, p, s, key, one)
	d.mu.Lock()
	defer d.mu.Unlock()
	one.reading, one.off = false, topic.NoTopic(err)
	if one.read = time.Now(); err != nil && !one.off && d.by[key] == one {
		delete(d.by, key) // the new attempts were not all counted: begin again
	}
}

// count reads what no reading has seen. That the patience ends while it reads what is older is not an error: the next one goes on.
func (d *days) count(ctx context.Context, p *panel, s scope, key [2]string, one *day) error {
	release, err := p.budgets.scan(ctx, s)
	if err != nil {
		return err
	}
	defer release()
	ranges, err := p.Kafka.Ranges(ctx, p.Kafka.Config().Names().Attempts, time.Now().Add(-dayStep*dayColumns))
	if err != nil {
		return err
	}
	account := []byte(key[0])
	wanted := func(of, _ []byte) bool { return bytes.Equal(of, account) }
	d.mu.Lock()
	fresh, older := one.divide(ranges)
	d.mu.Unlock()
	add := func(a *topic.AttemptAt) error {
		d.mu.Lock()
		defer d.mu.Unlock()
		one.add(key, a)
		return nil
	}
	if len(fresh) > 0 {
		if _, err := p.Kafka.NewestAttempts(ctx, fresh, nil, wanted, add); err != nil {
			return err
		}
	}
	rest, err := p.Kafka.NewestAttempts(ctx, older, nil, wanted, func(a *topic.AttemptAt) error {
		d.mu.Lock()
		one.reached = time.UnixMilli(a.Time)
		d.mu.Unlock()
		return add(a)
	})
	d.mu.Lock()
	defer d.mu.Unlock()
	if one.older = rest; err == nil {
		one.older, one.whole = nil, true
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// divide says what lies behind what is counted, and what before; the first time everything lies before.
func (d *day) divide(ranges map[int]topic.Range) (fresh, older map[int]topic.Range) {
	older = d.older
	if d.ends == nil {
		older = ranges
	} else {
		fresh = make(map[int]topic.Range)
		for id, r := range ranges {
			if r.From = max(r.From, d.ends[id]); r.From < r.To {
				fresh[id] = r
			}
		}
	}
	d.ends = make(map[int]int64, len(ranges))
	for id, r := range ranges {
		d.ends[id] = r.To
	}
	return fresh, older
}

func (d *day) add(key [2]string, a *topic.AttemptAt) {
	if a.Account != key[0] || a.Subscription != key[1] {
		return
	}
	at := slotOf(time.UnixMilli(a.Time))
	if d.slots[at] == nil {
		d.slots[at] = &daySlot{took: newHistogram()}
	}
	d.slots[at].add(&a.Attempt)
}

// body is the day as the page shows it.
func (d *day) body(now time.Time) dayBody {
	b := dayBody{Off: d.off, Counting: d.read.IsZero(), Step: dayStep}
	if !d.whole {
		b.Reached = d.reached
	}
	var times []time.Time
	var slots []*daySlot
	all := daySlot{took: newHistogram()}
	for at := slotOf(now) - dayColumns + 1; at <= slotOf(now); at++ {
		slot := d.slots[at]
		if slot == nil {
			slot = &daySlot{}
		}
		times, slots = append(times, time.Unix(at*int64(dayStep/time.Second), 0).UTC()), append(slots, slot)
		all.merge(slot)
	}
	for at := range d.slots {
		if at <= slotOf(now)-dayColumns {
			delete(d.slots, at)
		}
	}
	b.Posts, b.Dead = all.posts, all.dead
	if all.posts > 0 {
		b.Success, b.P50, b.P95 = new(all.success()), new(all.took.quantile(0.5)), new(all.took.quantile(0.95))
	}
	figures := func(f func(*daySlot) float64) (list []float64) {
		for _, slot := range slots {
			list = append(list, f(slot))
		}
		return list
	}
	took := func(q float64) []float64 {
		return figures(func(s *daySlot) float64 {
			if s.posts == 0 {
				return math.NaN()
			}
			return s.took.quantile(q)
		})
	}
	b.Charts = []*chart{
		{
			ID: "day-volume", Title: "Outcomes", Says: "Outcomes in each half hour of the last 24 hours.", Times: times, Stacked: true, Format: number,
			Series: []series{
				{"delivered", "s-good", figures(func(s *daySlot) float64 { return float64(s.delivered) })},
				{"retried", "s-warn", figures(func(s *daySlot) float64 { return float64(s.retried) })},
				{"dead", "s-bad", figures(func(s *daySlot) float64 { return float64(s.dead) })},
				{"put off", "s-idle", figures(func(s *daySlot) float64 { return float64(s.deferred) })},
			},
		},
		{
			ID: "day-success", Title: "Success", Says: "Share of the requests that were answered with 2xx, in each half hour of the last 24 hours.", Times: times, Top: 1,
			Format: share, Series: []series{{"success", "s-good", figures((*daySlot).success)}},
		},
		{
			ID: "day-latency", Title: "Latency", Says: "Median and 95th percentile of the duration of a request, in each half hour of the last 24 hours.", Times: times,
			Format: wholeMillis, Series: []series{{"p50", "s-1", took(0.5)}, {"p95", "s-warn", took(0.95)}},
		},
	}
	return b
}

// merge adds what another slot has counted.
func (s *daySlot) merge(other *daySlot) {
	s.delivered, s.retried, s.deferred, s.dead, s.posts = s.delivered+other.delivered, s.retried+other.retried, s.deferred+other.deferred, s.dead+other.dead, s.posts+other.posts
	s.took.count += other.took.count
	for i, b := range other.took.buckets {
		s.took.buckets[i].count += b.count
	}
}
