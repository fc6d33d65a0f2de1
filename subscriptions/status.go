package subscriptions

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Status says how good the snapshot is.
type Status struct {
	Loaded   bool
	Source   string        // "redis", "file", or empty while nothing is known
	Age      time.Duration // since the snapshot last agreed with Redis; it grows while Redis is away or a shrink is refused
	Enabled  int
	Disabled int
	Invalid  int     // those that do not validate, their last good version in force or not; counted nowhere else
	Shrink   *Shrink // nil unless a full load is refused
	Error    string  // what is wrong with Redis now; names no address and no credential
}

// The states of fanout_subscriptions.
const (
	stateEnabled = iota
	stateDisabled
	stateInvalid
	states
)

// Status describes the snapshot as it is now.
func (d *Directory) Status() Status {
	s := Status{
		Enabled:  int(d.applier.counts[stateEnabled].Load()),
		Disabled: int(d.applier.counts[stateDisabled].Load()),
		Invalid:  int(d.applier.counts[stateInvalid].Load()),
		Shrink:   d.guard.refused(),
	}
	d.fresh.status(&s)
	return s
}

// Problems lists the account's subscriptions that do not validate, sorted by id; those of all accounts for "".
func (d *Directory) Problems(account string) []Problem { return d.problems.list(account) }

// collector makes the subscriptions' metrics (docs/contract.md#metrics) at each scrape.
type collector struct{ d *Directory }

//nolint:gochecknoglobals // descriptions are constants
var (
	countDesc = prometheus.NewDesc("fanout_subscriptions", "Subscriptions by state.", []string{"state"}, nil)
	ageDesc   = prometheus.NewDesc("fanout_subscriptions_age_seconds", "Time since the snapshot last agreed with Redis.", nil, nil)
)

// Describe implements [prometheus.Collector].
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	ch <- countDesc
	ch <- ageDesc
}

// Collect implements [prometheus.Collector].
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	s := c.d.Status()
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	gauge(countDesc, float64(s.Enabled), "enabled")
	gauge(countDesc, float64(s.Disabled), "disabled")
	gauge(countDesc, float64(s.Invalid), "invalid")
	gauge(ageDesc, s.Age.Seconds())
}
