package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"fanout/egress"
	"fanout/event"
	"fanout/operate"
	"fanout/subscriptions"
)

// some is a receiver, by chance; nil where its subscription may not be written now.
func (w *world) some() *receiver {
	names := slices.Sorted(maps.Keys(w.receivers))
	r := w.receivers[names[w.dice.IntN(len(names))]]
	if !r.made.Load() || w.emptied.Load() || r.isPaused() || r.mood == held {
		return nil
	}
	return r
}

// empty takes all that Redis holds, and has the job that writes it write it again later. Nothing is to be lost for it: the instances know
// what it held, and one that starts reads it from the snapshot file.
func (w *world) empty() {
	if _, err := os.Stat(w.cfg.Redis.SnapshotFile); err != nil || w.emptied.Load() {
		return
	}
	for _, r := range w.receivers {
		if r.isPaused() { // what it holds would be too old before anybody resumes it
			return
		}
	}
	w.trouble()
	w.emptied.Store(true)
	w.redis.FlushAll()
	span := time.Duration(5+w.dice.IntN(40)) * time.Second
	if w.dice.IntN(2) == 0 {
		span += 6 * time.Minute // past a full reconcile
	}
	w.later(span, func() {
		for _, r := range w.receivers {
			if !r.made.Load() {
				continue
			}
			account, id := split(r.name)
			w.redis.HSet("fanout:account:"+account, id, r.stored())
		}
		w.emptied.Store(false)
		if err := w.store.Changed(context.Background(), accounts...); err != nil {
			w.t.Errorf("announce: %v", err)
		}
	})
}

func (r *receiver) isPaused() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.paused.IsZero()
}

// stored is the subscription as Redis should hold it.
func (r *receiver) stored() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.paused.IsZero() {
		return r.json
	}
	return pausedJSON(r.json)
}

func pausedJSON(json string) string { return strings.TrimSuffix(json, "}") + `,"paused":true}` }

// pause pauses a subscription, and resumes it before what it holds is too old.
func (w *world) pause() {
	r := w.some()
	if r == nil {
		return
	}
	r.pause(time.Now())
	w.put(r, r.stored())
	w.note("%s is paused", r.name)
	w.later(time.Duration(15+w.dice.IntN(45))*time.Second, func() {
		r.pause(time.Time{})
		if !w.emptied.Load() { // else it is filled with what it is now
			w.put(r, r.stored())
		}
	})
}

// change changes something of a subscription that changes nothing of what it gets.
func (w *world) change() {
	if r := w.some(); r != nil {
		w.put(r, strings.TrimSuffix(r.json, "}")+fmt.Sprintf(`,"description":"%d"}`, w.dice.IntN(1000)))
	}
}

// release opens a lane.
func (w *world) release() {
	if r := w.some(); r != nil {
		account, id := split(r.name)
		if err := w.store.Release(w.t.Context(), account, id); err != nil {
			w.t.Errorf("release: %v", err)
		}
	}
}

// replay sends what is dead. It may fail where Kafka does not answer, as an operator's would: then it is one that was interrupted.
func (w *world) replay() {
	w.trouble() // what died may have been delivered, and its answer lost
	w.replays++
	r := operate.NewReplay(w.admin, operate.ReplayConfig{Name: fmt.Sprintf("replay-%d", w.replays), Rate: 100})
	plan, err := r.Plan(w.t.Context(), nil, nil)
	if err == nil {
		err = r.Run(w.t.Context(), plan)
	}
	w.note("%d of the dead are replayed: %v", r.Sent(), err)
}

