package consumer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/fetch"
)

// message is a record as it came from Kafka. It owns its memory.
type message struct {
	topic      string
	partition  int
	offset     int64
	time       time.Time // its timestamp, to the millisecond
	key, value []byte    // nil is null, which is not the same as empty
	headers    []kafka.Header
	unframed   *unframed // of a source with a schema registry
}

// fetched is one answer of a broker.
type fetched struct {
	messages []message
	next     int64 // where to read on: past the markers and aborted records that were left out
	end      int64 // the last stable offset: nothing that may be read lies at or beyond it
	start    int64 // the log's first offset
}

// fetchWait is how long a broker holds a fetch that has nothing to answer. It costs no latency, and a fetch that is
// cancelled ends at once (FACTS.md 6 and 9).
const fetchWait = 500 * time.Millisecond

// fetchTimeout bounds one fetch, so that a connection that has gone dead without a word is given up on.
const fetchTimeout = fetchWait + 15*time.Second

// fetchBytes bounds one answer of one partition; a larger single batch is still returned whole (KIP-74).
const fetchBytes = 1 << 20

// fetcher reads partitions with the raw fetch protocol, which tells of aborted transactions and of batches that have
// no visible record; kafka-go's Reader hands out both as messages (FACTS.md 9).
type fetcher struct {
	transport *kafka.Transport
	addr      net.Addr
}

// fetch reads from the offset on. It returns no message where there is none within fetchWait. The error is a
// kafka.Error where the broker gave one.
func (f *fetcher) fetch(ctx context.Context, topic string, partition int, offset int64) (fetched, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	response, err := f.transport.RoundTrip(ctx, f.addr, &fetch.Request{
		ReplicaID:      -1,
		MaxWaitTime:    int32(fetchWait / time.Millisecond),
		MinBytes:       1,
		MaxBytes:       fetchBytes,
		IsolationLevel: 1, // read committed: aborted transactions are listed
		SessionID:      0,
		SessionEpoch:   -1,
		Topics: []fetch.RequestTopic{{Topic: topic, Partitions: []fetch.RequestPartition{{
			Partition: int32(partition), CurrentLeaderEpoch: -1, FetchOffset: offset, LogStartOffset: -1, PartitionMaxBytes: fetchBytes,
		}}}},
	})
	if err != nil {
		return fetched{}, fmt.Errorf("fetch %s/%d@%d: %w", topic, partition, offset, err)
	}
	answer, ok := response.(*fetch.Response)
	if !ok || len(answer.Topics) != 1 || len(answer.Topics[0].Partitions) != 1 {
		return fetched{}, fmt.Errorf("fetch %s/%d@%d: the broker answered something else", topic, partition, offset)
	}
	p := &answer.Topics[0].Partitions[0]
	for _, code := range []int16{answer.ErrorCode, p.ErrorCode} {
		if code != 0 {
			return fetched{start: p.LogStartOffset, end: p.HighWatermark}, fmt.Errorf("fetch %s/%d@%d: %w", topic, partition, offset, needs("Read", kafka.Error(code)))
		}
	}
	out := fetched{next: offset, end: p.LastStableOffset, start: p.LogStartOffset}
	if out.end < 0 { // a broker without transactions
		out.end = p.HighWatermark
	}
	reader := batchReader{topic: topic, partition: partition, from: offset, aborted: abortedTransactions(p.AbortedTransactions)}
	err = reader.readAll(&out, p.RecordSet.Records)
	if len(out.messages) > 0 || out.next > offset {
		err = nil // what came before the damage is good; the next fetch meets the damage alone
	}
	if err != nil {
		return out, fmt.Errorf("fetch %s/%d@%d: %w", topic, partition, offset, err)
	}
	return out, nil
}

// aborts are the transactions that a fetch's answer says were aborted: by producer, where each begins, in order.
type aborts map[int64][]int64

func abortedTransactions(list []fetch.ResponseTransaction) aborts {
	if len(list) == 0 {
		return nil
	}
	a := make(aborts, len(list))
	for _, t := range list {
		a[t.ProducerID] = append(a[t.ProducerID], t.FirstOffset)
	}
	return a
}

