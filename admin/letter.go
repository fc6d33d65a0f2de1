package admin

import (
	"bytes"
	"cmp"
	"container/heap"
	"context"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"fanout/dispatcher"
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
	Matched     int      `json:"matched"` // how many there are in all

	Next   string        `json:"-"` // the cursor of the page behind this; empty: there is none
	Groups []letterGroup `json:"-"` // of all that match, the most first, where all was read
	More   int           `json:"-"` // groups that are left out
}

// letterGroup is how many dead letters a webhook has for one reason.
type letterGroup struct {
	Account, Subscription, Reason string
	Count                         int
}

// letterQuery asks for a page of dead letters.
type letterQuery struct {
	topic.Filter

	Limit  int
	Before string // the cursor of the page before; empty: the newest
	Text   string // in the webhook-id, the detail, the origin or the body; empty: any
	Groups bool   // count those too
}

// all says that the query leaves nothing out, so that only the end of each partition has to be read.
func (q *letterQuery) all() bool {
	return q.Account == "" && q.Subscription == "" && q.Event == "" && len(q.Reasons) == 0 && len(q.Statuses) == 0 && q.Since.IsZero() && q.Until.IsZero() && q.Text == ""
}

// has says whether the text that is looked for is in the dead letter.
func (q *letterQuery) has(d *topic.DeadLetter) bool {
	return q.Text == "" || strings.Contains(d.ID, q.Text) || contains(d.Detail, q.Text) || strings.Contains(d.Origin, q.Text) || bytes.Contains(d.Value, []byte(q.Text))
}

// place is where a page ends: its last dead letter, without all but what says which ones are older.
func (l *letter) place() string { return strconv.FormatInt(l.DeadAt.UnixNano(), 10) + "/" + l.Position }

var errLetterCursor = problemf(http.StatusBadRequest, "the address of the page is not complete: begin with the first page")

// letterBefore reads a cursor; nil where there is none.
func letterBefore(cursor string) (*letter, error) {
	if cursor == "" {
		return nil, nil //nolint:nilnil // the newest page has none before it
	}
	at, position, _ := strings.Cut(cursor, "/")
	id, offsetText, _ := strings.Cut(position, "/")
	nanos, err := strconv.ParseInt(at, 10, 64)
	partition, idErr := strconv.Atoi(id)
	offset, offsetErr := strconv.ParseInt(offsetText, 10, 64)
	if err != nil || idErr != nil || offsetErr != nil {
		return nil, errLetterCursor
	}
	return &letter{DeadLetter: &topic.DeadLetter{DeadAt: time.Unix(0, nanos), Partition: partition, Offset: offset}}, nil
}

// Groups that are counted, and shown.
const (
	maxGroups   = 10_000
	shownGroups = 8
)

// letterGroups counts by webhook and reason.
type letterGroups map[letterGroup]int

func (g letterGroups) add(d *topic.DeadLetter) {
	one := letterGroup{d.Account, d.Subscription, d.Reason, 0}
	if _, known := g[one]; known || len(g) < maxGroups {
		own := letterGroup{strings.Clone(d.Account), strings.Clone(d.Subscription), strings.Clone(d.Reason), 0}
		g[own]++
	}
}

// most are the largest groups, and how many more there are.
func (g letterGroups) most() (list []letterGroup, more int) {
	for one, n := range g {
		one.Count = n
		list = append(list, one)
	}
	slices.SortFunc(list, func(a, b letterGroup) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Account, b.Account), cmp.Compare(a.Subscription, b.Subscription), cmp.Compare(a.Reason, b.Reason))
	})
	n := min(len(list), shownGroups)
	return list[:n], len(list) - n
}

func (a *api) listDeadLetters(w http.ResponseWriter, r *http.Request) error {
	q := newQuery(r, "account", "subscription", "event", "reason", "from", "to", "limit")
	filter := topic.Filter{
		Account: q.text("account"), Subscription: q.text("subscription"), Event: q.text("event"), Since: since(q.time("from")), Until: q.time("to"),
	}
	if reason := q.oneOf("reason", dispatcher.DeadReasons()); reason != "" {
		filter.Reasons = []string{reason}
	}
	limit := q.count("limit", 100, maxLetters)
	if err := q.err(); err != nil {
		return err
	}
	list, err := a.letters(r.Context(), scope{}, &letterQuery{Filter: filter, Limit: limit})
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, "application/json", list)
	return nil
}

// newest is a heap of dead letters with the oldest on top.
type newest []letter

func (h *newest) Len() int           { return len(*h) }
func (h *newest) Less(i, j int) bool { return older(&(*h)[i], &(*h)[j]) }
func (h *newest) Swap(i, j int)      { (*h)[i], (*h)[j] = (*h)[j], (*h)[i] }
func (h *newest) Push(x any)         { l, _ := x.(letter); *h = append(*h, l) }
func (h *newest) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

func older(a, b *letter) bool { return compareLetters(a, b) < 0 }

