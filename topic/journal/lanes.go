package journal

import (
	"sync"

	"fanout/dispatcher"
	"fanout/topic"
)

// Lanes tells when an endpoint's lane parks or is stopped by a 410, and when a lane of which it has told that opens again.
type Lanes struct {
	tell     func(topic.EndpointEvent)
	instance string

	mu   sync.Mutex // guards shut
	shut map[endpoint]bool
}

// NewLanes makes Lanes of this instance.
func NewLanes(tell func(topic.EndpointEvent), instance string) *Lanes {
	return &Lanes{tell: tell, instance: instance, shut: make(map[endpoint]bool)}
}

// Observe takes what happened to a lane. It does not block.
func (l *Lanes) Observe(e dispatcher.LaneEvent) {
	kind := ""
	of := endpoint{e.Account, e.Subscription}
	l.mu.Lock()
	switch e.Kind {
	case dispatcher.LaneParked:
		kind, l.shut[of] = topic.KindParked, true
	case dispatcher.LaneStopped:
		kind, l.shut[of] = topic.KindGone, true
	case dispatcher.LaneUnparked:
		if l.shut[of] { // else nobody was told that it had shut
			kind = topic.KindOpened
			delete(l.shut, of)
		}
	case dispatcher.LaneOpened, dispatcher.LaneProbeDue:
	}
	l.mu.Unlock()
	if kind != "" {
		l.tell(topic.EndpointEvent{Kind: kind, Account: e.Account, Subscription: e.Subscription, Detail: e.Why, Instance: l.instance})
	}
}

// Forget forgets a subscription that is gone.
func (l *Lanes) Forget(account, subscription string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.shut, endpoint{account, subscription})
}