// batchReader turns record batches into messages. It leaves out markers, records of aborted transactions, and records
// before the offset that was asked for (a broker sends whole batches).
type batchReader struct {
	topic     string
	partition int
	from      int64
	aborted   aborts
	aborting  map[int64]bool // producers whose records are being left out until their abort marker
	batches   int
	arena     []byte
}

// readAll reads an answer. It gets on by at least one offset where there is a batch at all: a broker that sends the batch
// which holds the offset, without a record at or beyond it, has lost them to compaction and kept the batch's end, which
// kafka-go does not tell. One step a fetch leads out of it, past no record.
func (r *batchReader) readAll(out *fetched, records protocol.RecordReader) error {
	err := r.read(out, records)
	if err == nil && r.batches > 0 {
		out.next = max(out.next, r.from+1)
	}
	return err
}

func (r *batchReader) read(out *fetched, records protocol.RecordReader) error {
	switch batch := records.(type) {
	case nil:
		return nil
	case *protocol.RecordStream:
		for _, one := range batch.Records {
			if err := r.read(out, one); err != nil {
				return err
			}
		}
		return nil
	case *protocol.ControlBatch:
		r.batches++
		return r.control(out, batch)
	case *protocol.RecordBatch:
		r.batches++
		out.next = max(out.next, batch.BaseOffset+1)
		skip := batch.Attributes.Transactional() && r.isAborted(batch.ProducerID, batch.BaseOffset)
		return r.records(out, batch.Records, skip)
	default:
		r.batches++
		return r.records(out, records, false)
	}
}

func (r *batchReader) control(out *fetched, batch *protocol.ControlBatch) error {
	// Commit or abort: the producer's transaction ends here. Where the fetch began behind the last record of an aborted
	// one, it is still listed, and would else be taken for the producer's next transaction.
	r.isAborted(batch.ProducerID, batch.BaseOffset)
	delete(r.aborting, batch.ProducerID)
	out.next = max(out.next, batch.BaseOffset+1)
	for {
		record, err := batch.Records.ReadRecord()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		out.next = max(out.next, record.Offset+1)
		closeRecord(record)
	}
}

// isAborted says whether a transactional batch at the offset belongs to a transaction that was aborted.
func (r *batchReader) isAborted(producer, offset int64) bool {
	for starts := r.aborted[producer]; len(starts) > 0 && starts[0] <= offset; starts = r.aborted[producer] {
		r.aborted[producer] = starts[1:]
		if r.aborting == nil {
			r.aborting = make(map[int64]bool)
		}
		r.aborting[producer] = true
	}
	return r.aborting[producer]
}

func (r *batchReader) records(out *fetched, records protocol.RecordReader, skip bool) error {
	for {
		record, err := records.ReadRecord()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		out.next = max(out.next, record.Offset+1)
		if skip || record.Offset < r.from {
			closeRecord(record)
			continue
		}
		m := message{topic: r.topic, partition: r.partition, offset: record.Offset, time: record.Time, headers: record.Headers}
		m.key, err = r.bytes(record.Key)
		if err == nil {
			m.value, err = r.bytes(record.Value)
		}
		closeRecord(record)
		if err != nil {
			return err
		}
		out.messages = append(out.messages, m)
	}
}

// arenaSize is how much is allocated at once for the keys and values of several records; a fraction of a typical
// batch, so that one record that waits long does not keep a megabyte.
const arenaSize = 16 << 10

// bytes copies what the pages of kafka-go's pool hold, which are used again.
func (r *batchReader) bytes(b protocol.Bytes) ([]byte, error) {
	if b == nil {
		return nil, nil
	}
	n := b.Len()
	var to []byte
	switch {
	case n == 0:
		return []byte{}, nil
	case n > arenaSize/4:
		to = make([]byte, n)
	default:
		if len(r.arena) < n {
			r.arena = make([]byte, arenaSize)
		}
		to, r.arena = r.arena[:n:n], r.arena[n:]
	}
	_, err := io.ReadFull(b, to)
	return to, err
}

func closeRecord(r *protocol.Record) {
	if r.Key != nil {
		_ = r.Key.Close()
	}
	if r.Value != nil {
		_ = r.Value.Close()
	}
}
