// Package dnstest is a name server for tests: it answers from a table, misbehaves on request, and counts what it was
// asked. It speaks over connections in memory, so that tests run in virtual time, or over real sockets.
package dnstest

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// Question is what the server was asked.
type Question struct {
	Name string // absolute, in lower case
	Type dnsmessage.Type
	TCP  bool
	EDNS bool
}

// Behaviour is how the server answers a question. The zero value answers from the table.
type Behaviour struct {
	Silent   bool // it does not answer
	Delay    time.Duration
	RCode    dnsmessage.RCode // instead of an answer; not for success
	Addrs    []string         // instead of those in the table, as there
	Truncate bool             // by UDP: no records, and the TC bit
	Forge    bool             // first an answer with another id, then one to another question
}

// Server is a name server. It is safe for concurrent use.
type Server struct {
	mu     sync.Mutex // guards all below
	zone   map[string][]string
	ttl    map[string]uint32
	behave func(Question) Behaviour
	asked  []Question
}

// New makes a server for the names of zone: absolute, with their addresses. "=other." among them is an alias of the
// other name. A name that is not there does not exist; one without addresses exists.
func New(zone map[string][]string) *Server {
	s := &Server{zone: map[string][]string{}, ttl: map[string]uint32{}}
	for name, addrs := range zone {
		s.Set(name, addrs...)
	}
	return s
}

// Set sets the addresses of a name.
func (s *Server) Set(name string, addrs ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.zone[name] = addrs
}

// Delete makes a name not exist.
func (s *Server) Delete(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.zone, name)
}

// TTL sets the time to live of a name's records, in seconds; it is 60 where nothing else is set.
func (s *Server) TTL(name string, seconds uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ttl[name] = seconds
}

// Behave has the server do with each question what f says; nil: answer it.
func (s *Server) Behave(f func(Question) Behaviour) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.behave = f
}

// Asked is the questions so far.
func (s *Server) Asked() []Question {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Question(nil), s.asked...)
}

// Count is how often a name was asked for with that type.
func (s *Server) Count(name string, qtype dnsmessage.Type) (n int) {
	for _, q := range s.Asked() {
		if q.Name == name && q.Type == qtype {
			n++
		}
	}
	return n
}

// Network is a network with name servers at their addresses (host:port); nobody else is on it.
type Network map[string]*Server

// Dial opens a connection in memory. It is as [net.Dialer.DialContext].
func (n Network) Dial(_ context.Context, network, address string) (net.Conn, error) {
	s := n[address]
	if s == nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
	}
	client, server := net.Pipe()
	if network == "tcp" {
		go s.serveStream(server)
	} else {
		go s.servePackets(server)
	}
	return client, nil
}

func (s *Server) servePackets(c net.Conn) {
	buf := make([]byte, 2048)
	s.serve(c, func() ([]byte, error) {
		n, err := c.Read(buf)
		return append([]byte(nil), buf[:n]...), err
	}, func(answer []byte) error {
		_, err := c.Write(answer)
		return err
	}, false)
}

func (s *Server) serveStream(c net.Conn) {
	s.serve(c, func() ([]byte, error) {
		var length [2]byte
		if _, err := io.ReadFull(c, length[:]); err != nil {
			return nil, err
		}
		query := make([]byte, binary.BigEndian.Uint16(length[:]))
		_, err := io.ReadFull(c, query)
		return query, err
	}, func(answer []byte) error {
		_, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...))
		return err
	}, true)
}

// serve answers each query in a goroutine of its own, until the client closes.
func (s *Server) serve(c net.Conn, read func() ([]byte, error), write func([]byte) error, tcp bool) {
	var running sync.WaitGroup
	gone := make(chan struct{})
	defer running.Wait()
	defer c.Close()
	defer close(gone)
	for {
		query, err := read()
		if err != nil {
			return
		}
		running.Go(func() {
			for _, answer := range s.answers(query, tcp, gone) {
				if write(answer) != nil {
					return
				}
			}
		})
	}
}

