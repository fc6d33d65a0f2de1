package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"fanout/dispatcher"
	"fanout/operate"
	"fanout/topic"
	"fanout/webhook"
)

// deliveryBody is all that is known of one delivery.
type deliveryBody struct {
	*operate.FoundDelivery

	Badge    badge
	Timeline []deliveryStep // the oldest first
	Letter   string         // partition/offset of its last dead letter, where it is dead
	Request  string         // as it would be sent now; empty: see Bodiless
	Curl     string
	Batched  bool   // the webhook asks for batches
	Bodiless string // why there is no request to show
	Here     bool   // its webhook exists
	Resent   bool   // it has just been sent again
	Gaps     int    // ranges of which attempts were not recorded
	Asked    time.Time
}

// deliveryStep is an attempt, or the decision not to make one.
type deliveryStep struct {
	attempt

	Badge    badge
	Answer   string
	Instance string
	Replay   string
}

var (
	errNoDelivery = problemf(http.StatusNotFound, "no attempt of such a delivery is known: the webhook-id is wrong, nothing was attempted yet, or it was too long ago")
	errSlow       = problemf(http.StatusServiceUnavailable, "looking for it took too long, and was ended")
)

// delivery shows one delivery: what became of it, where it is now and when it is next tried.
func (p *pages) delivery(r *http.Request, s scope) (view, error) {
	id := strings.TrimSpace(r.Form.Get("id"))
	if !webhook.ValidID(id) {
		return view{}, errNoDelivery
	}
	ctx, cancel := context.WithTimeout(r.Context(), deliveryPatience)
	defer cancel()
	since, err := time.Parse(time.RFC3339, r.Form.Get("from"))
	if err == nil {
		since = since.Add(-time.Second)
	} else {
		since = time.Time{} // it is not known, so everything is read
	}
	found, err := p.oneDelivery(ctx, s, id, since)
	if err == nil && len(found.Deliveries) == 0 && !since.IsZero() {
		found, err = p.oneDelivery(ctx, s, id, time.Time{})
	}
	if errors.Is(err, context.DeadlineExceeded) && r.Context().Err() == nil {
		err = errSlow
	}
	if err != nil {
		return view{}, err
	}
	if len(found.Deliveries) == 0 {
		return view{}, errNoDelivery
	}
	d := found.Deliveries[0]
	body := deliveryBody{FoundDelivery: d, Gaps: len(found.Gaps), Resent: r.Form.Has("resent"), Asked: time.Now()}
	if err := p.showRequest(ctx, &body); err != nil {
		return view{}, err
	}
	if d.Outcome == dispatcher.Dead.String() && d.Dead != nil {
		body.Letter = fmt.Sprintf("%d/%d", d.Dead.Partition, d.Dead.Offset)
	}
	if s.Portal {
		forCustomer(found)
	}
	for _, a := range slices.Backward(d.Attempts) {
		step := deliveryStep{attempt: deliveryAttempt(&a), Instance: a.Instance, Replay: a.Replay}
		step.Badge, step.Answer = outcomeBadge(&step.attempt), answer(&step.attempt)
		body.Timeline = append(body.Timeline, step)
	}
	body.Badge = body.Timeline[len(body.Timeline)-1].Badge
	return view{Title: "Delivery " + id, Nav: "deliveries", Body: body}, nil
}

// oneDelivery reads all that the topics have of a delivery. In the portal it is nobody else's.
func (p *panel) oneDelivery(ctx context.Context, s scope, id string, since time.Time) (*operate.Found, error) {
	release, err := p.budgets.scan(ctx, s)
	if err != nil {
		return nil, err
	}
	defer release()
	q := operate.FindQuery{ID: id, Account: s.Account, Since: since}
	found, err := operate.Find(ctx, p.Kafka, &q, nil, nil)
	if errors.Is(err, operate.ErrNoAttempts) {
		return nil, errNoAttemptsTopic
	}
	if err != nil {
		return nil, err
	}
	return found, operate.Follow(ctx, p.Kafka, &q, found, nil, nil)
}

// showRequest makes the request as it would be made now: the subscription may have changed since, as a retry would show.
func (p *pages) showRequest(ctx context.Context, body *deliveryBody) error {
	sub := p.Directory.Lookup(body.Account, body.Subscription)
	if body.Here = sub != nil; !body.Here {
		body.Bodiless = "The webhook no longer exists."
		return nil
	}
	del, err := body.Delivery(ctx, p.Kafka)
	switch {
	case errors.Is(err, topic.ErrRegistryUnavailable):
		body.Bodiless = "The schema registry, which is needed to read the event, does not answer."
		return nil
	case err != nil:
		return err
	case del == nil:
		body.Bodiless = "The event that it was made of is no longer kept."
		return nil
	}
	now := time.Now()
	text, blocked := p.Dispatcher.Renderer().Request(sub, del, now)
	if blocked != "" {
		body.Bodiless = "Nothing is sent there: the destination is not allowed."
		return nil
	}
	body.Batched = sub.Batch().Max > 0
	body.Request = strings.ReplaceAll(text, "\r\n", "\n")
	body.Curl, _ = p.Dispatcher.Renderer().Curl(sub, del, now, false)
	return nil
}

// resendBody asks whether a delivery is to be sent again.
type resendBody struct {
	ID      string
	Found   *operate.Resend // nil where there is a problem
	Problem *problem
}

// planResend shows what would be sent. It sends nothing.
func (p *pages) planResend(r *http.Request, s scope) (view, error) { return p.resendPage(r, s, true) }

// sendAgain sends what was confirmed.
func (p *pages) sendAgain(r *http.Request, s scope) (view, error) { return p.resendPage(r, s, false) }

func (p *pages) resendPage(r *http.Request, s scope, dryRun bool) (view, error) {
	body := resendBody{ID: strings.TrimSpace(r.Form.Get("id"))}
	if !webhook.ValidID(body.ID) {
		return view{}, errNoDelivery
	}
	v := view{Title: "Send again", Nav: "deliveries"}
	var err error
	if !dryRun {
		err = p.budgets.resend(s)
	}
	if err == nil {
		body.Found, err = p.resend(r.Context(), p.callerOf(r, s), s, body.ID, dryRun)
	}
	if err == nil && !dryRun {
		return view{}, moved(scope{}.path(deliveryPath, "id", body.ID, "resent", "1"))
	}
	if err != nil {
		bad := asProblem(err)
		if bad.Status == http.StatusServiceUnavailable {
			return view{}, err
		}
		body.Problem, v.Status = bad, bad.Status
	}
	v.Body = body
	return v, nil
}

// knowsTopic says whether deliveries come from the topic, or fanout writes them there.
func (p *panel) knowsTopic(name string) bool {
	cfg := p.Kafka.Config()
	tiers, names := cfg.RetryTopics(), cfg.Names()
	_, tier := tiers.Delay(name)
	return tier || name == names.Replay || name == names.DeadLetter ||
		slices.ContainsFunc(cfg.AllSources(), func(s topic.SourceConfig) bool { return s.Topic == name })
}

// became answers the box of every page: it goes to what the text names.
func (p *pages) became(r *http.Request, s scope) (view, error) {
	text := strings.TrimSpace(r.Form.Get("q"))
	if webhook.ValidID(text) {
		return view{}, moved(scope{}.DeliveryOf(text))
	}
	if at, err := topic.ParseOrigin(text); err == nil && !s.Portal && p.knowsTopic(at.Topic) {
		return view{}, moved(scope{}.Explain(text))
	}
	return view{}, moved(scope{}.path(deliveriesPath, "q", text))
}
