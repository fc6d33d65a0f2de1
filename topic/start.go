package topic

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"fanout/topic/wire"
)

// historyAge is how old a record must be to count as history. A source without an offset and without history is read
// from its first record; one with history is not read until somebody has decided what becomes of it
// (docs/contract.md#the-first-start).
const historyAge = time.Hour

// The words for where a source begins. The third way to say it is a time (RFC 3339).
const (
	StartEarliest = "earliest"
	StartLatest   = "latest"
)

// SourceStart is where a source topic would begin now, and what it holds. Records are counted by their offsets, which
// include transaction markers and compacted records: the numbers are estimates.
type SourceStart struct {
	Topic      string
	Partitions int
	Start      string // its own start, else kafka.start: earliest, latest or RFC 3339; empty: neither is set

	// Begun: the group has a committed offset for at least one partition. Nothing below is filled in then.
	Begun bool

	Records int64     // what the topic holds
	Ahead   int64     // records that a first run would read, if it began now; from the first record where Start is empty
	History bool      // it holds records older than an hour, or of which it is not known that they are younger
	Oldest  time.Time // when its oldest record was written, where that was asked for and is known
}

// Undecided reports whether the source holds history and nobody has decided whether it is to be sent. Such a source is
// not read.
func (s *SourceStart) Undecided() bool { return !s.Begun && s.Start == "" && s.History }

// Holds says in words what the topic holds.
func (s *SourceStart) Holds() string {
	text := fmt.Sprintf("about %d records", s.Records)
	if s.Records == 1 {
		text = "about 1 record"
	}
	switch {
	case s.Records == 0 || s.Oldest.IsZero():
		return text
	case s.Records == 1:
		return text + ", from " + s.Oldest.UTC().Format(time.RFC3339)
	}
	return text + ", the oldest from " + s.Oldest.UTC().Format(time.RFC3339)
}

// UndecidedError ends a first run: the sources hold history, nobody has decided whether it is to be sent, and the group
// has no offset for any source.
type UndecidedError struct {
	Group   string
	Sources []SourceStart
}

// Error says how much there is, from when, and what to set.
func (e *UndecidedError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "group %s has no offset for any source, and nobody has decided whether these old records are to be sent:", e.Group)
	for i := range e.Sources {
		fmt.Fprintf(&b, "\n    %s holds %s", e.Sources[i].Topic, e.Sources[i].Holds())
	}
	b.WriteString("\nset kafka.start, or start of a single source under sources:, to one of")
	for _, choice := range StartChoices() {
		b.WriteString("\n    " + choice)
	}
	b.WriteString("\nif this group has read them before, its offsets have expired (the brokers' offsets.retention.minutes), or kafka.group has changed")
	return b.String()
}

// StartChoices are the values of kafka.start with what each does, a line each.
func StartChoices() []string {
	return []string{
		"earliest               to send all of them",
		"latest                 to send none of them, only what is written from now on",
		"2026-01-31T08:00:00Z   to send what was written since then, and nothing older",
	}
}

// Guard returns the sources that stay unread because nobody has decided about their history. It is an *UndecidedError
// where the group has begun no source at all: a first run has to be decided before anything is sent.
func Guard(group string, starts []SourceStart) (unread []SourceStart, err error) {
	begun := false
	for i := range starts {
		begun = begun || starts[i].Begun
		if starts[i].Undecided() {
			unread = append(unread, starts[i])
		}
	}
	if len(unread) > 0 && !begun {
		return nil, &UndecidedError{group, unread}
	}
	return unread, nil
}

// StartTime is a start as wire.OffsetRequest has it: Earliest, Latest or Unix milliseconds. No start is earliest.
func StartTime(start string) (int64, error) {
	switch start {
	case "", StartEarliest:
		return wire.Earliest, nil
	case StartLatest:
		return wire.Latest, nil
	}
	at, err := time.Parse(time.RFC3339, start)
	if err != nil {
		return 0, fmt.Errorf("start: %w", err)
	}
	return max(0, at.UnixMilli()), nil
}

// bounds are offsets of one partition, as they were at one time.
type bounds struct {
	first, end int64
	young      int64 // the first record that is not older than an hour; -1: none is
	future     int64 // the first record that is dated an hour ahead or more; -1: none is
	start      int64 // where the partition would begin
}

