package dispatcher

import (
	"context"
	"time"
)

// roomAgain is how soon whoever waits in Room looks again: the count need not fall to half of the bound where others take
// what becomes free.
const roomAgain = 100 * time.Millisecond

// Room waits until more should be read from Kafka: what has been read and waits for a receiver that keeps up is
// bounded. What waits for slow receivers does not count; its bounds are the lanes'.
func (d *Dispatcher) Room(ctx context.Context) error {
	for d.waiting.Load() >= d.roomLimit {
		d.roomMu.Lock()
		room := d.room
		d.roomMu.Unlock()
		if d.waiting.Load() < d.roomLimit {
			return nil
		}
		select {
		case <-room:
		case <-time.After(roomAgain):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// addWaiting moves the count that Room looks at, and wakes those who wait there, all at once, when it falls to half of the bound.
func (d *Dispatcher) addWaiting(n int64) {
	after := d.waiting.Add(n)
	if n < 0 && after <= d.roomLimit/2 && after-n > d.roomLimit/2 {
		d.roomMu.Lock()
		close(d.room)
		d.room = make(chan struct{})
		d.roomMu.Unlock()
	}
}
