package sim

import (
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"fanout/dispatcher/resolve/dnstest"
)

// fault is something that goes wrong, or that somebody does. It is begun at once and ends by itself.
type fault struct {
	name string
	do   func(w *world)
}

// calm is what repeats no delivery, and delays none for long.
var calm = []fault{
	{"nothing", func(*world) {}},
	{"a subscription is changed", (*world).change},
	{"a lane is released", (*world).release},
	{"a webhook is made", (*world).makeLate},
	{"a webhook that was made late is backfilled", (*world).backfillOne},
	{"an account's file is applied", (*world).apply},
	{"a secret is rotated", (*world).rotate},
	{"an account has far more to send than the others", (*world).flood},
	{"a loss is accepted that there is not", (*world).accept},
}

// failing is what puts deliveries off.
var failing = []fault{
	{"receivers are down for a while", (*world).outage},
	{"a kill and a start", func(w *world) {
		w.kill(w.one())
		w.start()
	}},
}

// rolling is what happens while instances get a new event name one after the other.
var rolling = []fault{
	{"nothing", func(*world) {}},
	{"nothing again", func(*world) {}},
	{"leaders are not where they were", func(w *world) { w.kafka.ShufflePartitionLeaders() }},
	{"an instance gets the new name", (*world).roll},
	{"answers are slow for a while", func(w *world) {
		w.each(func(i *instance) {
			i.net.slow(200 * time.Millisecond)
			w.later(8*time.Second, func() { i.net.slow(0) })
		})
	}},
	{"a lane is released", (*world).release},
	{"a kill and a start", func(w *world) {
		w.kill(w.one())
		w.start()
	}},
}

// faults are what may go wrong, and what is done to instances.
var faults = []fault{
	{"nothing", func(*world) {}},
	{"produce is refused for a while", func(w *world) {
		w.refuse(6*time.Second, kmsg.Produce, kerr.NotEnoughReplicas)
	}},
	{"produce is answered too late", func(w *world) { // the records are there, and written again
		w.trouble()
		w.refuse(3*time.Second, kmsg.Produce, kerr.RequestTimedOut)
	}},
	{"leaders are not where they were", func(w *world) { w.kafka.ShufflePartitionLeaders() }},
	{"coordinators are not where they were", func(w *world) {
		w.trouble()
		w.kafka.RehashCoordinators()
	}},
	{"commits are refused for a while", func(w *world) {
		w.refuse(5*time.Second, kmsg.OffsetCommit, kerr.CoordinatorLoadInProgress)
	}},
	{"the offsets cannot be read for a while", func(w *world) {
		w.refuse(5*time.Second, kmsg.OffsetFetch, kerr.CoordinatorNotAvailable)
	}},
	{"fetches fail for a while", func(w *world) {
		w.refuse(5*time.Second, kmsg.Fetch, kerr.UnknownServerError)
	}},
	{"heartbeats are answered with another generation", func(w *world) {
		w.trouble()
		w.kafka.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Heartbeat}, TopLevel: true, Err: kerr.IllegalGeneration})
	}},
	{"a broker's answers are lost for a while", func(w *world) {
		w.trouble()
		address := brokerAddresses()[w.dice.IntN(len(brokerPorts))]
		w.each(func(i *instance) {
			i.net.lose(address)
			w.later(4*time.Second, func() { i.net.lose("") })
		})
	}},
	{"the brokers' connections are cut", func(w *world) {
		w.trouble()
		for _, address := range brokerAddresses() {
			w.each(func(i *instance) { i.net.drop(address) })
		}
	}},
	{"all is frozen for a while", func(w *world) {
		w.trouble()
		span := time.Duration(1+w.dice.IntN(14)) * time.Second
		w.each(func(i *instance) {
			i.net.freeze(true)
			w.later(span, func() { i.net.freeze(false) })
		})
	}},
	{"answers are slow for a while", func(w *world) {
		w.each(func(i *instance) {
			i.net.slow(200 * time.Millisecond)
			w.later(8*time.Second, func() { i.net.slow(0) })
		})
	}},
	{"receivers are down for a while", (*world).outage},
	{"Redis's connections are cut", func(w *world) {
		w.each(func(i *instance) { i.net.drop(redisAddress) })
	}},
	{"Redis's answers are lost for a while", func(w *world) {
		w.trouble() // a pause comes late
		w.each(func(i *instance) {
			i.net.lose(redisAddress)
			w.later(time.Duration(1+w.dice.IntN(20))*time.Second, func() { i.net.lose("") })
		})
	}},
	{"Redis is emptied, and filled again", (*world).empty},
	{"a subscription is paused for a while", (*world).pause},
	{"a subscription is changed", (*world).change},
	{"a lane is released", (*world).release},
	{"what is dead is replayed", (*world).replay},
	{"a delivery is sent again", (*world).resend},
	{"a webhook is made", (*world).makeLate},
	{"a webhook that was made late is backfilled", (*world).backfillOne},
	{"the name server is away for a while", func(w *world) { w.muteNames(10 * time.Second) }},
	{"a stop and a start", func(w *world) {
		w.trouble() // what was in flight when the time was up is made again
		w.halt(w.one())
		w.start()
	}},
	{"a kill and a start", func(w *world) {
		w.kill(w.one())
		w.start()
	}},
	{"a kill in the midst of traffic", func(w *world) {
		i, at := w.one(), time.Duration(w.dice.Int64N(int64(2*time.Second)))
		time.Sleep(at)
		w.kill(i)
		time.Sleep(time.Duration(w.dice.Int64N(int64(12 * time.Second)))) // nobody, or the others, work meanwhile
		w.start()
	}},
	{"all are killed at once", func(w *world) {
		n := len(w.instances)
		for range n {
			w.kill(w.instances[0])
		}
		for range n {
			w.start()
		}
	}},
	{"one more", func(w *world) {
		if w.trouble(); len(w.instances) < w.plan.instances { // what moves may be made again
			w.start()
		}
	}},
	{"one less", func(w *world) {
		if w.trouble(); len(w.instances) > 1 {
			w.halt(w.one())
		}
	}},
	{"one cannot be reached, and does not know it", func(w *world) { // the others take over
		w.trouble()
		i := w.one()
		i.net.freeze(true)
		w.later(time.Duration(8+w.dice.IntN(8))*time.Second, func() { i.net.freeze(false) })
	}},
	{"answers come late for a while", func(w *world) {
		w.trouble() // some come after nobody waits for them any more
		w.hold(late{where: w.where(), answers: w.between(time.Second, 15*time.Second)}, w.between(3*time.Second, 20*time.Second))
	}},
	{"requests arrive late for a while", func(w *world) { // those that were given up on too, after what was sent later
		w.trouble()
		w.hold(late{where: w.where(), requests: w.between(time.Second, 15*time.Second)}, w.between(3*time.Second, 20*time.Second))
	}},
	{"answers are lost for a while, and the connections stay open", func(w *world) {
		w.trouble()
		where := w.where()
		w.each(func(i *instance) { i.net.silence(where) })
		w.afterAll(w.between(time.Second, 15*time.Second), func(i *instance) { i.net.silence("") })
	}},
	{"a broker is frozen for a while", func(w *world) { // then it carries out all that it was asked
		w.trouble()
		span := w.between(2*time.Second, 40*time.Second)
		w.hold(late{where: w.broker(), until: time.Now().Add(span)}, span)
		if w.dice.IntN(2) == 0 {
			w.kafka.ShufflePartitionLeaders()
		}
	}},
	{"a broker is away for a while", (*world).loseBroker},
	{"transactions, and one whose producer dies", (*world).transactions},
	{"the beginning of a log is cut off", (*world).cutLog},
	{"a source topic is replaced", (*world).replaceTopic},
	{"offsets are lost", func(w *world) { w.stopped(w.forgetOffsets) }},
	{"offsets are set back", func(w *world) { w.stopped(w.setBack) }},
	{"all stand still for long", func(w *world) { w.stopped(w.stand) }},
	{"an account's file is applied", (*world).apply},
	{"a secret is rotated", (*world).rotate},
	{"a loss is accepted that there is not", (*world).accept},
	{"what is malformed is repaired", (*world).repair},
}

