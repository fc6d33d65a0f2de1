package sim

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// client is one of another library: for transactions, and for what operators do to offsets.
func (w *world) client(opts ...kgo.Opt) *kgo.Client {
	w.t.Helper()
	c, err := kgo.NewClient(append(opts, kgo.SeedBrokers(brokerAddresses()...), kgo.Dialer(w.brokers.DialContext))...)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// transactionPatience is how long one step of a transaction may take. Kafka aborts one that is open for as long.
const transactionPatience = 20 * time.Second

// aborted is in the tracking id of what must never be delivered, promised in that of what must be read.
const aborted, promised = "aborted", "promised"

// transactions writes some records in each of a few transactions, and commits, aborts, or does not end them.
func (w *world) transactions() {
	name := sources[w.dice.IntN(len(sources))]
	for range 1 + w.dice.IntN(3) {
		w.transaction(name, w.dice.IntN(3), 1+w.dice.IntN(8))
		w.traffic(w.t.Context())
	}
}

func (w *world) transaction(name string, end, n int) {
	w.transacted++
	c := w.client(kgo.TransactionalID(fmt.Sprintf("tx%d", w.transacted)), kgo.DefaultProduceTopic(name), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.TransactionTimeout(transactionPatience))
	defer c.Close()
	ctx, cancel := context.WithTimeout(w.t.Context(), transactionPatience)
	defer cancel()
	if err := c.BeginTransaction(); err != nil {
		w.t.Fatal(err)
	}
	for range n {
		w.sent++
		mark := aborted
		if end == 0 {
			mark = promised
		}
		account := accounts[w.dice.IntN(len(accounts))]
		value := fmt.Sprintf(`{"accountId":%q,"channel":"EMAIL","type":"OPEN","trackingId":"%s%d","notificationId":"welcome","userId":"u","id":"e%d"}`, account, mark, w.sent, w.sent)
		c.Produce(ctx, &kgo.Record{Partition: int32(w.dice.IntN(2)), Value: []byte(value)}, nil)
	}
	err := c.Flush(ctx)
	switch {
	case err != nil:
	case end == 0:
		if err = c.EndTransaction(ctx, kgo.TryCommit); err == nil {
			w.judge.promise(w.sent-n+1, w.sent)
		}
	case end == 1:
		err = c.EndTransaction(ctx, kgo.TryAbort)
	}
	w.note("%d records of %s in a transaction that is %s: %v", n, name, []string{"committed", "aborted", "not ended"}[end], err)
}

// promise notes that a transaction was committed.
func (j *judge) promise(from, to int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for n := from; n <= to; n++ {
		j.promised[fmt.Sprint(promised, n)] = true
	}
}

// transacted looks at an event that a transaction may have written. The lock is held.
func (j *judge) transacted(tracking, account string, from place) {
	if strings.HasPrefix(tracking, aborted) {
		j.w.wrong("%s of %s was read at %s, and its transaction was aborted", tracking, account, from)
	}
	delete(j.promised, tracking)
}

// cutLog deletes the oldest records of a source, read or not.
func (w *world) cutLog() {
	if !w.judge.readNow() {
		return
	}
	name, id := sources[w.dice.IntN(len(sources))], w.dice.IntN(2)
	r := w.judge.seen[name][id]
	if r.To == r.From {
		return
	}
	w.trouble()
	before := r.From + 1 + w.dice.Int64N(r.To-r.From)
	lost := w.judge.excuse(name, id, before)
	if err := w.kafka.DeleteRecords(name, int32(id), before); err != nil {
		w.t.Errorf("cut %s/%d: %v", name, id, err)
	}
	w.note("%s/%d begins at %d of %d: %d deliveries may be lost", name, id, before, r.To, lost)
}

// replaceTopic deletes a source topic and creates it again. Events have ids of their producers from then on: those that are made of offsets
// would come again.
func (w *world) replaceTopic() {
	if !w.judge.readNow() {
		return
	}
	w.trouble()
	name := sources[w.dice.IntN(len(sources))]
	lost := 0
	for id := range 2 {
		lost += w.judge.excuse(name, id, math.MaxInt64)
	}
	w.named = true
	w.judge.readAgain([]string{name})
	for _, r := range w.late {
		r.mu.Lock()
		delete(r.covered, name)
		r.mu.Unlock()
	}
	err := w.kafka.DeleteTopic(name)
	time.Sleep(w.between(0, 20*time.Second))
	if err == nil {
		err = w.kafka.CreateTopic(name, 2, nil)
	}
	if err != nil {
		w.t.Errorf("replace %s: %v", name, err)
	}
	w.note("%s was replaced: %d deliveries may be lost", name, lost)
}

// readNow reads what is new in all topics.
func (j *judge) readNow() bool {
	return j.w.eventually(time.Minute, "the judge reads", func() error { return j.read(j.w.t.Context()) })
}

// excuse notes that records are deleted: what is not settled of them may be lost. It says how many deliveries that are.
func (j *judge) excuse(name string, id int, before int64) (lost int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.deleted = true
	c := j.commits(group)
	gone := func(p place) bool { return p.topic == name && p.partition == id && p.offset < before }
	for _, d := range j.wanted {
		d.sources = slices.DeleteFunc(d.sources, func(p place) bool {
			if !gone(p) {
				return false
			}
			if passed := !d.receiver.gets(p); passed || !c.settled(p) { // nobody has planned it, or it may not be planned any more
				d.excused = true
				lost++
			}
			return true
		})
	}
	for origin, p := range j.malformed {
		if gone(p) {
			delete(j.malformed, origin)
		}
	}
	clear(j.promised)
	return lost
}

// stopped does something while no instance runs, and Kafka knows it.
func (w *world) stopped(do func()) {
	w.trouble()
	n := len(w.instances)
	for range n {
		w.halt(w.instances[0])
	}
	time.Sleep(2 * w.cfg.Kafka.SessionTimeout)
	do()
	for range n {
		w.start()
	}
}

// forgetOffsets deletes what a group has committed, or both.
func (w *world) forgetOffsets() {
	groups := [][]string{{group}, {group + ".retry"}, {group, group + ".retry"}}[w.dice.IntN(3)]
	c := w.client()
	defer c.Close()
	done, err := kadm.NewClient(c).DeleteGroups(w.t.Context(), groups...)
	if err == nil {
		err = done.Error()
	}
	w.readTwice()
	w.note("the offsets of %v are deleted: %v", groups, err)
}

// setBack sets a source partition's offset to its start.
func (w *world) setBack() {
	name, id := sources[w.dice.IntN(len(sources))], int32(w.dice.IntN(2))
	c := w.client()
	defer c.Close()
	var to kadm.Offsets
	to.AddOffset(name, id, 0, -1)
	done, err := kadm.NewClient(c).CommitOffsets(w.t.Context(), group, to)
	if err == nil {
		err = done.Error()
	}
	w.readTwice()
	w.note("%s/%d is read from its start again: %v", name, id, err)
}

// readTwice notes that all that there is may come once more.
func (w *world) readTwice() {
	w.judge.mu.Lock()
	defer w.judge.mu.Unlock()
	w.twice += len(w.judge.wanted) + len(w.judge.again)
}

// retention is how long Kafka keeps the records of sources, and the offsets of a group without members.
const retention = 7 * 24 * time.Hour

// stand lets time pass in which nobody works: past the age of what waits and the retention of offsets, for some seeds.
func (w *world) stand() {
	span := w.plan.stands[w.dice.IntN(len(w.plan.stands))]
	w.note("nobody works for %v", span)
	w.stood += span
	if span > retention {
		if !w.judge.readNow() {
			return
		}
		for _, name := range sources {
			for id := range 2 {
				w.judge.excuse(name, id, math.MaxInt64)
			}
		}
		w.readTwice()
	}
	w.admin.Close() // it looks for brokers twice a second
	time.Sleep(span)
	w.manage()
	w.kafka.ApplyRetention()
}

// loseBroker takes a broker out of the cluster, and puts it back later. Nobody reaches it meanwhile.
func (w *world) loseBroker() {
	w.trouble()
	n := w.dice.IntN(len(brokerPorts))
	address, span := brokerAddresses()[n], w.between(3*time.Second, 30*time.Second)
	if err := w.kafka.RemoveNode(int32(n)); err != nil {
		w.note("broker %d stays: %v", n, err) // it is away already
		return
	}
	w.each(func(i *instance) { i.net.leave(address) })
	w.note("broker %d is away for %v", n, span)
	all := slices.Clone(w.instances)
	w.later(span, func() {
		for _, i := range all {
			i.net.leave("")
		}
		if _, _, err := w.kafka.AddNode(int32(n), brokerPorts[n]); err != nil {
			w.t.Errorf("broker %d does not come back: %v", n, err)
		}
	})
}
