package operate

import (
	"regexp"
	"strings"
	"time"
)

// Lane is a lane as an instance's API shows it.
type Lane struct {
	Account      string     `json:"account"`
	Subscription string     `json:"subscription"`
	State        string     `json:"state"`            // open, limited or parked
	Paused       bool       `json:"paused,omitempty"` // by the subscription's configuration
	Why          string     `json:"why,omitempty"`
	Since        *time.Time `json:"since,omitempty"`
	Until        *time.Time `json:"until,omitempty"`
	InFlight     int        `json:"inFlight"`
	Limit        int        `json:"limit"`
	Maximum      int        `json:"maximum"`
	Queued       int        `json:"queued"`
	OldestQueued *time.Time `json:"oldestQueued,omitempty"`
	Failures     int        `json:"failures"` // in a row
	Pace         float64    `json:"pace"`     // attempts that ended a second
	MaxPerSecond float64    `json:"maxPerSecond,omitempty"`
}

// Condition is what becomes of the lane's deliveries, in a word: paused by its configuration, parked after failures, held
// because its receiver asked for a pause, limited, or open.
func (l *Lane) Condition(now time.Time) string {
	switch {
	case l.Paused:
		return "paused"
	case l.State != "parked" && l.Until != nil && l.Until.After(now):
		return "held"
	}
	return l.State
}

// since is how the reason of a lane's state names the time that Since has.
var since = regexp.MustCompile(` since \d{4}-[-0-9T:.]+Z`)

// Reason is why the lane is in its condition, without what the condition and its times say already.
func (l *Lane) Reason(now time.Time) string {
	condition := l.Condition(now)
	if condition == "paused" {
		return "" // by its configuration: the word says all
	}
	why := strings.TrimPrefix(l.Why, condition)
	if why != l.Why {
		why = strings.TrimLeft(why, ":, ")
	}
	return since.ReplaceAllString(why, "")
}

// InstanceLanes is what one instance answered.
type InstanceLanes struct {
	Instance string // its URL
	Lanes    []Lane
	Notes    string // what it says is amiss, where that was asked
	Err      error  // it did not answer
}
