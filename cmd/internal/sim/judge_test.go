package sim

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/twmb/franz-go/pkg/kfake"

	"fanout/dispatcher"
	"fanout/event"
	"fanout/topic"
)

// judge knows what should become of each record, and sees what has. What it knows it has read back from Kafka, from the receivers, and from
// what was subscribed.
//
//   - A delivery that is planned ends, or waits: of each source record that is committed, or said to be settled above the commit, each delivery
//     was answered with 2xx, is a dead letter, or has a record in a retry topic that is not settled. So nothing is committed past what is not
//     settled, in the sources and in the tiers.
//   - A malformed record that is committed is a dead letter.
//   - What an operator sends again ends, or waits, as well: each record of the replay topic.
//   - A receiver gets ids that some record has, and no others; nothing that its filter leaves out, and nothing while it is paused.
//   - A receiver that takes everything gets everything; only one that always refuses has dead letters.
//   - Nothing is delivered twice where nothing went wrong, and not much otherwise.
//   - No more requests are in flight at a receiver than it allows each instance.
//   - A webhook that is made late gets all that a backfill has gone through, whether it was planned for it or not.
//   - Where instances get a new event name one after the other, those without it pass over its records; what one with it has planned is lost by
//     none of them, and a backfill fetches the rest.
//   - Nothing of a transaction that was aborted is delivered, and all is read of one that was committed.
//   - What is sent is signed with the secrets that sign then, whatever was rotated.
//   - The deliveries of an account come in time, however much another one has to send, where nothing goes wrong.
//   - The loss account is balanced, and an audit finds what the judge does.
//   - At rest, no instance has more connections or goroutines than it needs.
type judge struct {
	w *world

	mu        sync.Mutex // guards all below
	seen      map[string]map[int]topic.Range
	wanted    map[string]*wanted // by webhook-id
	malformed map[string]place   // by origin
	dead      map[string]string  // reasons, by webhook-id or, where that is malformed, by origin
	waiting   map[string][]place // in retry topics and the replay topic, by webhook-id
	again     map[string]place   // what was sent again, by webhook-id and the replay's name: its record in the replay topic
	deadAgain map[string]bool    // of these, those that died again
	records   int
	fetched   bool            // what instances passed over has been backfilled
	promised  map[string]bool // tracking ids of transactions that were committed, and that were not read yet
	deleted   bool            // records of sources were
}

// place is where a record lies.
type place struct {
	topic     string
	partition int
	offset    int64
}

func (p place) String() string { return fmt.Sprintf("%s/%d/%d", p.topic, p.partition, p.offset) }

// wanted is a delivery that some source record asks for.
type wanted struct {
	receiver *receiver
	sources  []place
	appended time.Time
	added    bool // its event name is one that the plan adds
	excused  bool // its record was deleted before it was settled
}

// ignored says whether an instance without the event's name may have passed over the record, so that nothing becomes of the delivery before it
// is backfilled: nobody has ever planned it. The lock is held.
func (j *judge) ignored(id string, d *wanted) bool {
	return d.added && !j.fetched && len(j.waiting[id]) == 0 && !d.receiver.knows(id)
}

func newJudge(w *world) *judge {
	return &judge{
		w: w, seen: make(map[string]map[int]topic.Range), wanted: make(map[string]*wanted), malformed: make(map[string]place),
		dead: make(map[string]string), waiting: make(map[string][]place),
		again: make(map[string]place), deadAgain: make(map[string]bool), promised: make(map[string]bool),
	}
}

// commits is what a group has committed, as it was at one moment.
type commits map[string]map[int32]kfake.GroupCommit

func (j *judge) commits(id string) commits {
	if info := j.w.kafka.GroupInfo(id); info != nil {
		return info.Commits
	}
	return nil
}

// settled says whether the group says that the record is settled.
func (c commits) settled(p place) bool {
	at, ok := c[p.topic][int32(p.partition)]
	if !ok {
		return false
	}
	if p.offset < at.Offset {
		return true
	}
	above := topic.ReadMetadata(at.Offset, at.Metadata).Above
	return slices.ContainsFunc(above, func(r topic.Range) bool { return r.From <= p.offset && p.offset < r.To })
}

