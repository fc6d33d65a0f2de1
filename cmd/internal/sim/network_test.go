package sim

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

// network is what one instance has between itself and the world. It can be cut, as a process that is killed is, slowed, frozen, and made to
// lose answers. Where it says "from where", that is the beginning of addresses.
type network struct {
	open func(ctx context.Context, network, address string) (net.Conn, error)

	mu     sync.Mutex // guards all below
	conns  map[*link]struct{}
	cut    bool
	thaw   chan struct{} // closed when answers come again; nil: they come
	losing string        // answers from there are lost, and the connections with them; empty: from nowhere
	delay  time.Duration // of each answer
	away   string        // nothing there can be reached; empty: everything can
	mute   string        // answers from there are lost, and the connections stay open; empty: from nowhere
	late   late
}

// late is how late bytes are to and from where. A request that is late arrives although whoever sent it has given up on it, and closed the
// connection.
type late struct {
	where    string // empty: nowhere
	requests time.Duration
	answers  time.Duration
	until    time.Time // requests arrive then, or later
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
	refused := n.cut || at(n.away, address)
	n.mu.Unlock()
	if refused {
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

// carry brings bytes across until either end is closed. They meet what is wrong with the network.
func (l *link) carry(to, from net.Conn, answers bool) {
	defer l.close()
	b := make([]byte, 16<<10)
	what := comes
	for {
		k, err := from.Read(b)
		switch {
		case k == 0:
		case !answers:
			l.wait()
		case what == comes: // what follows an answer that was lost makes no sense to anybody
			what = l.pass()
		}
		if what == breaks {
			return
		}
		if k > 0 && what == comes {
			if _, err := to.Write(b[:k]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// wait returns when a request may go on.
func (l *link) wait() {
	l.n.mu.Lock()
	late := l.n.late
	l.n.mu.Unlock()
	if at(late.where, l.address) {
		time.Sleep(max(late.requests, time.Until(late.until)))
	}
}

// fate is what becomes of an answer.
type fate int

const (
	comes  fate = iota
	isLost      // and the connection stays open
	breaks      // the connection does, and the answer is lost
)

// pass returns when it is known what becomes of an answer.
func (l *link) pass() fate {
	l.n.mu.Lock()
	thaw, delay, what := l.n.thaw, l.n.delay, comes
	switch {
	case at(l.n.losing, l.address):
		what = breaks
	case at(l.n.mute, l.address):
		what = isLost
	case at(l.n.late.where, l.address):
		delay += l.n.late.answers
	}
	l.n.mu.Unlock()
	if what != comes {
		return what
	}
	if delay > 0 {
		time.Sleep(delay)
	}
	if thaw != nil {
		<-thaw
	}
	return comes
}

// at says whether an address is where something goes wrong.
func at(where, address string) bool { return where != "" && strings.HasPrefix(address, where) }

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
		if strings.HasPrefix(l.address, address) {
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

// leave has nothing reach an address, until it is called with "".
func (n *network) leave(where string) {
	n.mu.Lock()
	n.away = where
	n.mu.Unlock()
	if where != "" {
		n.drop(where)
	}
}

// silence has answers from an address lost, and the connections stay open, until it is called with "". Those that lost one bring nothing any
// more.
func (n *network) silence(where string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mute = where
}

// hold has requests and answers come late.
func (n *network) hold(by late) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.late = by
}

// The addresses of the world. Receivers are at address 44.0.0.n.
const (
	redisAddress = "127.0.0.1:6379"
	nameServer   = "127.0.0.1:53"
	allBrokers   = "127.0.0.1:909"
	allReceivers = "44."
)

var brokerPorts = []int{9092, 9093, 9094}

func brokerAddresses() (all []string) {
	for _, port := range brokerPorts {
		all = append(all, fmt.Sprintf("127.0.0.1:%d", port))
	}
	return all
}
