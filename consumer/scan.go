package consumer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"
)

// Range is a run of offsets of one partition, from inclusive to exclusive.
type Range struct{ From, To int64 }

// Message is a record of a topic that is scanned. It owns its memory.
type Message struct {
	Topic      string
	Partition  int
	Offset     int64
	Time       time.Time
	Key, Value []byte // nil is null
	Headers    []kafka.Header
}

// Header is the last header with that name; empty where there is none.
func (m *Message) Header(name string) string {
	for _, h := range slices.Backward(m.Headers) {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

// Ranges is what a topic holds now: of each partition the offsets from the first, or from the first record that is not
// older than since, to the end. A topic that does not exist is kafka.UnknownTopicOrPartition.
func (a *Admin) Ranges(ctx context.Context, topic string, since time.Time) (map[int]Range, error) {
	n, err := partitionCount(ctx, a.client, topic)
	if err != nil {
		return nil, fmt.Errorf("topic %s: %w", topic, err)
	}
	ranges := make(map[int]Range, n)
	for id := range n {
		var r Range
		if r.To, err = offsetAt(ctx, a.client, topic, kafka.LastOffsetOf(id)); err != nil {
			return nil, err
		}
		if since.UnixMilli() <= 0 { // for Kafka some of these mean something else
			r.From, err = offsetAt(ctx, a.client, topic, kafka.FirstOffsetOf(id))
		} else if r.From, err = offsetAt(ctx, a.client, topic, kafka.TimeOffsetOf(id, since)); err == nil && r.From < 0 {
			r.From = r.To
		}
		if err != nil {
			return nil, err
		}
		ranges[id] = r
	}
	return ranges, nil
}

// Committed is how far a group has come in a topic, and which offsets above are settled; a partition without a commit
// is left out.
func (a *Admin) Committed(ctx context.Context, groupID, topic string, partitions []int) (map[int]Progress, error) {
	res, err := a.client.OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: groupID, Topics: map[string][]int{topic: partitions}})
	if err == nil {
		err = res.Error
	}
	if errors.Is(err, kafka.GroupIdNotFound) {
		return nil, nil //nolint:nilnil // it has never committed
	}
	if err != nil {
		return nil, fmt.Errorf("offsets of group %s: %w", groupID, needs("Describe on the group", err))
	}
	out := make(map[int]Progress)
	for _, p := range res.Topics[topic] {
		if p.Error != nil {
			return nil, fmt.Errorf("offsets of group %s: %s/%d: %w", groupID, topic, p.Partition, needs("Describe on the topic", p.Error))
		}
		if p.CommittedOffset >= 0 {
			out[p.Partition] = Progress{p.CommittedOffset, settledAbove(p.CommittedOffset, p.Metadata)}
		}
	}
	return out, nil
}

// Progress is what a group has committed of a partition.
type Progress struct {
	Offset int64 // everything before is settled
	above  []span
}

// Settled says whether the record at the offset is settled.
func (p *Progress) Settled(offset int64) bool {
	if offset < p.Offset {
		return true
	}
	for _, s := range p.above {
		if offset >= s.from && offset < s.to {
			return true
		}
	}
	return false
}

// Scan reads the ranges of a topic, all partitions at once, and calls each with every record. It is called from one
// goroutine a partition: records of one partition come in order, and state shared by partitions needs a lock. done
// counts offsets, for a progress bar; it may be nil. The first error ends the scan.
func (a *Admin) Scan(ctx context.Context, topic string, ranges map[int]Range, done *atomic.Int64, each func(*Message) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	transport, ok := a.client.Transport.(*kafka.Transport)
	if !ok {
		return errors.New("scan: the client has no transport")
	}
	f := &fetcher{transport: transport, addr: a.client.Addr}
	var partitions sync.WaitGroup
	for id, r := range ranges {
		partitions.Go(func() {
			if err := scanPartition(ctx, f, topic, id, r, done, each); err != nil {
				cancel(err)
			}
		})
	}
	partitions.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return nil
}

// scanPatience is how long a scan waits for a broker that does not answer before it gives up.
const scanPatience = 20 * time.Second

func scanPartition(ctx context.Context, f *fetcher, topic string, id int, r Range, done *atomic.Int64, each func(*Message) error) error {
	failing := time.Time{}
	for at := r.From; at < r.To; {
		got, err := f.fetch(ctx, topic, id, at)
		if err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if errors.Is(err, kafka.OffsetOutOfRange) {
				return fmt.Errorf("%w: the records were deleted meanwhile", err)
			}
			if failing.IsZero() {
				failing = time.Now()
			}
			if time.Since(failing) > scanPatience {
				return err
			}
			sleep(ctx, 200*time.Millisecond)
			continue
		}
		failing = time.Time{}
		for i := range got.messages {
			m := &got.messages[i]
			if m.offset >= r.To {
				break
			}
			if err := each(&Message{m.topic, m.partition, m.offset, m.time, m.key, m.value, m.headers}); err != nil {
				return err
			}
		}
		next := min(got.next, r.To)
		if len(got.messages) == 0 && next == at && got.end <= at {
			next = r.To // a transaction is open, or the log was cut: nothing further may be read, however long one waits
		}
		if done != nil {
			done.Add(next - at)
		}
		at = next
	}
	return nil
}

// Total is how many offsets the ranges span.
func Total(ranges map[int]Range) (n int64) {
	for _, r := range ranges {
		n += max(0, r.To-r.From)
	}
	return n
}
