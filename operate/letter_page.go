package operate

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"fanout/operate/letters"
	"fanout/topic"
)

// LetterQuery asks for a page of dead letters.
type LetterQuery struct {
	Filter topic.Filter
	Text   string      // in the webhook-id, the detail, the origin or the body; empty: any
	State  LetterState // LetterOpen, or LetterSettled; empty: whatever became of it
	Limit  int         // at least 1
	Cursor string      // of the page before; empty: the newest

	// Patience, if not 0, bounds how long the topic is read, and as long again to count what is behind the page. The page has then what was
	// found so far, and where to go on.
	Patience time.Duration
	Index    *letters.Builder // nil: there is none
}

// LetterSettled is, in a query, that nobody has to do anything about it any more: it was replayed or delivered.
const LetterSettled LetterState = "settled"

// LetterPage is a page of dead letters, the newest first.
type LetterPage struct {
	Letters []ListedLetter
	Cursor  string // there may be more: where to go on

	Matched int           // how many match, as far as was looked
	Counted bool          // those are all
	Groups  []LetterGroup // of those, the most first

	Indexed    bool  // the index said where they lie
	Unfinished bool  // patience ended before the page was full
	Read       int64 // offsets that were looked at, from the newest on, or are known by the index
	Total      int64 // offsets that there are
	Partitions int   // that there are
	Finished   int   // of them, those that were read to their beginning
	Unknown    int   // left out, since nobody knows whether they are open
	Since      time.Time
}

// LetterGroup is how many dead letters a webhook has for one reason.
type LetterGroup struct {
	Account, Subscription, Reason string
	Count                         int
}

// Bounds of a page.
const (
	maxLetterGroups = 10_000 // that are counted
	maxTail         = 20_000 // offsets that the index may be behind
	letterChunk     = 200    // dead letters that are judged at once, at first
	maxLetterChunk  = 10_000
)

// ErrSlowStates says that finding out what became of dead letters took too long.
var ErrSlowStates = errors.New("finding out what became of the dead letters takes too long: ask for one account, or a shorter time")

// FindLetters makes a page of the dead letters that match. Where an index knows the account it is read from where they lie; otherwise the topic is
// read from its end, and the page says how far.
func FindLetters(ctx context.Context, c *topic.Cluster, q *LetterQuery) (*LetterPage, error) {
	s := &letterSearch{c: c, q: q, page: &LetterPage{Letters: []ListedLetter{}}, groups: make(map[LetterGroup]int), match: q.Filter.Matcher()}
	var err error
	if s.all, err = c.DeadLetters().Ranges(ctx, &q.Filter); err != nil {
		return nil, err
	}
	if s.rest, err = afterCursor(s.all, q.Cursor); err != nil {
		return nil, err
	}
	s.page.Total, s.page.Partitions = topic.Total(s.all), len(s.all)
	if err := s.askIndex(ctx); err != nil {
		return nil, err
	}
	if err := s.fill(ctx); err != nil {
		return nil, err
	}
	if err := s.count(ctx); err != nil {
		return nil, err
	}
	return s.page, s.complete(ctx)
}

// letterSearch is a page that is being made.
type letterSearch struct {
	c     *topic.Cluster
	q     *LetterQuery
	match func(*topic.DeadLetter) bool
	page  *LetterPage

	all, rest map[int]topic.Range // of the whole topic, and what comes after the page so far
	known     *letters.Account    // nil: the index does not know
	places    []letters.Place     // of the account, not looked at yet, in the order of the page
	behind    []*topic.DeadLetter // those that lie behind what the index has reached, and match
	groups    map[LetterGroup]int
	judge     *letterJudge
}

// plain says that the query asks for no more than the index counts by.
func (q *LetterQuery) plain() bool {
	f := &q.Filter
	return f.Event == "" && f.Group == "" && len(f.Statuses) == 0 && f.Since.IsZero() && f.Until.IsZero() && len(f.Partitions) == 0 && f.Offsets == nil &&
		len(f.IDs) == 0 && f.Identities == nil && q.Text == "" && q.State == ""
}

// everything says that the query leaves nothing out.
func (q *LetterQuery) everything() bool {
	return q.plain() && q.Filter.Account == "" && q.Filter.Subscription == "" && len(q.Filter.Reasons) == 0
}

