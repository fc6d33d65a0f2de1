package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"go.uber.org/zap"
)

// Names of the listeners; the label of fanout_admin_connections.
const (
	operatorsDoor = "operators"
	portalDoor    = "portal"
)

// door is a listener and what is reachable there.
type door struct {
	name   string
	listen string // as configured
	public string // the address that browsers know it by; empty: that of the listener
	gate   *gate
	mux    *http.ServeMux
	routes []string // the mux's patterns
}

func newDoor(ctx context.Context, name, listen, public string, metrics *gateMetrics) (*door, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", listen)
	if err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	return &door{name: name, listen: listen, public: public, gate: newGate(listener, name, metrics), mux: http.NewServeMux()}, nil
}

func (d *door) handle(pattern string, h http.Handler) {
	d.routes = append(d.routes, pattern)
	d.mux.Handle(pattern, h)
}

// server is what answers there.
func (s *Server) server(d *door) *http.Server {
	return &http.Server{
		Handler:           hardened(s.cfg.Portal.FrameAncestors, s.ours(d, bodyFirst(s.sameOrigin(d, d.mux)))),
		ReadHeaderTimeout: headerTimeout,
		WriteTimeout:      answerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    32 << 10,
		ConnContext:       withConn,
		ConnState:         stateOf,
		ErrorLog:          zap.NewStdLog(s.log.Named("admin")),
	}
}

// serve answers until ctx ends, then gives requests in progress one second to finish.
func (s *Server) serve(ctx context.Context, d *door, closing func()) error {
	server := s.server(d)
	server.RegisterOnShutdown(closing)
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if server.Shutdown(grace) != nil {
			_ = server.Close() // what is still open had its second
		}
	})
	err := server.Serve(d.gate)
	if !stop() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("admin: %w", err)
}

// knows says whether a host is the one that the configuration names for browsers.
func (d *door) knows(host string) bool {
	u, err := url.Parse(d.public)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, host)
}
