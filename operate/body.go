package operate

import (
	"context"

	"fanout/dispatcher"
	"fanout/topic"
)

// Delivery is a delivery with its body, as its source record makes it, or else as its dead letter has it; nil where neither is left.
func (d *FoundDelivery) Delivery(ctx context.Context, c *topic.Cluster) (*dispatcher.Delivery, error) {
	if len(d.Attempts) > 0 {
		if del, err := fromSource(ctx, c, &d.Attempts[0]); err != nil || del != nil {
			return del, err
		}
	}
	if d.Dead == nil {
		return nil, nil //nolint:nilnil // nothing is left of it
	}
	letter, err := c.DeadLetters().Get(ctx, d.Dead.Partition, d.Dead.Offset)
	if err != nil || letter == nil || letter.ID != d.ID || !letter.Usable() {
		return nil, err
	}
	return new(letter.Delivery()), nil
}
