package admin

import (
	"container/list"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Bounds of a listener's connections, whoever opens them.
const (
	maxConns      = 512 // at once, or an eighth of the descriptors that the process may have, where that is less
	leastConns    = 16
	headerTimeout = 5 * time.Second  // from the first byte to the end of the header
	bodyTimeout   = 10 * time.Second // from there to the end of the body
	answerTimeout = 2 * time.Minute  // from there to the end of the answer, but for streams
	idleTimeout   = 2 * time.Minute
	streamTimeout = 30 * time.Second // to take one portion of a stream
)

// gate is a listener that keeps a bounded number of connections, so that no flood takes the descriptors that deliveries
// need. Where there is no room for a new one, the one that has kept us waiting longest makes room: it has sent no whole
// request since. So a probe of /healthz, which sends its request at once, is answered in the middle of any flood of
// connections that send none. It is safe for concurrent use.
type gate struct {
	net.Listener
	most    int
	dropped prometheus.Counter
	current prometheus.Gauge

	mu      sync.Mutex // guards all below
	conns   int
	waiting *list.List // *gated that have sent no whole request, the longest first
}

func newGate(l net.Listener, name string, metrics *gateMetrics) *gate {
	return &gate{
		Listener: l, most: connsFor(descriptors()), waiting: list.New(),
		dropped: metrics.dropped.WithLabelValues(name), current: metrics.current.WithLabelValues(name),
	}
}

// connsFor is how many connections a listener keeps in a process that may have so many descriptors; 0: nobody knows.
func connsFor(descriptors uint64) int {
	if descriptors == 0 {
		return maxConns
	}
	return int(max(leastConns, min(maxConns, descriptors/8)))
}

// gateMetrics count the connections of all listeners.
type gateMetrics struct {
	current *prometheus.GaugeVec
	dropped *prometheus.CounterVec
}

func newGateMetrics(metrics prometheus.Registerer) *gateMetrics {
	m := &gateMetrics{
		current: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fanout_admin_connections", Help: "Connections to the admin and portal listeners.",
		}, []string{"listener"}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fanout_admin_connections_dropped_total", Help: "Connections that made room for others, because they had sent no whole request.",
		}, []string{"listener"}),
	}
	metrics.MustRegister(m.current, m.dropped)
	return m
}

// Accept implements net.Listener.
func (g *gate) Accept() (net.Conn, error) {
	for {
		conn, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c := g.admit(conn); c != nil {
			return c, nil
		}
		_ = conn.Close() // all others are being answered
		g.dropped.Inc()
	}
}

// admit takes a connection in, in the place of another where it must. It returns nil where there is no place.
func (g *gate) admit(conn net.Conn) *gated {
	g.mu.Lock()
	var out *gated
	if g.conns >= g.most {
		oldest := g.waiting.Front()
		if oldest == nil {
			g.mu.Unlock()
			return nil
		}
		out, _ = oldest.Value.(*gated)
		g.leave(out)
		g.dropped.Inc()
	}
	c := &gated{Conn: conn, gate: g}
	c.place = g.waiting.PushBack(c)
	g.conns++
	g.current.Set(float64(g.conns))
	g.mu.Unlock()
	if out != nil {
		_ = out.Conn.Close()
	}
	return c
}

// leave forgets a connection. The caller holds mu.
func (g *gate) leave(c *gated) {
	if c.left {
		return
	}
	c.left = true
	g.conns--
	g.current.Set(float64(g.conns))
	if c.place != nil {
		g.waiting.Remove(c.place)
		c.place = nil
	}
}

// gated is a connection of a gate.
type gated struct {
	net.Conn
	gate  *gate
	left  bool          // guarded by gate.mu
	place *list.Element // in gate.waiting; nil while a request is being answered; guarded by gate.mu
}

// Close implements net.Conn.
func (c *gated) Close() error {
	c.gate.mu.Lock()
	c.gate.leave(c)
	c.gate.mu.Unlock()
	return c.Conn.Close()
}

// waits says that the connection owes us a request, from now on.
func (c *gated) waits() {
	c.gate.mu.Lock()
	defer c.gate.mu.Unlock()
	if !c.left && c.place == nil {
		c.place = c.gate.waiting.PushBack(c)
	}
}

// asked says that a whole request is there: it is answered, whatever comes.
func (c *gated) asked() {
	c.gate.mu.Lock()
	defer c.gate.mu.Unlock()
	if c.place != nil {
		c.gate.waiting.Remove(c.place)
		c.place = nil
	}
}

// connKey is where net/http hands a request's connection to its handler; there is no other way.
type connKey struct{}

func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// stateOf follows a connection from one request to the next.
func stateOf(c net.Conn, state http.ConnState) {
	if g, ok := c.(*gated); ok && state == http.StateIdle {
		g.waits()
	}
}

// bodyFirst reads a request's body before anything else is done about it, within bodyTimeout: what sends half of one holds no
// handler, and makes room for others.
func bodyFirst(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			conn := http.NewResponseController(w)
			_ = conn.SetReadDeadline(time.Now().Add(bodyTimeout)) // where it cannot be set, there is no connection that could hang
			if err := buffered(w, r); err != nil {
				w.Header().Set("Connection", "close")
				problemf(http.StatusRequestTimeout, "the request's body did not come within %s", length(bodyTimeout)).write(w)
				return
			}
			_ = conn.SetReadDeadline(time.Time{})
		}
		if c, ok := r.Context().Value(connKey{}).(*gated); ok {
			c.asked()
		}
		next.ServeHTTP(w, r)
	})
}

// buffered replaces a request's body by what was read of it. That it is too large is for the handler to say; the error is
// that it did not come in time.
func buffered(w http.ResponseWriter, r *http.Request) error {
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	r.Body = &readBody{data: data, err: err}
	return nil
}
