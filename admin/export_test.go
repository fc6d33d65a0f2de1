package admin

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"fanout/dispatcher"
)

// derived are the keys of tokens that a test has had: they take long to derive, on purpose.
var derived sync.Map

// NewQuick is New, but that each token's keys are derived once.
func NewQuick(ctx context.Context, cfg Config, log *zap.Logger, metrics *prometheus.Registry, checks ...Check) (*Server, error) {
	return newServer(ctx, cfg, func(token string) Keys {
		keys, _ := derived.LoadOrStore(token, sync.OnceValue(func() Keys { return DeriveKeys(token) }))
		return keys.(func() Keys)()
	}, log, metrics, checks...)
}

// PagePaths lists the paths of the pages: of the operator's alone, and of those that the portal has too.
func PagePaths() (operator, shared []string) {
	p := &pages{}
	for _, page := range p.operatorPages() {
		operator = append(operator, page.path)
	}
	for _, page := range p.sharedPages() {
		shared = append(shared, page.path)
	}
	return operator, shared
}

// Discloses says whether it is decided what a customer may read of the reason.
func Discloses(reason string) bool {
	r, _ := dispatcher.ParseReason(reason)
	_, known := disclosureOf(r)
	return known
}

// Meter is the meter, read when a test says so.
type Meter struct{ meter }

func NewMeter(metrics prometheus.Gatherer) *Meter { return &Meter{meter{metrics: metrics}} }

// ReadAt reads the metrics as they are at now, and returns the flow since the reading before.
func (m *Meter) ReadAt(now time.Time) sample {
	m.read(now)
	r, _ := m.latest()
	return r.sample
}

// Words of the pages.
var (
	Ago      = ago
	Due      = due
	Overdue  = overdue
	Plural   = plural
	Sentence = sentence
	Clock    = clock
	Timed    = timed
)

// Age makes what was asked in the background so much older.
func (s *Server) Age(d time.Duration) {
	p := s.panel
	p.tiers.mu.Lock()
	p.tiers.asked = p.tiers.asked.Add(-d)
	p.tiers.mu.Unlock()
	p.tally.mu.Lock()
	p.tally.counted = p.tally.counted.Add(-d)
	p.tally.mu.Unlock()
}

// Patterns lists what each listener serves, as its router has it: "listener METHOD path".
func (s *Server) Patterns() (list []string) {
	for _, d := range s.doors() {
		for _, pattern := range d.routes {
			list = append(list, d.name+" "+pattern)
		}
	}
	return list
}

// ConnsFor is how many connections a listener keeps.
var ConnsFor = connsFor

// Budgets are what portals may cost.
type Budgets struct{ *budgets }

func NewBudgets() Budgets { return Budgets{newBudgets()} }

// Scan waits for leave to read a topic: for an account's portal, or, where that is empty, for an operator.
func (b Budgets) Scan(ctx context.Context, account string) (func(), error) {
	return b.scan(ctx, scope{Portal: account != "", Account: account})
}

// Discreet is what a customer is told.
var Discreet = discreet

// Chart is a picture of figures over time.
type Chart = chart

// NewSeries is a line, or a part of the bars.
func NewSeries(name string, values ...float64) series { return series{Name: name, Values: values} }

// Number and RoundUp are how its scale is written and where it ends.
var (
	Number  = number
	RoundUp = roundUp
)

// ChartsAt are the meter's charts of a span.
func (m *Meter) ChartsAt(span string, now time.Time) []*Chart { return m.charts(spanOf(span), now) }

// SearchFor is how long a page's search for dead letters goes on. It must be called before anybody asks.
func (s *Server) SearchFor(d time.Duration) { s.panel.searching = d }
