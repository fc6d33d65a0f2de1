package admin

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"fanout/dispatcher"
)

// finding is something that is wrong: since when, whom it touches, and what to do. It stands at the head of every page.
type finding struct {
	Badge badge // bad, or a warning
	Text  string
	Since time.Time // zero where that is not known
	Link  string    // where to go on, without the scope's base; empty: nowhere
	To    string    // what is there

	key string // tells findings apart from one look to the next
}

// When lag is a finding.
const (
	lagShown  = 60.0 // seconds
	lagWithin = time.Minute
)

// findings are what is wrong with this instance, the worst first. They are looked for once a second at most.
type findings struct {
	mu    sync.Mutex // guards all below
	at    time.Time
	list  []finding            // never changed, only replaced
	since map[string]time.Time // when each was first seen
}

// run looks all the time, so that a finding says since when it is true, and not since when somebody looks.
func (f *findings) run(ctx context.Context, p *panel) {
	tick := time.NewTicker(meterEvery)
	defer tick.Stop()
	for {
		f.now(p)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (f *findings) now(p *panel) []finding {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	if now.Sub(f.at) < meterEvery {
		return f.list
	}
	list, since := p.askFindings(now), make(map[string]time.Time)
	for i := range list {
		since[list[i].key] = now
		if was, ok := f.since[list[i].key]; ok {
			since[list[i].key] = was
		}
		if list[i].Since.IsZero() {
			list[i].Since = since[list[i].key]
		}
	}
	slices.SortStableFunc(list, func(a, b finding) int { return cmp.Compare(worse(a.Badge), worse(b.Badge)) })
	f.at, f.list, f.since = now, list, since
	return list
}

func worse(b badge) int { return slices.Index([]string{"bad", "warn"}, b.Kind) }

// askFindings asks everything that may be wrong.
func (p *panel) askFindings(now time.Time) []finding {
	list := append(p.sourceFindings(now), p.presence.finding()...)
	if why, since := p.Dispatcher.NetworkFault(); why != "" {
		list = append(list, finding{key: "network", Badge: poor("nothing is sent"), Since: since, Text: "for anybody: " + why + ". No attempt is spent, and sending goes on within 5 s of the end."})
	}
	list = append(list, p.subscriptionFindings(now)...)
	list = append(list, p.laneFindings()...)
	return append(list, p.lagFindings()...)
}

// sourceFindings are what keeps records from being read, and what is odd about them.
func (p *panel) sourceFindings(time.Time) (list []finding) {
	for _, check := range p.readiness().Checks {
		switch {
		case !check.Ready:
			list = append(list, finding{
				key: "check " + check.Name, Badge: poor(check.Name + " not ready"), Link: "/", To: "Overview",
				Text: check.Detail + ". What is not delivered waits in Kafka, and is delivered once it can be.",
			})
		case check.Detail != "" && check.Name != "subscriptions" && check.Name != "receivers": // those two are said in other words
			list = append(list, finding{key: "check " + check.Name, Badge: warn(check.Name), Text: check.Detail + ".", Link: "/", To: "Overview"})
		}
	}
	for _, one := range p.others.peek(p) {
		if one.Problem != "" {
			list = append(list, finding{key: "instance " + one.URL, Badge: warn("no answer"), Since: one.Since, Text: "from the instance " + one.Name + " at " + one.URL + ": " + one.Problem + ". What it does is in no figure.", Link: "/", To: "Overview"})
		}
	}
	return list
}

// subscriptionFindings are what is wrong with Redis.
func (p *panel) subscriptionFindings(now time.Time) []finding {
	switch d := p.Directory.Status(); {
	case d.Shrink != nil:
		return []finding{{
			key: "shrink", Badge: poor("webhooks are missing"), Since: d.Shrink.Since, Link: "/", To: "Decide",
			Text: fmt.Sprintf("in Redis: it holds %d of %d. Those that are known here stay in force until you accept the loss.", d.Shrink.Found, d.Shrink.Known),
		}}
	case d.Loaded && d.Error != "":
		return []finding{{
			key: "redis", Badge: poor("Redis does not answer"), Since: now.Add(-d.Age),
			Text: "Deliveries go on with the webhooks that were known then; changes of webhooks wait.",
		}}
	}
	return nil
}

// laneFindings are webhooks that get nothing.
func (p *panel) laneFindings() []finding {
	parked := allLanes(p.Dispatcher, p.others.peek(p), func(l *dispatcher.LaneStatus) bool { return l.State == "parked" })
	if len(parked) == 0 {
		return nil
	}
	one := finding{key: "parked", Badge: warn(plural(len(parked), "webhook") + " parked"), Link: "/endpoints?state=parked", To: "Show"}
	name := ""
	for _, l := range parked {
		if one.Since.IsZero() || l.Since.Before(one.Since) {
			one.Since, name = l.Since, l.Account+" / "+l.Subscription
		}
	}
	one.Text = "after many failures or 410 Gone, the first " + name + ". Their deliveries wait and are tried again; tell their owners."
	if now, ok := p.meter.latest(); ok && 2*len(parked) > now.lanes["open"]+now.lanes["limited"]+now.lanes["parked"] && len(parked) > 2 {
		one.Badge.Kind, one.Badge.Sign = "bad", "✕"
		one.Text += " It is most of those with work: look at your own network first."
	}
	return []finding{one}
}

// lagFindings says that deliveries are late, and become later.
func (p *panel) lagFindings() []finding {
	samples := p.meter.after(time.Time{})
	if len(samples) == 0 || samples[len(samples)-1].LagSeconds < lagShown {
		return nil
	}
	last := samples[len(samples)-1]
	since := last.Time
	for _, one := range slices.Backward(samples) {
		if one.LagSeconds < lagShown {
			break
		}
		since = one.Time
	}
	for _, one := range samples {
		if last.Time.Sub(one.Time) <= lagWithin {
			if last.LagSeconds <= one.LagSeconds {
				return nil // it catches up
			}
			break
		}
	}
	return []finding{{
		key: "lag", Badge: warn("late"), Since: since, Link: "/", To: "Overview",
		Text: "by " + length(time.Duration(last.LagSeconds*float64(time.Second))) + ", and becoming later: " + plural(last.LagRecords, "record") + " to go. Start more instances, or see which webhooks the load belongs to (fanout top).",
	}}
}

// verdict is what is wrong, as somebody may know it.
func (p *pages) verdict(s scope) []finding {
	all := p.findings.now(p.panel)
	if !s.Portal {
		return all
	}
	return p.customerFindings(s, all)
}

// customerFindings are those of one account: its webhooks, and that all of its deliveries are late, if they are.
func (p *pages) customerFindings(s scope, all []finding) (list []finding) {
	if slices.ContainsFunc(all, func(f finding) bool {
		return f.Badge.Kind == "bad" && f.key != "parked" && f.key != "shrink" && f.key != "redis"
	}) {
		list = append(list, finding{Badge: warn("delayed"), Text: "Deliveries are late at the moment, which is not your doing. They are kept, and come by themselves."})
	}
	lanes := allLanes(p.Dispatcher, p.others.peek(p.panel), func(l *dispatcher.LaneStatus) bool { return l.Account == s.Account && l.State == "parked" })
	for sub := range p.seen(s) {
		l := lanes[[2]string{s.Account, sub.ID()}]
		if l == nil || !sub.Enabled() || sub.Paused() {
			continue
		}
		one := newRow(sub, l, true)
		one.forCustomer()
		text := "gets nothing after many failures"
		if one.Why != "" {
			text += " (" + one.Why + ")"
		}
		list = append(list, finding{Badge: poor(sub.ID()), Since: l.Since, Text: text + ". What is not delivered is kept and tried again.", Link: scope{}.Webhook("", sub.ID()), To: "Show"})
	}
	return list
}

// verdictPage is what pages without a live part renew.
func (p *pages) verdictPage(r *http.Request, _ scope) (view, error) {
	if !r.Form.Has("live") {
		return view{}, moved("/endpoints")
	}
	return view{Title: "Verdict", Nav: "-"}, nil
}
