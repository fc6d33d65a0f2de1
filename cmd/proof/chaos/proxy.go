package main

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// proxy is a bad network: it passes bytes on late and slowly, and now and then not at all.
type proxy struct {
	target string
	ln     net.Listener

	delay atomic.Int64 // nanoseconds, one way
	hole  atomic.Bool  // nothing gets through, and nobody is told

	mu    sync.Mutex // guards conns
	conns map[net.Conn]bool
	wg    sync.WaitGroup
}

// perSecond is how many bytes a direction of one connection carries.
const perSecond = 2 << 20

func newProxy(listen, target string) (*proxy, error) {
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, err
	}
	p := &proxy{target: target, ln: ln, conns: make(map[net.Conn]bool)}
	p.wg.Go(p.accept)
	return p, nil
}

func (p *proxy) accept() {
	for {
		in, err := p.ln.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = in.Close()
			continue
		}
		p.mu.Lock()
		p.conns[in], p.conns[out] = true, true
		p.mu.Unlock()
		p.wg.Go(func() { p.pass(in, out) })
		p.wg.Go(func() { p.pass(out, in) })
	}
}

// parcel is bytes that arrive when they are due.
type parcel struct {
	due  time.Time
	data []byte
}

// pass carries one direction until either end closes.
func (p *proxy) pass(from, to net.Conn) {
	way := make(chan parcel, 1024)
	p.wg.Go(func() {
		for one := range way {
			time.Sleep(time.Until(one.due))
			for p.hole.Load() {
				time.Sleep(10 * time.Millisecond)
			}
			if _, err := to.Write(one.data); err != nil {
				_ = from.Close()
			}
		}
		_ = to.Close()
	})
	buf := make([]byte, 32<<10)
	free := time.Now() // when the line has carried what was sent
	for {
		n, err := from.Read(buf)
		if n > 0 {
			now := time.Now()
			if free.Before(now) {
				free = now
			}
			free = free.Add(time.Duration(n) * time.Second / perSecond)
			way <- parcel{free.Add(time.Duration(p.delay.Load())), append([]byte(nil), buf[:n]...)}
		}
		if err != nil {
			break
		}
	}
	close(way)
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, from)
}

// cut closes every connection.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
}

func (p *proxy) close() {
	_ = p.ln.Close()
	p.hole.Store(false)
	p.cut()
	p.wg.Wait()
}
