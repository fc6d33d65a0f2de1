package consumer

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"fanout/topic"
)

// Bounds of reading ahead.
const (
	scoutPause  = 250 * time.Millisecond // between looks at a partition, as long as a lane has something to come
	scoutIdle   = time.Second            // the same where little was fetched
	scoutFew    = 32                     // so many records are little
	scoutRest   = 2                      // times as long as a look took nobody looks: a third of one processor at most
	scoutPages  = 64                     // looked at in one turn, so that other partitions have theirs
	scoutSettle = 2 * time.Second        // after a lane opened, until what it deferred before is sure to be written
	maxWanted   = 4096                   // lanes that are looked for in a partition. What more open are deferred for is due at its tier's time
)

// scout reads ahead of a retry tier's reader, for lanes that are open again: it fetches what was deferred for them before it is due, as
// much at a time as the lane has capacity for and the commit's metadata can mark. It runs in a goroutine of its own.
type scout struct {
	partition *partition
	fetcher   *topic.Fetcher
	intake    *intake
	opened    *openedLanes
	waits     func(*topic.Record) topic.Waits
	ready     func() bool                     // records may be handed on: the group and its topics are well
	capacity  func(ctx context.Context) error // waits until another record may be read
	log       *zap.Logger

	mu     sync.Mutex         // guards wanted
	wanted map[string]*wanted // by the key that the records of a lane have
	news   chan struct{}      // of one slot: there is something to look for
}

// wanted is a lane that something is looked for.
type wanted struct {
	told     int       // how often it was told
	since    time.Time // when it was told last
	ownWaits bool      // see openedLanes.tell
	from     int64     // all records before have been looked at
	until    int64     // records here or behind belong to the next opening; -1: not known yet
	done     bool      // all of it has been looked at
}

// newScout makes the scout of a partition.
func newScout(r *reader, fetcher *topic.Fetcher, opened *openedLanes, waits func(*topic.Record) topic.Waits, marking func() bool) *scout {
	return &scout{
		partition: r.partition, fetcher: fetcher, intake: r.intake, opened: opened, waits: waits, capacity: r.capacity, log: r.log,
		ready:  func() bool { return marking() && r.writable() && !r.suspended() },
		wanted: make(map[string]*wanted), news: make(chan struct{}, 1),
	}
}

// want notes that a lane is open. Deliveries that it deferred later lie behind those that were looked at before.
func (s *scout) want(key string, ownWaits bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.wanted[key]
	if w == nil {
		if len(s.wanted) >= maxWanted && !s.forgetLooked() {
			return
		}
		w = &wanted{}
		s.wanted[key] = w
	}
	if ownWaits && !w.ownWaits {
		w.from = 0
	}
	w.told++
	w.since, w.ownWaits, w.until, w.done = time.Now(), ownWaits || w.ownWaits && !w.done, -1, false
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// forgetLooked makes room for other lanes; it is false where all are looked for. The caller holds the lock.
func (s *scout) forgetLooked() bool {
	for key, w := range s.wanted {
		if w.done {
			delete(s.wanted, key)
		}
	}
	return len(s.wanted) < maxWanted
}

// run looks for what was wanted until ctx is done.
func (s *scout) run(ctx context.Context) {
	s.opened.add(s)
	defer s.opened.remove(s)
	for {
		select {
		case <-s.news:
		case <-ctx.Done():
			return
		}
		for pause := scoutPause; s.busy(); {
			if !topic.Sleep(ctx, pause) {
				return
			}
			pause = scoutIdle
			if s.look(ctx) >= scoutFew {
				pause = scoutPause
			}
		}
	}
}

// busy says whether something is looked for.
func (s *scout) busy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.wanted {
		if !w.done {
			return true
		}
	}
	return false
}

// look looks once, when it is this scout's turn, and says how many records it handed on.
func (s *scout) look(ctx context.Context) (fetched int) {
	if !s.ready() || s.capacity(ctx) != nil {
		return 0
	}
	select {
	case s.opened.turn <- struct{}{}:
		defer func() { <-s.opened.turn }()
	case <-ctx.Done():
		return 0
	}
	began := time.Now()
	search := s.search(began)
	if search == nil {
		return 0
	}
	if err := search.run(ctx); err != nil && ctx.Err() == nil {
		s.log.Debug("reading ahead fails; it is tried again", zap.Error(err))
	}
	topic.Sleep(ctx, scoutRest*time.Since(began))
	return search.fetched
}

// search is one look: the lanes that have capacity, and from where on to look for what waits for them. Its goroutine alone uses it.
type search struct {
	*scout
	lanes   map[string]*candidate
	from    int64
	began   time.Time
	marks   int
	fetched int
}

// candidate is a lane that is looked for and has capacity.
type candidate struct {
	wanted // as it was when the look began, and as far as that has come

	of       *wanted
	capacity int
	full     bool // there is more than it has capacity for
}

