package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"fanout/dispatcher"
	"fanout/event"
	"fanout/topic"
)

// selection is the flags that select dead letters.
type selection struct {
	account, subscription, event string
	group                        string
	reasons                      []string
	statuses                     []int
	since, until                 string
	partitions                   []int
	offsets                      string
	ids                          []string
}

func (s *selection) flags(f *pflag.FlagSet) {
	f.StringVar(&s.account, "account", "", "of this account")
	f.StringVar(&s.subscription, "subscription", "", "of the subscription with this id")
	f.StringVar(&s.event, "event", "", "of this event name, such as EMAIL_OPEN")
	f.StringVar(&s.group, "group", "", "that this consumer group gave up on, where several share the topics")
	f.StringSliceVar(&s.reasons, "reason", nil, "that died for one of these reasons")
	f.IntSliceVar(&s.statuses, "status", nil, "whose last HTTP status was one of these")
	f.StringVar(&s.since, "since", "", "that died then or later: a time (RFC 3339), or how long ago (90m, 2d)")
	f.StringVar(&s.until, "until", "", "that died before then")
	f.IntSliceVar(&s.partitions, "partition", nil, "in these partitions of the dead-letter topic")
	f.StringVar(&s.offsets, "offsets", "", "at these offsets: FROM-TO with both ends, or one")
	f.StringSliceVar(&s.ids, "id", nil, "with these webhook-ids, or at these places (PARTITION/OFFSET)")
}

// filter checks the flags. All that is wrong is said together.
func (s *selection) filter(c *event.Catalogue, now time.Time) (topic.Filter, error) {
	f := topic.Filter{
		Account: s.account, Subscription: s.subscription, Event: s.event, Group: s.group, Reasons: s.reasons, Statuses: s.statuses,
		Partitions: s.partitions, IDs: s.ids,
	}
	var problems []string
	note := func(flag, value, problem string) {
		problems = append(problems, fmt.Sprintf("--%s %s: %s", flag, value, problem))
	}
	if _, ok := c.Parse(s.event); s.event != "" && !ok {
		problems = append(problems, unknownValue("--event", s.event, "event name", c.Texts()))
	}
	for _, reason := range s.reasons {
		if r, ok := dispatcher.ParseReason(reason); !ok || !r.Dead() {
			problems = append(problems, unknownValue("--reason", reason, "reason of a dead letter", dispatcher.DeadReasons()))
		}
	}
	var err error
	if f.Since, err = moment(s.since, now); err != nil {
		note("since", s.since, err.Error())
	}
	if f.Until, err = moment(s.until, now); err != nil {
		note("until", s.until, err.Error())
	}
	if !f.Since.IsZero() && !f.Until.IsZero() && !f.Since.Before(f.Until) {
		note("until", s.until, "is not after --since "+s.since+": nothing lies between them")
	}
	if f.Since.After(now.Add(time.Minute)) {
		note("since", s.since, "lies in the future: nothing can have died since")
	}
	if s.offsets != "" {
		r, err := offsetRange(s.offsets)
		if err != nil {
			note("offsets", s.offsets, err.Error())
		}
		f.Offsets = &r
	}
	for _, p := range s.partitions {
		if p < 0 {
			note("partition", strconv.Itoa(p), "partitions count from 0")
		}
	}
	if len(problems) > 0 {
		return f, misuse(errors.New(strings.Join(problems, "\n  ")))
	}
	return f, nil
}

// moment reads a time, or how long ago.
func moment(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseFloat(days, 64); err == nil && n >= 0 && n <= 36500 { // a Duration holds 292 years
			return now.Add(-time.Duration(n * 24 * float64(time.Hour))), nil
		}
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	return time.Time{}, errors.New("want a time like 2026-01-02T15:04:05Z, or how long ago like 90m or 2d")
}

// offsetRange reads FROM-TO, both inclusive, or a single offset.
func offsetRange(s string) (topic.Range, error) {
	from, to, ranged := strings.Cut(s, "-")
	if !ranged {
		to = from
	}
	f, err1 := strconv.ParseInt(from, 10, 64)
	t, err2 := strconv.ParseInt(to, 10, 64)
	if err1 != nil || err2 != nil || f < 0 || t < f || t == math.MaxInt64 {
		return topic.Range{}, errors.New("want one offset, or FROM-TO with FROM not above TO")
	}
	return topic.Range{From: f, To: t + 1}, nil
}

// selected is what to add to "no dead letters".
func selected(f *topic.Filter) string {
	if f.Account == "" && f.Subscription == "" && f.Event == "" && len(f.Reasons)+len(f.Statuses)+len(f.Partitions)+len(f.IDs) == 0 &&
		f.Since.IsZero() && f.Until.IsZero() && f.Offsets == nil {
		return ""
	}
	return " that the flags select"
}
