package sim

import (
	"context"
	"runtime"
	"time"

	"fanout/dispatcher"
	"fanout/operate"
)

// audit compares what an audit says with what is known, when all is at rest. Where records were deleted or read twice, or an instance has
// passed over some, it cannot know.
func (j *judge) audit(ctx context.Context) {
	w := j.w
	if j.deleted || w.twice > 0 || len(w.plan.adds) > 0 || w.stood > 24*time.Hour {
		return
	}
	changes, err := w.store.ChangedSince(ctx, w.begun.Add(-time.Hour))
	if err != nil {
		w.wrong("the changes: %v", err)
		return
	}
	planner := dispatcher.NewPlanner(w.instances[0].directory)
	accepted := w.accepted()
	for _, name := range sources {
		var a *operate.Audit
		look := func() (err error) { // an operator tries again where a broker has just gone
			a, err = operate.NewAudit(ctx, w.admin, operate.AuditConfig{
				Topic: name, Ranges: j.seen[name], Plan: planner.Plan, ChangesSince: changes.Since,
				Changed: func(account string, since time.Time) bool {
					return changes.Last[account].After(since.Add(-operate.ChangeSlack))
				},
			})
			return err
		}
		if !w.eventually(time.Minute, "audit of "+name, look) {
			return
		}
		for _, d := range a.Deliveries {
			if !j.agrees(d.ID, d.State, accepted[d.ID]) {
				w.wrong("audit says that %s of %s/%s is %s (%s); it was delivered %d times, its dead letter: %q", d.ID, d.Account, d.Subscription, d.State, d.Why, accepted[d.ID], j.dead[d.ID])
				return
			}
		}
		w.note("audit of %s: %v", name, a.States)
	}
}

// agrees says whether an audit may say so of a delivery, when all is at rest.
func (j *judge) agrees(id string, state operate.AuditState, delivered int) bool {
	switch state {
	case operate.AuditDelivered:
		return delivered > 0
	case operate.AuditDead:
		return j.dead[id] != ""
	case operate.AuditChanged, operate.AuditUnknown, operate.AuditDiscarded:
		return true
	case operate.AuditWaiting, operate.AuditPending, operate.AuditMissing:
	}
	return false
}

// What an instance needs at rest, with room: idle connections are kept for a while. Most that was seen is 70 and 350.
const (
	connectionsAtRest = 150
	goroutinesAtRest  = 700
)

// grown looks whether instances have more than they need, when all is at rest.
func (j *judge) grown() {
	n := runtime.NumGoroutine()
	conns := 0
	for _, i := range j.w.instances {
		i.net.mu.Lock()
		conns += len(i.net.conns)
		i.net.mu.Unlock()
	}
	j.w.note("at rest: %d instances, %d connections, %d goroutines", len(j.w.instances), conns, n)
	if most := len(j.w.instances) * connectionsAtRest; conns > most {
		j.w.wrong("%d connections are open at rest, more than %d", conns, most)
	}
	if most := len(j.w.instances)*goroutinesAtRest + goroutinesAtRest; n > most {
		j.w.wrong("%d goroutines run at rest, more than %d", n, most)
	}
}
