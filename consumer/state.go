package consumer

import (
	"errors"
	"slices"
	"strings"
	"time"
)

func (c *Consumer) stopBy() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.deadline.IsZero() { // a session that ends by itself, for added partitions say
		return time.Now().Add(revokeDrain)
	}
	return c.deadline
}

func (c *Consumer) setState(s string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state = s
}

func (c *Consumer) joined(g *group, partitions []*partition) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	*c.groups[g] = membership{partitions: partitions, joined: true, committed: now, beat: now, wedged: c.groups[g].wedged}
}

func (c *Consumer) left(g *group) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.groups[g]
	m.partitions, m.joined, m.problem = nil, false, "rebalancing"
}

func (c *Consumer) notJoined(g *group, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.groups[g].problem = err.Error()
}

func (c *Consumer) committedNow(g *group) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.groups[g].committed = time.Now()
}

// beat notes that the group's session looks after itself, and whether it is stuck. What was stuck stays so until it has
// joined anew and got on everywhere.
func (c *Consumer) beat(g *group, stuck error, well bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.groups[g]
	m.beat = time.Now()
	if stuck != nil || well {
		m.wedged = stuck
	}
}

// wedgedAfter is how long something may wait with nothing settled.
func (c *Consumer) wedgedAfter() time.Duration {
	if c.cfg.WedgedAfter > 0 {
		return c.cfg.WedgedAfter
	}
	return time.Minute
}

// Healthy says whether the consumer gets on, for /healthz: nil unless records wait in a joined group and none has been
// settled for Config.WedgedAfter although nothing outside is waited for. Waiting for Kafka, for a record that cannot be
// written, or for a due time is healthy: Ready tells of it.
func (c *Consumer) Healthy() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var stuck []string
	for g, m := range c.groups {
		switch quiet := time.Since(m.beat); {
		case m.wedged != nil:
			stuck = append(stuck, "group "+g.id+": "+m.wedged.Error())
		case m.joined && quiet > c.wedgedAfter()+2*commitTimeout:
			stuck = append(stuck, "group "+g.id+": its session has not looked after itself for "+quiet.Round(time.Second).String())
		}
	}
	if len(stuck) == 0 {
		return nil
	}
	slices.Sort(stuck)
	return errors.New(strings.Join(stuck, "; "))
}

// commitAge is the longest time, in seconds, that a joined group's offsets have not been known to be committed.
func (c *Consumer) commitAge() float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	age := time.Duration(0)
	for _, m := range c.groups {
		if m.joined {
			age = max(age, time.Since(m.committed))
		}
	}
	return age.Seconds()
}

func (c *Consumer) assigned() (all []*partition) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.groups {
		all = append(all, m.partitions...)
	}
	return all
}

// Ready says why the consumer does not read: nil once every group is joined and records can be written.
func (c *Consumer) Ready() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != "" {
		return errors.New(c.state)
	}
	var waiting []string
	for g, m := range c.groups {
		if !m.joined {
			text := "group " + g.id + " is not joined"
			if m.problem != "" {
				text += " (" + m.problem + ")"
			}
			waiting = append(waiting, text)
		}
	}
	if len(waiting) > 0 {
		slices.Sort(waiting)
		return errors.New(strings.Join(waiting, "; "))
	}
	if c.writer.blocked() {
		return errors.New("records cannot be written to Kafka; reading has stopped until they can")
	}
	return nil
}