// compareLetters is by the time of death, and then by where they lie.
func compareLetters(a, b *letter) int {
	return cmp.Or(a.DeadAt.Compare(b.DeadAt), cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset))
}

// letters returns a page of the dead letters that match, the newest first. It reads the whole topic (about a million records a
// second) and keeps a page of them in memory; without a filter it reads only the end of each partition.
func (p *panel) letters(ctx context.Context, s scope, q *letterQuery) (letterList, error) {
	release, err := p.budgets.scan(ctx, s)
	if err != nil {
		return letterList{}, err
	}
	defer release()
	letters := p.Kafka.DeadLetters()
	ranges, err := letters.Ranges(ctx, &q.Filter)
	if err != nil {
		return letterList{}, err
	}
	if q.all() {
		return lastLetters(ctx, letters, ranges, q)
	}
	return findLetters(ctx, letters, ranges, q)
}

// findLetters reads all that may match. Its pages are in the order of death.
func findLetters(ctx context.Context, letters *topic.DeadLetters, ranges map[int]topic.Range, q *letterQuery) (letterList, error) {
	list := letterList{DeadLetters: []letter{}}
	before, err := letterBefore(q.Before)
	if err != nil {
		return list, err
	}
	var mu sync.Mutex // guards list, kept, groups and behind
	kept, groups, behind := newest{}, letterGroups{}, 0
	err = letters.Each(ctx, &q.Filter, ranges, nil, func(d *topic.DeadLetter) error {
		if !q.has(d) {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		list.Matched++
		if q.Groups {
			groups.add(d)
		}
		if before != nil && !older(&letter{DeadLetter: d}, before) {
			return nil
		}
		if behind++; len(kept) == q.Limit && older(&letter{DeadLetter: d}, &kept[0]) {
			return nil
		}
		heap.Push(&kept, newLetter(d))
		if len(kept) > q.Limit {
			heap.Pop(&kept)
		}
		return nil
	})
	if err != nil {
		return list, err
	}
	slices.SortFunc(kept, func(a, b letter) int { return compareLetters(&b, &a) })
	list.DeadLetters = kept
	list.Groups, list.More = groups.most()
	if behind > len(kept) && len(kept) > 0 {
		list.Next = kept[len(kept)-1].place()
	}
	return list, nil
}

// lastLetters reads only the end of each partition, where nothing is left out. Its pages take from each partition backwards, so that none
// is left out by a clock that differs.
func lastLetters(ctx context.Context, letters *topic.DeadLetters, ranges map[int]topic.Range, q *letterQuery) (letterList, error) {
	list := letterList{DeadLetters: []letter{}, Matched: int(topic.Total(ranges))}
	ends, err := letterEnds(q.Before)
	if err != nil {
		return list, err
	}
	for id, r := range ranges {
		if end, known := ends[id]; known {
			r.To = min(r.To, end)
		}
		ranges[id] = topic.Range{From: max(r.From, r.To-int64(q.Limit)), To: max(r.From, r.To)}
	}
	var mu sync.Mutex // guards tails
	tails := make(map[int][]letter)
	err = letters.Each(ctx, &q.Filter, ranges, nil, func(d *topic.DeadLetter) error {
		mu.Lock()
		defer mu.Unlock()
		tails[d.Partition] = append(tails[d.Partition], newLetter(d))
		return nil
	})
	if err != nil {
		return list, err
	}
	left := make(map[int]int64)
	for id, r := range ranges {
		left[id] = r.To
	}
	for len(list.DeadLetters) < q.Limit {
		from := -1
		for id, tail := range tails {
			if len(tail) > 0 && (from < 0 || compareLetters(&tail[len(tail)-1], &tails[from][len(tails[from])-1]) > 0) {
				from = id
			}
		}
		if from < 0 {
			return list, nil
		}
		last := len(tails[from]) - 1
		list.DeadLetters, left[from] = append(list.DeadLetters, tails[from][last]), tails[from][last].Offset
		tails[from] = tails[from][:last]
	}
	list.Next = letterEndsText(left)
	return list, nil
}

// letterEnds reads the cursor of a page that takes from each partition backwards: "partition.offset" of each.
func letterEnds(cursor string) (map[int]int64, error) {
	if cursor == "" {
		return nil, nil //nolint:nilnil // the newest page has no ends
	}
	ends := make(map[int]int64)
	for part := range strings.SplitSeq(cursor, "_") {
		id, offset, _ := strings.Cut(part, ".")
		partition, err := strconv.Atoi(id)
		end, endErr := strconv.ParseInt(offset, 10, 64)
		if err != nil || endErr != nil {
			return nil, errLetterCursor
		}
		ends[partition] = end
	}
	return ends, nil
}

func letterEndsText(ends map[int]int64) string {
	var parts []string
	for _, id := range slices.Sorted(maps.Keys(ends)) {
		parts = append(parts, strconv.Itoa(id)+"."+strconv.FormatInt(ends[id], 10))
	}
	return strings.Join(parts, "_")
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
