// Package admin is what an operator sees of a running instance: one HTTP listener with health, readiness, metrics,
// profiles, the API, the dashboard, and the portal for an account's own people
// (docs/contract.md#admin-api-and-dashboard).
//
// It promises that a request for anything but /healthz and /readyz carries the token where one is set, and that a
// loopback listener answers only to a Host that names this machine, so that a web page cannot reach it through DNS
// rebinding. A request that changes something and comes from another origin is refused. A portal link opens one account
// only, and only the link's token says which. A secret is shown only in the answer to the request that made it. The
// package reaches Redis and Kafka only through packages subscriptions and consumer.
package admin

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/http"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
)

// Server is the listener, or two: with admin.portal.listen the portal has one of its own. The zero Server is not usable;
// call New.
type Server struct {
	cfg       Config
	log       *zap.Logger
	operators *door
	portal    *door // the operators' where it has none of its own
	checks    []Check
	metrics   *prometheus.Registry
	keys      Keys
	sessions  *sessions
	pages     *templates
	panel     *panel // nil until Attach
}

// New listens on cfg.Listen, and on cfg.Portal.Listen; it answers once Run is called. A nil logger is silent. The caller
// must call Run, which closes the listeners.
func New(ctx context.Context, cfg Config, log *zap.Logger, metrics *prometheus.Registry, checks ...Check) (*Server, error) {
	return newServer(ctx, cfg, DeriveKeys, log, metrics, checks...)
}

// newServer is New with another way to come by the keys of a token: it is slow to derive them.
func newServer(ctx context.Context, cfg Config, keysOf func(token string) Keys, log *zap.Logger, metrics *prometheus.Registry, checks ...Check) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if log == nil {
		log = zap.NewNop()
	}
	templates, err := newTemplates(log, &cfg.Portal)
	if err != nil {
		return nil, err
	}
	conns := newGateMetrics(metrics)
	operators, err := newDoor(ctx, operatorsDoor, cfg.Listen, cfg.PublicURL, conns)
	if err != nil {
		return nil, err
	}
	portal := operators
	if cfg.Portal.Listen != "" {
		if portal, err = newDoor(ctx, portalDoor, cfg.Portal.Listen, cmp.Or(cfg.Portal.PublicURL, cfg.PublicURL), conns); err != nil {
			_ = operators.gate.Close()
			return nil, err
		}
	}
	keys := keysOf(cfg.Token)
	s := &Server{
		cfg: cfg, log: log, operators: operators, portal: portal, checks: checks, metrics: metrics, pages: templates,
		keys: keys, sessions: newSessions(cfg.Token, keys, newGuesses(log, metrics)),
	}
	operators.handle("GET /healthz", http.HandlerFunc(s.healthz))
	operators.handle("GET /readyz", http.HandlerFunc(s.readyz))
	s.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	s.profiles()
	return s, nil
}

// Addr is the address that is listened on, with the real port where the configuration asked for port 0.
func (s *Server) Addr() net.Addr { return s.operators.gate.Addr() }

// PortalAddr is the address of the portal, the same as Addr where it has no listener of its own.
func (s *Server) PortalAddr() net.Addr { return s.portal.gate.Addr() }

// Keys are those that the token gives, for what else is signed between instances.
func (s *Server) Keys() Keys { return s.keys }

// Handle adds a handler behind the token. It must be called before Run.
func (s *Server) Handle(pattern string, h http.Handler) { s.operators.handle(pattern, s.authorized(h)) }

// doors are the listeners.
func (s *Server) doors() []*door {
	if s.portal == s.operators {
		return []*door{s.operators}
	}
	return []*door{s.operators, s.portal}
}

// Run answers requests until ctx ends, then gives requests in progress one second to finish.
func (s *Server) Run(ctx context.Context) error {
	closing := func() {}
	if s.panel != nil {
		closing = sync.OnceFunc(func() { close(s.panel.closing) })
		metering, end := context.WithCancel(ctx)
		var running sync.WaitGroup
		running.Go(func() { s.panel.meter.run(metering) })
		running.Go(func() { s.panel.findings.run(metering, s.panel) })
		running.Go(func() { s.panel.presence.run(metering, s.panel) })
		defer func() {
			end()
			running.Wait()
			s.panel.replays.stop()
			s.panel.backfills.stop()
			s.panel.background.Wait()
		}()
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	doors := s.doors()
	ended := make(chan error, len(doors))
	for _, d := range doors {
		go func() {
			defer stop() // one listener without the other would be half an instance
			ended <- s.serve(ctx, d, closing)
		}()
	}
	var err error
	for range doors {
		err = errors.Join(err, <-ended)
	}
	return err
}
