package subscriptions

import (
	"context"
	"io"
	"os"
	"time"

	"fanout/event"
)

// SetIntervalsForTest shortens what a test would else wait for.
func (d *Directory) SetIntervalsForTest(reconcile, ask, write time.Duration) {
	d.intervals.reconcile, d.intervals.refused, d.intervals.ask, d.intervals.write = reconcile, reconcile, ask, write
}

// Take lets a test be Redis: all is what fanout:instances holds.
func (p *Peers) Take(own Demand, all map[string]string) []string { return p.take(own, all) }

// WriteSnapshotOf writes the snapshot file as a version with other event names would, which had read the stream of changes up
// to position. Each subscription in it selects only
// the names that are left of its own, so that whoever believes the file is found out.
func (d *Directory) WriteSnapshotOf(path, position string, names ...event.Name) error {
	head := d.file.head()
	head.fingerprint, head.position, head.names = "another", position, nil
	for _, name := range names {
		head.names = append(head.names, name.String())
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	return d.file.encode(file, head)
}

// The shapes that tell a secret.
var (
	LooksSecret = looksSecret
	Shown       = shown
)

// TakeAnnounced reads an account as one that was announced at that time, in Unix ms.
func (d *Directory) TakeAnnounced(ctx context.Context, account string, ms int64) error {
	return d.accounts.refresh(ctx, []string{account}, func(string) int64 { return ms }, func(s stored) { d.applier.apply(s, keep) })
}

// SnapshotTo writes what the snapshot file would hold.
func (d *Directory) SnapshotTo(w io.Writer) error { return d.file.encode(w, d.file.head()) }

// Position is how far the table has followed the stream of changes.
func (d *Directory) Position() string { return d.file.head().position }
