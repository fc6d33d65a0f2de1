package subscriptions_test

import (
	"net"
	"sync"
	"testing"
)

// proxy stands between a directory and Redis: hung, it takes connections and answers nothing; cut, it refuses them.
type proxy struct {
	addr, to string
	mu       sync.Mutex
	flowing  chan struct{} // closed while bytes flow
	down     bool
	conns    []net.Conn
}

func newProxy(t *testing.T, to string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: listener.Addr().String(), to: to, flowing: make(chan struct{})}
	close(p.flowing)
	t.Cleanup(func() { _ = listener.Close(); p.cut(true); p.hang(false) })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go p.serve(conn)
		}
	}()
	return p
}

func (p *proxy) serve(conn net.Conn) {
	back, err := net.Dial("tcp", p.to)
	p.mu.Lock()
	if err != nil || p.down {
		p.mu.Unlock()
		_ = conn.Close()
		if back != nil {
			_ = back.Close()
		}
		return
	}
	p.conns = append(p.conns, conn, back)
	p.mu.Unlock()
	go p.copy(conn, back)
	p.copy(back, conn)
}

func (p *proxy) copy(to, from net.Conn) {
	defer to.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		flowing := p.flowing
		p.mu.Unlock()
		<-flowing
		if _, werr := to.Write(buf[:n]); werr != nil || err != nil {
			return
		}
	}
}

func (p *proxy) hang(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.flowing:
		if on {
			p.flowing = make(chan struct{})
		}
	default:
		if !on {
			close(p.flowing)
		}
	}
}

func (p *proxy) cut(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = on
	if on {
		for _, conn := range p.conns {
			_ = conn.Close()
		}
		p.conns = nil
	}
}
