package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"fanout/cmd/internal/lab"
)

// authorize lets Kafka keep access lists; without one, all is allowed.
func authorize(c *lab.KafkaConfig) {
	c.Properties["authorizer.class.name"] = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
	c.Properties["allow.everyone.if.no.acl.found"] = "true"
}

// topicsWithPrefix lists the existing topics whose names begin with the prefix.
func (w *world) topicsWithPrefix(ctx context.Context, prefix string) (names []string, err error) {
	topics, err := w.witness.admin.ListTopics(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range topics.Names() {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	return names, nil
}

// setReceiverFault makes the receivers fail in the way that fills the topics with that prefix.
func (w *world) setReceiverFault(prefix string, on bool) {
	part := &w.faults.failing
	usual := int64(20)
	if prefix == deadLetter {
		part, usual = &w.faults.refuses, 0
	}
	if on {
		usual = 250
	}
	part.Store(usual)
}

// denied refuses writes by an access list, for a while.
func denied(prefix string) func(context.Context, *world) error {
	return func(ctx context.Context, w *world) error {
		shut, open, err := w.denial(ctx, prefix)
		if err != nil {
			return err
		}
		return w.unwritable(ctx, prefix, shut, open)
	}
}

func (w *world) denial(ctx context.Context, prefix string) (shut, open func() error, err error) {
	names, err := w.topicsWithPrefix(ctx, prefix)
	if err != nil {
		return nil, nil, err
	}
	admin := w.witness.admin
	list := kadm.NewACLs().Topics(names...).ResourcePatternType(kadm.ACLPatternLiteral)
	allow := *list
	deny := *list
	allow.Allow("User:*").AllowHosts().Operations(kadm.OpAll)
	deny.Deny("User:*").DenyHosts().Operations(kadm.OpWrite)
	shut = func() error {
		if _, err := admin.CreateACLs(ctx, &allow); err != nil { // a topic that has a list is else denied to all
			return err
		}
		_, err := admin.CreateACLs(ctx, &deny)
		return err
	}
	open = func() error {
		_, err := admin.DeleteACLs(ctx, deny.DenyHosts("*"))
		return err
	}
	return shut, open, nil
}

// replaced creates a source topic again while reading waits for a record that cannot be written, and lets it grow beyond
// the old one before reading goes on: nothing but the group's missing offset tells that it is another.
func replaced(ctx context.Context, w *world) error {
	w.named = true
	shut, open, err := w.denial(ctx, retryTopic)
	if err != nil {
		return err
	}
	if err := pause(ctx, 2*time.Second); err != nil {
		return err
	}
	if err := w.unload(ctx); err != nil {
		return err
	}
	w.settle(ctx)
	w.unwatch()
	if err := shut(); err != nil {
		return err
	}
	from := time.Now()
	w.setReceiverFault(retryTopic, true)
	w.spared = topicSMS
	w.load(ctx, w.set.rate)
	if err := w.waitUnready(ctx); err != nil {
		return err
	}
	if err := pause(ctx, time.Second); err != nil { // what was being fetched has come
		return err
	}
	w.sayf("nothing is read")
	if _, err := w.witness.admin.DeleteTopics(ctx, topicSMS); err != nil {
		return err
	}
	w.witness.replaced(topicSMS)
	if err := w.unload(ctx); err != nil {
		return err
	}
	if err := w.createSource(ctx, topicSMS); err != nil {
		return err
	}
	w.sayf("%s is another topic now", topicSMS)
	w.spared = ""
	w.load(ctx, w.set.rate)
	if err := pause(ctx, 8*time.Second); err != nil {
		return err
	}
	if err := open(); err != nil {
		return err
	}
	w.sayf("reading may go on")
	w.watch(ctx)
	w.denied = append(w.denied, span{from, time.Now()})
	w.faultEnded()
	w.setReceiverFault(retryTopic, false)
	return pause(ctx, 6*time.Second)
}

// tooFew asks for more in-sync replicas than there are, for a while.
func tooFew(prefix string) func(context.Context, *world) error {
	return func(ctx context.Context, w *world) error {
		names, err := w.topicsWithPrefix(ctx, prefix)
		if err != nil {
			return err
		}
		set := func(n string) func() error {
			return func() error {
				change := kadm.AlterConfig{Op: kadm.SetConfig, Name: "min.insync.replicas", Value: &n}
				_, err := w.witness.admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{change}, names...)
				return err
			}
		}
		return w.unwritable(ctx, prefix, set("2"), set("1"))
	}
}

func (w *world) unwritable(ctx context.Context, prefix string, shut, open func() error) error {
	if err := pause(ctx, 3*time.Second); err != nil {
		return err
	}
	w.setReceiverFault(prefix, true)
	from := time.Now()
	if err := shut(); err != nil {
		return err
	}
	w.sayf("%s* cannot be written", prefix)
	if err := w.waitUnready(ctx); err != nil {
		return err
	}
	// What could not be written is in nobody's memory after this, and so must not have been committed.
	f := w.fans[w.rng.IntN(len(w.fans))]
	if err := pause(ctx, 2*time.Second); err != nil {
		return err
	}
	if err := w.kill(f); err != nil {
		return err
	}
	if err := f.Start(); err != nil {
		return err
	}
	if err := pause(ctx, w.length(15*time.Second, 6*time.Second)); err != nil {
		return err
	}
	if err := open(); err != nil {
		return err
	}
	w.sayf("%s* can be written again", prefix)
	w.denied = append(w.denied, span{from, time.Now()})
	w.faultEnded()
	w.setReceiverFault(prefix, false)
	return pause(ctx, 5*time.Second)
}

// waitUnready waits until an instance says that records cannot be written: else nothing was tested.
func (w *world) waitUnready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return lab.Await(ctx, "an instance that is not ready", func() bool {
		for _, f := range w.fans {
			if f.Running() && !f.IsReady(ctx) {
				return true
			}
		}
		return false
	})
}

