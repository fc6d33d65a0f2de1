package sim

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"fanout/dispatcher"
	"fanout/event"
	"fanout/operate"
	"fanout/subscriptions"
	"fanout/topic"
)

// lateWebhooks is how many webhooks may be made while records are read.
const lateWebhooks = 3

// prepare makes the receivers of webhooks that are made later. Nobody knows of them before.
func (w *world) prepare() {
	for n := range lateWebhooks {
		m := []mood{well, well, slow, flaky, asksLater}[w.dice.IntN(5)]
		r := newReceiver(w.seed, fmt.Sprintf("%s/late%d", accounts[w.dice.IntN(len(accounts))], n), m, 0)
		r.covered = make(map[string]map[int]topic.Range)
		extra := ""
		if w.dice.IntN(3) == 0 {
			r.notification = "promo-*"
			extra = `,"notificationIds":["promo-*"]`
		}
		w.reach(r, extra)
		w.late = append(w.late, r)
	}
}

// gets says whether the receiver must get what its subscription wants of the source record. A webhook that is made late is not in force for all
// records that come up then, and does not get them before a backfill has gone through them.
func (r *receiver) gets(source place) bool {
	if r.covered == nil {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	one, ok := r.covered[source.topic][source.partition]
	return ok && source.offset < one.To
}

// makeLate makes the next webhook, in the midst of traffic.
func (w *world) makeLate() {
	i := slices.IndexFunc(w.late, func(r *receiver) bool { return !r.made.Load() })
	if i < 0 || w.emptied.Load() {
		return
	}
	r := w.late[i]
	r.made.Store(true)
	w.judge.readAgain(sources)
	w.traffic(w.t.Context())
	w.put(r, r.stored())
	w.note("%s is %v", r.name, r.mood)
	w.traffic(w.t.Context())
}

// readAgain has the judge read the topics once more, for a receiver that it did not know.
func (j *judge) readAgain(topics []string) {
	for _, name := range topics {
		delete(j.seen, name)
	}
}

// backfillOne backfills one of the webhooks that were made late. It may fail, as an operator's would: then the next one goes on.
func (w *world) backfillOne() {
	if r := w.late[w.dice.IntN(len(w.late))]; r.made.Load() {
		w.note("%s is backfilled: %v", r.name, w.backfill(r))
	}
}

// backfillAll backfills all of them, when all is at rest.
func (w *world) backfillAll() bool {
	for _, r := range w.late {
		if !r.made.Load() {
			continue
		}
		if err := w.backfill(r); err != nil {
			w.wrong("the backfill of %s when nothing happens any more: %v", r.name, err)
			return false
		}
	}
	return true
}

// roll stops an instance that lacks the names which the plan adds, and starts one that has them.
func (w *world) roll() {
	i := slices.IndexFunc(w.instances, func(i *instance) bool { return i.old })
	if i < 0 {
		return
	}
	w.trouble()
	w.rolled = true
	w.halt(w.instances[i])
	w.start()
}

// rollAll gives the names to all, and has fetched what those without them passed over.
func (w *world) rollAll() bool {
	for slices.ContainsFunc(w.instances, func(i *instance) bool { return i.old }) {
		w.roll()
	}
	if !w.rest(w.t.Context()) {
		return false
	}
	for _, name := range slices.Sorted(maps.Keys(w.receivers)) {
		r := w.receivers[name]
		if !r.made.Load() {
			continue
		}
		if r.covered == nil {
			r.covered = make(map[string]map[int]topic.Range)
		}
		if err := w.backfill(r); err != nil {
			w.wrong("the backfill of %s after all have the new name: %v", r.name, err)
			return false
		}
	}
	w.judge.fetch()
	return w.rest(w.t.Context())
}

// fetch notes that what instances passed over has been backfilled.
func (j *judge) fetch() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.fetched = true
}

// backfillPatience is how long a backfill waits for what is being delivered.
const backfillPatience = 3 * time.Minute

// backfill plans all that the sources hold again for one webhook.
func (w *world) backfill(r *receiver) error {
	ctx, cancel := context.WithTimeout(w.t.Context(), backfillPatience)
	defer cancel()
	account, id := split(r.name)
	sub, bad := subscriptions.Parse(account, id, []byte(r.stored()))
	if bad != nil {
		return bad
	}
	w.backfills++
	for _, name := range sources {
		cfg := operate.BackfillConfig{
			Name: fmt.Sprintf("backfill-%d", w.backfills), Topic: name, Account: account, Subscription: id, Since: w.begun.Add(-time.Hour), Rate: 100,
			Plan: dispatcher.NewPlanner(only{r, sub}).Plan,
		}
		ends := w.stable(name)
		b := operate.NewBackfill(w.admin, cfg)
		plan, err := b.Plan(ctx)
		if err == nil && plan.Unknown > 0 { // the first attempt of all was made late: an operator who wants these says so
			w.trouble()
			cfg.Again = true
			b = operate.NewBackfill(w.admin, cfg)
			plan, err = b.Plan(ctx)
		}
		if err == nil {
			err = b.Run(ctx, plan)
		}
		if err != nil {
			return fmt.Errorf("%s, %d sent: %w", name, b.Sent(), err)
		}
		w.note("of %s %d are sent to %s, %d were delivered, %d wait", name, b.Sent(), r.name, plan.Delivered, plan.Waiting)
		r.mu.Lock()
		r.covered[name] = ends
		r.mu.Unlock()
	}
	return nil
}

// only is a directory of one subscription.
type only struct {
	r   *receiver
	sub *subscriptions.Subscription
}

// Match implements dispatcher.Directory.
func (o only) Match(dst []*subscriptions.Subscription, account string, _ event.Name, notification string) []*subscriptions.Subscription {
	if of, _ := split(o.r.name); of == account && o.r.wants(notification) {
		dst = append(dst, o.sub)
	}
	return dst
}

// Lookup implements dispatcher.Directory.
func (o only) Lookup(account, id string) *subscriptions.Subscription {
	if o.r.name == account+"/"+id {
		return o.sub
	}
	return nil
}

// Version implements dispatcher.Directory.
func (only) Version() uint64 { return 1 }
