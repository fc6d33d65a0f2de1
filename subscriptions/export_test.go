package subscriptions

import "time"

// Quicken shortens what a test would else wait for.
func (d *Directory) Quicken(reconcile, ask, write time.Duration) {
	d.pace.reconcile, d.pace.refused, d.pace.ask, d.pace.write = reconcile, reconcile, ask, write
}

// Take lets a test be Redis: all is what fanout:instances holds.
func (p *Peers) Take(own Demand, all map[string]string) []string { return p.take(own, all) }
