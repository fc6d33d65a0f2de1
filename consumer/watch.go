package consumer

import (
	"fmt"
	"time"

	"go.uber.org/zap"
)

func (g *group) committedNow() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.committed = time.Now()
}

// look notes whether the group's partitions make progress. Where they stand still although there is something to do, the group is joined again.
func (g *group) look(partitions []*partition, now time.Time) {
	well, stalled := g.makesProgress(partitions, now)
	g.mu.Lock()
	g.heartbeat = now
	if stalled != nil || well {
		g.stalled = stalled
	}
	g.mu.Unlock()
	if stalled != nil {
		g.log.Error("this instance's part of the group has stalled; it joins again", zap.Error(stalled))
		g.membership.refused(g.membership.who())
	}
}

// makesProgress says which partition has had something to do for too long without any of it being settled. well says that every partition has
// made progress since this member has it.
func (g *group) makesProgress(partitions []*partition, now time.Time) (well bool, stalled error) {
	held, open := !g.cfg.writable() || !g.cfg.sending(), false
	well = true
	moved := len(partitions) == 0
	for _, p := range partitions {
		r := p.makesProgress(now, held)
		well = well && r.moved
		moved = moved || r.since < 2*commitInterval
		if r.since > g.cfg.stalledAfter && (stalled == nil || r.open) {
			stalled, open = fmt.Errorf("records wait and none is settled: %s, for %v", p, r.since.Round(time.Second)), open || r.open
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if moved {
		g.progress = now
	}
	if !open && now.Sub(g.progress) <= g.cfg.stalledAfter { // others make progress: it waits for its turn to read
		return well, nil
	}
	return well, stalled
}

// healthy says whether the group looks after itself and makes progress.
func (g *group) healthy(now time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	quiet := now.Sub(g.heartbeat)
	switch {
	case g.stalled != nil:
		return fmt.Errorf("group %s: %w", g.cfg.id, g.stalled)
	case !g.heartbeat.IsZero() && quiet > g.cfg.stalledAfter+2*commitTimeout:
		return fmt.Errorf("group %s has not looked after itself for %v", g.cfg.id, quiet.Round(time.Second))
	}
	return nil
}

// commitAge is how long ago everything was last known to be committed.
func (g *group) commitAge(now time.Time) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return now.Sub(g.committed)
}
