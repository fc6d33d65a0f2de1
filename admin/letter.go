package admin

import (
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
	list, err := a.letters(r.Context(), scope{}, &filter, limit)
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

func older(a, b *letter) bool {
	if c := a.DeadAt.Compare(b.DeadAt); c != 0 {
		return c < 0
	}
	return cmp.Compare(a.Position, b.Position) < 0
}

// letters returns the newest dead letters that match, at most limit. It reads the whole topic (about a million records a
// second) and keeps limit of them in memory; without a filter it reads only the end of each partition.
func (p *panel) letters(ctx context.Context, s scope, filter *topic.Filter, limit int) (letterList, error) {
	list := letterList{DeadLetters: []letter{}}
	release, err := p.budgets.scan(ctx, s)
	if err != nil {
		return list, err
	}
	defer release()
	letters := p.Kafka.DeadLetters()
	ranges, err := letters.Ranges(ctx, filter)
	if err != nil {
		return list, err
	}
	all := filter.Account == "" && filter.Subscription == "" && filter.Event == "" && len(filter.Reasons) == 0 && filter.Since.IsZero() && filter.Until.IsZero()
	total := int(topic.Total(ranges))
	if all {
		for id, r := range ranges {
			ranges[id] = topic.Range{From: max(r.From, r.To-int64(limit)), To: r.To}
		}
	}
	var mu sync.Mutex // guards list and kept
	kept := newest{}
	err = letters.Each(ctx, filter, ranges, nil, func(d *topic.DeadLetter) error {
		mu.Lock()
		defer mu.Unlock()
		list.Matched++
		if len(kept) == limit && !d.DeadAt.After(kept[0].DeadAt) {
			return nil
		}
		heap.Push(&kept, newLetter(d))
		if len(kept) > limit {
			heap.Pop(&kept)
		}
		return nil
	})
	if err != nil {
		return list, err
	}
	slices.SortFunc(kept, func(a, b letter) int {
		if older(&a, &b) {
			return 1
		}
		return -1
	})
	if list.DeadLetters = kept; all {
		list.Matched = total
	}
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
func (t *tally) look(ctx context.Context, p *panel) (reasons map[string]int, counted time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.reading && time.Since(t.read) > tallyEvery {
		t.reading = true
		p.behind(ctx, tallyLasts, func(ctx context.Context) { t.count(ctx, p.Kafka.DeadLetters()) })
	}
	return t.reasons, t.counted
}

func (t *tally) count(ctx context.Context, letters *topic.DeadLetters) {
	t.mu.Lock()
	now := time.Now()
	recount := now.Sub(t.full) > recountEvery
	was, reasons := t.next, map[string]int{}
	if !recount {
		reasons = maps.Clone(t.reasons)
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
	var mu sync.Mutex // guards reasons
	if err == nil {
		err = letters.Each(ctx, &topic.Filter{}, ranges, nil, func(d *topic.DeadLetter) error {
			mu.Lock()
			defer mu.Unlock()
			if _, ok := dispatcher.ParseReason(d.Reason); ok { // anybody may write to the topic
				reasons[d.Reason]++
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
	t.next, t.reasons, t.counted = next, reasons, now
}