// search asks the lanes for their capacity; nil where there is nothing to look for now.
func (s *scout) search(now time.Time) *search {
	next, waits := s.partition.waiting()
	one := &search{scout: s, lanes: s.candidates(next, waits, now), from: -1, began: now, marks: s.partition.marks()}
	for key, c := range one.lanes { // without the lock: lanes are locked while they tell of themselves
		var open bool
		account, subscription := topic.ParseKey([]byte(key))
		if c.capacity, open = s.opened.capacity(account, subscription); !open {
			s.forget(key, c) // it is told again when the lane opens
		}
		if c.capacity == 0 {
			delete(one.lanes, key)
			continue
		}
		if one.from < 0 || c.from < one.from {
			one.from = c.from
		}
	}
	if len(one.lanes) == 0 || one.marks == 0 {
		return nil
	}
	return one
}

// candidates are the lanes that something is to be looked for, whatever their capacity. What is remembered of others is forgotten once it is
// worth nothing.
func (s *scout) candidates(next int64, waits bool, now time.Time) map[string]*candidate {
	s.mu.Lock()
	defer s.mu.Unlock()
	lanes := make(map[string]*candidate)
	for key, w := range s.wanted {
		switch {
		case w.done && w.from >= next:
		case w.done, !waits && now.Sub(w.since) >= scoutSettle:
			delete(s.wanted, key)
		default:
			w.from = max(w.from, next)
			lanes[key] = &candidate{wanted: *w, of: w}
		}
	}
	return lanes
}

// forget forgets a lane, unless it has opened again meanwhile.
func (s *scout) forget(key string, c *candidate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wanted[key] == c.of && c.of.told == c.told {
		delete(s.wanted, key)
	}
}

// run reads pages until it has come to the end, or no lane has capacity.
func (s *search) run(ctx context.Context) error {
	for range scoutPages {
		page, err := s.fetcher.Fetch(ctx, s.from)
		if err != nil {
			return err
		}
		ended, err := s.page(ctx, page)
		page.Close()
		if err != nil || ended {
			return err
		}
	}
	return nil
}

// page looks at one page. ended says that there is nothing more to look at now.
func (s *search) page(ctx context.Context, page *topic.Page) (ended bool, err error) {
	s.begin(page.End)
	ended = false
	err = page.EachWanted(ctx, func(key, _ []byte) bool { return s.lanes[string(key)] != nil }, func(r *topic.Record) bool {
		if c := s.lanes[string(r.Key)]; c != nil {
			s.consider(c, r)
		}
		ended = s.allFull()
		return !ended
	})
	s.from = max(s.from, page.Next())
	s.advance(page.End)
	return ended || page.Next() >= page.End || page.Empty(), err
}

// begin notes where what the lanes deferred before they opened ends.
func (s *search) begin(end int64) {
	for _, c := range s.lanes {
		if c.until < 0 && s.began.Sub(c.since) >= scoutSettle {
			c.until = end
		}
	}
}

// advance notes how far has been looked. Of a lane that has opened again meanwhile there may be more.
func (s *search) advance(end int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.lanes {
		if !c.full {
			c.from = max(c.from, s.from)
			c.done = c.until >= 0 && (c.from >= c.until || s.from >= end)
		}
		switch w := c.of; {
		case w.told == c.told:
			*w = c.wanted
		case w.ownWaits == c.ownWaits:
			w.from = c.from
		}
	}
}

// allFull says whether no lane has capacity for more.
func (s *search) allFull() bool {
	if s.marks == 0 {
		return true
	}
	for _, c := range s.lanes {
		if !c.full {
			return false
		}
	}
	return true
}

// consider hands a record of the lane on, where that is what the lane has capacity for.
func (s *search) consider(c *candidate, r *topic.Record) {
	if c.full || r.Offset < c.from || c.until >= 0 && r.Offset >= c.until || !s.welcome(c, r) {
		return
	}
	if c.capacity == 0 || s.marks == 0 {
		c.full, c.from = true, max(c.from, r.Offset)
		return
	}
	e := new(entry)
	u := s.partition.takeAhead(r, e, s.intake.flow)
	if u == nil {
		return
	}
	c.capacity--
	s.marks--
	s.fetched++
	s.intake.fetch(s.partition, u, r)
}

// welcome says whether a record may be handed on before it is due. A record that is due now is left to its reader.
func (s *search) welcome(c *candidate, r *topic.Record) bool {
	if !dueTime(r, s.partition.delay).After(s.began) {
		return false
	}
	switch s.waits(r) {
	case topic.WaitsForLane:
		return true
	case topic.WaitsAsAsked:
		return c.ownWaits
	case topic.WaitsItself:
	}
	return false
}