// survey adds what a partition holds. A first record that is dated ahead does not say how old it is, so it counts as history.
func (s *SourceStart) survey(b bounds) {
	if b.end <= b.first {
		return
	}
	s.Records += b.end - b.first
	s.Ahead += b.end - min(max(b.first, b.start), b.end)
	if b.young < 0 || b.young > b.first || b.future == b.first {
		s.History = true
	}
}

// Starts says where each source that exists would begin now. sizes is the number of partitions by topic. Only sources
// without a committed offset are looked at; Oldest is left zero.
func (c *Cluster) Starts(ctx context.Context, sizes map[string]int) ([]SourceStart, error) {
	var starts []SourceStart
	for _, source := range c.cfg.AllSources() {
		s := SourceStart{Topic: source.Topic, Partitions: sizes[source.Topic], Start: c.cfg.StartOf(source.Topic)}
		if s.Partitions == 0 {
			continue
		}
		progress, err := c.Progress(ctx, c.cfg.Kafka.Group, s.Topic, partitionIDs(s.Partitions))
		if err != nil {
			return nil, err
		}
		s.Begun = len(progress) > 0
		if !s.Begun {
			if err := c.survey(ctx, &s, time.Now()); err != nil {
				return nil, err
			}
		}
		starts = append(starts, s)
	}
	return starts, nil
}

func (c *Cluster) survey(ctx context.Context, s *SourceStart, now time.Time) error {
	begin, err := StartTime(s.Start)
	if err != nil {
		return err
	}
	// The end comes before the times: a record that is written meanwhile must not look old.
	var asked [5]map[Partition]int64
	for i, at := range []int64{wire.Earliest, wire.Latest, now.Add(-historyAge).UnixMilli(), now.Add(historyAge).UnixMilli(), begin} {
		if asked[i], err = c.OffsetsAt(ctx, Partitions(s.Topic, s.Partitions), at); err != nil {
			return err
		}
	}
	for _, p := range Partitions(s.Topic, s.Partitions) {
		b := bounds{asked[0][p], asked[1][p], asked[2][p], asked[3][p], asked[4][p]}
		if b.start < 0 { // nothing is as young as the time asked for
			b.start = b.end
		}
		s.survey(b)
	}
	return nil
}

// Bounds of the search for a source's oldest record.
const (
	oldestAtOnce = 8               // partitions
	oldestTries  = 4               // fetches of one partition: aborted transactions may lie at its start
	oldestWithin = 5 * time.Second // for all partitions together
)

// Oldest reads when the topic's oldest record was written: the first record of each partition is asked. It is zero where
// that is not known within 5 seconds.
func (c *Cluster) Oldest(ctx context.Context, name string, partitions int) time.Time {
	ctx, cancel := context.WithTimeout(ctx, oldestWithin)
	defer cancel()
	first, err := c.OffsetsAt(ctx, Partitions(name, partitions), wire.Earliest)
	if err != nil {
		return time.Time{}
	}
	ids, times := make(chan Partition), make(chan time.Time, partitions)
	var asking sync.WaitGroup
	for range oldestAtOnce {
		asking.Go(func() {
			for p := range ids {
				if at, ok := c.firstTime(ctx, p, first[p]); ok {
					times <- at
				}
			}
		})
	}
	for _, p := range Partitions(name, partitions) {
		ids <- p
	}
	close(ids)
	asking.Wait()
	close(times)
	oldest := <-times // zero where there is none
	for at := range times {
		if at.Before(oldest) {
			oldest = at
		}
	}
	return oldest
}

// firstTime is the time of the first record that may be read at or behind the offset.
func (c *Cluster) firstTime(ctx context.Context, p Partition, offset int64) (at time.Time, ok bool) {
	f := c.scanner(p)
	f.maxBytes = 1 // one batch is enough
	for range oldestTries {
		page, err := f.Fetch(ctx, offset)
		if err != nil {
			return at, false
		}
		err = page.Each(ctx, func(r *Record) bool {
			at, ok = r.Time, true
			return false
		})
		next := page.Next()
		page.Close()
		if ok || err != nil || next <= offset {
			return at, ok
		}
		offset = next
	}
	return at, false
}
