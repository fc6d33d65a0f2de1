package topic

import (
	"context"
	"errors"
	"math/bits"

	"fanout/topic/wire"
)

// unpacking is how a fetcher's batches are unpacked: in turns, where that takes much memory. Its goroutine alone uses it.
type unpacking struct {
	turns   *turns
	buffer  int // for one record
	largest int // record of the page
}

// recordBuffer is the least memory for a record: most are smaller.
const recordBuffer = 16 << 10

// begin makes ready for a page whose records are about as large as those of the page before.
func (u *unpacking) begin() *unpacking {
	u.buffer, u.largest = max(recordBuffer, powerOfTwo(u.largest)), 0
	return u
}

// powerOfTwo is the next one.
func powerOfTwo(n int) int { return 1 << bits.Len(uint(max(n, 1)-1)) }

// walked says how far a batch's records were gone through.
type walked uint8

const (
	toItsEnd walked = iota
	stopped         // f wanted no more
	turnOver        // f wants the rest in the next turn
)

// unpack hands out a batch's records from the page's next one on.
func (p *Page) unpack(ctx context.Context, batch *wire.Batch, w *walk) (how walked, err error) {
	if !batch.Compressed() {
		return p.read(ctx, batch, w, nil)
	}
	for {
		how, err = p.unpackOnce(ctx, batch, w)
		if tooLarge, ok := errors.AsType[*wire.BufferError](err); ok {
			p.unpacking.buffer = powerOfTwo(tooLarge.Size) // it may take a turn now, or a larger one
			p.unpacking.largest = tooLarge.Size
			continue
		}
		if err != nil || how != turnOver {
			return how, err
		}
	}
}

func (p *Page) unpackOnce(ctx context.Context, batch *wire.Batch, w *walk) (walked, error) {
	batch.Buffer = p.unpacking.buffer
	size := batch.Unpacking() + int64(batch.Buffer)
	if size <= unpackedFreely {
		return p.read(ctx, batch, w, nil)
	}
	one, turning, err := p.unpacking.turns.take(ctx, size)
	if err != nil {
		return stopped, err
	}
	defer one.end()
	return p.read(turning, batch, w, one)
}

// read hands out a batch's records within a turn, or without one where none is needed.
func (p *Page) read(ctx context.Context, batch *wire.Batch, w *walk, one *turn) (how walked, err error) {
	var record Record
	err = batch.Each(func(r *wire.Record) bool {
		if r.Offset < p.next {
			return true
		}
		if one != nil {
			one.goesOn()
		}
		p.unpacking.largest = max(p.unpacking.largest, r.Size)
		record = Record{Partition: p.partition, Offset: r.Offset, Epoch: batch.Epoch, Time: r.Time, Key: r.Key, Value: r.Value, Headers: r.Headers}
		over := false
		switch taken := w.f(ctx, &record); {
		case taken:
			p.next = r.Offset + 1
			over = one != nil && one.ending.Load() && p.next <= batch.Last
		case w.again && one != nil && one.ending.Load():
			over = true
		default:
			how = stopped
		}
		if over {
			how = turnOver
		}
		return how == toItsEnd
	})
	return how, err
}
