package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"fanout/dispatcher"
)

// maxTrouble is how many endpoints in trouble are shown at once.
const maxTrouble = 20

type overviewBody struct {
	Status    status
	History   template.JS
	SourceLag int
	Trouble   []lane
	Dead      []deadCount
	Counting  bool // dead letters have not been counted yet
	Tiers     []tier
}

type deadCount struct {
	Reason string
	Count  int
}

func (p *pages) overview(r *http.Request, _ scope) (view, error) {
	body := overviewBody{Status: p.status()}
	for _, l := range body.Status.Lag {
		if !strings.Contains(l.Topic, ".retry.") && !strings.HasSuffix(l.Topic, ".replay") {
			body.SourceLag += l.Records
		}
	}
	lanes := p.Dispatcher.Lanes(func(l *dispatcher.LaneStatus) bool { return l.State == "parked" || l.Failures > 0 })
	slices.SortStableFunc(lanes, func(a, b dispatcher.LaneStatus) int { return cmp.Compare(severity(a.State), severity(b.State)) })
	for _, l := range lanes[:min(len(lanes), maxTrouble)] {
		body.Trouble = append(body.Trouble, newLane(&l))
	}
	reasons, known := p.tally.look(r.Context(), p.panel)
	body.Counting = !known
	for reason, n := range reasons {
		body.Dead = append(body.Dead, deadCount{reason, n})
	}
	slices.SortFunc(body.Dead, func(a, b deadCount) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Reason, b.Reason))
	})
	body.Tiers = p.tiers.look(r.Context(), p.panel, body.Status.Lag)
	if !r.Form.Has("live") {
		history, err := json.Marshal(p.meter.history())
		if err != nil {
			return view{}, err
		}
		body.History = template.JS(history) //nolint:gosec // json.Marshal escapes <, > and &; a data block runs nothing
	}
	return view{Title: "Overview", Nav: "overview", Body: body}, nil
}

func severity(state string) int { return slices.Index([]string{"parked", "limited", "open"}, state) }

func (p *pages) accept(r *http.Request, _ scope) (view, error) {
	if err := p.Store.AcceptShrink(r.Context()); err != nil {
		return view{}, err
	}
	p.Directory.AcceptShrink()
	return view{}, moved("/")
}

// tier is a retry topic.
type tier struct {
	Delay string
	Held  int64 // records not settled, due or not
	Due   int
	Next  time.Time // when the first of them is due
	Known bool      // Held and Next

	topic string
	wait  time.Duration
}

// tiers asks Kafka, in the background and while somebody looks, what the retry topics hold.
type tiers struct {
	mu     sync.Mutex // guards all below
	asked  time.Time
	asking bool
	by     map[string]tier
}

const (
	tiersEvery = 2 * time.Second
	tiersLast  = 5 * time.Second
)

// look is what is known; what is due is of this instance and of now.
func (t *tiers) look(ctx context.Context, p *panel, lag []topicLag) []tier {
	var list []tier
	for _, l := range lag {
		_, name, ok := strings.Cut(l.Topic, ".retry.")
		wait, err := time.ParseDuration(name)
		if !ok || err != nil {
			continue
		}
		list = append(list, tier{Delay: name, Due: l.Records, topic: l.Topic, wait: wait})
	}
	slices.SortFunc(list, func(a, b tier) int { return cmp.Compare(a.wait, b.wait) })
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range list {
		if known, ok := t.by[list[i].topic]; ok {
			list[i].Held, list[i].Next, list[i].Known = known.Held, known.Next, true
		}
	}
	if !t.asking && time.Since(t.asked) > tiersEvery && len(list) > 0 {
		t.asking = true
		ask := slices.Clone(list)
		p.behind(ctx, tiersLast, func(ctx context.Context) { t.ask(ctx, p, ask) })
	}
	return list
}

func (t *tiers) ask(ctx context.Context, p *panel, list []tier) {
	by := make(map[string]tier)
	for _, one := range list {
		held, next, err := p.held(ctx, one)
		if err != nil {
			continue
		}
		one.Held, one.Next = held, next
		by[one.topic] = one
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.by, t.asked, t.asking = by, time.Now(), false
}

// held is how many records of a tier are not settled, and when the first of them is due.
func (p *panel) held(ctx context.Context, one tier) (n int64, next time.Time, err error) {
	ranges, err := p.Kafka.Ranges(ctx, one.topic, time.Time{})
	if err != nil {
		return 0, next, err
	}
	var ids []int
	for id := range ranges {
		ids = append(ids, id)
	}
	done, err := p.Kafka.Committed(ctx, p.Group+".retry."+one.Delay, one.topic, ids)
	if err != nil {
		return 0, next, err
	}
	for id, r := range ranges {
		from := r.From
		if progress, ok := done[id]; ok {
			from = max(from, progress.Offset)
		}
		if from >= r.To {
			continue
		}
		n += r.To - from
		m, err := p.Kafka.Read(ctx, dispatcher.Origin{Topic: one.topic, Partition: id, Offset: from})
		if err != nil {
			return 0, next, err
		}
		if m == nil {
			continue
		}
		if due := m.Time.Add(one.wait); next.IsZero() || due.Before(next) {
			next = due
		}
	}
	return n, next, nil
}
