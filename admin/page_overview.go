package admin

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"fanout/dispatcher"
	"fanout/operate"
)

// maxTrouble is how many webhooks in trouble are shown at once.
const maxTrouble = 20

type overviewBody struct {
	Status    status
	KafkaAway bool // it does not answer
	Seen      bool // there has been an event since the start
	Charts    []*chart
	Spans     []preset // the addresses with another span
	Span      string   // the one that is shown
	SourceLag int
	Trouble   []operate.Lane
	Dead      []deadCount
	Counting  bool      // dead letters have not been counted yet
	Counted   time.Time // when they were, if that is a while ago
	Tiers     []tier
	Instances []otherInstance // the others that announce themselves
	Silent    []otherInstance // those of them that did not answer
}

type deadCount struct {
	Reason string
	Count  int
}

func (p *pages) overview(r *http.Request, _ scope) (view, error) {
	body := overviewBody{Status: p.status(), KafkaAway: len(p.presence.finding()) > 0}
	if now, ok := p.meter.latest(); ok {
		body.Seen = now.events > 0
	}
	for _, l := range body.Status.Lag {
		if !strings.Contains(l.Topic, ".retry.") && !strings.HasSuffix(l.Topic, ".replay") {
			body.SourceLag += l.Records
		}
	}
	troubled, silent := p.allLanes(r.Context(), func(l *dispatcher.LaneStatus) bool { return l.State == "parked" || l.Failures > 0 })
	lanes := slices.SortedFunc(maps.Values(troubled), func(a, b *dispatcher.LaneStatus) int {
		return cmp.Or(cmp.Compare(severity(a.State), severity(b.State)), cmp.Compare(a.Account, b.Account), cmp.Compare(a.Subscription, b.Subscription))
	})
	for _, l := range lanes[:min(len(lanes), maxTrouble)] {
		body.Trouble = append(body.Trouble, newLane(l))
	}
	body.Instances, body.Silent = p.others.look(r.Context(), p.panel), silent
	reasons, _, counted := p.tally.look(r.Context(), p.panel)
	body.Counting = counted.IsZero()
	if time.Since(counted) > shownAsNow {
		body.Counted = counted
	}
	for reason, n := range reasons {
		body.Dead = append(body.Dead, deadCount{reason, n})
	}
	slices.SortFunc(body.Dead, func(a, b deadCount) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Reason, b.Reason))
	})
	body.Tiers = p.tiers.look(r.Context(), p.panel, body.Status.Lag)
	shown := spanOf(r.Form.Get("span"))
	body.Charts, body.Span = p.meter.charts(shown, time.Now()), shown.Text
	for _, one := range spans() {
		body.Spans = append(body.Spans, preset{Text: one.Text, At: "/?span=" + one.Name})
	}
	return view{Title: "Overview", Nav: "overview", Body: body}, nil
}

func severity(state string) int { return slices.Index([]string{"parked", "limited", "open"}, state) }

func (p *pages) accept(r *http.Request, s scope) (view, error) {
	shrink := p.Directory.Status().Shrink
	if shrink == nil {
		return view{}, moved("/") // somebody has accepted it, or Redis holds all again
	}
	if lost := shrink.Known - shrink.Found; strings.TrimSpace(r.PostForm.Get("lost")) != strconv.Itoa(lost) {
		return view{}, problemf(http.StatusUnprocessableEntity, "nothing was accepted: to accept that %s would be gone, type that number", plural(lost, "webhook"))
	}
	if err := p.acceptLoss(r, s); err != nil {
		return view{}, err
	}
	return view{}, moved("/")
}

// tier is a retry topic.
type tier struct {
	Delay string
	Held  int64 // records not settled, due or not
	Due   int
	Next  time.Time // when the first of them is due
	Known bool      // whether Held and Next are known

	topic string
	wait  time.Duration
}

// tiers asks Kafka in the background what the retry topics hold, while somebody looks.
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

// shownAsNow is how old an answer of Kafka may be before the page says so. Kafka is asked only while somebody looks.
const shownAsNow = 5 * time.Second

// look returns the retry tiers among lag. What they hold is left out unless it was asked recently. What is due is known
// for the partitions of this instance only.
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
	fresh := time.Since(t.asked) < shownAsNow
	for i := range list {
		if known, ok := t.by[list[i].topic]; ok && fresh {
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

// held returns how many records of a tier are not settled, and when the first of them is due.
func (p *panel) held(ctx context.Context, one tier) (n int64, next time.Time, err error) {
	ranges, err := p.Kafka.Ranges(ctx, one.topic, time.Time{})
	if err != nil {
		return 0, next, err
	}
	ids := slices.Collect(maps.Keys(ranges))
	done, err := p.Kafka.Progress(ctx, p.Kafka.Config().RetryGroup(), one.topic, ids)
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
