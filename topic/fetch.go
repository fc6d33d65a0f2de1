package topic

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"

	"fanout/topic/wire"
)

// fetchWait is how long a broker holds a fetch that has nothing to answer. It costs no latency: records that come are answered
// at once, and a fetch that is cancelled ends at once. An instance that has nothing to do does little else than to ask again.
const fetchWait = 2 * time.Second

// scanWait is the same for a reader that knows where it ends: every record before that is there, or belongs to an open transaction.
const scanWait = 500 * time.Millisecond

// fetchTimeout bounds one fetch, so that a connection that has gone dead without a word is given up on.
const fetchTimeout = fetchWait + 15*time.Second

// fetchBytes bounds one answer; a larger single batch still comes whole (KIP-74).
const fetchBytes = 1 << 20

// Fetcher reads one partition, wherever its leader or its nearest replica is. One goroutine may use it, one page at a time.
//
// It reads with the raw protocol, which tells of aborted transactions and of batches that have no visible record; kafka-go's
// readers hand out both as records.
type Fetcher struct {
	cluster   *Cluster
	partition Partition
	nearest   nearest
	maxBytes  int // of an answer
	wait      time.Duration
	buffers   *sync.Pool
	unpacking unpacking
	resume    time.Time // a quota asks not to fetch before then
}

// maxThrottle bounds how long a quota is heeded at a time: brokers ask for a window of theirs at most, of some ten seconds.
const maxThrottle = time.Minute

// Fetcher makes one for a partition.
func (c *Cluster) Fetcher(p Partition) *Fetcher {
	return &Fetcher{
		cluster: c, partition: p, nearest: nearest{failing: &c.failing, replica: noReplica}, maxBytes: fetchBytes, wait: fetchWait,
		buffers: &c.buffers, unpacking: unpacking{turns: c.turns},
	}
}

// aheadBytes bounds one answer to a reader that reads ahead: it takes a few records of many.
const aheadBytes = 256 << 10

// scanner makes one for a reader that knows where it ends.
func (c *Cluster) scanner(p Partition) *Fetcher {
	f := c.Fetcher(p)
	f.wait = scanWait
	return f
}

// FetcherAhead makes one that looks at what lies in a partition, and waits for nothing.
func (c *Cluster) FetcherAhead(p Partition) *Fetcher {
	f := c.Fetcher(p)
	f.maxBytes, f.wait = aheadBytes, 0
	return f
}

// fewBytes bounds one answer to a reader that wants a few records: a batch that is larger comes whole.
const fewBytes = 16 << 10

// fetcherOfFew makes one for records that lie far apart.
func (c *Cluster) fetcherOfFew(p Partition) *Fetcher {
	f := c.FetcherAhead(p)
	f.maxBytes = fewBytes
	return f
}

// Page is one answer of a broker: a run of records, and where the log begins and ends. Close it before the next fetch.
type Page struct {
	Start int64 // the log's first offset; -1: the broker did not say
	End   int64 // nothing that may be read lies at or beyond it: the last stable offset; -1: the broker did not say
	High  int64 // the high watermark: End, unless a transaction is open; -1: the broker did not say

	partition Partition
	next      int64
	packed    []byte
	aborted   map[int64][]int64 // of aborted transactions: by producer, where each begins, in order
	aborting  map[int64]bool    // producers whose records are left out until the end of their transaction
	unpacking *unpacking
	free      func()
}

// Next is where to read on: past all records that Each has handed out, and past markers and aborted records that it left out.
func (p *Page) Next() int64 { return p.next }

// Empty says whether the page has no batch.
func (p *Page) Empty() bool { return len(p.packed) == 0 }

// HeldBack says whether an open transaction keeps what lies behind the page from being read.
func (p *Page) HeldBack() bool { return p.next >= p.End && p.End < p.High }

// Size is how many bytes of batches it has that were not gone through.
func (p *Page) Size() int { return len(p.packed) }

