package admin

import (
	"context"
	"errors"
	"time"

	"fanout/dispatcher"
	"fanout/operate"
	"fanout/topic"
)

// maxAudited bounds the records of a page that are audited: each reads the attempts since it was appended.
const maxAudited = 5

// auditedDelivery is what became of a delivery that a record asks for.
type auditedDelivery struct {
	Badge badge
	Why   string
}

// auditRecords audits the first records of the page: does each delivery that they ask for have a trace? Without an attempts topic
// that cannot be said.
func (b *explainBody) auditRecords(ctx context.Context, p *panel) {
	ctx, cancel := context.WithTimeout(ctx, explainPatience)
	defer cancel()
	b.Audited = map[string]auditedDelivery{}
	for _, one := range b.Records[:min(len(b.Records), maxAudited)] {
		at, err := topic.ParseOrigin(one.Record)
		if err != nil || one.Event == nil { // there is nothing to deliver
			continue
		}
		found, err := p.audit(ctx, at, one.Appended)
		if errors.Is(err, operate.ErrNoAttempts) {
			return
		}
		if err != nil {
			b.NotAudited = asProblem(err).Detail
			return
		}
		for i := range found.Deliveries {
			d := &found.Deliveries[i]
			b.Audited[d.ID] = auditedDelivery{auditBadge(d.State), d.Why}
			if d.State == operate.AuditMissing {
				b.Missing++
			}
		}
	}
}

// audit says what became of each delivery that a record asks for.
func (p *panel) audit(ctx context.Context, at dispatcher.Origin, appended time.Time) (*operate.Audit, error) {
	changes, err := p.Store.ChangedSince(ctx, appended.Add(-operate.ChangeSlack))
	if err != nil {
		return nil, err
	}
	known := changes.Since
	if !known.IsZero() {
		known = known.Add(-operate.ChangeSlack)
	}
	planner := dispatcher.NewPlanner(p.Directory)
	return operate.NewAudit(ctx, p.Kafka, operate.AuditConfig{
		Topic: at.Topic, Ranges: map[int]topic.Range{at.Partition: {From: at.Offset, To: at.Offset + 1}}, ChangesSince: known,
		Plan: planner.Plan,
		Changed: func(account string, since time.Time) bool {
			return changes.Last[account].After(since.Add(-operate.ChangeSlack))
		},
	})
}

func auditBadge(s operate.AuditState) badge {
	switch s {
	case operate.AuditDelivered:
		return good(string(s))
	case operate.AuditDead, operate.AuditMissing:
		return poor(string(s))
	case operate.AuditChanged, operate.AuditUnknown:
		return warn(string(s))
	case operate.AuditWaiting, operate.AuditPending, operate.AuditDiscarded:
	}
	return idle(string(s))
}

// AuditedOf is what an audit says of a delivery; nil: it was not audited.
func (b *explainBody) AuditedOf(id string) *auditedDelivery {
	if one, ok := b.Audited[id]; ok {
		return &one
	}
	return nil
}