// resend sends again what was delivered, or is dead.
func (w *world) resend() {
	ids := slices.Sorted(maps.Keys(w.judge.wanted))
	if len(ids) == 0 {
		return
	}
	w.trouble() // that is a repeat
	w.replays++
	r, err := operate.FindResend(w.t.Context(), w.admin, operate.ResendConfig{
		ID: ids[w.dice.IntN(len(ids))], Name: fmt.Sprintf("resend-%d", w.replays),
		Wants: func(account, id string, name event.Name) string {
			data, _, err := w.store.Get(w.t.Context(), account, id)
			if err != nil {
				return err.Error()
			}
			sub, _ := subscriptions.Parse(account, id, data)
			return operate.Unwanted(sub, name)
		},
	})
	if err == nil {
		err = r.Send(w.t.Context(), w.admin)
	}
	if _, busy := errors.AsType[*operate.BusyError](err); busy {
		err = errors.New("it is on its way")
	}
	w.note("one is sent again: %v", err)
}

// apply applies a file with an account's subscriptions, as they are but for their descriptions.
func (w *world) apply() {
	if w.emptied.Load() {
		return
	}
	account := accounts[w.dice.IntN(len(accounts))]
	var b strings.Builder
	fmt.Fprintf(&b, `{"account":%q,"subscriptions":{`, account)
	comma := ""
	for _, name := range slices.Sorted(maps.Keys(w.receivers)) {
		r := w.receivers[name]
		if of, id := split(name); of == account && r.made.Load() {
			fmt.Fprintf(&b, `%s%q:%s,"description":"applied %d"}`, comma, id, strings.TrimSuffix(r.stored(), "}"), w.sent)
			comma = ","
		}
	}
	b.WriteString("}}")
	rules, err := egress.New(w.cfg.Egress)
	if err != nil {
		w.t.Fatal(err)
	}
	m := operate.NewManifest()
	m.Read("file", []byte(b.String()))
	plan, err := m.Plan(w.t.Context(), w.store, rules, false)
	if problems := m.Problems(); len(problems) > 0 {
		w.wrong("the file of %s: %v", account, problems)
		return
	}
	if err == nil {
		err = plan.Apply(w.t.Context(), w.store)
	}
	w.note("the file of %s is applied: %v", account, err)
}

// rotate gives a subscription another secret. The one before signs on for a while.
func (w *world) rotate() {
	r := w.some()
	if r == nil {
		return
	}
	account, id := split(r.name)
	var next subscriptions.Rotation
	_, err := w.store.Update(w.t.Context(), account, id, func(stored json.RawMessage) (json.RawMessage, error) {
		var err error
		next, err = subscriptions.Rotate(stored, w.plan.rotation, time.Now())
		return next.JSON, err
	})
	if err == nil {
		err = r.rotated(next, w.plan.rotation)
	}
	w.note("a secret of %s is rotated: %v", r.name, err)
}

// accept accepts a loss where there is none. A loss that comes later is refused all the same.
func (w *world) accept() {
	if w.emptied.Load() {
		return
	}
	if err := w.store.AcceptShrink(w.t.Context()); err != nil {
		w.t.Errorf("accept: %v", err)
	}
	time.Sleep(5 * time.Second) // in which all hear of it
}

// repair sends the malformed records again, as an operator has repaired them. It may fail, as an operator's would.
func (w *world) repair() {
	w.trouble() // two records may be made of one
	sent := 0
	r, err := operate.NewRepairer(w.admin, operate.RepairConfig{
		Edit: func(context.Context, []byte, string, string) ([]byte, error) {
			w.sent++
			account := accounts[w.dice.IntN(len(accounts))]
			return fmt.Appendf(nil, `{"accountId":%q,"channel":"EMAIL","type":"OPEN","trackingId":"repaired%d","notificationId":"welcome","userId":"u","id":"e%d"}`, account, w.sent, w.sent), nil
		},
		Confirm: func(context.Context, string, string) error { return nil },
		Tell: func(one operate.Repair) {
			if one.State == operate.RepairSent {
				sent++
			}
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	defer r.Close()
	if _, err = r.Find(w.t.Context(), nil, nil); err == nil {
		err = r.Run(w.t.Context())
	}
	w.note("%d of the malformed are repaired: %v", sent, err)
}
