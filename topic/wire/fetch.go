package wire

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"github.com/segmentio/kafka-go/protocol"
)

// FetchRequest asks one broker for one partition's records.
type FetchRequest struct {
	Partition Partition
	Offset    int64
	Epoch     int32 // the leader's, as it is known here; NoEpoch: not to be compared (KIP-320)
	Broker    int32 // the leader, or a replica that the leader prefers for this rack (KIP-392)
	Rack      string
	MaxWait   time.Duration      // how long the broker may hold an answer without records
	MaxBytes  int                // a first batch that is larger comes whole (KIP-74)
	Buffer    func(n int) []byte // memory of n bytes for the answer, in which Fetched.Records then lies; nil: new memory

	// Uncommitted asks for the records of open transactions too, and lists no aborted ones.
	Uncommitted bool
}

// Fetched is a broker's answer. Records lies in the memory that Buffer gave.
type Fetched struct {
	Records       []byte // batches; the last one may be cut off. See NextBatch
	HighWatermark int64  // all before are on every in-sync replica
	LastStable    int64  // nothing that may be read lies at or beyond it while a transaction is open
	LogStart      int64  // the first offset that is kept; -1 where the broker does not say
	Aborted       []Aborted
	Preferred     int32         // the replica to ask instead; -1: none
	Throttled     time.Duration // how long the broker asks this client to wait: a quota
}

// Aborted is a transaction whose records are not to be read.
type Aborted struct{ ProducerID, First int64 }

// fetchVersion is the last one without flexible fields.
const fetchVersion = 11

// Fetch asks for records. An answer without records, and an error of the partition's, come with what else the broker said of
// it. An answer that a quota held back may say nothing of the partition at all: it is empty then, with Throttled set and
// offsets of -1.
func (c *Client) Fetch(ctx context.Context, r *FetchRequest) (Fetched, error) {
	x := &fetchExchange{client: c, request: r}
	if _, err := c.roundTrip(ctx, x); err != nil {
		return Fetched{}, err
	}
	return x.answer, x.err
}

type fetchExchange struct {
	client  *Client
	request *FetchRequest
	version int16
	answer  Fetched
	err     error // the broker's
}

// ApiKey implements protocol.Message.
func (x *fetchExchange) ApiKey() protocol.ApiKey { return protocol.Fetch } //nolint:revive // the name is kafka-go's

// Broker implements protocol.BrokerMessage.
func (x *fetchExchange) Broker(cluster protocol.Cluster) (protocol.Broker, error) {
	return toBroker(x.request.Broker)(cluster)
}

// Required implements protocol.RawExchanger.
func (x *fetchExchange) Required(versions map[protocol.ApiKey]int16) bool {
	x.version = min(fetchVersion, versions[protocol.Fetch])
	return true
}

// RawExchange implements protocol.RawExchanger.
func (x *fetchExchange) RawExchange(conn io.ReadWriter) (protocol.Message, error) {
	if x.version < 4 {
		return nil, fmt.Errorf("the broker speaks Fetch up to version %d; 4 is needed, of Kafka 0.11", x.version)
	}
	var space [256]byte
	if err := writeRequest(conn, protocol.Fetch, x.version, x.client.name, x.request.append(space[:0], x.version)); err != nil {
		return nil, err
	}
	b, err := readResponse(conn, x.request.Buffer)
	if err != nil {
		return nil, err
	}
	if err := x.parse(&reader{b: b}); err != nil {
		return nil, fmt.Errorf("answer to Fetch v%d: %w", x.version, err)
	}
	return x, nil
}

func (r *FetchRequest) append(b []byte, version int16) []byte {
	put32 := func(v int32) { b = binary.BigEndian.AppendUint32(b, uint32(v)) }
	put64 := func(v int64) { b = binary.BigEndian.AppendUint64(b, uint64(v)) }
	put32(-1) // a consumer
	put32(int32(r.MaxWait.Milliseconds()))
	put32(1) // any record is worth an answer
	put32(int32(r.MaxBytes))
	isolation := byte(1) // read committed: aborted transactions are listed
	if r.Uncommitted {
		isolation = 0
	}
	b = append(b, isolation)
	if version >= 7 {
		put32(0)
		put32(-1) // no session (KIP-227): a partition is asked for by itself
	}
	put32(1)
	b = appendString(b, r.Partition.Topic)
	put32(1)
	put32(int32(r.Partition.ID))
	if version >= 9 {
		put32(r.Epoch)
	}
	put64(r.Offset)
	if version >= 5 {
		put64(-1)
	}
	put32(int32(r.MaxBytes))
	if version >= 7 {
		put32(0)
	}
	if version >= 11 {
		b = appendString(b, r.Rack)
	}
	return b
}

func (x *fetchExchange) parse(r *reader) error {
	a := Fetched{HighWatermark: -1, LastStable: -1, LogStart: -1, Preferred: AnyBroker}
	a.Throttled = time.Duration(r.int32()) * time.Millisecond
	if x.version >= 7 {
		x.err = failure(r.int16())
		_ = r.int32()
	}
	for range r.each(r.count()) {
		_ = r.string()
		for range r.each(r.count()) {
			x.partition(r, &a)
		}
	}
	x.answer = a
	return r.err
}

func (x *fetchExchange) partition(r *reader, a *Fetched) {
	_ = r.int32()
	if err := failure(r.int16()); x.err == nil {
		x.err = err
	}
	a.HighWatermark, a.LastStable = r.int64(), r.int64()
	if x.version >= 5 {
		a.LogStart = r.int64()
	}
	for range r.each(r.count()) {
		a.Aborted = append(a.Aborted, Aborted{r.int64(), r.int64()})
	}
	if x.version >= 11 {
		a.Preferred = r.int32()
	}
	a.Records = r.take(int(max(r.int32(), 0)))
}