// deleted deletes fanout's own topics. With kafka.create_topics fanout brings them back by itself, else it waits for
// somebody who does. What was in them is lost by whoever deletes them, so they are empty of what is still needed.
func deleted(prefix string, create bool) func(context.Context, *world) error {
	return func(ctx context.Context, w *world) error {
		maker, err := w.add(ctx, nil) // makes the topics
		if err != nil {
			return err
		}
		if !create {
			if err := w.stop(ctx, maker); err != nil {
				return err
			}
		}
		for range 2 {
			if _, err := w.add(ctx, func(c lab.Config) { c.Set("kafka.create_topics", create) }); err != nil {
				return err
			}
		}
		if err := w.unload(ctx); err != nil {
			return err
		}
		w.settle(ctx)
		w.unwatch()
		return w.deleteAndLoad(ctx, prefix, create)
	}
}

func (w *world) deleteAndLoad(ctx context.Context, prefix string, create bool) error {
	names, err := w.topicsWithPrefix(ctx, prefix)
	if err != nil {
		return err
	}
	w.setReceiverFault(prefix, true)
	from := time.Now()
	answers, err := w.witness.admin.DeleteTopics(ctx, names...)
	if err == nil {
		err = answers.Error()
	}
	if err != nil {
		return err
	}
	w.witness.replaced(names...)
	w.load(ctx, w.set.rate)
	w.watch(ctx)
	w.sayf("%v deleted", names)
	if !create {
		if err := w.waitUnready(ctx); err != nil {
			return err
		}
		if err := pause(ctx, w.length(12*time.Second, 6*time.Second)); err != nil {
			return err
		}
		for _, name := range names {
			if err := w.kafka.CreateTopics(ctx, lab.Topic{Name: name, Partitions: 2}); err != nil {
				return fmt.Errorf("create %s again: %w", name, err)
			}
		}
	}
	w.faultEnded()
	err = pause(ctx, 8*time.Second)
	w.setReceiverFault(prefix, false)
	w.revoked(from, time.Now())
	return err
}

