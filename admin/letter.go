package admin

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"fanout/dispatcher"
	"fanout/operate"
	"fanout/topic"
)

// maxLetters bounds a list of dead letters.
const maxLetters = 1000

// letter is a dead letter for people: its id is its position, and its bytes are text.
type letter struct {
	*topic.DeadLetter

	Position string            `json:"position"` // partition/offset: its id
	Key      string            `json:"key,omitempty"`
	Value    string            `json:"value,omitempty"`
	Headers  map[string]string `json:"headers,omitempty"` // of a malformed record, its own
	State    string            `json:"state,omitempty"`   // what became of it, where that was asked for
}

// readable is text that any page can show.
func readable(b []byte) string { return strings.ToValidUTF8(string(b), "\uFFFD") }

// newLetter keeps nothing of the record's memory.
func newLetter(d *topic.DeadLetter) letter {
	own := *d
	own.Key, own.Value, own.Headers = nil, nil, nil
	own.DeadAt = d.DeadAt.UTC()
	l := letter{DeadLetter: &own, Position: d.Position(), Key: readable(d.Key), Value: readable(d.Value)}
	for name, value := range d.Headers {
		if l.Headers == nil {
			l.Headers = make(map[string]string)
		}
		l.Headers[readable([]byte(name))] = readable(value)
	}
	return l
}

// letterList is what a filter finds, the newest first.
type letterList struct {
	DeadLetters []letter `json:"deadLetters"`
	Matched     int      `json:"matched"` // how many there are, as far as was looked
	Counted     bool     `json:"counted"` // those are all
	Cursor      string   `json:"cursor,omitempty"`

	Unfinished bool `json:"unfinished"` // the search was ended before the page was full: the cursor says where to go on
	Indexed    bool `json:"indexed"`    // the index said where they lie
	Read       int  `json:"read"`       // records that were looked at, or are known by the index
	Total      int  `json:"total"`      // records of the dead-letter topic, from the time that was asked for on
	Partitions int  `json:"partitions"` // of it
	Finished   int  `json:"partitionsRead"`
	Unknown    int  `json:"unknown,omitempty"` // left out, since nobody knows whether they are open

	Groups []operate.LetterGroup `json:"-"` // of all that match, the most first, as far as was looked
	More   int                   `json:"-"` // groups that are left out
}

// Percent is how much of the topic was looked at. A customer is told no more: how much there is, is others'.
func (l *letterList) Percent() int { return 100 * l.Read / max(1, l.Total) }

// letterQuery asks for a page of dead letters.
type letterQuery struct {
	topic.Filter

	Limit    int
	Before   string // the cursor of the page before; empty: the newest
	Text     string // in the webhook-id, the detail, the origin or the body; empty: any
	State    string // open or settled; empty: whatever became of them
	Patience time.Duration
}

// letterStates are what a list can be asked for.
func letterStates() []string {
	return []string{string(operate.LetterOpen), string(operate.LetterSettled)}
}

// How long a search of the dead-letter topic goes on before it shows what it has found.
const (
	letterPatience    = 2 * time.Second // of a page
	letterAPIPatience = 20 * time.Second
)

var errLetterCursor = problemf(http.StatusBadRequest, "the address of the page is not complete: begin with the first page")

// Groups that are counted, and shown.
const (
	maxGroups   = 10_000
	shownGroups = 8
)

// letterGroups counts by webhook and reason.
type letterGroups map[operate.LetterGroup]int

func (g letterGroups) add(d *topic.DeadLetter) {
	one := operate.LetterGroup{Account: d.Account, Subscription: d.Subscription, Reason: d.Reason}
	if _, known := g[one]; known || len(g) < maxGroups {
		own := operate.LetterGroup{Account: strings.Clone(d.Account), Subscription: strings.Clone(d.Subscription), Reason: strings.Clone(d.Reason)}
		g[own]++
	}
}

// most are the largest groups, and how many more there are.
func (g letterGroups) most() (list []operate.LetterGroup, more int) {
	for one, n := range g {
		one.Count = n
		list = append(list, one)
	}
	slices.SortFunc(list, func(a, b operate.LetterGroup) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Account, b.Account), cmp.Compare(a.Subscription, b.Subscription), cmp.Compare(a.Reason, b.Reason))
	})
	return mostOf(list)
}

// mostOf are the first of the groups, and how many more there are.
func mostOf(list []operate.LetterGroup) (first []operate.LetterGroup, more int) {
	n := min(len(list), shownGroups)
	return list[:n], len(list) - n
}

func (a *api) listDeadLetters(w http.ResponseWriter, r *http.Request) error {
	q := newQuery(r, "account", "subscription", "event", "reason", "state", "from", "to", "cursor", "limit")
	filter := topic.Filter{
		Account: q.text("account"), Subscription: q.text("subscription"), Event: q.text("event"), Since: since(q.time("from")), Until: q.time("to"),
	}
	if reason := q.oneOf("reason", dispatcher.DeadReasons()); reason != "" {
		filter.Reasons = []string{reason}
	}
	limit, state, cursor := q.count("limit", 100, maxLetters), q.oneOf("state", letterStates()), q.text("cursor")
	if err := q.err(); err != nil {
		return err
	}
	list, err := a.letters(r.Context(), scope{}, &letterQuery{Filter: filter, Limit: limit, State: state, Before: cursor, Patience: letterAPIPatience})
	if errors.Is(err, errLetterCursor) {
		q.fail("cursor", "is not one that an answer gave")
		return q.err()
	}
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, "application/json", list)
	return nil
}

