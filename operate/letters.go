package operate

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"fanout/topic"
)

// LetterState says whether somebody still has to do something about a dead letter (docs/contract.md#open-dead-letters).
type LetterState string

// The states.
const (
	LetterOpen      LetterState = "open"      // neither replayed nor delivered since
	LetterReplayed  LetterState = "replayed"  // it, or the delivery, was sent again; a malformed one was repaired and sent
	LetterDelivered LetterState = "delivered" // since it died
	LetterUnknown   LetterState = "not known" // the topics do not reach back so far
)

// LetterStates lists the states in the order they are shown.
func LetterStates() []LetterState {
	return []LetterState{LetterOpen, LetterReplayed, LetterDelivered, LetterUnknown}
}

// letterJudge finds out what became of dead letters: it is told of each of them, looks, and then knows.
type letterJudge struct {
	cluster *topic.Cluster
	sent    *sentRecords
	looked  bool // at the replay topic
	repairs *repairs

	mu        sync.Mutex           // guards all below
	replayed  map[digest]bool      // lives of which a dead letter was sent
	delivered map[digest]int64     // by webhook-id, Unix ms; 0: not known to be
	first     time.Time            // when the first of the deliveries died
	malformed bool                 // some are
	gaps      []topic.AttemptsGap  // attempts that could not be recorded
	attempts  *reach               // nil: there is no attempts topic, or nothing in it
	sources   map[string]time.Time // by source topic, since when it has all; zero: since ever
}

// newLetterJudge makes one that is asked for nothing yet.
func newLetterJudge(c *topic.Cluster) *letterJudge {
	return &letterJudge{
		cluster: c, sent: newSentRecords(), repairs: newRepairs(c), replayed: make(map[digest]bool), delivered: make(map[digest]int64), first: time.Now(),
		sources: make(map[string]time.Time),
	}
}

// look reads what is needed to judge the dead letters that each hands over, and that state is then asked for.
func (l *letterJudge) look(ctx context.Context, each func(func(*topic.DeadLetter) error) error, done *atomic.Int64, total func(int64)) error {
	if err := l.readSent(ctx); err != nil {
		return err
	}
	if err := each(l.ask); err != nil {
		return err
	}
	if err := l.readAttempts(ctx, done, total); err != nil {
		return err
	}
	if !l.malformed {
		return nil
	}
	if err := l.repairs.look(ctx, done, total); err != nil {
		return err
	}
	for source := range l.repairs.since {
		r, err := reachOf(ctx, l.cluster, source)
		if err != nil && !topic.NoTopic(err) {
			return err
		}
		l.sources[source] = r.all()
	}
	return nil
}

// readSent reads what replays, resends and backfills have sent.
func (l *letterJudge) readSent(ctx context.Context) error {
	if l.looked {
		return nil
	}
	l.looked = true
	name := l.cluster.Config().Names().Replay
	ranges, err := l.cluster.Ranges(ctx, name, time.Time{})
	if topic.NoTopic(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return l.cluster.Scan(ctx, name, ranges, nil, func(m *topic.Record) error { return l.sent.take(m, "") })
}

// ask takes in a dead letter that is to be judged.
func (l *letterJudge) ask(d *topic.DeadLetter) error {
	if d.Malformed() {
		l.repairs.ask(d)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.malformed = true
		return nil
	}
	by := l.sent.by(d)
	l.mu.Lock()
	defer l.mu.Unlock()
	if by.own || by.others {
		l.replayed[lifeOf(d)] = true
		return nil
	}
	l.delivered[digestOf(d.ID)], l.first = 0, earlier(l.first, d.DeadAt)
	return nil
}

// readAttempts reads what was delivered since the first of the dead letters died.
func (l *letterJudge) readAttempts(ctx context.Context, done *atomic.Int64, total func(int64)) error {
	name := l.cluster.Config().Names().Attempts
	if len(l.delivered) == 0 {
		return nil
	}
	r, err := reachOf(ctx, l.cluster, name)
	if topic.NoTopic(err) || err == nil && r.first.IsZero() {
		return nil
	}
	if err != nil {
		return err
	}
	l.attempts = &r
	ranges, err := l.cluster.Ranges(ctx, name, l.first.Add(-topic.ClockSlack))
	if err != nil {
		return err
	}
	if total != nil {
		total(topic.Total(ranges))
	}
	return l.cluster.Scan(ctx, name, ranges, done, func(m *topic.Record) error {
		if len(m.Headers) == 0 {
			if g, ok := topic.ParseAttemptsGap(m.Value); ok {
				l.mu.Lock()
				defer l.mu.Unlock()
				l.gaps = append(l.gaps, g)
			}
			return nil
		}
		if id, at, ok := deliveredAt(m, l.asked); ok {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.delivered[id] = max(l.delivered[id], at)
		}
		return nil
	})
}

func (l *letterJudge) asked(id digest) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, asked := l.delivered[id]
	return asked
}

// state judges one of the dead letters.
func (l *letterJudge) state(d *topic.DeadLetter) LetterState {
	if d.Malformed() {
		return l.malformedState(d)
	}
	by := l.sent.by(d)
	id := digestOf(d.ID)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case by.own || by.others || l.replayed[lifeOf(d)] || l.sent.resent[id].After(d.AppendedAt):
		return LetterReplayed
	case l.delivered[id] > d.DeadAt.UnixMilli():
		return LetterDelivered
	case l.attempts == nil || d.DeadAt.Before(l.attempts.of(d.Account)) || l.inGap(d):
		return LetterUnknown
	}
	return LetterOpen
}