// truncated lets the log's start overtake the offset while fanout is away, and then replaces a whole topic under its
// feet. Both are gaps, that fanout_gap_offsets_total counts.
func truncated(ctx context.Context, w *world) error {
	w.named = true
	f := w.fans[0]
	if err := pause(ctx, 4*time.Second); err != nil {
		return err
	}
	if err := w.stop(ctx, f); err != nil {
		return err
	}
	if err := pause(ctx, 3*time.Second); err != nil {
		return err
	}
	if err := w.unload(ctx); err != nil {
		return err
	}
	gone, err := w.witness.truncate(ctx, topicSMS, w.excused)
	if err != nil {
		return err
	}
	if err := w.restart(ctx, f); err != nil {
		return err
	}
	w.load(ctx, w.set.rate)
	w.faultEnded()
	if err := w.waitGap(ctx, f, topicSMS, float64(gone)); err != nil {
		return err
	}
	w.notef("%d truncated, all counted", gone)
	if err := pause(ctx, 3*time.Second); err != nil {
		return err
	}
	if err := w.unload(ctx); err != nil {
		return err
	}
	w.settle(ctx)
	w.unwatch()
	return w.replaceSource(ctx, f)
}

func (w *world) replaceSource(ctx context.Context, f *lab.Fanout) error {
	if _, err := w.witness.admin.DeleteTopics(ctx, topicSMS); err != nil {
		return err
	}
	w.witness.replaced(topicSMS)
	if err := pause(ctx, time.Second); err != nil {
		return err
	}
	if err := w.createSource(ctx, topicSMS); err != nil {
		return err
	}
	w.sayf("%s is another topic now", topicSMS)
	w.load(ctx, w.set.rate)
	w.watch(ctx)
	w.faultEnded()
	before := float64(0)
	if m, err := f.Metrics(ctx); err == nil {
		before = m.Sum("fanout_gap_offsets_total", `source="`+topicSMS+`"`)
	}
	if err := pause(ctx, 12*time.Second); err != nil {
		return err
	}
	m, err := f.Metrics(ctx)
	if err != nil {
		return err
	}
	w.notef("re-created: %v counted", m.Sum("fanout_gap_offsets_total", `source="`+topicSMS+`"`)-before)
	return nil
}

func (w *world) waitGap(ctx context.Context, f *lab.Fanout, topic string, want float64) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	got := -1.0
	err := lab.Await(ctx, "the gap", func() bool {
		m, err := f.Metrics(ctx)
		if err == nil {
			got = m.Sum("fanout_gap_offsets_total", `source="`+topic+`"`)
		}
		return got == want
	})
	if err != nil {
		return fmt.Errorf("%w: %v offsets are counted as a gap, want %v", err, got, want)
	}
	return nil
}

// truncate deletes all but the last ten records of each partition of a topic. It says how many of them were never
// committed, and excuses their deliveries.
func (t *witness) truncate(ctx context.Context, topic string, excused map[string]bool) (gone int64, err error) {
	if err := t.catchUp(ctx); err != nil {
		return 0, err
	}
	committed, err := t.commits(ctx)
	if err != nil {
		return 0, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	cut := make(kadm.Offsets)
	for at, next := range t.next {
		if at.topic != topic {
			continue
		}
		start := next - 10
		cut.Add(kadm.Offset{Topic: topic, Partition: at.partition, At: start})
		gone += max(0, start-committed[at])
		for _, r := range t.source[at] {
			if r.offset < start && r.offset >= committed[at] {
				for _, id := range r.ids {
					excused[id] = true
				}
			}
		}
	}
	answers, err := t.admin.DeleteRecords(ctx, cut)
	if err == nil {
		err = answers.Error()
	}
	return gone, err
}
