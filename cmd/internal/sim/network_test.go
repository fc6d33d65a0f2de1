package sim

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// network is what one instance has between itself and the world. It can be cut, as a process that is killed is, slowed, frozen, and made to
// lose answers.
type network struct {
	open func(ctx context.Context, network, address string) (net.Conn, error)

	mu     sync.Mutex // guards all below
	conns  map[*link]struct{}
	cut    bool
	thaw   chan struct{} // closed when answers come again; nil: they come
	losing string        // answers from there are lost, and the connections with them; empty: none
	delay  time.Duration // of each answer
}

func newNetwork(open func(ctx context.Context, network, address string) (net.Conn, error)) *network {
	return &network{open: open, conns: make(map[*link]struct{})}
}

// link is one connection: the instance's end of a pipe, whose other end a goroutine each way carries to and from the far side.
type link struct {
	n       *network
	address string
	near    net.Conn
	far     net.Conn
	once    sync.Once
}

// dial implements the dial functions of Kafka's, Redis's and the receivers' clients.
func (n *network) dial(ctx context.Context, kind, address string) (net.Conn, error) {
	n.mu.Lock()
	cut := n.cut
	n.mu.Unlock()
	if cut {
		return nil, &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	}
	far, err := n.open(ctx, kind, address)
	if err != nil || kind == "udp" {
		return far, err
	}
	ours, near := net.Pipe()
	l := &link{n: n, address: address, near: near, far: far}
	n.mu.Lock()
	n.conns[l] = struct{}{}
	n.mu.Unlock()
	go l.carry(far, near, false)
	go l.carry(near, far, true)
	return ours, nil
}

func (l *link) close() {
	l.once.Do(func() {
		l.near.Close()
		l.far.Close()
		l.n.mu.Lock()
		defer l.n.mu.Unlock()
		delete(l.n.conns, l)
	})
}

// carry brings bytes across until either end is closed. Answers meet what is wrong with the network.
func (l *link) carry(to, from net.Conn, answers bool) {
	defer l.close()
	b := make([]byte, 16<<10)
	for {
		k, err := from.Read(b)
		if k > 0 && answers && !l.pass() {
			return
		}
		if k > 0 {
			if _, err := to.Write(b[:k]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// pass returns when an answer may go on; false where it is lost.
func (l *link) pass() bool {
	l.n.mu.Lock()
	thaw, lost, delay := l.n.thaw, l.n.losing == l.address, l.n.delay
	l.n.mu.Unlock()
	if lost {
		return false
	}
	if delay > 0 {
		time.Sleep(delay)
	}
	if thaw != nil {
		<-thaw
	}
	return true
}

// kill cuts all connections, for good.
func (n *network) kill() {
	n.mu.Lock()
	n.cut = true
	n.mu.Unlock()
	n.drop("")
	n.freeze(false)
}

// drop cuts the connections to an address that there are; "": all.
func (n *network) drop(address string) {
	n.mu.Lock()
	var all []*link
	for l := range n.conns {
		if address == "" || l.address == address {
			all = append(all, l)
		}
	}
	n.mu.Unlock()
	for _, l := range all {
		l.close()
	}
}

// freeze lets no answer come, or lets them come again.
func (n *network) freeze(on bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case on && n.thaw == nil:
		n.thaw = make(chan struct{})
	case !on && n.thaw != nil:
		close(n.thaw)
		n.thaw = nil
	}
}

// lose has answers from an address lost, until it is called with "".
func (n *network) lose(address string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.losing = address
}

// slow has each answer delayed.
func (n *network) slow(by time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.delay = by
}

// The addresses of the world. Receivers are at address 44.0.0.n.
const (
	redisAddress = "127.0.0.1:6379"
	nameServer   = "127.0.0.1:53"
)

var brokerPorts = []int{9092, 9093, 9094}

func brokerAddresses() (all []string) {
	for _, port := range brokerPorts {
		all = append(all, fmt.Sprintf("127.0.0.1:%d", port))
	}
	return all
}
