package topic

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"fanout/dispatcher"
	"fanout/topic/wire"
)

// Ranges is what a topic holds now: of each partition the offsets from the first, or from the first record that is not
// older than since, to the end. A topic that does not exist is kafka.UnknownTopicOrPartition.
func (c *Cluster) Ranges(ctx context.Context, name string, since time.Time) (map[int]Range, error) {
	n, err := c.size(ctx, name)
	if err != nil {
		return nil, err
	}
	from := wire.OffsetRequest{At: make(map[Partition]int64, n)}
	to := wire.OffsetRequest{At: make(map[Partition]int64, n)}
	for _, p := range Partitions(name, n) {
		from.At[p], to.At[p] = wire.Earliest, wire.Latest
		if since.UnixMilli() > 0 { // for Kafka some of the others mean something else
			from.At[p] = since.UnixMilli()
		}
	}
	starts, err := c.Offsets(ctx, &from)
	if err != nil {
		return nil, err
	}
	ends, err := c.Offsets(ctx, &to)
	if err != nil {
		return nil, err
	}
	ranges := make(map[int]Range, n)
	for _, p := range Partitions(name, n) {
		r := Range{starts[p], ends[p]}
		if r.From < 0 { // nothing is as young
			r.From = r.To
		}
		ranges[p.ID] = r
	}
	return ranges, nil
}

// Scan reads the ranges of a topic, all partitions at once, and calls each with every record that may be read. It is called from one
// goroutine a partition: records of one partition come in order, and state shared by partitions needs a lock. A record's memory is
// good until each returns. done counts offsets, for a progress bar; it may be nil. The first error ends the scan.
func (c *Cluster) Scan(ctx context.Context, name string, ranges map[int]Range, done *atomic.Int64, each func(*Record) error) error {
	return c.ScanWanted(ctx, name, ranges, done, nil, each)
}

// ScanWanted is Scan for whoever wants few of the records, which wanted tells by their keys and values: the others have neither value nor
// headers. It is called from one goroutine a partition, too; nil wants all.
func (c *Cluster) ScanWanted(ctx context.Context, name string, ranges map[int]Range, done *atomic.Int64, wanted func(key, value []byte) bool, each func(*Record) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var partitions sync.WaitGroup
	for id, r := range ranges {
		partitions.Go(func() {
			s := scan{fetcher: c.scanner(Partition{Topic: name, ID: id}), r: r, done: done, wanted: wanted, each: each}
			if err := s.run(ctx); err != nil {
				cancel(err)
			}
		})
	}
	partitions.Wait()
	return context.Cause(ctx)
}

// scanPatience is how long a scan waits for a broker that does not answer before it gives up.
const scanPatience = 20 * time.Second

// scan reads a range of one partition.
type scan struct {
	fetcher *Fetcher
	r       Range
	done    *atomic.Int64
	wanted  func(key, value []byte) bool // nil: all
	each    func(*Record) error
}

func (s *scan) run(ctx context.Context) error {
	failing := time.Time{}
	for at := s.r.From; at < s.r.To; {
		page, err := s.fetcher.Fetch(ctx, at)
		if err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if OutOfRange(err) {
				return fmt.Errorf("%w: the records were deleted meanwhile", err)
			}
			if failing.IsZero() {
				failing = time.Now()
			}
			if time.Since(failing) > scanPatience {
				return err
			}
			Sleep(ctx, 200*time.Millisecond)
			continue
		}
		failing = time.Time{}
		next, err := s.page(ctx, page, at)
		page.Close()
		if err != nil {
			return err
		}
		if s.done != nil {
			s.done.Add(next - at)
		}
		at = next
	}
	return nil
}

// page hands out a page's records and says where to read on.
func (s *scan) page(ctx context.Context, page *Page, at int64) (next int64, err error) {
	var failed error
	seen := 0
	err = page.EachWanted(ctx, s.wanted, func(r *Record) bool {
		if r.Offset >= s.r.To {
			return false
		}
		seen++
		failed = s.each(r)
		return failed == nil
	})
	if failed != nil {
		return at, failed
	}
	if err != nil && seen == 0 {
		return at, err
	}
	next = min(page.Next(), s.r.To)
	if seen == 0 && next == at && page.End <= at {
		next = s.r.To // a transaction is open, or the log was cut: nothing further may be read, however long one waits
	}
	return next, nil
}

// Read reads one record; nil where the offset holds none that may be read.
func (c *Cluster) Read(ctx context.Context, origin dispatcher.Origin) (*Record, error) {
	ranges, err := c.Ranges(ctx, origin.Topic, time.Time{})
	if err != nil {
		return nil, err
	}
	r, ok := ranges[origin.Partition]
	switch {
	case !ok:
		return nil, fmt.Errorf("topic %s has no partition %d; it has 0 to %d", origin.Topic, origin.Partition, len(ranges)-1)
	case origin.Offset < r.From || origin.Offset >= r.To:
		return nil, fmt.Errorf("%s/%d has no offset %d; it has %d to %d", origin.Topic, origin.Partition, origin.Offset, r.From, r.To-1)
	}
	return c.readAt(ctx, origin.Topic, origin.Partition, origin.Offset)
}

func (c *Cluster) readAt(ctx context.Context, name string, partition int, offset int64) (found *Record, err error) {
	err = c.Scan(ctx, name, map[int]Range{partition: {offset, offset + 1}}, nil, func(r *Record) error {
		if r.Offset == offset {
			own := r.Clone()
			found = &own
		}
		return nil
	})
	return found, err
}

// Sleep waits; false means that ctx was done before.
func Sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
