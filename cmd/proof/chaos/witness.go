package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	group      = "fanout"
	retryTopic = "fanout.retry."
	deadLetter = "fanout.dead-letter"
)

// witness reads Kafka with another client than fanout's: the records that were really written to the source topics, and
// the retry records and dead letters that fanout wrote.
type witness struct {
	brokers  []string
	client   *kgo.Client
	admin    *kadm.Client
	problems *problems

	mu           sync.Mutex // guards all below
	next         map[topicPartition]int64
	source       map[topicPartition][]record // of source topics, in order
	past         [][]record                  // of source topics that are gone
	checked      map[topicPartition]int      // how many of them are known to have been settled when they were committed
	retry        map[topicPartition][]record
	unsuccessful map[string]bool // ever seen in a retry topic or the dead-letter topic
	dead         map[string]bool // ever seen in the dead-letter topic
	committed    map[string]int64
	events       int
}

type topicPartition struct {
	topic     string
	partition int32
}

// record is a source record and the deliveries it leads to, or a retry record and its one.
type record struct {
	offset int64
	ids    []string
}

func newWitness(brokers []string, p *problems) (*witness, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.MetadataMinAge(100*time.Millisecond), kgo.RetryTimeout(5*time.Second))
	if err != nil {
		return nil, err
	}
	return &witness{
		brokers: brokers, client: client, admin: kadm.NewClient(client), problems: p,
		next: make(map[topicPartition]int64), source: make(map[topicPartition][]record), checked: make(map[topicPartition]int), retry: make(map[topicPartition][]record),
		unsuccessful: make(map[string]bool), dead: make(map[string]bool), committed: make(map[string]int64),
	}, nil
}

func (t *witness) close() { t.client.Close() }

// isOurs says whether the topic is one of those that are read.
func isOurs(topic string) bool {
	return topic == topicEmail || topic == topicSMS || topic == deadLetter || strings.HasPrefix(topic, retryTopic)
}

// allSource is every source record ever seen, of topics that are gone too; t is locked.
func (t *witness) allSource() []record {
	return slices.Concat(append(slices.Collect(maps.Values(t.source)), t.past...)...)
}

// catchUp reads all that has been written since the last time.
func (t *witness) catchUp(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	todo, ends, err := t.news(ctx)
	if err != nil || len(todo) == 0 {
		return err
	}
	reader, err := kgo.NewClient(
		kgo.SeedBrokers(t.brokers...), kgo.ConsumePartitions(todo), kgo.FetchMaxWait(100*time.Millisecond),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(), // a marker may be what lies at the end
	)
	if err != nil {
		return err
	}
	defer reader.Close()
	for len(ends) > 0 {
		fetched := reader.PollFetches(ctx)
		if err := fetched.Err0(); err != nil {
			return err
		}
		for _, e := range fetched.Errors() {
			return fmt.Errorf("read %s/%d: %w", e.Topic, e.Partition, e.Err)
		}
		fetched.EachRecord(func(r *kgo.Record) {
			at := topicPartition{r.Topic, r.Partition}
			if r.Offset < t.next[at] {
				return
			}
			t.next[at] = r.Offset + 1
			if !r.Attrs.IsControl() {
				t.take(at, r)
			}
			if end, ok := ends[at]; ok && r.Offset+1 >= end {
				delete(ends, at)
			}
		})
	}
	return nil
}

// news is where there is something to read: from where, and up to where.
func (t *witness) news(ctx context.Context) (map[string]map[int32]kgo.Offset, map[topicPartition]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	topics, err := t.admin.ListTopics(ctx)
	if err != nil {
		return nil, nil, err
	}
	var names []string
	for _, name := range topics.Names() {
		if isOurs(name) {
			names = append(names, name)
		}
	}
	starts, err := t.admin.ListStartOffsets(ctx, names...)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return nil, nil, err
	}
	stable, err := t.admin.ListCommittedOffsets(ctx, names...)
	if err == nil {
		err = stable.Error()
	}
	if err != nil {
		return nil, nil, err
	}
	todo, ends := make(map[string]map[int32]kgo.Offset), make(map[topicPartition]int64)
	stable.Each(func(end kadm.ListedOffset) {
		at := topicPartition{end.Topic, end.Partition}
		start, _ := starts.Lookup(end.Topic, end.Partition)
		from := max(t.next[at], start.Offset)
		if from >= end.Offset {
			return
		}
		if todo[at.topic] == nil {
			todo[at.topic] = make(map[int32]kgo.Offset)
		}
		todo[at.topic][at.partition] = kgo.NewOffset().At(from)
		ends[at] = end.Offset
	})
	return todo, ends, nil
}

// take remembers a record.
func (t *witness) take(at topicPartition, r *kgo.Record) {
	if !strings.HasPrefix(at.topic, "fanout.") {
		t.events++
		t.source[at] = append(t.source[at], record{r.Offset, wanted(r.Topic, r.Partition, r.Offset, r.Value)})
		return
	}
	header := func(name string) (value string) {
		for _, h := range r.Headers {
			if h.Key == name {
				value = string(h.Value)
			}
		}
		return value
	}
	id := header("fanout-webhook-id")
	if header("fanout-reason") == "malformed_event" {
		id = header("fanout-origin")
	}
	if id == "" {
		t.problems.addf("a record without an id at %s/%d/%d", r.Topic, r.Partition, r.Offset)
		return
	}
	t.unsuccessful[id] = true
	if at.topic == deadLetter {
		t.dead[id] = true
		return
	}
	t.retry[at] = append(t.retry[at], record{r.Offset, []string{id}})
}

// groupOf is the consumer group that reads a topic.
func groupOf(topic string) string {
	if strings.HasPrefix(topic, retryTopic) {
		return group + ".retry"
	}
	return group
}

// commits is what every group has committed, by place.
func (t *witness) commits(ctx context.Context) (map[topicPartition]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	topics, err := t.admin.ListTopics(ctx)
	if err != nil {
		return nil, err
	}
	groups := make(map[string]bool)
	for _, name := range topics.Names() {
		if isOurs(name) && name != deadLetter {
			groups[groupOf(name)] = true
		}
	}
	out := make(map[topicPartition]int64)
	for name := range groups {
		offsets, err := t.admin.FetchOffsets(ctx, name)
		if err == nil {
			err = offsets.Error()
		}
		if err != nil {
			return nil, fmt.Errorf("commits of %s: %w", name, err)
		}
		offsets.Each(func(o kadm.OffsetResponse) { out[topicPartition{o.Topic, o.Partition}] = o.At })
	}
	if len(out) == 0 {
		return nil, errors.New("nothing is committed yet")
	}
	return out, nil
}

// replaced notes that a topic was deleted: another one of that name begins at 0, and so do commits.
func (t *witness) replaced(topics ...string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for at := range t.next {
		if slices.Contains(topics, at.topic) {
			t.past = append(t.past, t.source[at])
			delete(t.next, at)
			delete(t.source, at)
			delete(t.checked, at)
			delete(t.retry, at)
		}
	}
	clear(t.committed)
}

// rewind commits the start of every source topic.
func (t *witness) rewind(ctx context.Context) error {
	starts, err := t.admin.ListStartOffsets(ctx, sources()...)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return err
	}
	return t.admin.CommitAllOffsets(ctx, group, starts.Offsets())
}

func (t *witness) isDead(id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.dead[id]
}
