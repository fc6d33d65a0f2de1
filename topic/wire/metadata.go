package wire

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/apiversions"
)

// TopicID tells a topic from another of the same name (KIP-516). The zero TopicID is not known: of brokers before 2.8.
type TopicID [16]byte

// String is the id in hexadecimal; empty where it is not known.
func (id TopicID) String() string {
	if id == (TopicID{}) {
		return ""
	}
	return hex.EncodeToString(id[:])
}

// Topic is what a broker says of a topic.
type Topic struct {
	Name       string
	ID         TopicID
	Err        error           // a kafka.Error: it does not exist, or may not be described
	Partitions []PartitionInfo // by number
	Operations int32           // a bit for each operation that the user may do; OperationsUnknown where that was not asked for
}

// PartitionInfo is what a broker says of a partition.
type PartitionInfo struct {
	ID             int
	Err            error // a kafka.Error: it has no leader, say
	Leader         int32 // a broker's id; -1: none
	Epoch          int32 // of the leader; NoEpoch where the broker does not say
	Replicas, Sync int   // how many there are, and how many of them are in sync
}

// Broker is a broker of the cluster, as it advertises itself.
type Broker struct {
	ID         int32
	Host, Rack string
	Port       int32
}

// Cluster is an answer to a request for metadata.
type Cluster struct {
	Brokers    []Broker
	Controller int32
	Topics     []Topic
}

// MetadataRequest asks what a cluster has. Topics are never created by asking.
type MetadataRequest struct {
	Topics     []string // nil: all that the user may describe; empty: none
	Operations bool     // ask which operations the user may do on each topic (KIP-430; brokers from 2.3)
}

// Versions of Metadata that are spoken: the last without flexible fields, and one with topic ids.
const (
	metadataPlain = 8
	metadataIDs   = 12
)

// Metadata asks any broker. The answer is fresh: it is not what kafka-go's transport knows.
func (c *Client) Metadata(ctx context.Context, r *MetadataRequest) (*Cluster, error) {
	x := &metadataExchange{client: c, request: r}
	if _, err := c.roundTrip(ctx, x); err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	return x.answer, nil
}

// metadataExchange is a message that takes over its connection, as exchange does. It asks what the broker speaks first, since
// kafka-go's own answer ends where its types do.
type metadataExchange struct {
	client  *Client
	request *MetadataRequest
	plain   int16
	answer  *Cluster
}

// ApiKey implements protocol.Message.
func (x *metadataExchange) ApiKey() protocol.ApiKey { return protocol.Metadata } //nolint:revive // the name is kafka-go's

// Broker implements protocol.BrokerMessage.
func (x *metadataExchange) Broker(protocol.Cluster) (protocol.Broker, error) {
	return protocol.Broker{ID: AnyBroker}, nil
}

// Required implements protocol.RawExchanger.
func (x *metadataExchange) Required(versions map[protocol.ApiKey]int16) bool {
	x.plain = min(metadataPlain, versions[protocol.Metadata])
	return true
}

// RawExchange implements protocol.RawExchanger.
func (x *metadataExchange) RawExchange(conn io.ReadWriter) (protocol.Message, error) {
	ids, err := x.client.speaksTopicIDs(conn)
	if err != nil {
		return nil, err
	}
	version := x.plain
	body := x.request.append(nil, version)
	if ids {
		version = metadataIDs
		body = x.request.appendFlexible([]byte{0}) // no tagged fields in the header
	}
	if err := writeRequest(conn, protocol.Metadata, version, x.client.name, body); err != nil {
		return nil, err
	}
	b, err := readResponse(conn, nil)
	if err != nil {
		return nil, err
	}
	r := &reader{b: b}
	if ids {
		r.skipTags()
		x.answer = parseMetadataFlexible(r)
	} else {
		x.answer = parseMetadata(r, version)
	}
	if r.err != nil {
		x.client.topicIDs.Store(0) // a broker of another version, perhaps: ask again
		return nil, r.err
	}
	return x, nil
}

// What is known of the cluster's answers: whether they may have topic ids.
const (
	idsUnknown = iota
	idsMissing
	idsSpoken
)

// speaksTopicIDs says whether the broker behind the connection knows Metadata from version 10 on.
func (c *Client) speaksTopicIDs(conn io.ReadWriter) (bool, error) {
	if known := c.topicIDs.Load(); known != idsUnknown {
		return known == idsSpoken, nil
	}
	answer, err := protocol.RoundTrip(conn, 0, correlation, c.name, new(apiversions.Request))
	if err != nil {
		return false, err
	}
	versions, ok := answer.(*apiversions.Response)
	if !ok {
		return false, fmt.Errorf("api versions: the broker answered %T", answer)
	}
	c.topicIDs.Store(idsMissing)
	for _, k := range versions.ApiKeys {
		if protocol.ApiKey(k.ApiKey) == protocol.Metadata && k.MaxVersion >= metadataIDs {
			c.topicIDs.Store(idsSpoken)
		}
	}
	return c.topicIDs.Load() == idsSpoken, nil
}

