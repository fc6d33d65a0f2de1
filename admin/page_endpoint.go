package admin

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"fanout/dispatcher"
	"fanout/event"
	"fanout/operate"
	"fanout/subscriptions"
)

const endpointPath = "/endpoints/show"

// hub is the head of the pages about one webhook, with the way from each to the others.
type hub struct {
	Account, ID string
	At          string // which of them is shown
}

// hubOf is the head of a list that is filtered by one webhook; nil where it is not, or the webhook does not exist.
func (p *pages) hubOf(account, id, at string) *hub {
	if account == "" || id == "" || p.Directory.Lookup(account, id) == nil {
		return nil
	}
	return &hub{account, id, at}
}

type endpointBody struct {
	Silent      []otherInstance
	Account, ID string
	Action      string // where the forms go
	Row         row
	Doing       doing
	Events      []event.Name
	Lane        operate.Lane
	Day         dayBody
	Attempts    []shownAttempt
	Read        time.Time // when the attempts topic was, for them; zero: they are this instance's own

	notice          // told once
	Paused, Enabled bool
	Held            bool // nothing is sent, and a release may change that
	Samples         []string
	Sources         []sourceChoice // of a backfill
	Since           string         // what replay and backfill begin with
	CanBackfill     bool
}

// doing says in a sentence what becomes of a webhook's deliveries at the moment, until when, and why.
type doing struct {
	Text    string
	Until   time.Time // zero: it is not known, or said in Text
	Because string
	Since   time.Time
	Then    string
	held    bool
}

// newDoing is about a webhook with its lane; one without a lane has nothing waiting.
func newDoing(s scope, sub *subscriptions.Subscription, l *dispatcher.LaneStatus, allAnswered bool) doing {
	switch {
	case sub.Invalid() != "":
		return doing{Text: "Nothing is sent", Because: "what is stored of it is not valid: " + sub.Invalid(), Then: "Save it again under Settings."}
	case !sub.Enabled():
		return doing{Text: "Nothing is sent, and nothing is kept for later", Because: "it is disabled in its settings"}
	case sub.Paused():
		return doing{Text: "Deliveries are held until it is resumed", Because: "it is paused in its settings", Then: "Nothing is lost meanwhile."}
	case l == nil && !allAnswered:
		return doing{Text: "What it is doing is not known", Because: "not every instance has answered"}
	case l == nil:
		return doing{Text: "Nothing waits, and nothing is under way"}
	}
	return laneDoing(s, l)
}

// laneDoing is about a webhook that is neither off nor paused.
func laneDoing(s scope, l *dispatcher.LaneStatus) doing {
	failed := ""
	if l.Failures > 0 {
		failed = plural(l.Failures, "attempt") + " in a row failed"
		if _, last, ok := strings.Cut(l.Why, "last: "); ok && (!s.Portal || strings.HasPrefix(last, "status ")) {
			failed += ", the last with " + strings.Replace(last, "status", "HTTP", 1)
		}
	}
	const probe = "Then one delivery goes out as a probe. Once it is answered with 2xx, the rest follows."
	switch {
	case strings.HasPrefix(l.Why, "410"):
		return doing{Text: "Nothing is sent until its settings change", Because: "it answered 410 Gone"}
	case strings.HasPrefix(l.Why, "nothing is sent") && s.Portal:
		return doing{Text: "Deliveries are late at the moment, which is not your doing. They are kept, and come by themselves"}
	case strings.HasPrefix(l.Why, "nothing is sent"):
		return doing{Text: "Nothing is sent to anybody", Because: strings.TrimPrefix(l.Why, "nothing is sent: ")}
	case l.State == "parked" && l.Until.IsZero():
		return doing{Text: "Held until the next delivery, a probe, is answered with 2xx", Because: failed, Since: l.Since, held: true}
	case l.State == "parked":
		return doing{Text: "Held", Until: l.Until, Because: failed, Since: l.Since, Then: probe, held: true}
	case !l.Until.IsZero() && strings.Contains(l.Why, "Retry-After"):
		return doing{Text: "Held", Until: l.Until, Because: "the receiver asked for a pause (Retry-After)", held: true}
	case failed != "":
		return doing{Text: "Deliveries are tried again later", Because: failed, Since: l.Since}
	case l.Why != "" && !s.Portal:
		return doing{Text: "Deliveries go out", Then: sentence(l.Why)}
	}
	return doing{Text: "Deliveries go out as they come"}
}

// shownAttempt is an outcome for people.
type shownAttempt struct {
	attempt
	Badge  badge
	Answer string // what came back, in a few words
	Key    string
	Sent   string // the request as it was sent, if the configuration has not changed since

	Recorded             bool // it is of the attempts topic, and any instance's
	TrackingID, Instance string
}

func (p *pages) newShownAttempt(s scope, sub *subscriptions.Subscription, one *dispatcher.Attempt) shownAttempt {
	a := shownAttempt{attempt: newAttempt(one), Key: key(one.ID, one.Time.String())}
	if s.Portal {
		a.forCustomer()
	}
	a.Badge, a.Answer, a.Sent = outcomeBadge(&a.attempt), answer(&a.attempt), a.Request
	if a.Attempt == 0 {
		return a
	}
	if a.BatchSize > 1 { // of the request, this one's part is kept
		return a
	}
	del := dispatcher.Delivery{ID: one.ID, Account: one.Account, Subscription: one.Subscription, Event: one.Event, Body: one.Body, FirstSeen: one.Time}
	if text, blocked := p.Dispatcher.Renderer().Request(sub, &del, one.Time.Add(-one.Took)); blocked == "" {
		a.Sent = strings.ReplaceAll(text, "\r\n", "\n")
	}
	return a
}

