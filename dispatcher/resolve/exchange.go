package resolve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"golang.org/x/net/dns/dnsmessage"
)

// Dial opens a connection, as [net.Dialer.DialContext] does: "udp" and "tcp" to name servers.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

var errNoReply = errors.New("the name server sent something else than an answer")

// exchange asks one server one question, and gives up when ctx ends. It asks again by TCP where an answer did not fit
// into a packet, and without EDNS where the server does not know it (RFC 6891 section 7).
func exchange(ctx context.Context, dial Dial, server string, q question, tcp bool) (reply, error) {
	network, edns := "udp", true
	if tcp {
		network = "tcp"
	}
	for {
		r, err := roundTrip(ctx, dial, network, server, q, edns)
		switch {
		case err != nil:
			return reply{}, err
		case r.truncated && network == "udp":
			network = "tcp"
		case edns && (r.rcode == dnsmessage.RCodeFormatError || r.rcode == dnsmessage.RCodeNotImplemented):
			edns = false
		default:
			return r, nil
		}
	}
}

func roundTrip(ctx context.Context, dial Dial, network, server string, q question, edns bool) (reply, error) {
	id := newID()
	packet, err := q.packet(id, edns)
	if err != nil {
		return reply{}, err
	}
	conn, err := dial(ctx, network, server)
	if err != nil {
		return reply{}, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() }) // wakes up whoever reads
	defer func() {
		if stop() {
			conn.Close()
		}
	}()
	var r reply
	if network == "tcp" {
		r, err = overStream(conn, packet, id, q)
	} else {
		r, err = overPackets(conn, packet[2:], id, q)
	}
	if ctx.Err() != nil {
		return reply{}, context.Cause(ctx)
	}
	return r, err
}

// overPackets passes over whatever does not answer the question, for as long as it takes.
func overPackets(conn net.Conn, packet []byte, id uint16, q question) (reply, error) {
	if _, err := conn.Write(packet); err != nil {
		return reply{}, fmt.Errorf("ask: %w", err)
	}
	for buf := make([]byte, 2*maxPacket); ; {
		n, err := conn.Read(buf)
		if err != nil {
			return reply{}, fmt.Errorf("await the answer: %w", err)
		}
		if r, ok := parseReply(buf[:n], id, q); ok {
			return r, nil
		}
	}
}

func overStream(conn net.Conn, packet []byte, id uint16, q question) (reply, error) {
	if _, err := conn.Write(packet); err != nil {
		return reply{}, fmt.Errorf("ask: %w", err)
	}
	var length [2]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		return reply{}, fmt.Errorf("await the answer: %w", err)
	}
	buf := make([]byte, int(length[0])<<8|int(length[1]))
	if _, err := io.ReadFull(conn, buf); err != nil {
		return reply{}, fmt.Errorf("read the answer: %w", err)
	}
	r, ok := parseReply(buf, id, q)
	if !ok {
		return reply{}, errNoReply
	}
	return r, nil
}