// wants says whether the text that is looked for is in the dead letter.
func (q *LetterQuery) wants(d *topic.DeadLetter) bool {
	return q.Text == "" || strings.Contains(d.ID, q.Text) || containsFold(d.Detail, q.Text) || strings.Contains(d.Origin, q.Text) || bytes.Contains(d.Value, []byte(q.Text))
}

func containsFold(text, part string) bool {
	return strings.Contains(strings.ToLower(text), strings.ToLower(part))
}

// askIndex asks the index for the account's places, and reads what has died since it was there last.
func (s *letterSearch) askIndex(ctx context.Context) error {
	account := s.q.Filter.Account
	if s.q.Index == nil || account == "" {
		return nil
	}
	known, ok := s.q.Index.Index().Look(account, s.all)
	if !ok {
		return nil
	}
	tail := make(map[int]topic.Range, len(s.all))
	for id, r := range s.all {
		tail[id] = topic.Range{From: max(r.From, known.Reached[id]), To: max(r.From, known.Reached[id], r.To)}
	}
	if topic.Total(tail) > maxTail {
		return nil
	}
	var mu sync.Mutex // guards s.behind
	err := s.c.DeadLetters().Each(ctx, &topic.Filter{Account: account}, tail, nil, func(d *topic.DeadLetter) error {
		mu.Lock()
		defer mu.Unlock()
		known.Places = append(known.Places, letters.Place{Partition: d.Partition, Offset: d.Offset, At: d.DeadAt})
		if s.match(d) && s.q.wants(d) {
			slim := *d
			slim.Key, slim.Value, slim.Headers = nil, nil, nil
			s.behind = append(s.behind, &slim)
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.known, s.page.Indexed = known, len(known.Reached) > 0
	s.places = inOrder(known.Places, s.rest)
	return nil
}

// inOrder are the places within the ranges in the order of a page: of each partition the last first, and of those that come next the newest.
func inOrder(places []letters.Place, within map[int]topic.Range) []letters.Place {
	parts := make(map[int][]letters.Place)
	n := 0
	for _, p := range places {
		if r, ok := within[p.Partition]; ok && p.Offset >= r.From && p.Offset < r.To {
			parts[p.Partition] = append(parts[p.Partition], p)
			n++
		}
	}
	for _, list := range parts {
		slices.SortFunc(list, func(a, b letters.Place) int { return cmp.Compare(b.Offset, a.Offset) })
	}
	out := make([]letters.Place, 0, n)
	for len(out) < n {
		next := -1
		for id, list := range parts {
			if len(list) > 0 && (next < 0 || cmp.Or(list[0].At.Compare(parts[next][0].At), cmp.Compare(next, id)) > 0) {
				next = id
			}
		}
		out, parts[next] = append(out, parts[next][0]), parts[next][1:]
	}
	return out
}

// fill reads until the page is full, all was seen, or patience ends.
func (s *letterSearch) fill(ctx context.Context) error {
	patience, cancel := s.patience(ctx, 1)
	defer cancel()
	size := s.q.Limit
	if s.q.State != "" {
		size = max(size, letterChunk)
	}
	for len(s.page.Letters) < s.q.Limit {
		found, end, err := s.next(ctx, patience, size)
		if err != nil {
			return err
		}
		if err := s.take(ctx, found); err != nil {
			return err
		}
		if end {
			s.page.Unfinished = patience.Err() != nil && len(s.page.Letters) < s.q.Limit && topic.Total(s.rest) > 0
			break
		}
		size = min(2*size, maxLetterChunk)
	}
	s.page.Read = s.page.Total - topic.Total(s.rest)
	for _, r := range s.rest {
		if r.From >= r.To {
			s.page.Finished++
		}
	}
	if s.known != nil && s.known.Whole && len(s.places) == 0 {
		s.page.Read, s.page.Finished = s.page.Total, s.page.Partitions
	} else if topic.Total(s.rest) > 0 {
		s.page.Cursor = cursorOf(s.rest)
	}
	return nil
}

// patience ends after so many times the query's.
func (s *letterSearch) patience(ctx context.Context, times int) (context.Context, context.CancelFunc) {
	if s.q.Patience <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Duration(times)*s.q.Patience)
}

// next is the next chunk of dead letters that match, whatever became of them. end: nothing comes behind it, or patience has ended.
func (s *letterSearch) next(ctx, patience context.Context, size int) (found []*topic.DeadLetter, end bool, err error) {
	if s.known != nil && len(s.places) > 0 {
		found, err = s.atPlaces(ctx, size)
		return found, len(s.places) == 0 && s.known.Whole, err
	}
	if s.known != nil && s.known.Whole {
		return nil, true, nil
	}
	rest, err := s.c.DeadLetters().Backwards(patience, &s.q.Filter, s.rest, nil, s.q.wants, func(d *topic.DeadLetter) error {
		if len(found) == size {
			return errEnough
		}
		found = append(found, d)
		return nil
	})
	s.rest = rest
	switch {
	case errors.Is(err, errEnough):
		return found, false, nil
	case err != nil && ctx.Err() == nil && patience.Err() != nil:
		return found, true, nil //nolint:nilerr // patience has ended, which is not an error
	}
	return found, true, err
}

// atPlaces reads at the next places.
func (s *letterSearch) atPlaces(ctx context.Context, size int) (found []*topic.DeadLetter, err error) {
	chunk := s.places[:min(size, len(s.places))]
	s.places = s.places[len(chunk):]
	read, err := readAt(ctx, s.c, chunk)
	if err != nil {
		return nil, err
	}
	for _, p := range chunk {
		s.rest[p.Partition] = topic.Range{From: s.rest[p.Partition].From, To: p.Offset}
		d := read[p]
		switch {
		case d == nil: // the log was compacted
		case d.Account != s.q.Filter.Account:
			s.q.Index.Suspect()
		case s.match(d) && s.q.wants(d):
			found = append(found, d)
		}
	}
	return found, nil
}

// readAt reads the dead letters at these places.
func readAt(ctx context.Context, c *topic.Cluster, places []letters.Place) (map[letters.Place]*topic.DeadLetter, error) {
	offsets, at := make(map[int][]int64), make(map[[2]int64]letters.Place, len(places))
	for _, p := range places {
		offsets[p.Partition] = append(offsets[p.Partition], p.Offset)
		at[[2]int64{int64(p.Partition), p.Offset}] = p
	}
	read := make(map[letters.Place]*topic.DeadLetter, len(places))
	err := c.DeadLetters().At(ctx, offsets, func(d *topic.DeadLetter) {
		read[at[[2]int64{int64(d.Partition), d.Offset}]] = d.Clone()
	})
	return read, err
}

// take puts those on the page whose state is asked for, until it is full; the others are left for the next page.
func (s *letterSearch) take(ctx context.Context, found []*topic.DeadLetter) error {
	if s.q.State != "" && len(found) > 0 {
		if err := s.look(ctx, found); err != nil {
			return err
		}
	}
	for i, d := range found {
		if len(s.page.Letters) == s.q.Limit {
			s.putBack(found[i:])
			return nil
		}
		listed := ListedLetter{DeadLetter: d}
		if s.q.State != "" {
			listed.State = s.judge.state(d)
			if !s.asksFor(listed.State) {
				continue
			}
		}
		s.page.Letters = append(s.page.Letters, listed)
		s.add(d, 1)
	}
	return nil
}

// putBack has the next page begin with these.
func (s *letterSearch) putBack(found []*topic.DeadLetter) {
	for _, d := range slices.Backward(found) { // of a partition the first of them lies highest
		s.rest[d.Partition] = topic.Range{From: s.rest[d.Partition].From, To: d.Offset + 1}
	}
}

// asksFor says whether the state is the one that is asked for.
func (s *letterSearch) asksFor(state LetterState) bool {
	if state == LetterUnknown {
		s.page.Unknown++
		return false
	}
	if s.q.State == LetterSettled {
		return state != LetterOpen
	}
	return state == s.q.State
}

// look finds out what became of the dead letters.
func (s *letterSearch) look(ctx context.Context, found []*topic.DeadLetter) error {
	before := s.judge
	s.judge = newLetterJudge(s.c)
	if before != nil {
		s.judge.sent, s.judge.looked = before.sent, true
	}
	looking, cancel := s.patience(ctx, 2)
	defer cancel()
	err := s.judge.look(looking, func(ask func(*topic.DeadLetter) error) error {
		for _, d := range found {
			if err := ask(d); err != nil {
				return err
			}
		}
		return nil
	}, nil, nil)
	if err != nil && ctx.Err() == nil && looking.Err() != nil {
		return ErrSlowStates
	}
	s.page.Since = s.judge.since()
	return err
}

// add counts a dead letter, or several that are alike.
func (s *letterSearch) add(d *topic.DeadLetter, n int) {
	s.page.Matched += n
	g := LetterGroup{d.Account, d.Subscription, d.Reason, 0}
	if _, known := s.groups[g]; !known {
		if len(s.groups) == maxLetterGroups {
			return
		}
		g = LetterGroup{strings.Clone(g.Account), strings.Clone(g.Subscription), strings.Clone(g.Reason), 0}
	}
	s.groups[g] += n
}

// count counts what is behind the page.
func (s *letterSearch) count(ctx context.Context) error {
	defer s.sortGroups()
	switch first := s.q.Cursor == ""; {
	case s.q.everything():
		s.page.Matched, s.page.Counted = int(s.page.Total), true
		clear(s.groups) // of one page they say nothing
		return nil
	case s.known != nil && s.q.plain():
		s.countByIndex()
		return nil
	case !first || s.page.Unfinished:
		return nil
	case s.known != nil && s.known.Whole && s.q.State == "":
		return s.countPlaces(ctx)
	case topic.Total(s.rest) == 0 || s.page.Cursor == "":
		s.page.Counted = true
		return nil
	case s.known != nil || s.q.State != "":
		return nil
	}
	return s.countRest(ctx)
}

// countByIndex takes the index's counts for those of the page.
func (s *letterSearch) countByIndex() {
	s.page.Matched, s.page.Counted = 0, s.known.Exact
	clear(s.groups)
	f := &s.q.Filter
	for _, g := range s.known.Groups {
		switch {
		case g.Subscription == "" && g.Reason == "" && (f.Subscription != "" || len(f.Reasons) > 0):
			s.page.Counted = false // nobody knows which of them match
		case g.Subscription == "" && g.Reason == "":
			s.page.Matched += g.Count
		case f.Subscription != "" && g.Subscription != f.Subscription, len(f.Reasons) > 0 && !slices.Contains(f.Reasons, g.Reason):
		default:
			s.add(&topic.DeadLetter{Account: f.Account, Subscription: g.Subscription, Reason: g.Reason}, g.Count)
		}
	}
	for _, d := range s.behind {
		s.add(d, 1)
	}
}

// countPlaces reads the rest of an account that the index knows wholly.
func (s *letterSearch) countPlaces(ctx context.Context) error {
	rest := inOrder(s.known.Places, s.rest)
	read, err := readAt(ctx, s.c, rest)
	if err != nil {
		return err
	}
	for _, p := range rest {
		if d := read[p]; d != nil && s.match(d) && s.q.wants(d) {
			s.add(d, 1)
		}
	}
	s.page.Counted = true
	return nil
}

// countRest reads on until all is counted or patience ends.
func (s *letterSearch) countRest(ctx context.Context) error {
	counting, cancel := s.patience(ctx, 1)
	defer cancel()
	var mu sync.Mutex // guards the page's counts
	err := s.c.DeadLetters().Each(counting, &s.q.Filter, s.rest, nil, func(d *topic.DeadLetter) error {
		if s.q.wants(d) {
			mu.Lock()
			defer mu.Unlock()
			s.add(d, 1)
		}
		return nil
	})
	if err != nil && ctx.Err() == nil && counting.Err() != nil {
		return nil
	}
	s.page.Counted = err == nil
	return err
}

func (s *letterSearch) sortGroups() {
	for g, n := range s.groups {
		g.Count = n
		s.page.Groups = append(s.page.Groups, g)
	}
	slices.SortFunc(s.page.Groups, func(a, b LetterGroup) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Account, b.Account), cmp.Compare(a.Subscription, b.Subscription), cmp.Compare(a.Reason, b.Reason))
	})
}

// complete reads the values of those that were found without them.
func (s *letterSearch) complete(ctx context.Context) error {
	var slim []letters.Place
	for i := range s.page.Letters {
		if d := s.page.Letters[i].DeadLetter; d.Value == nil && d.Key == nil {
			slim = append(slim, letters.Place{Partition: d.Partition, Offset: d.Offset})
		}
	}
	read, err := readAt(ctx, s.c, slim)
	if err != nil {
		return err
	}
	for i := range s.page.Letters {
		d := s.page.Letters[i].DeadLetter
		if whole := read[letters.Place{Partition: d.Partition, Offset: d.Offset}]; whole != nil {
			s.page.Letters[i].DeadLetter = whole
		}
	}
	return nil
}
