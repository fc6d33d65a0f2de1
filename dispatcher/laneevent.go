package dispatcher

// LaneEvent tells that a lane of this instance began to hold its deliveries back, or that they are welcome again.
type LaneEvent struct {
	Account, Subscription string

	Kind     LaneEventKind
	Why      string // in words, for people
	OwnWaits bool   // of LaneOpened: deliveries that wait for the time that a 429 or 503 asked for are welcome too
}

// LaneEventKind says what happened to a lane.
type LaneEventKind uint8

// The kinds of lane events.
const (
	LaneParked   LaneEventKind = iota // its attempts failed again and again
	LaneStopped                       // 410: nothing is sent until the configuration changes
	LaneOpened                        // what it deferred is welcome again: by a 2xx, a change, a release, or since it has room again
	LaneUnparked                      // its cool-down, or the stop that a 410 brought, has ended: by a 2xx, a change, or a release
	LaneProbeDue                      // its cool-down is over, and it has no delivery to find out with whether the receiver is back
)

// String is the kind in a word.
func (k LaneEventKind) String() string {
	return [...]string{"parked", "stopped", "opened", "unparked", "probe_due"}[k]
}

// WithLaneObserver has tell called with each lane event, in order for each lane, from several goroutines. It must not block,
// and must not call the Dispatcher. Given again, it adds an observer.
func WithLaneObserver(tell func(LaneEvent)) Option {
	return func(o *options) { o.observers = append(o.observers, tell) }
}
