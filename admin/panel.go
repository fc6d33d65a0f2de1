package admin

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"fanout/event"
	"fanout/subscriptions"
)

// panel is what the API and the pages share.
type panel struct {
	Parts
	readiness  func() readiness
	sessions   *sessions
	cfg        *Config
	portalAddr net.Addr // of the portal's own listener, nil where it has none
	portalKey  []byte   // of portal links, nil without a token
	cookieKey  []byte   // of the portal's cookies, nil without a token
	started    time.Time
	meter      *meter
	replays    *runs[replayStatus]
	backfills  *runs[backfillStatus]
	tally      tally
	tiers      tiers
	others     others
	findings   findings
	presence   presence
	recents    recents
	days       days
	keys       Keys
	undos      undos
	streams    atomic.Int32 // that are open
	budgets    *budgets
	searching  time.Duration  // how long a page's search for dead letters goes on
	background sync.WaitGroup // goroutines that ask Kafka for the pages
	log        *zap.Logger
	trusted    []netip.Prefix // proxies that say who asks
	userHeader string
	closing    chan struct{} // closed when the server stops: streams of the API end
}

// Attach adds the API, the dashboard and the portal. It must be called before Run, once.
func (s *Server) Attach(parts Parts) error {
	p := &panel{
		Parts: parts, log: s.log, userHeader: s.cfg.UserHeader, readiness: s.readiness, sessions: s.sessions, portalKey: s.keys.For(forPortal),
		keys: s.keys, cfg: &s.cfg, budgets: newBudgets(), searching: letterPatience, cookieKey: s.keys.For(forCookie),
		started: time.Now(), meter: &meter{metrics: s.metrics}, replays: newRuns[replayStatus]("replay"), backfills: newRuns[backfillStatus]("backfill"), closing: make(chan struct{}),
	}
	var err error
	if p.trusted, err = s.cfg.Proxies(); err != nil {
		return err
	}
	a := &api{p}
	for _, r := range a.routes() {
		s.Handle(r.method+" "+r.path, r)
	}
	s.Handle("/api/", a.unrouted(s.operators.mux))
	pages, err := newPages(p, s.pages, s.keys)
	if err != nil {
		return fmt.Errorf("dashboard: %w", err)
	}
	pages.registerAssets(s.operators)
	pages.registerOperators(s.operators)
	pages.registerPortal(s.portal)
	if s.portal != s.operators {
		p.portalAddr = s.PortalAddr()
		pages.registerAssets(s.portal)
		s.portal.handle("/", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { pages.fail(w, scope{Portal: true}, errNoPortal) }))
	}
	s.panel = p
	return nil
}

// reader reads subscriptions with the catalogue of this configuration.
func (p *panel) reader() subscriptions.Reader { return p.Store.Reader() }

// catalogue holds the event names of this configuration.
func (p *panel) catalogue() *event.Catalogue { return p.reader().Catalogue }

// behind runs f in the background, at most for lasts and until the server stops.
func (p *panel) behind(ctx context.Context, lasts time.Duration, f func(context.Context)) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lasts)
	p.background.Go(func() {
		defer cancel()
		f(ctx)
	})
	go func() {
		select {
		case <-p.closing:
			cancel()
		case <-ctx.Done():
		}
	}()
}

// hardened sets the headers of every answer: nothing is cached, framed, sniffed or loaded from another host, and only our
// own script files run.
//
// Pages of the configuration's frame ancestors may frame the portal.
func hardened(ancestors []string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		framed := "'none'"
		if len(ancestors) > 0 && strings.HasPrefix(r.URL.Path, "/portal/") {
			framed = strings.Join(ancestors, " ")
		} else {
			h.Set("X-Frame-Options", "DENY")
		}
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "+
			"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors "+framed)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}
