// Package admin is what an operator sees of a running instance: one HTTP listener with health, readiness, metrics,
// profiles, the API, the dashboard, and the portal for an account's own people (DESIGN.md section 7).
//
// It promises that a request for anything but /healthz and /readyz carries the token where one is set, and that a
// loopback listener answers only to a Host that names this machine, so that a web page cannot reach it through DNS
// rebinding. A request that changes something and comes from another origin is refused. A portal link opens what is one
// account's own: its token, and nothing in the request, says which. No answer holds a secret, but for the one to the
// request that made it. Redis and Kafka it reaches through packages subscriptions and consumer only.
package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
)

// Server is the listener. The zero Server is not usable; call New.
type Server struct {
	cfg      Config
	log      *zap.Logger
	listener net.Listener
	mux      *http.ServeMux
	checks   []Check
	metrics  prometheus.Gatherer
	sessions *sessions
	panel    *panel // nil until Attach
}

// New listens on cfg.Listen; it answers once Run is called. A nil logger is silent. The caller must call Run, which
// closes the listener.
func New(ctx context.Context, cfg Config, log *zap.Logger, metrics prometheus.Gatherer, checks ...Check) (*Server, error) {
	if cfg.Token == "" && !Loopback(cfg.Listen) {
		return nil, fmt.Errorf("listen %s: an address that others can reach needs admin.token", cfg.Listen)
	}
	if log == nil {
		log = zap.NewNop()
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	s := &Server{cfg: cfg, log: log, listener: listener, mux: http.NewServeMux(), checks: checks, metrics: metrics, sessions: newSessions(cfg.Token)}
	s.mux.HandleFunc("GET /healthz", s.healthz)
	s.mux.HandleFunc("GET /readyz", s.readyz)
	s.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	s.profiles()
	return s, nil
}

// Addr is the address that is listened on, with the real port where the configuration asked for port 0.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Handle adds a handler behind the token. It must be called before Run.
func (s *Server) Handle(pattern string, h http.Handler) { s.mux.Handle(pattern, s.authorized(h)) }

// Run answers requests until ctx ends, then gives those under way a second to end.
func (s *Server) Run(ctx context.Context) error {
	server := &http.Server{
		Handler:           hardened(s.ours(sameOrigin(s.mux))),
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          zap.NewStdLog(s.log.Named("admin")),
	}
	if s.panel != nil {
		server.RegisterOnShutdown(func() { close(s.panel.closing) })
		metering, end := context.WithCancel(ctx)
		var running sync.WaitGroup
		running.Go(func() { s.panel.meter.run(metering) })
		defer func() {
			end()
			running.Wait()
			s.panel.replays.stop()
			s.panel.background.Wait()
		}()
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if server.Shutdown(grace) != nil {
			_ = server.Close() // what is still open had its second
		}
	})
	err := server.Serve(s.listener)
	if !stop() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("admin: %w", err)
}
