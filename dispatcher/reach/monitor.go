package reach

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// Prober looks whether a cause is at fault, beside all deliveries. Its methods return by the end of ctx.
type Prober interface {
	// NameServers is nil where a name server answers for the root zone.
	NameServers(ctx context.Context) error
	// Name is nil where the name servers know whether the place has addresses.
	Name(ctx context.Context, p Place) error
	// Proxy is nil where the egress proxy takes a connection.
	Proxy(ctx context.Context) error
	// Connect opens a connection to the place, for somebody else to use. It says which cause kept it from that; Receiver
	// where none of ours did.
	Connect(ctx context.Context, p Place) Cause
}

const (
	decideWithin = 3 * time.Second        // how long a failure is held
	decidingTime = 900 * time.Millisecond // of a question that a decision waits for: two seconds of quiet come before it
	probingTime  = 3 * time.Second        // of a question while an outage lasts
)

// Monitor is the state of our own network, one for a process. It is safe for concurrent use.
type Monitor struct {
	prober  Prober
	changed func(why string)
	log     *zap.Logger

	kick chan struct{} // something has happened: Run looks again

	mu       sync.Mutex // guards all below
	detector Detector
	waiting  [causes]*decision // nil: nobody waits
	why      string            // what is at fault, in words; empty: nothing is
	since    time.Time
}

// decision is what those wait for whose failures are undecided.
type decision struct {
	made    chan struct{} // closed once the verdict is set
	verdict Verdict
}

// NewMonitor makes a Monitor; its Run must be running. changed is told what is at fault, in words, when that changes, and ""
// when nothing is any more; it must not block, nor ask the Monitor. A nil log or reg is fine.
func NewMonitor(prober Prober, changed func(why string), log *zap.Logger, reg prometheus.Registerer) *Monitor {
	if log == nil {
		log = zap.NewNop()
	}
	m := &Monitor{prober: prober, changed: changed, log: log, kick: make(chan struct{}, 1)}
	if reg != nil {
		for c := Receiver + 1; c < causes; c++ {
			reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "fanout_network_fault", Help: "1 while a fault of our own keeps anything from being sent: of this system, of DNS or of the egress proxy.",
				ConstLabels: prometheus.Labels{"cause": c.String()},
			}, func() float64 { return m.gauge(c) }))
		}
	}
	return m
}

func (m *Monitor) gauge(c Cause) float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if v, settled := m.detector.Settled(c); settled && v == Ours {
		return 1
	}
	return 0
}

// Fault is what keeps anything from being sent, in words, and since when; empty where nothing does.
func (m *Monitor) Fault() (why string, since time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.why, m.since
}

// Worked notes that a cause is not at fault: DNS where name servers answered a look-up for the place, Proxy where the
// egress proxy took a connection to it, in what was begun at the time begun.
func (m *Monitor) Worked(c Cause, p Place, begun time.Time) {
	m.mu.Lock()
	m.detector.Worked(c, p, begun, time.Now())
	m.settle()
	m.mu.Unlock()
}

// Ours reports whether what was begun at the time begun and failed because of a cause is our own fault, so that it is charged
// to nobody. Where that is not known yet it waits until it is, three seconds at most; what is undecided then is the receiver's.
// It reports true when stop is closed.
func (m *Monitor) Ours(c Cause, p Place, begun time.Time, stop <-chan struct{}) bool {
	if c == Receiver {
		return false
	}
	m.mu.Lock()
	verdict := m.detector.Failed(c, p, begun, time.Now())
	m.settle()
	var pending *decision
	if verdict == Undecided {
		if m.waiting[c] == nil {
			m.waiting[c] = &decision{made: make(chan struct{})}
		}
		pending = m.waiting[c]
	}
	m.mu.Unlock()
	m.wake()
	if pending == nil {
		return verdict == Ours
	}
	patience := time.NewTimer(decideWithin)
	defer patience.Stop()
	select {
	case <-pending.made:
		return pending.verdict == Ours
	case <-patience.C:
		return false
	case <-stop:
		return true
	}
}