// letters returns a page of the dead letters that match, the newest first: from where the index says that they lie, or else from the end of the
// topic (about a million records a second), as far as patience goes.
func (p *panel) letters(ctx context.Context, s scope, q *letterQuery) (letterList, error) {
	release, err := p.budgets.scan(ctx, s)
	if err != nil {
		return letterList{}, err
	}
	defer release()
	page, err := operate.FindLetters(ctx, p.Kafka, &operate.LetterQuery{
		Filter: q.Filter, Text: q.Text, State: operate.LetterState(q.State), Limit: q.Limit, Cursor: q.Before, Patience: q.Patience, Index: p.LetterIndex,
	})
	switch {
	case errors.Is(err, operate.ErrCursor):
		return letterList{}, errLetterCursor
	case errors.Is(err, operate.ErrSlowStates):
		return letterList{}, problemf(http.StatusServiceUnavailable, "%s", err.Error())
	case err != nil:
		return letterList{}, err
	}
	list := letterList{
		DeadLetters: make([]letter, len(page.Letters)), Matched: page.Matched, Counted: page.Counted, Cursor: page.Cursor, Unfinished: page.Unfinished, Indexed: page.Indexed,
		Read: int(page.Read), Total: int(page.Total), Partitions: page.Partitions, Finished: page.Finished, Unknown: page.Unknown,
	}
	for i, one := range page.Letters {
		list.DeadLetters[i] = newLetter(one.DeadLetter)
		list.DeadLetters[i].State = string(one.State)
	}
	list.Groups, list.More = mostOf(page.Groups)
	return list, nil
}

var errNoLetter = problemf(http.StatusNotFound, "there is no such dead letter")

// letterAt reads one dead letter.
func (p *panel) letterAt(ctx context.Context, at string) (*letter, error) {
	text, offsetText, _ := strings.Cut(at, "/")
	partition, err := strconv.ParseUint(text, 10, 31)
	offset, offsetErr := strconv.ParseUint(offsetText, 10, 63)
	if err != nil || offsetErr != nil {
		return nil, errNoLetter
	}
	ranges, err := p.Kafka.DeadLetters().Ranges(ctx, &topic.Filter{})
	if err != nil {
		return nil, err
	}
	// Kafka would wait for a record outside of these offsets.
	if r, ok := ranges[int(partition)]; !ok || int64(offset) < r.From || int64(offset) >= r.To {
		return nil, errNoLetter
	}
	d, err := p.Kafka.DeadLetters().Get(ctx, int(partition), int64(offset))
	if err != nil {
		return nil, err
	}
	if d == nil {
		return nil, errNoLetter
	}
	l := newLetter(d)
	return &l, nil
}

// tally counts dead letters by reason, in the background, while somebody looks. It reads only what is new since the last
// count. Every recountEvery it reads everything, because Kafka deletes what is old.
type tally struct {
	mu      sync.Mutex // guards all below
	reading bool
	counted time.Time // when reasons was counted; zero: not yet
	next    map[int]int64
	reasons map[string]int // never changed, only replaced
	groups  letterGroups   // likewise
	full    time.Time
	read    time.Time
}

// These bound how much reading the people who look can cause.
const (
	tallyEvery   = time.Second
	tallyLasts   = time.Minute
	recountEvery = 10 * time.Minute
)

// look returns the last count and when it was made; the zero time means that there is none yet.
func (t *tally) look(ctx context.Context, p *panel) (reasons map[string]int, groups letterGroups, counted time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.reading && time.Since(t.read) > tallyEvery {
		t.reading = true
		p.behind(ctx, tallyLasts, func(ctx context.Context) { t.count(ctx, p.Kafka.DeadLetters()) })
	}
	return t.reasons, t.groups, t.counted
}

func (t *tally) count(ctx context.Context, letters *topic.DeadLetters) {
	t.mu.Lock()
	now := time.Now()
	recount := now.Sub(t.full) > recountEvery
	was, reasons, groups := t.next, map[string]int{}, letterGroups{}
	if !recount {
		reasons, groups = maps.Clone(t.reasons), maps.Clone(t.groups)
	}
	t.mu.Unlock()

	next := make(map[int]int64)
	ranges, err := letters.Ranges(ctx, &topic.Filter{})
	for id, r := range ranges {
		next[id] = r.To
		if from, known := was[id]; known && !recount {
			ranges[id] = topic.Range{From: max(r.From, from), To: r.To}
		}
	}
	var mu sync.Mutex // guards reasons and groups
	if err == nil {
		err = letters.Each(ctx, &topic.Filter{}, ranges, nil, func(d *topic.DeadLetter) error {
			mu.Lock()
			defer mu.Unlock()
			if _, ok := dispatcher.ParseReason(d.Reason); ok { // anybody may write to the topic
				reasons[d.Reason]++
				groups.add(d)
			}
			return nil
		})
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reading, t.read = false, now
	if err != nil {
		return
	}
	if recount {
		t.full = now
	}
	t.next, t.reasons, t.groups, t.counted = next, reasons, groups, now
}
