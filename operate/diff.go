package operate

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"

	"fanout/dispatcher"
	"fanout/topic"
)

// The ways in which a delivery differs.
const (
	DiffAppears  = "appears"
	DiffVanishes = "vanishes"
	DiffPayload  = "payload"
)

// Difference is one delivery that differs under another configuration.
type Difference struct {
	Record       string `json:"record"`
	Change       string `json:"change"` // appears, vanishes, payload
	Account      string `json:"account"`
	Subscription string `json:"subscription"`
	ID           string `json:"id"`
	Before       string `json:"before,omitempty"`
	After        string `json:"after,omitempty"`
	Why          string `json:"why,omitempty"` // there is none on one side
}

// Planning is what plans records under one configuration: its sources, and a directory of its subscriptions.
type Planning struct {
	Sources *topic.Sources
	Planner *dispatcher.Planner
}

// plan is the deliveries of a record, or why nothing comes of it. Its error is that of a schema registry that cannot be asked.
func (p *Planning) plan(ctx context.Context, r *topic.Record) (planned []dispatcher.Delivery, why string, err error) {
	ev, err := p.Sources.Decode(ctx, r)
	switch {
	case errors.Is(err, topic.ErrRegistryUnavailable):
		return nil, "", err
	case err != nil:
		return nil, err.Error(), nil //nolint:nilerr // it is the answer
	}
	rec := r.Metadata()
	return p.Planner.Plan(nil, &ev, &rec, r.Time), "", nil
}

// DiffConfig says which records are planned twice, and how.
type DiffConfig struct {
	Topic  string
	Ranges map[int]topic.Range
	Before Planning
	After  Planning
	Each   func(Difference) error // told of each, in the order of the topic
	Done   *atomic.Int64          // counts offsets; may be nil
	Total  func(int64)            // told how many offsets there are to read; may be nil
}

// Diff is what became of planning records twice.
type Diff struct {
	Records int            `json:"records"`
	Changes map[string]int `json:"changes"` // how many deliveries differ, by the way in which they do
}

// Differs is how many deliveries differ.
func (d *Diff) Differs() int {
	return d.Changes[DiffAppears] + d.Changes[DiffVanishes] + d.Changes[DiffPayload]
}

// NewDiff plans recorded traffic under two configurations, and tells which deliveries differ. It sends nothing.
func NewDiff(ctx context.Context, c *topic.Cluster, cfg DiffConfig) (*Diff, error) {
	if cfg.Total != nil {
		cfg.Total(topic.Total(cfg.Ranges))
	}
	out := &Diff{Changes: make(map[string]int)}
	for _, partition := range slices.Sorted(maps.Keys(cfg.Ranges)) { // one after the other, so that the order is that of the topic
		one := map[int]topic.Range{partition: cfg.Ranges[partition]}
		if err := c.Scan(ctx, cfg.Topic, one, cfg.Done, func(r *topic.Record) error { return out.add(ctx, r, &cfg) }); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// add plans one record twice.
func (d *Diff) add(ctx context.Context, r *topic.Record, cfg *DiffConfig) error {
	before, whyNone, err := cfg.Before.plan(ctx, r)
	if err != nil {
		return fmt.Errorf("today's configuration: %w", err)
	}
	after, whyNoneThen, err := cfg.After.plan(ctx, r)
	if err != nil {
		return fmt.Errorf("the new configuration: %w", err)
	}
	d.Records++
	for _, c := range compare(r.Origin().String(), before, after, whyNone, whyNoneThen) {
		d.Changes[c.Change]++
		if err := cfg.Each(c); err != nil {
			return err
		}
	}
	return nil
}

// compare is how the deliveries of one record differ. The reasons say why there are none before, and after.
func compare(record string, before, after []dispatcher.Delivery, whyNone, whyNoneThen string) (changes []Difference) {
	old := make(map[[2]string]*dispatcher.Delivery)
	for i := range before {
		old[[2]string{before[i].Account, before[i].Subscription}] = &before[i]
	}
	for i := range after {
		d := &after[i]
		key := [2]string{d.Account, d.Subscription}
		was := old[key]
		delete(old, key)
		switch {
		case was == nil:
			changes = append(changes, Difference{record, DiffAppears, d.Account, d.Subscription, d.ID, "", string(d.Body), whyNone})
		case !bytes.Equal(was.Body, d.Body) || was.ID != d.ID:
			changes = append(changes, Difference{record, DiffPayload, d.Account, d.Subscription, d.ID, string(was.Body), string(d.Body), ""})
		}
	}
	for _, d := range old {
		changes = append(changes, Difference{record, DiffVanishes, d.Account, d.Subscription, d.ID, string(d.Body), "", whyNoneThen})
	}
	slices.SortFunc(changes, func(a, b Difference) int {
		return cmp.Or(cmp.Compare(a.Account, b.Account), cmp.Compare(a.Subscription, b.Subscription), cmp.Compare(a.Change, b.Change))
	})
	return changes
}