// wake has Run look at what has happened.
func (m *Monitor) wake() {
	select {
	case m.kick <- struct{}{}:
	default:
	}
}

// Run asks what has to be asked, until ctx is done. Nothing is decided after that.
func (m *Monitor) Run(ctx context.Context) error {
	var asking sync.WaitGroup
	defer asking.Wait()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		m.mu.Lock()
		questions, again := m.detector.Next(time.Now())
		m.mu.Unlock()
		for _, q := range questions {
			asking.Go(func() { m.ask(ctx, q) })
		}
		if again.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(again))
		}
		select {
		case <-m.kick:
		case <-timer.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// settle tells all who wait for what has been decided. m is locked.
func (m *Monitor) settle() {
	for c, pending := range m.waiting {
		if verdict, settled := m.detector.Settled(Cause(c)); settled && pending != nil {
			pending.verdict = verdict
			close(pending.made)
			m.waiting[c] = nil
		}
	}
	down, since := m.detector.Down()
	why := inWords(down)
	if why == m.why {
		return
	}
	if why != "" {
		m.log.Warn("nothing is sent: the fault is ours, not the receivers'", zap.String("fault", why))
	} else {
		m.log.Info("sending again: the fault of our own is over", zap.String("fault", m.why), zap.Duration("lasted", time.Since(m.since).Round(time.Millisecond)))
	}
	m.why, m.since = why, since
	m.changed(why)
}

// inWords is what is at fault, for people.
func inWords(down []Cause) string {
	words := map[Cause]string{
		System: "this machine or process has run out of descriptors, ports, memory for sockets, or has no CA roots",
		DNS:    "no name server answers",
		Proxy:  "the egress proxy cannot be used",
	}
	texts := make([]string, len(down))
	for i, c := range down {
		texts[i] = words[c]
	}
	return strings.Join(texts, "; ")
}

// ask asks for everything that a question names at once, and takes in the answer: that one of it works is enough. A
// decision does not wait for longer than a second.
func (m *Monitor) ask(ctx context.Context, q Question) {
	limit := decidingTime
	if q.While == Ours {
		limit = probingTime
	}
	asking, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	checks := make([]func() bool, 0, len(q.Places)+1)
	for _, p := range q.Places {
		checks = append(checks, func() bool { return m.works(asking, q.Cause, p) })
	}
	if q.Base {
		checks = append(checks, func() bool { return m.baseWorks(asking, q.Cause) })
	}
	works := anyOf(checks, cancel)
	if ctx.Err() != nil {
		return
	}
	m.mu.Lock()
	m.detector.Answered(q, works, time.Now())
	m.settle()
	m.mu.Unlock()
	m.wake()
}

// anyOf makes all checks at once, and reports whether one of them came true: then enough ends the others.
func anyOf(checks []func() bool, enough func()) bool {
	results := make(chan bool, len(checks))
	for _, check := range checks {
		go func() { results <- check() }()
	}
	found := false
	for range checks {
		if <-results && !found {
			found = true
			enough()
		}
	}
	return found
}

// works reports whether a cause does not keep anything from a place.
func (m *Monitor) works(ctx context.Context, c Cause, p Place) bool {
	switch c {
	case System:
		return m.prober.Connect(ctx, p) != System
	case DNS:
		return m.prober.Name(ctx, p) == nil
	case Proxy:
		return m.prober.Connect(ctx, p) == Receiver
	case Receiver, causes:
	}
	return false
}

// baseWorks reports whether the way itself is there.
func (m *Monitor) baseWorks(ctx context.Context, c Cause) bool {
	switch c {
	case DNS:
		return m.prober.NameServers(ctx) == nil
	case Proxy:
		return m.prober.Proxy(ctx) == nil
	case Receiver, System, causes:
	}
	return false
}