// Listen serves on real sockets, UDP and TCP, until stop is called. A port of 0 is any.
func (s *Server) Listen(address string) (addr netip.AddrPort, stop func(), err error) {
	packets, streams, err := listen(address)
	if err != nil {
		return addr, nil, err
	}
	var running sync.WaitGroup
	gone := make(chan struct{})
	running.Go(func() {
		for buf := make([]byte, 2048); ; {
			n, from, err := packets.ReadFrom(buf)
			if err != nil {
				return
			}
			query := append([]byte(nil), buf[:n]...)
			running.Go(func() {
				for _, answer := range s.answers(query, false, gone) {
					_, _ = packets.WriteTo(answer, from)
				}
			})
		}
	})
	running.Go(func() {
		for {
			c, err := streams.Accept()
			if err != nil {
				return
			}
			go s.serveStream(c) // ends with the client
		}
	})
	stop = sync.OnceFunc(func() {
		close(gone)
		packets.Close()
		streams.Close()
		running.Wait()
	})
	return netip.MustParseAddrPort(packets.LocalAddr().String()), stop, nil
}

// listen takes a port for UDP and TCP. One that is free for the one may be taken for the other.
func listen(address string) (packets net.PacketConn, streams net.Listener, err error) {
	for range 50 {
		if packets, err = net.ListenPacket("udp", address); err != nil {
			return nil, nil, err
		}
		if streams, err = net.Listen("tcp", packets.LocalAddr().String()); err == nil {
			return packets, streams, nil
		}
		packets.Close()
	}
	return nil, nil, err
}

// answers is what is sent in answer to a query: usually one message. It is not worth waiting for when gone is closed.
func (s *Server) answers(query []byte, tcp bool, gone <-chan struct{}) [][]byte {
	var m dnsmessage.Message
	if m.Unpack(query) != nil || len(m.Questions) != 1 {
		return nil
	}
	q := Question{Name: strings.ToLower(m.Questions[0].Name.String()), Type: m.Questions[0].Type, TCP: tcp, EDNS: len(m.Additionals) > 0}
	s.mu.Lock()
	s.asked = append(s.asked, q)
	behave := s.behave
	s.mu.Unlock()
	var b Behaviour
	if behave != nil {
		b = behave(q)
	}
	if b.Delay > 0 {
		delay := time.NewTimer(b.Delay)
		defer delay.Stop()
		select {
		case <-delay.C:
		case <-gone:
			return nil
		}
	}
	if b.Silent {
		return nil
	}
	m.Header = dnsmessage.Header{ID: m.ID, Response: true, RecursionAvailable: true, RCode: b.RCode}
	m.Additionals = nil
	switch {
	case b.Truncate && !tcp:
		m.Truncated = true
	case b.RCode == dnsmessage.RCodeSuccess:
		s.fill(&m, q, b.Addrs)
	}
	answer, err := m.Pack()
	if err != nil {
		return nil
	}
	if !b.Forge {
		return [][]byte{answer}
	}
	m.ID++
	otherID, _ := m.Pack()
	m.ID--
	m.Questions[0].Name = dnsmessage.MustNewName("forged.test.")
	otherName, _ := m.Pack()
	return [][]byte{{1, 2, 3}, otherID, otherName, answer}
}

// fill adds what the table says, or for the name itself what is given instead.
func (s *Server) fill(m *dnsmessage.Message, q Question, instead []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name, exists := q.Name, false
	for range 8 { // aliases
		addrs, ok := s.zone[name]
		if instead != nil {
			addrs, ok, instead = instead, true, nil
		}
		exists = ok || name == "."
		ttl, ok := s.ttl[name]
		if !ok {
			ttl = 60
		}
		header := dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name), Class: dnsmessage.ClassINET, TTL: ttl}
		alias := ""
		for _, text := range addrs {
			if to, ok := strings.CutPrefix(text, "="); ok {
				alias = to
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(to)}})
				continue
			}
			switch a := netip.MustParseAddr(text); {
			case a.Is4() && q.Type == dnsmessage.TypeA:
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: a.As4()}})
			case a.Is6() && q.Type == dnsmessage.TypeAAAA:
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
			}
		}
		if alias == "" {
			break
		}
		name = alias
	}
	if !exists {
		m.RCode = dnsmessage.RCodeNameError
	}
	if ttl, ok := s.ttl[q.Name]; ok && len(m.Answers) == 0 {
		soa := &dnsmessage.SOAResource{NS: dnsmessage.MustNewName("ns.test."), MBox: dnsmessage.MustNewName("me.test."), MinTTL: ttl}
		m.Authorities = append(m.Authorities, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName("test."), Class: dnsmessage.ClassINET, TTL: 3600}, Body: soa,
		})
	}
}