// Close gives the page's memory back. Records that were not cloned are no longer good.
func (p *Page) Close() {
	if p.free != nil {
		p.free()
		p.free = nil
	}
}

// Fetch reads from the offset on. A page without records comes where there was none within half a second. The error wraps a
// kafka.Error where the broker gave one.
func (f *Fetcher) Fetch(ctx context.Context, offset int64) (*Page, error) {
	if !Sleep(ctx, time.Until(f.resume)) {
		return nil, context.Cause(ctx)
	}
	page, err := f.fetch(ctx, offset)
	if err != nil {
		return nil, fmt.Errorf("fetch %s@%d: %w", f.partition, offset, Needs("Read", err))
	}
	return page, nil
}

// fetch reads from the replica in this rack where the leader prefers one. Whatever is the matter with that, the leader serves.
func (f *Fetcher) fetch(ctx context.Context, offset int64) (*Page, error) {
	replica, named := f.nearest.choose(time.Now())
	if replica != noReplica {
		page, _, err := f.ask(ctx, &wire.FetchRequest{Offset: offset, Broker: replica}, replicaTimeout)
		if err == nil {
			f.nearest.failing.serves(replica)
			return page, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		f.nearest.failed(time.Now(), err)
	}
	request := wire.FetchRequest{Offset: offset, Broker: wire.AnyBroker}
	if named {
		request.Rack = f.cluster.cfg.Kafka.Rack
	}
	page, preferred, err := f.ask(ctx, &request, fetchTimeout)
	if err != nil || preferred < 0 || f.nearest.prefers(preferred, time.Now()) {
		return page, err
	}
	page.Close()
	request.Rack = ""
	page, _, err = f.ask(ctx, &request, fetchTimeout)
	return page, err
}

// ask fetches once: from the request's broker, or else from the leader. preferred is the replica that a leader prefers; -1: none.
func (f *Fetcher) ask(ctx context.Context, r *wire.FetchRequest, timeout time.Duration) (page *Page, preferred int32, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	defer func() {
		if wire.WrongLeader(err) {
			f.cluster.leaders.Forget(f.partition.Topic)
		}
	}()
	leader, epoch, err := f.cluster.leaders.Leader(ctx, f.partition)
	if err != nil {
		return nil, noReplica, err
	}
	r.Partition, r.Epoch, r.MaxWait, r.MaxBytes = f.partition, epoch, f.wait, f.maxBytes
	if r.Broker == wire.AnyBroker {
		r.Broker = leader
	}
	var buffer *[]byte
	r.Buffer = func(n int) []byte {
		buffer = takeBuffer(f.buffers, n)
		return (*buffer)[:n]
	}
	answer, err := f.cluster.wire.Fetch(ctx, r)
	if err != nil {
		return nil, noReplica, err // the buffer may still be written to
	}
	f.resume = time.Now().Add(min(answer.Throttled, maxThrottle))
	page = &Page{
		partition: f.partition, Start: answer.LogStart, End: answer.LastStable, High: answer.HighWatermark, next: r.Offset, packed: answer.Records,
		unpacking: f.unpacking.begin(), free: func() { f.buffers.Put(buffer) },
	}
	if page.End < 0 { // a broker without transactions
		page.End = page.High
	}
	for _, t := range answer.Aborted {
		if page.aborted == nil {
			page.aborted, page.aborting = make(map[int64][]int64), make(map[int64]bool)
		}
		page.aborted[t.ProducerID] = append(page.aborted[t.ProducerID], t.First)
	}
	if answer.Preferred == r.Broker {
		answer.Preferred = noReplica
	}
	return page, answer.Preferred, nil
}

// largeBuffer is from where on buffers are made in steps of an eighth of it: an answer is as large as was asked for, and a head.
const largeBuffer = fetchBytes

// takeBuffer is memory for an answer of n bytes. What idle partitions get is small, and is not kept from the collector for them.
func takeBuffer(buffers *sync.Pool, n int) *[]byte {
	if buffer, ok := buffers.Get().(*[]byte); ok {
		if cap(*buffer) >= n {
			return buffer
		}
		buffers.Put(buffer)
	}
	size := 4 << 10
	for size < n && size < largeBuffer {
		size *= 2
	}
	for size < n {
		size += largeBuffer / 8
	}
	buffer := make([]byte, size)
	return &buffer
}

// Each calls f with each record of the page that may be read, in order, until f returns false. Left out are control records,
// records of aborted transactions, and those before the offset that was asked for, since brokers send whole batches. A record's
// memory is the page's: f clones what it keeps. Where f returns false, Next is at its record.
//
// After an error the records before it are good, and the next fetch, from Next on, meets the error at once.
func (p *Page) Each(ctx context.Context, f func(*Record) bool) error {
	return p.EachWanted(ctx, nil, f)
}

// EachWanted is Each for a reader that wants few of the records, which wanted tells by their keys and values: the others have neither value nor
// headers. What is not wanted costs no allocation.
func (p *Page) EachWanted(ctx context.Context, wanted func(key, value []byte) bool, f func(*Record) bool) error {
	return p.walk(ctx, &walk{wanted: wanted, f: func(_ context.Context, r *Record) bool { return f(r) }})
}

// EachInTurn is Each for a reader that waits before it takes a record. The context that f gets is done, too, when others wait to unpack their batches:
// then f should return false, and is called again with the same record in its next turn.
func (p *Page) EachInTurn(ctx context.Context, f func(context.Context, *Record) bool) error {
	return p.walk(ctx, &walk{f: f, again: true})
}

// walk is how a page's records are gone through.
type walk struct {
	wanted func(key, value []byte) bool // nil: all
	f      func(context.Context, *Record) bool
	again  bool // where f returns false at the end of a turn
}

func (p *Page) walk(ctx context.Context, w *walk) error {
	for {
		batch, rest, ok, err := wire.NextBatch(p.packed)
		if err != nil {
			return fmt.Errorf("read %s@%d: %w", p.partition, p.next, err)
		}
		if !ok {
			return nil
		}
		if p.skips(&batch) {
			p.packed, p.next = rest, max(p.next, batch.Last+1)
			continue
		}
		batch.Wanted = w.wanted
		how, err := p.unpack(ctx, &batch, w)
		switch {
		case err != nil:
			return fmt.Errorf("read %s@%d: %w", p.partition, p.next, err)
		case how != toItsEnd:
			return nil
		}
		p.packed, p.next = rest, max(p.next, batch.Last+1)
	}
}

// skips says whether nothing of the batch may be read.
func (p *Page) skips(batch *wire.Batch) bool {
	if batch.Last < p.next {
		return true
	}
	if !batch.Control && !batch.Transactional {
		return false
	}
	aborted := p.isAborted(batch.ProducerID, batch.Base)
	if batch.Control {
		// Commit or abort: the producer's transaction ends here. Where the fetch began behind the last record of an aborted one, it is
		// still listed, and would else be taken for the producer's next transaction.
		delete(p.aborting, batch.ProducerID)
		return true
	}
	return aborted
}

// isAborted says whether a producer's transactional batch at the offset belongs to a transaction that was aborted.
func (p *Page) isAborted(producer, offset int64) bool {
	for starts := p.aborted[producer]; len(starts) > 0 && starts[0] <= offset; starts = p.aborted[producer] {
		p.aborted[producer] = starts[1:]
		p.aborting[producer] = true
	}
	return p.aborting[producer]
}

// OutOfRange says whether the error means that the offset lies outside of the log.
func OutOfRange(err error) bool { return errors.Is(err, kafka.OffsetOutOfRange) }

// NoTopic says whether the error means that there is no such topic or partition.
func NoTopic(err error) bool { return errors.Is(err, kafka.UnknownTopicOrPartition) }
