package topic

import (
	"context"
	"fmt"
	"time"

	"fanout/topic/wire"
)

// Transaction is a producer's transaction that is open, as its first record tells.
type Transaction struct {
	Producer int64     // its id
	Began    time.Time // the time of its first record; zero: it has none
}

// OpenTransaction looks at the transaction that holds a partition's records back from the offset on.
func (c *Cluster) OpenTransaction(ctx context.Context, p Partition, at int64) (Transaction, error) {
	leader, epoch, err := c.leaders.Leader(ctx, p)
	if err != nil {
		return Transaction{}, err
	}
	answer, err := c.wire.Fetch(ctx, &wire.FetchRequest{Partition: p, Offset: at, Epoch: epoch, Broker: leader, MaxBytes: 1, Uncommitted: true})
	if err != nil {
		return Transaction{}, fmt.Errorf("fetch %s@%d: %w", p, at, Needs("Read", err))
	}
	batch, _, ok, err := wire.NextBatch(answer.Records)
	if err != nil || !ok || !batch.Transactional {
		return Transaction{}, fmt.Errorf("fetch %s@%d: no record of a transaction came: %w", p, at, err)
	}
	open := Transaction{Producer: batch.ProducerID}
	if first := batch.FirstTime; first > 0 && !batch.LogAppendTime {
		open.Began = time.UnixMilli(first)
	} else if batch.LogAppendTime {
		open.Began = time.UnixMilli(batch.MaxTime)
	}
	return open, nil
}
