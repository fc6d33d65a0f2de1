package consumer

import (
	"maps"
	"sync"
	"time"

	"fanout/dispatcher"
)

// openedLanes passes on which lanes are open again to whoever reads ahead in the partitions of the retry tiers. Only one of them does so at
// a time, so that looking for what waits takes little of this process, whatever waits.
type openedLanes struct {
	capacity func(account, subscription string) (n int, open bool)
	turn     chan struct{} // of one slot, held by the scout that reads

	mu     sync.Mutex // guards all below
	scouts map[*scout]struct{}
	lately map[string]openedLane // by key: a partition may come to this instance just after a lane was told
}

type openedLane struct {
	at       time.Time
	ownWaits bool
}

// lately is for how long a lane that opened is remembered for partitions that are still to come.
const lately = time.Minute

func newOpenedLanes(capacity func(account, subscription string) (n int, open bool)) *openedLanes {
	return &openedLanes{capacity: capacity, turn: make(chan struct{}, 1), scouts: make(map[*scout]struct{}), lately: make(map[string]openedLane)}
}

// tell passes a lane on. ownWaits says that deliveries are welcome too which wait for the time that a 429 or 503 asked for.
func (o *openedLanes) tell(account, subscription string, ownWaits bool) {
	key := account + "/" + subscription
	o.mu.Lock()
	defer o.mu.Unlock()
	for s := range o.scouts {
		s.want(key, ownWaits)
	}
	now := time.Now()
	if len(o.lately) >= maxWanted {
		maps.DeleteFunc(o.lately, func(_ string, l openedLane) bool { return now.Sub(l.at) > lately })
	}
	if l, known := o.lately[key]; known || len(o.lately) < maxWanted {
		o.lately[key] = openedLane{now, ownWaits || l.ownWaits && now.Sub(l.at) <= lately}
	}
}

func (o *openedLanes) add(s *scout) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.scouts[s] = struct{}{}
	for key, l := range o.lately {
		if time.Since(l.at) <= lately {
			s.want(key, l.ownWaits)
		}
	}
}

func (o *openedLanes) remove(s *scout) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.scouts, s)
}

// FollowLane takes what the dispatcher tells of a lane. What waits in the retry tiers for one that is open again, or that has its next
// probe to make, is fetched from the partitions that this instance reads (docs/contract.md#when-a-lane-opens). It does not block.
func (c *Consumer) FollowLane(e dispatcher.LaneEvent) {
	switch e.Kind {
	case dispatcher.LaneOpened, dispatcher.LaneProbeDue:
		c.opened.tell(e.Account, e.Subscription, e.OwnWaits)
	case dispatcher.LaneParked, dispatcher.LaneStopped, dispatcher.LaneUnparked: // the lane itself says that it takes nothing
	}
}

// FollowChange does the same for a subscription whose configuration has changed, whether it has a lane here or not.
func (c *Consumer) FollowChange(account, subscription string) {
	c.opened.tell(account, subscription, true)
}
