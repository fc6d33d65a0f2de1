// Package wire speaks those messages of Kafka's protocol that kafka-go lacks, cannot read, or sends to the wrong broker.
//
// It borrows kafka-go's connections, its sign-in and its codec: each message here takes over one exchange on a connection
// of a [kafka.Transport] (protocol.RawExchanger). kafka-go's own types stay as they are, so that its clients and readers
// may be used in the same process.
//
// What is here, and why (kafka-go v0.4.51):
//
//   - JoinGroup and SyncGroup: its Client fails with "unexpected EOF" on a member whose metadata has no owned partitions,
//     and on an empty assignment, which is what every refusal carries.
//   - Heartbeat: it goes to any broker rather than to the coordinator, and its errors are lost.
//   - OffsetCommit and OffsetFetch: no leader epoch, no group instance id, and a FindCoordinator before each.
//   - Fetch: always from the leader, and records are unpacked whole, without their batch's epoch and timestamp type.
//   - OffsetForLeaderEpoch: missing.
//
// Errors are kafka.Error where the broker gave a code. Nothing here retries or waits.
package wire

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
)

// Client sends messages over the connections of a transport. It is safe for concurrent use.
type Client struct {
	transport kafka.RoundTripper
	bootstrap net.Addr
	name      string // of this client, as brokers log it
	topicIDs  topicIDState
}

// NewClient makes a Client that asks the brokers at bootstrap where the others are. name is the client id.
func NewClient(transport kafka.RoundTripper, bootstrap net.Addr, name string) *Client {
	return &Client{transport: transport, bootstrap: bootstrap, name: name}
}

// AnyBroker as a broker's id lets the transport choose.
const AnyBroker = -1

// message says how a request travels: its key in the protocol, the newest version that is written here, and what picks the broker.
type message struct {
	key    protocol.ApiKey
	newest int16
	broker func(protocol.Cluster) (protocol.Broker, error)
}

// toBroker picks a broker by its id.
func toBroker(id int32) func(protocol.Cluster) (protocol.Broker, error) {
	return func(cluster protocol.Cluster) (protocol.Broker, error) {
		if id == AnyBroker {
			return protocol.Broker{ID: AnyBroker}, nil
		}
		broker, ok := cluster.Brokers[id]
		if !ok {
			return protocol.Broker{}, fmt.Errorf("broker %d: %w", id, kafka.BrokerNotAvailable)
		}
		return broker, nil
	}
}

// exchange is one request and its response on a connection. It implements what kafka-go's transport asks of a message.
type exchange struct {
	message

	client   string
	request  any // a struct with kafka tags, of versions that are not flexible (KIP-482)
	response any // a pointer to such a struct
	version  int16
	unknown  bool // to the broker
}

var (
	_ protocol.BrokerMessage = (*exchange)(nil)
	_ protocol.RawExchanger  = (*exchange)(nil)
)

// ApiKey implements protocol.Message.
func (x *exchange) ApiKey() protocol.ApiKey { return x.key } //nolint:revive // the name is kafka-go's

// Broker implements protocol.BrokerMessage.
func (x *exchange) Broker(cluster protocol.Cluster) (protocol.Broker, error) {
	return x.broker(cluster)
}

// Required implements protocol.RawExchanger. It is told what version kafka-go would speak with this broker.
func (x *exchange) Required(versions map[protocol.ApiKey]int16) bool {
	x.version = x.newest
	known, ok := versions[x.key]
	x.unknown = !ok
	if ok && x.key.MaxVersion() > 0 { // else kafka-go has no types of it, and takes it for version 0
		x.version = min(x.newest, known)
	}
	return true
}

// RawExchange implements protocol.RawExchanger.
func (x *exchange) RawExchange(conn io.ReadWriter) (protocol.Message, error) {
	if x.unknown {
		return nil, fmt.Errorf("%s: %w", x.key, kafka.UnsupportedVersion)
	}
	body, err := protocol.Marshal(x.version, x.request)
	if err != nil {
		return nil, err
	}
	if err := writeRequest(conn, x.key, x.version, x.client, body); err != nil {
		return nil, err
	}
	answer, err := readResponse(conn, nil)
	if err != nil {
		return nil, err
	}
	if err := protocol.Unmarshal(answer, x.version, x.response); err != nil {
		return nil, fmt.Errorf("answer to %s v%d: %w", x.key, x.version, err)
	}
	return x, nil
}

// correlation is the same in each request: a connection has one under way at a time, and is closed when one fails.
const correlation = 0x66616e6f

func writeRequest(w io.Writer, key protocol.ApiKey, version int16, client string, body []byte) error {
	b := make([]byte, 0, 14+len(client)+len(body))
	b = binary.BigEndian.AppendUint32(b, uint32(10+len(client)+len(body)))
	b = binary.BigEndian.AppendUint16(b, uint16(key))
	b = binary.BigEndian.AppendUint16(b, uint16(version))
	b = binary.BigEndian.AppendUint32(b, correlation)
	b = binary.BigEndian.AppendUint16(b, uint16(len(client)))
	b = append(b, client...)
	b = append(b, body...)
	_, err := w.Write(b)
	return err
}

// maxResponse bounds an answer, in bytes: brokers bound what they send by what was asked for, and a batch of records by
// message.max.bytes. Another server's bytes, read as a length, must not become memory.
const maxResponse = 256 << 20

// readResponse reads one answer, without its header, into memory that buffer gives; nil: into new memory.
func readResponse(r io.Reader, buffer func(n int) []byte) ([]byte, error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, unexpectedEOF(err)
	}
	size := int64(binary.BigEndian.Uint32(head[:])) - 4
	if size < 0 || size > maxResponse {
		return nil, fmt.Errorf("the broker's answer claims %d bytes: %w", size, kafka.InvalidMessageSize)
	}
	if id := binary.BigEndian.Uint32(head[4:]); id != correlation {
		return nil, fmt.Errorf("the answer is to request %d, not to %d", id, correlation)
	}
	if buffer == nil {
		buffer = func(n int) []byte { return make([]byte, n) }
	}
	b := buffer(int(size))
	_, err := io.ReadFull(r, b)
	return b, unexpectedEOF(err)
}

func unexpectedEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// roundTrip sends the message on a connection of the transport's to the broker that it wants.
func (c *Client) roundTrip(ctx context.Context, m protocol.Message) (protocol.Message, error) {
	answer, err := c.transport.RoundTrip(ctx, c.bootstrap, m)
	if errors.Is(err, kafka.BrokerNotAvailable) {
		return nil, noBrokerError{err}
	}
	return answer, err
}

// noBrokerError is what the transport says while it knows no broker; in its own words, "not a client facing error".
type noBrokerError struct{ error }

func (noBrokerError) Error() string   { return "no broker answers" }
func (e noBrokerError) Unwrap() error { return e.error }

// call makes one exchange, and says in which version. The response is filled in when the error is nil; after an error it must
// not be looked at, since the answer may still be coming.
func (c *Client) call(ctx context.Context, m message, request, response any) (version int16, err error) {
	x := &exchange{message: m, client: c.name, request: request, response: response}
	if _, err := c.roundTrip(ctx, x); err != nil {
		return 0, err
	}
	return x.version, nil
}

// failure is the code as an error; nil for 0.
func failure(code int16) error {
	if code == 0 {
		return nil
	}
	return kafka.Error(code)
}
