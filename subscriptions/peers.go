package subscriptions

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
)

const (
	instancesKey      = "fanout:instances"
	heartbeatInterval = time.Second
	silentReads       = 5       // heartbeats without a sign of life before an instance's share goes to the others
	forgetReads       = 60      // before its entry is removed
	floorShare        = 0.1     // of the rate, split evenly, so that an instance with no demand yet can begin
	maxDemands        = 10_000  // limited subscriptions that one heartbeat speaks of
	maxDemandSize     = 1 << 20 // bytes of another instance's heartbeat that are read
)

// Demand is how much waits here for each limited subscription, by [DemandKey].
type Demand map[string]float64

// DemandKey names a subscription in a Demand.
func DemandKey(account, id string) string { return account + "/" + id }

// Peers shares what maxPerSecond allows among the running instances, by demand (docs/contract.md#rate). Each one says
// every second under fanout:instances what waits in it. Silence is counted in answers of Redis, not in time: while
// Redis is away, hangs or has been emptied, the last known shares hold.
type Peers struct {
	client redis.UniversalClient
	log    *zap.Logger
	self   string
	demand func() Demand

	key          []byte        // of announcements; nil: none is believed
	announcement *Announcement // of this instance, without its MAC; nil: none

	mu    sync.RWMutex
	known map[string]*peer // the other instances
	own   Demand
	met   bool // Redis has answered once
}

type peer struct {
	last   heartbeat
	silent int // answers of Redis since the last change
}

// heartbeat is an instance's word of itself, as Redis holds it.
type heartbeat struct {
	Number int64  `json:"beat"` // another number each time
	Demand Demand `json:"demand,omitempty"`

	Admin *Announcement `json:"admin,omitempty"` // where the instance can be asked
}

// NewPeers makes the Peers of one instance. demand is called once a second, from one goroutine; what it returns is not
// written to by Peers and must not be written to by the caller any more.
func NewPeers(cfg Config, log *zap.Logger, demand func() Demand, opts ...Option) (*Peers, error) {
	client, err := newClient(&cfg, -1, opts...)
	if err != nil {
		return nil, err
	}
	if log == nil {
		log = zap.NewNop()
	}
	return &Peers{client: client, log: log, self: rand.Text(), demand: demand, known: make(map[string]*peer)}, nil
}

// Run tells and listens until ctx is done, then takes its leave. It returns nil.
func (p *Peers) Run(ctx context.Context) error {
	ticker := time.NewTicker(heartbeatInterval)
	defer ticker.Stop()
	for away := false; ; {
		err := p.exchange(ctx)
		if (err != nil) != away && ctx.Err() == nil {
			away = err != nil
			if away {
				p.log.Warn("instances cannot be asked for their demand; shares stay as they are", zap.String("error", describe(err)))
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			leave, cancel := context.WithTimeout(context.WithoutCancel(ctx), heartbeatInterval)
			defer cancel()
			_ = p.client.HDel(leave, instancesKey, p.self).Err()
			return p.client.Close()
		}
	}
}

// Share is the part of a limited subscription's rate that is this instance's, above 0 and at most 1.
func (p *Peers) Share(account, id string) float64 {
	key := DemandKey(account, id)
	p.mu.RLock()
	defer p.mu.RUnlock()
	if !p.met {
		return floorShare // nothing is known of the others
	}
	total, count := p.own[key], 1
	for _, other := range p.known {
		if other.silent < silentReads {
			total += other.last.Demand[key]
			count++
		}
	}
	return share(p.own[key], total, count)
}

// share is one instance's part. Over all instances it sums up to 1.
func share(own, total float64, instances int) float64 {
	even := 1 / float64(instances)
	if total <= 0 {
		return even
	}
	return floorShare*even + (1-floorShare)*own/total
}

func (p *Peers) exchange(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*heartbeatInterval)
	defer cancel()
	own := p.demand()
	if len(own) > maxDemands {
		own = some(own, maxDemands)
	}
	text, err := json.Marshal(p.heartbeat(own))
	if err != nil {
		return err
	}
	if err := p.client.HSet(ctx, instancesKey, p.self, text).Err(); err != nil {
		return about(instancesKey, err)
	}
	all, err := p.client.HGetAll(ctx, instancesKey).Result()
	if err != nil {
		return about(instancesKey, err)
	}
	if gone := p.take(own, all); len(gone) > 0 {
		return p.client.HDel(ctx, instancesKey, gone...).Err()
	}
	return nil
}

// take notes what Redis answered, and returns the instances that have been silent for so long that they are gone.
func (p *Peers) take(own Demand, all map[string]string) (gone []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.own, p.met = own, true
	for name := range all {
		if name != p.self && p.known[name] == nil {
			p.known[name] = &peer{silent: silentReads} // until its heartbeat is seen to change it may be long dead
		}
	}
	for name, known := range p.known {
		var now heartbeat
		text, there := all[name]
		if there && len(text) <= maxDemandSize {
			_ = json.Unmarshal([]byte(text), &now) // an instance that cannot be read is silent
		}
		known.silent++
		if now.Number != 0 && now.Number != known.last.Number {
			if known.last.Number != 0 || now.recent() {
				known.silent = 0
			}
			known.last = now
			for key, n := range now.Demand {
				if n < 0 {
					delete(now.Demand, key) // JSON has no NaN
				}
			}
		}
		if known.silent >= forgetReads {
			delete(p.known, name)
			if there {
				gone = append(gone, name)
			}
		}
	}
	return gone
}

// recent judges a first sight by the clock, so that a living instance counts at once. A clock that is off only delays
// this to the next heartbeat.
func (h *heartbeat) recent() bool {
	age := time.Since(time.Unix(0, h.Number))
	return age.Abs() < silentReads*heartbeatInterval
}

func some(demand Demand, n int) Demand {
	list := make(Demand, n)
	for key, waiting := range demand {
		if len(list) == n {
			break
		}
		list[key] = waiting
	}
	return list
}
