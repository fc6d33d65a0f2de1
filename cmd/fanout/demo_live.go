package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"fanout/event"
)

// live shows how the demo goes, and draws up its account.
type live struct {
	w        io.Writer
	inPlace  bool
	registry prometheus.Gatherer
	traffic  *traffic
	start    time.Time
	shown    time.Time
}

func newLive(w io.Writer, registry prometheus.Gatherer, t *traffic) *live {
	return &live{w: w, inPlace: isTerminal(w), registry: registry, traffic: t, start: time.Now()}
}

// account is the demo's result.
type account struct {
	Seconds   float64        `json:"seconds"`
	Sent      map[string]int `json:"sent"` // events, by name
	Events    int            `json:"events"`
	Deliver   int            `json:"deliveries"` // planned from them
	Delivered int            `json:"delivered"`
	Received  int            `json:"received"` // different webhook-ids that receivers took
	Retried   int            `json:"retried"`  // failed attempts that were followed by another
	Deferred  int            `json:"deferred"`
	Dead      int            `json:"dead"`
	Reasons   map[string]int `json:"deadReasons"`
	InFlight  int            `json:"inFlight"`
	Unsigned  int            `json:"unsigned"` // requests whose signature did not verify
	Lost      int            `json:"lost"`     // events minus what was delivered or is dead
	Balanced  bool           `json:"balanced"`
	parked    int
}

// account reads the registry, as a scrape of /metrics would.
func (l *live) account() account {
	a := account{Seconds: time.Since(l.start).Seconds(), Sent: map[string]int{}, Reasons: map[string]int{}, Events: int(l.traffic.sent.Load())}
	for _, name := range event.Names() {
		a.Sent[name.String()] = int(l.traffic.names[name].Load())
	}
	for _, r := range l.traffic.receivers {
		a.Received += r.received()
		a.Unsigned += int(r.unsigned.Load())
	}
	families, err := l.registry.Gather()
	if err != nil {
		return a // unbalanced
	}
	planned, settled := map[string]int{}, map[string]int{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			labels, n := labelsOf(m), int(m.GetCounter().GetValue()+m.GetGauge().GetValue())
			switch family.GetName() {
			case "fanout_deliveries_total":
				planned[labels["stage"]] += n
			case "fanout_in_flight":
				settled[labels["stage"]] += n
				a.InFlight += n
			case "fanout_outcomes_total":
				settled[labels["stage"]] += n
				a.outcome(labels, n)
			case "fanout_lanes":
				if labels["state"] == "parked" {
					a.parked += n
				}
			}
		}
	}
	a.Deliver = planned["first"]
	a.Lost = a.Events - a.Delivered - a.Dead // each event is for one receiver
	a.Balanced = a.Lost == 0 && a.InFlight == 0 && a.Unsigned == 0 && a.Received == a.Delivered
	for stage := range planned {
		a.Balanced = a.Balanced && planned[stage] == settled[stage]
	}
	return a
}

func (a *account) outcome(labels map[string]string, n int) {
	switch labels["outcome"] {
	case "delivered":
		a.Delivered += n
	case "retry":
		a.Retried += n
	case "deferred":
		a.Deferred += n
	case "dead":
		a.Dead += n
		if n > 0 {
			a.Reasons[labels["reason"]] += n
		}
	}
}

func labelsOf(m *dto.Metric) map[string]string {
	labels := map[string]string{}
	for _, pair := range m.GetLabel() {
		labels[pair.GetName()] = pair.GetValue()
	}
	return labels
}

// show writes the summary: in place on a terminal, else a line every other second.
func (l *live) show() {
	if !l.inPlace && time.Since(l.shown) < 1900*time.Millisecond {
		return
	}
	l.shown = time.Now()
	a := l.account()
	line := fmt.Sprintf("%5.1fs  sent %d  delivered %d  retried %d  dead %d  waiting %d  lanes parked %d",
		a.Seconds, a.Events, a.Delivered, a.Retried, a.Dead, a.Lost, a.parked)
	if l.inPlace {
		fmt.Fprintf(l.w, "\r\x1b[K%s", line)
		return
	}
	fmt.Fprintln(l.w, line)
}

// drain waits until every delivery is settled, at most so long, and returns the account.
func (l *live) drain(ctx context.Context, within time.Duration) account {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	poll := time.NewTicker(100 * time.Millisecond)
	defer poll.Stop()
	for {
		l.show()
		if a := l.account(); a.Balanced || ctx.Err() != nil {
			if l.inPlace {
				fmt.Fprint(l.w, "\r\x1b[K")
			}
			return a
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
		}
	}
}

// write is the account for people.
func (a *account) write(w io.Writer) error {
	var sent, dead []string
	for _, name := range event.Names() {
		sent = append(sent, fmt.Sprintf("%s %d", name, a.Sent[name.String()]))
	}
	for _, reason := range []string{"attempts_exhausted", "expired", "gone", "permanent_status", "blocked_destination", "invalid_subscription"} {
		if n := a.Reasons[reason]; n > 0 {
			dead = append(dead, fmt.Sprintf("%s %d", reason, n))
		}
	}
	verdict := "nothing lost"
	if !a.Balanced {
		verdict = "THE ACCOUNT DOES NOT BALANCE"
	}
	return table(w, [][]string{
		{""},
		{"sent", strconv.Itoa(a.Events), strings.Join(sent, ", ")},
		{"delivered", strconv.Itoa(a.Delivered), takenText(a.Received, a.Unsigned)},
		{"retried", strconv.Itoa(a.Retried), "attempts that failed and were made again"},
		{"deferred", strconv.Itoa(a.Deferred), "put off without an attempt"},
		{"dead", strconv.Itoa(a.Dead), strings.Join(dead, ", ")},
		{"lost", strconv.Itoa(a.Lost), fmt.Sprintf("sent %d = delivered %d + dead %d + in flight %d: %s", a.Events, a.Delivered, a.Dead, a.InFlight, verdict)},
	})
}

// takenText says what the receivers took, and whether the signatures were good.
func takenText(received, unsigned int) string {
	if unsigned == 0 {
		return fmt.Sprintf("receivers took %d and verified each signature", received)
	}
	return fmt.Sprintf("receivers took %d, of which %d had NO GOOD SIGNATURE", received, unsigned)
}
