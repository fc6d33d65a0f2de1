package main

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// laneLine is what an instance tells of a lane.
type laneLine struct {
	Account      string     `json:"account"`
	Subscription string     `json:"subscription"`
	State        string     `json:"state"` // open, limited or parked
	Paused       bool       `json:"paused"`
	Why          string     `json:"why"`
	Since        *time.Time `json:"since"` // since when it is parked, or fails
	Until        *time.Time `json:"until"` // until when it sends nothing
	InFlight     int        `json:"inFlight"`
	Limit        int        `json:"limit"`
	Queued       int        `json:"queued"`
	OldestQueued *time.Time `json:"oldestQueued"`
	Failures     int        `json:"failures"` // in a row
	Pace         float64    `json:"pace"`
}

// lanes asks an instance for its lanes. A subscription without one has nothing under way there, and nothing to remember.
func (r remote) lanes(ctx context.Context) ([]laneLine, error) {
	var answer struct {
		Lanes []laneLine `json:"lanes"`
	}
	err := r.read(ctx, "/api/v1/lanes", &answer)
	return answer.Lanes, err
}

// condition is what becomes of the lane's deliveries, in a word: paused by its configuration, parked after failures, held
// because its receiver asked for a pause, limited, or open.
func (l *laneLine) condition(now time.Time) string {
	switch {
	case l.Paused:
		return "paused"
	case l.State != "parked" && l.Until != nil && l.Until.After(now):
		return "held"
	}
	return l.State
}

// since is how the reason of a lane's state names the time that other columns show.
var since = regexp.MustCompile(` since \d{4}-[-0-9T:.]+Z`)

// reason is why the lane is in its condition, without what the condition and its times say already.
func (l *laneLine) reason(now time.Time) string {
	condition := l.condition(now)
	if condition == "paused" {
		return "" // by its configuration: the word says all
	}
	why := strings.TrimPrefix(l.Why, condition)
	if why != l.Why {
		why = strings.TrimLeft(why, ":, ")
	}
	return since.ReplaceAllString(why, "")
}

// words is the lane in one line.
func (l *laneLine) words(now time.Time) string {
	text := fmt.Sprintf("%s, %d in flight of at most %d, %d queued", l.condition(now), l.InFlight, l.Limit, l.Queued)
	if l.Until != nil && l.Until.After(now) {
		text = strings.Replace(text, ",", " until "+l.Until.Local().Format("15:04:05")+",", 1)
	}
	if why := l.reason(now); why != "" {
		text += "; " + why
	}
	return text
}