// answer is what an attempt brought. Where none was made, the status is that of an earlier attempt.
func answer(a *attempt) string {
	switch {
	case a.Attempt == 0 && a.Status != 0:
		return "last answer: " + strconv.Itoa(a.Status)
	case a.Attempt == 0:
		return "no request was made"
	case a.Status != 0:
		return "HTTP " + strconv.Itoa(a.Status)
	}
	return a.Reason
}

// endpoint is a webhook's page: how it is, its last day, its last attempts, and what can be done about it.
func (p *pages) endpoint(r *http.Request, s scope) (view, error) {
	account, id := own(s, r), r.Form.Get("id")
	sub := p.Directory.Lookup(account, id)
	if sub == nil {
		return view{}, errNoWebhook
	}
	lanes, silent := p.allLanes(r.Context(), func(l *dispatcher.LaneStatus) bool { return l.Account == account && l.Subscription == id })
	l := lanes[[2]string{account, id}]
	body := endpointBody{
		Account: account, ID: id, Row: newRow(sub, l, len(silent) == 0), Events: sub.Events().Names(p.catalogue()), Lane: newLane(cmp.Or(l, new(dispatcher.LaneStatus))),
		Doing: newDoing(s, sub, l, len(silent) == 0), Action: scope{Portal: s.Portal, Base: s.Base}.path(endpointPath, "account", account, "id", id),
		Paused: sub.Paused(), Enabled: sub.Enabled() && sub.Invalid() == "", CanBackfill: !s.ReadOnly, Since: time.Now().UTC().Add(-time.Hour).Truncate(time.Minute).Format(formMinute),
	}
	body.Held = body.Doing.held
	for _, name := range body.Events {
		body.Samples = append(body.Samples, name.String())
	}
	body.Sources = p.sourceChoices(s)
	if body.Row.forCustomer(); !s.Portal {
		body.Silent, body.Row = silent, newRow(sub, l, len(silent) == 0)
	}
	v := view{Title: id, Nav: "endpoints", Hub: &hub{account, id, "overview"}}
	if !r.Form.Has("live") {
		var told *notice
		if told, v.Cookie = p.notices.take(r, p.onEndpoint(s, account, id)); told != nil {
			body.notice = *told
		}
	}
	body.Day = p.days.look(r.Context(), p.panel, s, account, id)
	body.Attempts, body.Read = p.attemptsOf(r, s, sub)
	v.Body = body
	return v, nil
}

// attemptsOf are a webhook's last attempts, and when the attempts topic was read for them; the zero time says that they are this instance's own.
func (p *pages) attemptsOf(r *http.Request, s scope, sub *subscriptions.Subscription) (list []shownAttempt, read time.Time) {
	recorded, read, ok := p.recents.look(r.Context(), p.panel, s, sub.Account(), sub.ID())
	if ok {
		for i := range recorded {
			list = append(list, fromTopic(s, &recorded[i]))
		}
		return list, read
	}
	for _, one := range p.Dispatcher.Recent(sub.Account(), sub.ID()) {
		list = append(list, p.newShownAttempt(s, sub, &one))
	}
	return list, time.Time{}
}

// onEndpoint is where the notices of a webhook's page are taken.
func (p *pages) onEndpoint(s scope, account, id string) noticePlace {
	return noticePlace{scope: s, account: account, id: id, page: endpointPath}
}

// changeEndpoint does what a button of a webhook's page asks for, and goes back to the page, which tells it.
func (p *pages) changeEndpoint(r *http.Request, s scope) (view, error) {
	account, id, action := own(s, r), r.Form.Get("id"), r.PostForm.Get("action")
	if p.Directory.Lookup(account, id) == nil {
		return view{}, errNoWebhook
	}
	if err := p.afford(s, action); err != nil {
		return view{}, err
	}
	var n notice
	var err error
	switch action {
	case "pause", "resume":
		err = p.pause(r, s, account, id, action == "pause")
		n.Said = "It is paused. What comes meanwhile is kept, and goes out once it is resumed."
		if action == "resume" {
			n.Said = "It is resumed. What was held goes out now, at a growing pace."
		}
	case "release":
		err = p.release(r.Context(), p.callerOf(r, s), account, id)
		n.Said = "It is released on every instance. What waits goes out at a growing pace, the first within a minute."
	case "test":
		n.Tested, err = p.tryTest(r, account, id)
		if s.Portal && n.Tested != nil {
			n.Tested.forCustomer()
		}
	default:
		err = problemf(http.StatusUnprocessableEntity, "action %q is not known", action)
	}
	if err != nil {
		return view{}, err
	}
	to := scope{Portal: s.Portal}.Webhook(account, id)
	return view{Cookie: p.notices.give(r, p.onEndpoint(s, account, id), n)}, moved(to)
}

// pause holds a webhook's deliveries back, or lets them go on.
func (p *panel) pause(r *http.Request, s scope, account, id string, paused bool) error {
	return p.rewrite(r.Context(), p.callerOf(r, s), account, id, func(stored []byte, _ time.Time) ([]byte, error) {
		return subscriptions.WithPaused(stored, paused)
	})
}

// sources are the topics that events come from.
func (p *panel) sources() (list []string) {
	for _, one := range p.Kafka.Config().AllSources() {
		list = append(list, one.Topic)
	}
	return slices.Compact(list)
}