// topicIDState is idsUnknown at first.
type topicIDState = atomic.Int32

func (r *MetadataRequest) append(b []byte, version int16) []byte {
	switch {
	case r.Topics == nil && version >= 1:
		b = binary.BigEndian.AppendUint32(b, 0xffffffff)
	default:
		b = binary.BigEndian.AppendUint32(b, uint32(len(r.Topics)))
		for _, topic := range r.Topics {
			b = appendString(b, topic)
		}
	}
	if version >= 4 {
		b = append(b, 0) // no creation
	}
	if version >= 8 {
		b = append(b, 0, boolByte(r.Operations))
	}
	return b
}

func (r *MetadataRequest) appendFlexible(b []byte) []byte {
	if r.Topics == nil {
		b = append(b, 0)
	} else {
		b = binary.AppendUvarint(b, uint64(len(r.Topics)+1))
		for _, topic := range r.Topics {
			b = append(b, make([]byte, len(TopicID{}))...) // by name
			b = binary.AppendUvarint(b, uint64(len(topic)+1))
			b = append(b, topic...)
			b = append(b, 0)
		}
	}
	return append(b, 0, boolByte(r.Operations), 0)
}

func boolByte(v bool) byte {
	if v {
		return 1
	}
	return 0
}

func parseMetadata(r *reader, version int16) *Cluster {
	c := new(Cluster)
	if version >= 3 {
		r.int32()
	}
	for range r.each(r.count()) {
		broker := Broker{ID: r.int32(), Host: r.string(), Port: r.int32()}
		if version >= 1 {
			broker.Rack = r.string()
		}
		c.Brokers = append(c.Brokers, broker)
	}
	if version >= 2 {
		_ = r.string()
	}
	if version >= 1 {
		c.Controller = r.int32()
	}
	for range r.each(r.count()) {
		t := Topic{Err: failure(r.int16()), Name: r.string(), Operations: OperationsUnknown}
		if version >= 1 {
			r.int8() // is_internal
		}
		for range r.each(r.count()) {
			p := PartitionInfo{Err: failure(r.int16()), ID: int(r.int32()), Leader: r.int32(), Epoch: NoEpoch}
			if version >= 7 {
				p.Epoch = r.int32()
			}
			p.Replicas, p.Sync = r.skipInts(r.count()), r.skipInts(r.count())
			if version >= 5 {
				r.skipInts(r.count())
			}
			t.Partitions = append(t.Partitions, p)
		}
		if version >= 8 {
			t.Operations = r.int32()
		}
		c.Topics = append(c.Topics, t)
	}
	return c
}

func parseMetadataFlexible(r *reader) *Cluster {
	c := new(Cluster)
	r.int32()
	for range r.each(r.compactCount()) {
		c.Brokers = append(c.Brokers, Broker{ID: r.int32(), Host: r.compactString(), Port: r.int32(), Rack: r.compactString()})
		r.skipTags()
	}
	_ = r.compactString()
	c.Controller = r.int32()
	for range r.each(r.compactCount()) {
		t := Topic{Err: failure(r.int16()), Name: r.compactString()}
		copy(t.ID[:], r.take(len(t.ID)))
		r.int8() // is_internal
		for range r.each(r.compactCount()) {
			p := PartitionInfo{Err: failure(r.int16()), ID: int(r.int32()), Leader: r.int32(), Epoch: r.int32()}
			p.Replicas, p.Sync = r.skipInts(r.compactCount()), r.skipInts(r.compactCount())
			r.skipInts(r.compactCount())
			r.skipTags()
			t.Partitions = append(t.Partitions, p)
		}
		t.Operations = r.int32()
		r.skipTags()
		c.Topics = append(c.Topics, t)
	}
	return c
}

// OperationsUnknown says that a broker was not asked what the user may do, or does not tell.
const OperationsUnknown = -1 << 31

// Operation is a bit of Topic.Operations (KIP-430).
type Operation int32

// The operations that fanout asks about.
const (
	Read  Operation = 1 << 3
	Write Operation = 1 << 4
)

// Allows says whether the user may do the operation; true where nobody knows.
func (t *Topic) Allows(o Operation) bool {
	return t.Operations == OperationsUnknown || Operation(t.Operations)&o != 0
}
