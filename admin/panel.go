package admin

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// panel is what the API and the pages share.
type panel struct {
	Parts
	readiness  func() readiness
	sessions   *sessions
	portalKey  []byte // nil without a token
	started    time.Time
	meter      *meter
	replays    replays
	tally      tally
	tiers      tiers
	undos      undos
	background sync.WaitGroup // what looks at Kafka for the pages
	closing    chan struct{}  // closed when the server stops: streams end

	writing sync.Mutex // held from reading a subscription to writing it
}

// Attach adds the API, the dashboard and the portal. It must be called before Run, once.
func (s *Server) Attach(parts Parts) error {
	p := &panel{Parts: parts, readiness: s.readiness, sessions: s.sessions, started: time.Now(), meter: &meter{metrics: s.metrics}, closing: make(chan struct{})}
	if s.cfg.Token != "" {
		p.portalKey = derive(s.cfg.Token, "portal")
	}
	a := &api{p}
	for _, r := range a.routes() {
		s.Handle(r.method+" "+r.path, r)
	}
	s.Handle("/api/", a.unrouted(s.mux))
	pages, err := newPages(p)
	if err != nil {
		return fmt.Errorf("dashboard: %w", err)
	}
	pages.register(s.mux)
	s.panel = p
	return nil
}

// behind runs f in the background, for so long at most and until the server stops.
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

// hardened are the headers of every answer: nothing is cached, framed, sniffed, or loaded from elsewhere, and no script
// runs but our own files.
func hardened(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "+
			"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// sameOrigin refuses requests that change something and come from another origin.
func sameOrigin(next http.Handler) http.Handler {
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		problemf(http.StatusForbidden, "requests that change something must come from this origin").write(w)
	}))
	return protection.Handler(next)
}