// muteNames takes the name server away for a while.
func (w *world) muteNames(span time.Duration) {
	w.names.Behave(func(dnstest.Question) dnstest.Behaviour { return dnstest.Behaviour{Silent: true} })
	w.later(span, func() { w.names.Behave(nil) })
}

// refuse has Kafka answer requests of a kind with an error for a while.
func (w *world) refuse(span time.Duration, key kmsg.Key, err *kerr.Error) {
	h := w.kafka.Fault(kfake.Fault{Keys: []kmsg.Key{key}, Err: err, Count: -1})
	w.later(span, h.Remove)
}

// hold has what is exchanged with somewhere come late for a while.
func (w *world) hold(by late, span time.Duration) {
	w.note("of %q: requests %v, answers %v", by.where, max(by.requests, time.Until(by.until)), by.answers)
	w.each(func(i *instance) { i.net.hold(by) })
	w.afterAll(span, func(i *instance) { i.net.hold(late{}) })
}

// where is some of what instances talk to.
func (w *world) where() string {
	return []string{w.broker(), allBrokers, redisAddress, allReceivers}[w.dice.IntN(4)]
}

// broker is one of them.
func (w *world) broker() string { return brokerAddresses()[w.dice.IntN(len(brokerPorts))] }

// between draws a span.
func (w *world) between(least, most time.Duration) time.Duration {
	return least + time.Duration(w.dice.Int64N(int64(most-least)))
}

// afterAll does something for all instances that there are now, when a span has passed.
func (w *world) afterAll(span time.Duration, do func(*instance)) {
	for _, i := range slices.Clone(w.instances) {
		w.later(span, func() { do(i) })
	}
}

// outage takes the receivers down that are sometimes: for a minute, or for a day where the schedule goes on for longer.
func (w *world) outage() {
	span := w.between(10*time.Second, time.Minute)
	if w.dice.IntN(3) == 0 {
		span = max(span, w.plan.outage)
	}
	w.down += span
	w.note("for %v", span)
	for _, r := range w.receivers {
		if r.mood == down {
			r.fail(time.Now().Add(span))
		}
	}
}

// later does something when a span has passed, unless the world has ended before.
func (w *world) later(span time.Duration, do func()) {
	time.AfterFunc(span, func() {
		if !w.closed.Load() {
			do()
		}
	})
}

// one is some instance.
func (w *world) one() *instance { return w.instances[w.dice.IntN(len(w.instances))] }

func (w *world) each(f func(*instance)) {
	for _, i := range w.instances {
		f(i)
	}
}
