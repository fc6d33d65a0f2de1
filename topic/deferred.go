package topic

import (
	"slices"
	"time"

	"fanout/dispatcher"
)

// Waits is what a record of a retry tier waits for.
type Waits uint8

// The reasons why a record waits.
const (
	WaitsItself  Waits = iota // its own time: a step of the schedule, or our own fault's end; no lane's opening changes that
	WaitsForLane              // its lane: it was deferred while that sent nothing, or had no room
	WaitsAsAsked              // the time that the 429 or 503 to its own attempt asked for, which is longer than the schedule's step
)

// WaitsFor says what a record of a retry tier waits for (docs/contract.md#when-a-lane-opens).
func (c *Config) WaitsFor(r *Record) Waits {
	reason, _ := dispatcher.ParseReason(r.Header(HeaderReason))
	switch reason { //nolint:exhaustive // the others do not belong to a lane
	case dispatcher.QueueFull, dispatcher.Parked, dispatcher.Paused, dispatcher.Rate, dispatcher.RetryAfter:
		return WaitsForLane
	case dispatcher.StatusFailed:
		if c.waitsAsAsked(r) {
			return WaitsAsAsked
		}
	}
	return WaitsItself
}

func (c *Config) waitsAsAsked(r *Record) bool {
	if !slices.Contains([]string{"429", "503"}, r.Header(HeaderStatus)) {
		return false
	}
	attempts, err := decodeCount(r.Header(HeaderAttempts))
	if err != nil || attempts < 1 || attempts > len(c.Schedule) {
		return false
	}
	at, err := DecodeTime(r.Header(HeaderNotBefore))
	return err == nil && at.Sub(r.Time) > c.Schedule[attempts-1]+time.Second
}