func (l *letterJudge) malformedState(d *topic.DeadLetter) LetterState {
	origin, err := topic.ParseOrigin(d.Origin)
	switch {
	case err == nil && l.repairs.repaired(d):
		return LetterReplayed
	case err == nil && d.DeadAt.Before(l.sources[origin.Topic]):
		return LetterUnknown
	}
	return LetterOpen
}

// inGap says whether attempts of the dead letter's source record could not be recorded since it died.
func (l *letterJudge) inGap(d *topic.DeadLetter) bool {
	if len(l.gaps) == 0 {
		return false
	}
	origin, err := topic.ParseOrigin(d.Origin)
	if err != nil {
		return false
	}
	for i := range l.gaps {
		if g := &l.gaps[i]; g.Source == sourceOf(origin) && g.From <= origin.Offset && origin.Offset <= g.To && time.UnixMilli(g.Time).After(d.DeadAt.Add(-topic.ClockSlack)) {
			return true
		}
	}
	return false
}

// since is since when all that was delivered is known; zero where nothing is.
func (l *letterJudge) since() time.Time {
	if l.attempts == nil {
		return time.Time{}
	}
	return later(l.attempts.all(), l.attempts.first.Add(-firstSlack))
}

// ListedLetter is a dead letter, and what became of it.
type ListedLetter struct {
	*topic.DeadLetter

	State LetterState `json:"state"`
}

// LetterList says which dead letters are listed.
type LetterList struct {
	Filter topic.Filter
	Ranges map[int]topic.Range
	Open   bool // only those that are open
	Limit  int  // 0: all
	Done   *atomic.Int64
	Total  func(int64) // told how many more offsets there are; may be nil
}

// ListedLetters is what a list leaves out.
type ListedLetters struct {
	More    bool      // there are more than the limit
	Unknown int       // left out of a list of open ones, since nobody knows
	Since   time.Time // since when what was delivered is known; zero: nothing is
}

// firstLetters is how many dead letters are judged at first: the newest come at once, and a program that reads all has some of them should the
// rest fail.
const firstLetters = 100

// List calls f with each dead letter that is asked for, the newest first, and without key, value and headers.
func List(ctx context.Context, c *topic.Cluster, q *LetterList, f func(ListedLetter) error) (*ListedLetters, error) {
	run := &letterRun{c: c, q: q, f: f, out: new(ListedLetters), seen: make(map[position]bool)}
	page := firstLetters
	if q.Limit > 0 && !q.Open {
		page = q.Limit
	}
	var first []*topic.DeadLetter
	err := c.DeadLetters().Newest(ctx, &q.Filter, q.Ranges, q.Done, func(d *topic.DeadLetter) error {
		if len(first) == page {
			return errEnough
		}
		first = append(first, d)
		return nil
	})
	more := errors.Is(err, errEnough)
	if err != nil && !more {
		return nil, err
	}
	letters := newLetterJudge(c)
	if err := letters.look(ctx, func(ask func(*topic.DeadLetter) error) error {
		for _, d := range first {
			_ = ask(d) // it has no error of its own
		}
		return nil
	}, q.Done, q.Total); err != nil {
		return nil, err
	}
	run.letters = letters
	for _, d := range first {
		if err := run.take(d); err != nil {
			return run.end(err)
		}
		run.seen[positionOf(d)] = true
	}
	if !more || q.Limit > 0 && !q.Open {
		run.out.More = more
		return run.end(nil)
	}
	return run.rest(ctx)
}

// letterRun is a list that is being made.
type letterRun struct {
	c       *topic.Cluster
	q       *LetterList
	f       func(ListedLetter) error
	letters *letterJudge
	seen    map[position]bool // of the first page
	shown   int
	out     *ListedLetters
}

func (r *letterRun) take(d *topic.DeadLetter) error {
	state := r.letters.state(d)
	if r.q.Open && state != LetterOpen {
		if state == LetterUnknown {
			r.out.Unknown++
		}
		return nil
	}
	if r.q.Limit > 0 && r.shown == r.q.Limit {
		r.out.More = true
		return errEnough
	}
	r.shown++
	return r.f(ListedLetter{d, state})
}

// rest lists what is behind the first page. To judge it all, all is read first.
func (r *letterRun) rest(ctx context.Context) (*ListedLetters, error) {
	letters, q := r.c.DeadLetters(), r.q
	if q.Total != nil {
		q.Total(topic.Total(q.Ranges))
	}
	sent := r.letters.sent
	r.letters = newLetterJudge(r.c)
	r.letters.sent, r.letters.looked = sent, true
	if err := r.letters.look(ctx, func(ask func(*topic.DeadLetter) error) error {
		return letters.Each(ctx, &q.Filter, q.Ranges, q.Done, ask)
	}, q.Done, q.Total); err != nil {
		return r.out, err
	}
	return r.end(letters.Newest(ctx, &q.Filter, q.Ranges, nil, func(d *topic.DeadLetter) error {
		if r.seen[positionOf(d)] {
			return nil
		}
		return r.take(d)
	}))
}

func (r *letterRun) end(err error) (*ListedLetters, error) {
	r.out.Since = r.letters.since()
	if errors.Is(err, errEnough) {
		err = nil
	}
	return r.out, err
}