// check looks at everything. What is settled is asked first: what it rests on can be seen then.
func (j *judge) check(ctx context.Context) {
	sources, retries := j.commits(group), j.commits(group+".retry")
	accepted := make(map[string]int)
	for _, r := range j.w.receivers {
		for id, n := range r.counts() {
			accepted[id] += n
		}
		for _, problem := range r.problems() {
			j.w.wrong("%s", problem)
		}
	}
	if !j.w.eventually(time.Minute, "the judge reads", func() error { return j.read(ctx) }) {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for id := range accepted {
		if j.wanted[id] == nil {
			j.w.wrong("%s was delivered, and no record makes it", id)
			return
		}
	}
	now := j.w.accepted()
	for id, d := range j.wanted {
		for _, source := range d.sources {
			if !d.receiver.gets(source) || j.ignored(id, d) {
				continue
			}
			if sources.settled(source) && now[id] == 0 && j.dead[id] == "" && !j.waits(id, retries) {
				j.w.wrong("%s of %s is lost: its record %s is settled, and it was neither delivered nor is it a dead letter, nor does it wait; its retry records: %v", id, d.receiver.name, source, j.waiting[id])
				return
			}
		}
	}
	for life, sent := range j.again {
		id, _, _ := strings.Cut(life, " ")
		if retries.settled(sent) && now[id] == 0 && !j.deadAgain[life] && !j.waits(id, retries) {
			j.w.wrong("%s is lost: its record %s is settled, and it was neither delivered nor is it a dead letter of that replay, nor does it wait", life, sent)
			return
		}
	}
	for origin, source := range j.malformed {
		if sources.settled(source) && j.dead[origin] == "" {
			j.w.wrong("the malformed record %s is settled, and is no dead letter", origin)
			return
		}
	}
}

// waits says whether a retry record of the delivery is not settled.
func (j *judge) waits(id string, retries commits) bool {
	return slices.ContainsFunc(j.waiting[id], func(p place) bool { return !retries.settled(p) })
}

// accepted is how often each delivery was answered with 2xx.
func (w *world) accepted() map[string]int {
	all := make(map[string]int)
	for _, r := range w.receivers {
		for id, n := range r.counts() {
			all[id] += n
		}
	}
	return all
}

// read reads what is new in all topics.
func (j *judge) read(ctx context.Context) error {
	cfg := j.w.admin.Config()
	sizes, err := j.w.admin.Sizes(ctx)
	if err != nil {
		return err
	}
	tiers := cfg.RetryTopics()
	decoder, err := cfg.NewSources(nil, nil)
	if err != nil {
		return err
	}
	defer decoder.Close()
	for name := range sizes {
		_, tier := tiers.Delay(name)
		take := j.takeSource(ctx, decoder)
		switch {
		case tier, name == cfg.Names().Replay:
			take = j.takeWaiting
		case name == cfg.Names().DeadLetter:
			take = j.takeDead
		case !slices.Contains(sourceTopics, name):
			continue
		}
		if err := j.news(ctx, name, take); err != nil {
			return err
		}
	}
	return nil
}

func (j *judge) news(ctx context.Context, name string, take func(*topic.Record) error) error {
	now := j.w.stable(name)
	fresh := make(map[int]topic.Range)
	for id, r := range now {
		if from := max(r.From, j.seen[name][id].To); r.To > from {
			fresh[id] = topic.Range{From: from, To: r.To}
		}
	}
	err := j.w.admin.Scan(ctx, name, fresh, nil, func(r *topic.Record) error {
		j.mu.Lock()
		defer j.mu.Unlock()
		return take(r)
	})
	if err == nil { // else it reads some of it twice, which makes no difference
		j.seen[name] = now
	}
	return err
}

// stable is what can be read of a topic now: where a transaction is open, up to its beginning.
func (w *world) stable(name string) map[int]topic.Range {
	all := make(map[int]topic.Range)
	for _, p := range w.kafka.PartitionInfos(name) {
		all[int(p.Partition)] = topic.Range{From: p.LogStartOffset, To: p.LastStableOffset}
	}
	return all
}

func placeOf(r *topic.Record) place { return place{r.Topic, r.ID, r.Offset} }

// takeSource finds out what a source record asks for.
func (j *judge) takeSource(ctx context.Context, decoder *topic.Sources) func(*topic.Record) error {
	return func(r *topic.Record) error {
		j.records++
		ev, err := decoder.Decode(ctx, r)
		switch {
		case err == nil:
		case isIgnored(err):
			return nil
		default:
			j.malformed[r.Origin().String()] = placeOf(r)
			return nil
		}
		j.transacted(ev.TrackingID, ev.Account, placeOf(r))
		for _, to := range j.w.receivers {
			if account, subscription := split(to.name); to.made.Load() && account == ev.Account && to.wants(ev.NotificationID) {
				id := dispatcher.WebhookID(&ev, r.Origin(), subscription)
				d := j.wanted[id]
				if d == nil {
					_, known := event.BuiltIn().Parse(ev.Name.String())
					d = &wanted{receiver: to, appended: r.Time, added: !known}
					j.wanted[id] = d
				}
				d.sources = append(d.sources, placeOf(r))
			}
		}
		return nil
	}
}

// lifeOf names a delivery that was sent again.
func lifeOf(r *topic.Record) string {
	return r.Header(topic.HeaderWebhookID) + " " + r.Header(topic.HeaderReplay)
}

func (j *judge) takeWaiting(r *topic.Record) error {
	id := r.Header(topic.HeaderWebhookID)
	j.waiting[id] = append(j.waiting[id], placeOf(r))
	if r.Topic == j.w.admin.Config().Names().Replay {
		j.again[lifeOf(r)] = placeOf(r)
	}
	return nil
}

func (j *judge) takeDead(r *topic.Record) error {
	reason := r.Header(topic.HeaderReason)
	if id := r.Header(topic.HeaderWebhookID); id != "" {
		j.dead[id] = reason
		j.deadAgain[lifeOf(r)] = true
		return nil
	}
	j.dead[r.Header(topic.HeaderOrigin)] = reason
	return nil
}

// rest says what keeps the world from being at rest: everything is committed, in all topics.
func (j *judge) rest(ctx context.Context) error {
	if err := j.read(ctx); err != nil {
		return err
	}
	sources, retries := j.commits(group), j.commits(group+".retry")
	tiers := j.w.admin.Config().RetryTopics()
	for name := range j.seen {
		c := sources
		if _, tier := tiers.Delay(name); tier || name == j.w.admin.Config().Names().Replay {
			c = retries
		} else if !slices.Contains(sourceTopics, name) {
			continue
		}
		for _, p := range j.w.kafka.PartitionInfos(name) {
			if at := c[name][p.Partition].Offset; p.HighWatermark > p.LogStartOffset && at < p.HighWatermark {
				return fmt.Errorf("%s/%d is committed up to %d of %d", name, p.Partition, at, p.HighWatermark)
			}
		}
	}
	return nil
}

// end looks at how everything ended, when all is at rest.
func (j *judge) end(ctx context.Context) {
	j.check(ctx)
	j.mu.Lock()
	defer j.mu.Unlock()
	repeats := 0
	for id, n := range j.w.accepted() {
		repeats += n - 1
		if n > 1 && j.w.faults == 0 {
			j.w.wrong("%s of %s was delivered %d times, and nothing went wrong", id, j.wanted[id].receiver.name, n)
			return
		}
	}
	if most := j.w.faults*repeatsOfAFault + j.w.twice; repeats > most {
		j.w.wrong("%d repeats after %d faults, more than %d", repeats, j.w.faults, most)
	}
	accepted := j.w.accepted()
	for id, d := range j.wanted {
		switch {
		case accepted[id] > 0, d.excused:
		case j.dead[id] == "":
			j.w.wrong("%s of %s (%v) has neither been delivered nor is it a dead letter", id, d.receiver.name, d.receiver.mood)
			return
		case !j.mayDie(d.receiver, j.dead[id]):
			j.w.wrong("%s of %s (%v) is dead: %s", id, d.receiver.name, d.receiver.mood, j.dead[id])
			return
		}
	}
	for tracking := range j.promised {
		j.w.wrong("%s was never read, and its transaction was committed", tracking)
		return
	}
	j.late()
	for origin := range j.malformed {
		if j.dead[origin] != "malformed_event" {
			j.w.wrong("the malformed record %s is no dead letter", origin)
			return
		}
	}
	j.audit(ctx)
	j.grown()
}

// mayDie says whether a delivery to the receiver may be a dead letter, for the reason.
func (j *judge) mayDie(r *receiver, reason string) bool {
	if reason == dispatcher.Expired.String() && j.w.stood+2*j.w.down > j.w.plan.maxAge/2 {
		return true
	}
	if r.mood == down { // the schedule outlasts it
		return j.w.down > j.w.plan.outage
	}
	return r.mood.dies() || r.mood == flaky || r.mood == away
}

// late looks whether what nothing holds up was delivered in time. The lock is held.
func (j *judge) late() {
	if j.w.plan.prompt == 0 {
		return
	}
	for id, d := range j.wanted {
		r := d.receiver
		if account, _ := split(r.name); r.mood != well || r.covered != nil || account == j.w.flooded {
			continue
		}
		r.mu.Lock()
		took := r.last[id].Sub(d.appended)
		r.mu.Unlock()
		if took > j.w.plan.prompt {
			j.w.wrong("%s of %s came after %v, and nothing went wrong", id, r.name, took)
			return
		}
	}
}

// repeatsOfAFault is more than may be in flight, or settled within a second, when something goes wrong.
const repeatsOfAFault = 150

// balanced checks the loss account of an instance that has ended (docs/contract.md#loss-account).
func (j *judge) balanced(i *instance) {
	if i.killed {
		return
	}
	families, err := i.reg.Gather()
	if err != nil {
		j.w.wrong("metrics of %s: %v", i.name, err)
		return
	}
	planned, settled, left := make(map[string]float64), make(map[string]float64), make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			switch f.GetName() {
			case "fanout_deliveries_total":
				planned[labelOf(m, "stage")] += m.GetCounter().GetValue()
			case "fanout_outcomes_total":
				settled[labelOf(m, "stage")] += m.GetCounter().GetValue()
			case "fanout_in_flight":
				n := m.GetGauge().GetValue()
				left[labelOf(m, "stage")] += n
				if n != 0 && !j.w.troubled.Load() { // else it may have ended without Kafka, and another one makes them
					j.w.wrong("%s has ended with %v deliveries in flight", i.name, n)
				}
			}
		}
	}
	for stage, n := range planned {
		if n != settled[stage]+left[stage] {
			j.w.wrong("%s: of stage %s %v deliveries were planned, %v settled, and %v left", i.name, stage, n, settled[stage], left[stage])
		}
	}
}

func labelOf(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

func isIgnored(err error) bool { return err == event.ErrIgnored } //nolint:errorlint // Decode returns it bare
