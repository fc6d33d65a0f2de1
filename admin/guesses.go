package admin

import (
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/time/rate"
)

// Doors at which a token can be tried; the label of fanout_admin_wrong_tokens_total.
const (
	doorAPI    = "api"
	doorForm   = "form"
	doorPortal = "portal"
)

// Wrong tokens that are answered as such, from everybody together. Attempts that come faster are told to come later. It says nothing
// about who sent it: behind an ingress everybody has the same address, and a stranger must not lock the operators out. So
// the right token is taken at any time.
const (
	freeGuesses  = 100
	guessesEvery = time.Second
	logsEvery    = 10 * time.Second
)

// guesses counts wrong tokens, logs some of them and says which come too fast. It is safe for concurrent use.
type guesses struct {
	log   *zap.Logger
	total *prometheus.CounterVec
	free  *rate.Limiter

	mu     sync.Mutex // guards all below
	logged time.Time
	unsaid int // wrong tokens since then
}

func newGuesses(log *zap.Logger, metrics prometheus.Registerer) *guesses {
	g := &guesses{
		log: log.Named("admin"), free: rate.NewLimiter(rate.Every(guessesEvery), freeGuesses),
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fanout_admin_wrong_tokens_total", Help: "Wrong tokens and portal links that somebody tried, by door.",
		}, []string{"door"}),
	}
	for _, door := range []string{doorAPI, doorForm, doorPortal} {
		g.total.WithLabelValues(door)
	}
	metrics.MustRegister(g.total)
	return g
}

// wrong notes a wrong token. It returns for how long none will be looked at politely, 0 while that is not yet so.
func (g *guesses) wrong(door string, r *http.Request) (wait time.Duration) {
	g.total.WithLabelValues(door).Inc()
	g.say(door, r)
	if g.free.Allow() {
		return 0
	}
	return guessesEvery
}

// say logs a wrong token, at most one in logsEvery, with how many were not logged before it.
func (g *guesses) say(door string, r *http.Request) {
	now := time.Now()
	g.mu.Lock()
	if now.Sub(g.logged) < logsEvery {
		g.unsaid++
		g.mu.Unlock()
		return
	}
	unsaid := g.unsaid
	g.logged, g.unsaid = now, 0
	g.mu.Unlock()
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	g.log.Warn("wrong token", zap.String("door", door), zap.String("from", host), zap.Int("before", unsaid))
}

// refused notes what a request without a session brought: a wrong token, or nothing, which is not a guess.
func (s *sessions) refused(r *http.Request) (wait time.Duration) {
	if r.Header.Get("Authorization") == "" {
		return 0
	}
	return s.guesses.wrong(doorAPI, r)
}

// retryAfter tells a client when to come again, in whole seconds.
func retryAfter(w http.ResponseWriter, wait time.Duration) (seconds int) {
	seconds = int((wait + time.Second - 1) / time.Second)
	w.Header().Set("Retry-After", strconv.Itoa(seconds))
	return seconds
}
