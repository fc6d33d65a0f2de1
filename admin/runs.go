package admin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Bounds and defaults of a replay and of a backfill, the same as those of the commands.
const (
	maxReplayName      = 200
	defaultReplayRate  = 1000
	defaultMaxFailures = 100
)

// runAsk is what is asked for of a replay and of a backfill alike.
type runAsk struct {
	Name        string   `json:"name"`
	Again       bool     `json:"again"`
	Rate        *float64 `json:"rate"`
	MaxFailures *whole   `json:"maxFailures"`
	DryRun      bool     `json:"dryRun"`

	by scope // whoever asks
}

// check says what is wrong with it, and returns the rate, and the failures after which to stop.
func (ask *runAsk) check(fail func(field, detail string)) (float64, int) {
	if len(ask.Name) > maxReplayName || strings.ContainsFunc(ask.Name, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '/' }) {
		fail("name", fmt.Sprintf("must be at most %d ASCII characters, without spaces and slashes", maxReplayName))
	}
	rate, most := float64(defaultReplayRate), whole(defaultMaxFailures)
	if ask.Rate != nil {
		rate = *ask.Rate
	}
	if ask.MaxFailures != nil {
		most = *ask.MaxFailures
	}
	if rate < 0 || rate > 1e6 {
		fail("rate", "must be from 0 (no limit) to 1000000 a second")
	}
	if most < 0 || most > math.MaxInt32 {
		fail("maxFailures", "must be 0 (no limit) or more")
	}
	if ask.by.Portal {
		ask.checkForCustomer(rate, most, fail)
	}
	return rate, int(most)
}

// checkForCustomer says what is wrong with it where it is asked for in the portal.
func (ask *runAsk) checkForCustomer(rate float64, most whole, fail func(field, detail string)) {
	if ask.Again {
		fail("again", "deliveries that were sent before are not sent again from here")
	}
	if rate <= 0 || rate > portalReplayRate {
		fail("rate", fmt.Sprintf("must be from 1 to %d a second", portalReplayRate))
	}
	if most < 1 || most > defaultMaxFailures {
		fail("maxFailures", fmt.Sprintf("must be from 1 to %d", defaultMaxFailures))
	}
}

// States of a replay or backfill.
const (
	runRunning  = "running"
	runDone     = "done"
	runCanceled = "canceled"
	runFailed   = "failed"
)

// runStatus is what is shown of a replay and of a backfill alike.
type runStatus struct {
	Name     string     `json:"name"`
	State    string     `json:"state"`
	Sent     int64      `json:"sent"`
	Failures int64      `json:"failures"` // first attempts that are known to have failed
	Started  time.Time  `json:"started"`
	Ended    *time.Time `json:"ended,omitempty"`
	Error    string     `json:"error,omitempty"`
}

// runs are the replays, or the backfills, that this instance runs or ran. The replay topic records what each has sent, so any instance can
// continue one. S is the status of one as it is shown.
type runs[S any] struct {
	kind string // in messages: "replay"

	mu   sync.Mutex // guards all below
	list map[string]*running[S]
	wait sync.WaitGroup
}

func newRuns[S any](kind string) *runs[S] {
	return &runs[S]{kind: kind, list: make(map[string]*running[S])}
}

// running is one of them.
type running[S any] struct {
	runStatus                   // but for what show adds
	show      func(runStatus) S // nil until it is begun: it is not shown then
	run       func(ctx context.Context) error
	cancel    context.CancelFunc
}

// Bounds of runs on one instance: more at once are not faster, and only the last ones that ended are remembered.
const (
	maxRunning = 4
	maxPortals = 2 // replays and backfills that were asked for in portals, one for each account: the others are the operators'
	maxEnded   = 100
)

// begin takes the name, has the run prepared, and runs it in the background, where it goes on after ctx.
func begin[S any](ctx context.Context, p *panel, r *runs[S], s scope, name string, prepare func(context.Context) (*running[S], error)) (status S, err error) {
	leave, err := p.budgets.send(s)
	if err != nil {
		return status, err
	}
	if err = r.reserve(name); err != nil {
		leave()
		return status, err
	}
	var one *running[S]
	if _, err = p.Kafka.Create(ctx, p.ReplayTopic); err == nil {
		one, err = prepare(ctx)
	}
	if err != nil {
		r.forget(name)
		leave()
		return status, err
	}
	ctx, one.cancel = context.WithCancel(context.WithoutCancel(ctx))
	status = r.started(name, one)
	r.wait.Go(func() {
		defer leave()
		defer one.cancel()
		r.end(one, one.run(ctx))
	})
	return status, nil
}

// reserve takes the name, so that only one run of that name runs at a time.
func (r *runs[S]) reserve(name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	var oldest *running[S]
	for _, other := range r.list {
		switch {
		case other.State == runRunning:
			n++
		case oldest == nil || other.Started.Before(oldest.Started):
			oldest = other
		}
	}
	if was := r.list[name]; was != nil && was.State == runRunning {
		return problemf(http.StatusConflict, "a %s of this name is already running", r.kind)
	}
	if n >= maxRunning {
		return problemf(http.StatusConflict, "%d %ss are running, which is the limit: wait until one ends, or cancel one", n, r.kind)
	}
	if len(r.list) >= maxEnded && oldest != nil {
		delete(r.list, oldest.Name)
	}
	r.list[name] = &running[S]{runStatus: runStatus{Name: name, State: runRunning, Started: time.Now().UTC()}}
	return nil
}

func (r *runs[S]) forget(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.list, name)
}

// started has the run shown whose name was reserved.
func (r *runs[S]) started(name string, one *running[S]) S {
	r.mu.Lock()
	defer r.mu.Unlock()
	one.runStatus = r.list[name].runStatus
	r.list[name] = one
	return one.show(one.runStatus)
}

func (r *runs[S]) end(one *running[S], err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	one.Ended = new(time.Now().UTC())
	switch {
	case err == nil:
		one.State = runDone
	case errors.Is(err, context.Canceled):
		one.State = runCanceled
	default:
		one.State, one.Error = runFailed, err.Error()
	}
}

func (r *runs[S]) get(name string) (status S, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	one := r.list[name]
	if one == nil || one.show == nil {
		return status, false
	}
	return one.show(one.runStatus), true
}

// all returns those that keep selects, the newest first.
func (r *runs[S]) all(keep func(S) bool) (list []S) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, one := range slices.SortedFunc(maps.Values(r.list), func(a, b *running[S]) int { return b.Started.Compare(a.Started) }) {
		if one.show != nil && keep(one.show(one.runStatus)) {
			list = append(list, one.show(one.runStatus))
		}
	}
	return list
}

// cancel ends a run if it is running; false where none has that name.
func (r *runs[S]) cancel(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	one := r.list[name]
	if one == nil || one.show == nil {
		return false
	}
	one.cancel()
	return true
}

// stop ends all runs and waits for them.
func (r *runs[S]) stop() {
	r.mu.Lock()
	for _, one := range r.list {
		if one.cancel != nil {
			one.cancel()
		}
	}
	r.mu.Unlock()
	r.wait.Wait()
}

// getRun answers with the status of the run in the path.
func getRun[S any](w http.ResponseWriter, r *http.Request, all *runs[S], none error) error {
	status, ok := all.get(r.PathValue("name"))
	if !ok {
		return none
	}
	writeJSON(w, http.StatusOK, "application/json", status)
	return nil
}

// cancelRun ends the run in the path.
func cancelRun[S any](w http.ResponseWriter, r *http.Request, all *runs[S], none error) error {
	if !all.cancel(r.PathValue("name")) {
		return none
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
