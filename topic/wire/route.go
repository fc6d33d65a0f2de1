package wire

import (
	"context"
	"io"

	"github.com/segmentio/kafka-go/protocol"
)

// routed is a message of kafka-go's own that goes to a broker of our choice. kafka-go would look for the topic's leader in what
// its transport knows of the cluster, which is the topics that it was made for, as of up to a second ago.
type routed struct {
	inner   protocol.Message
	client  string
	broker  func(protocol.Cluster) (protocol.Broker, error)
	version int16
	answer  protocol.Message
}

// ApiKey implements protocol.Message.
func (x *routed) ApiKey() protocol.ApiKey { return x.inner.ApiKey() } //nolint:revive // the name is kafka-go's

// Broker implements protocol.BrokerMessage.
func (x *routed) Broker(cluster protocol.Cluster) (protocol.Broker, error) { return x.broker(cluster) }

// Required implements protocol.RawExchanger.
func (x *routed) Required(versions map[protocol.ApiKey]int16) bool {
	x.version = versions[x.inner.ApiKey()]
	return true
}

// RawExchange implements protocol.RawExchanger.
func (x *routed) RawExchange(conn io.ReadWriter) (protocol.Message, error) {
	if p, ok := x.inner.(protocol.PreparedMessage); ok {
		p.Prepare(x.version)
	}
	answer, err := protocol.RoundTrip(conn, x.version, correlation, x.client, x.inner)
	if err != nil {
		return nil, err
	}
	x.answer = answer
	return x, nil
}

// Controller as a broker's id is the broker that creates and changes topics.
const Controller = -2

// Ask sends a message of kafka-go's to the broker with that id, or to the Controller.
func (c *Client) Ask(ctx context.Context, broker int32, m protocol.Message) (protocol.Message, error) {
	pick := toBroker(broker)
	if broker == Controller {
		pick = func(cluster protocol.Cluster) (protocol.Broker, error) { return toBroker(cluster.Controller)(cluster) }
	}
	x := &routed{inner: m, client: c.name, broker: pick}
	if _, err := c.roundTrip(ctx, x); err != nil {
		return nil, err
	}
	return x.answer, nil
}
