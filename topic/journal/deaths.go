package journal

import (
	"fmt"
	"sync"
	"time"

	"fanout/topic"
)

// Bounds of what is remembered of deaths.
const (
	deathEvery = time.Hour
	maxDying   = 10_000 // endpoints
)

// Deaths tells of the first dead letter of an endpoint in an hour, and how many there were since it last told.
type Deaths struct {
	tell     func(topic.EndpointEvent)
	instance string

	mu     sync.Mutex // guards counts
	counts map[endpoint]*deaths
}

type endpoint struct{ account, subscription string }

type deaths struct {
	told  time.Time
	count int // since
}

// NewDeaths makes Deaths of this instance.
func NewDeaths(tell func(topic.EndpointEvent), instance string) *Deaths {
	return &Deaths{tell: tell, instance: instance, counts: make(map[endpoint]*deaths)}
}

// Died notes that a delivery has become a dead letter.
func (d *Deaths) Died(account, subscription, reason string) {
	since, count, tell := d.note(endpoint{account, subscription}, time.Now())
	if !tell {
		return
	}
	detail := reason + ": 1 delivery is dead"
	if count > 1 {
		detail = fmt.Sprintf("%s: %d deliveries are dead since %s", reason, count, since.UTC().Format(time.RFC3339))
	}
	d.tell(topic.EndpointEvent{Kind: topic.KindDead, Account: account, Subscription: subscription, Detail: detail, Instance: d.instance})
}

func (d *Deaths) note(of endpoint, now time.Time) (since time.Time, count int, tell bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	one := d.counts[of]
	if one == nil {
		d.makeRoom(now)
		one = new(deaths)
		d.counts[of] = one
	}
	one.count++
	if !one.told.IsZero() && now.Sub(one.told) < deathEvery {
		return one.told, one.count, false
	}
	since, count = one.told, one.count
	one.told, one.count = now, 0
	return since, count, true
}

// makeRoom forgets endpoints of which nothing died for the longest time that matters; where that frees nothing, all.
func (d *Deaths) makeRoom(now time.Time) {
	if len(d.counts) < maxDying {
		return
	}
	for of, one := range d.counts {
		if now.Sub(one.told) >= deathEvery {
			delete(d.counts, of)
		}
	}
	if len(d.counts) >= maxDying {
		clear(d.counts)
	}
}
