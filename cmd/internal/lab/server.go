package lab

import (
	"context"
	"net"
)

// Server is any other program that serves HTTP on one port.
type Server struct {
	*Process

	addr string
}

// Server starts the program whose command line is made for a free address, and returns when something listens there.
// ctx bounds the start.
func (l *Lab) Server(ctx context.Context, name string, command func(addr string) []string) (*Server, error) {
	dir, err := l.subdir(name)
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	s := &Server{addr: loopback(port)}
	s.Process = l.process(name, dir, command(s.addr)...)
	return s, s.Start(ctx)
}

// Start starts a server that was stopped or killed, on its own port.
func (s *Server) Start(ctx context.Context) error {
	if err := s.start(); err != nil {
		return err
	}
	return s.ready(ctx, func() bool {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.addr)
		if err != nil {
			return false
		}
		return conn.Close() == nil
	})
}

// URL is http://host:port.
func (s *Server) URL() string { return "http://" + s.addr }

// Get fetches a page of at most 64 MiB.
func (s *Server) Get(ctx context.Context, path string) ([]byte, error) {
	return get(ctx, s.URL()+path)
}
