package topic_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/compress"
	"github.com/segmentio/kafka-go/protocol"

	"fanout/topic"
)

const mib = 1 << 20

// Of 48 that hold their turn for as long as they may, each comes again and again, in the order in which they came, and never do they hold more
// than there is.
func TestTurnsGoRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := topic.NewTurns(32 * mib)
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		var held, most atomic.Int64
		var had [48]int
		var all sync.WaitGroup
		for i := range had {
			all.Go(func() {
				for ctx.Err() == nil {
					turn, err := turns.Take(ctx, 10*mib)
					if err != nil {
						return
					}
					most.Store(max(most.Load(), held.Add(10*mib)))
					turn.GoesOn()
					<-turn.Done() // it waits for receivers, say
					held.Add(-10 * mib)
					turn.End()
					had[i]++
				}
			})
		}
		all.Wait()
		for i, n := range had {
			if n < 35 { // three at a time, for a tenth of a second each
				t.Errorf("number %d had %d turns in a minute", i, n)
			}
		}
		if most.Load() != 30*mib {
			t.Errorf("%d MiB were held at once, want 30 of 32", most.Load()/mib)
		}
	})
}

// Who wants more than there is has all of it, alone, and waits no longer than others although smaller ones keep coming.
func TestTurnOfAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := topic.NewTurns(32 * mib)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		var small atomic.Int64
		var all sync.WaitGroup
		for range 40 {
			all.Go(func() {
				for {
					turn, err := turns.Take(ctx, mib)
					if err != nil {
						return
					}
					small.Add(1)
					turn.GoesOn()
					time.Sleep(30 * time.Millisecond)
					small.Add(-1)
					turn.End()
				}
			})
		}
		time.Sleep(time.Second)
		began := time.Now()
		turn, err := turns.Take(ctx, 500*mib)
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 200*time.Millisecond || small.Load() != 0 {
			t.Errorf("it came after %s, beside %d others", took, small.Load())
		}
		turn.End()
		stop()
		all.Wait()
	})
}

// A holder that does not end its turn keeps nobody waiting for ever, and who gives up waiting is in nobody's way.
func TestTurnsNeverStandStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := topic.NewTurns(32 * mib)
		stuck, err := turns.Take(t.Context(), 32*mib)
		if err != nil {
			t.Fatal(err)
		}
		short, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		if _, err := turns.Take(short, 32*mib); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a turn came that could not: %v", err)
		}
		began := time.Now()
		second, err := turns.Take(t.Context(), mib)
		if took := time.Since(began); err != nil || took != 10*time.Second {
			t.Errorf("the next came after %s, %v", took, err)
		}
		second.End()
		stuck.End()
		for range 3 { // all is free again, and no more
			if _, err := turns.Take(t.Context(), 10*mib); err != nil {
				t.Fatal(err)
			}
		}
		began = time.Now()
		_, err = turns.Take(t.Context(), 10*mib)
		if took := time.Since(began); err != nil || took != 10*time.Second {
			t.Errorf("what is held was given out again after %s, %v", took, err)
		}
	})
}

// zipped is a batch of n records from offset 0 on, each with so many bytes.
func zipped(t testing.TB, codec compress.Compression, n, size int) []byte {
	t.Helper()
	records := make([]kafka.Record, n)
	for i := range records {
		records[i] = kafka.Record{Offset: int64(i), Value: kafka.NewBytes(fmt.Appendf(nil, "%d%s", i, strings.Repeat("0123456789", size/10)))}
	}
	var b bytes.Buffer
	set := protocol.RecordSet{Version: 2, Attributes: protocol.Attributes(codec), Records: kafka.NewRecordReader(records...)}
	if _, err := set.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()[4:]
}

// A record is handed out once, in order, although its batch is unpacked in many turns; and what was refused when a turn ended comes again.
func TestPageInTurns(t *testing.T) {
	packed := zipped(t, compress.Zstd, 3000, 1000)
	synctest.Test(t, func(t *testing.T) {
		turns := topic.NewTurns(12 * mib)
		var all sync.WaitGroup
		for range 2 { // zstd's window is 8 MiB here: one at a time
			all.Go(func() {
				page := topic.NewPage(turns, packed)
				next, refused := int64(0), 0
				err := page.EachInTurn(t.Context(), func(turn context.Context, r *topic.Record) bool {
					if r.Offset != next || !strings.HasPrefix(string(r.Value), fmt.Sprintf("%d0123", next)) {
						t.Errorf("offset %d came for %d", r.Offset, next)
					}
					select {
					case <-time.After(time.Millisecond):
						next++
						return true
					case <-turn.Done():
						refused++
						return false
					}
				})
				if err != nil || next != 3000 || page.Next() != 3000 {
					t.Errorf("%d of 3000, then %v", next, err)
				}
				if refused < 5 {
					t.Errorf("its turn ended %d times", refused)
				}
			})
		}
		all.Wait()
	})
}

// A record far larger than the others, and one that stops the walk for a reason of its own.
func TestPageOfLargeRecords(t *testing.T) {
	page := topic.NewPage(topic.NewTurns(32*mib), zipped(t, compress.Gzip, 3, 3*mib))
	n := 0
	err := page.Each(t.Context(), func(r *topic.Record) bool {
		if len(r.Value) < 3*mib-10 {
			t.Errorf("%d bytes of %d came", len(r.Value), 3*mib)
		}
		n++
		return n < 2
	})
	if err != nil || n != 2 || page.Next() != 1 {
		t.Errorf("%d records, next %d, %v", n, page.Next(), err)
	}
}

// 48 partitions whose batches are unpacked at the same time take no more memory than a few (docs/contract.md#fetch-bound).
func TestUnpackedTogether(t *testing.T) {
	for name, batch := range map[string][]byte{"large windows": zipped(t, compress.Zstd, 6000, 500), "large records": zipped(t, compress.Gzip, 2, 5*mib)} {
		t.Run(name, func(t *testing.T) {
			turns := topic.NewTurns(topic.UnpackedAtOnce)
			live := func() int64 {
				var m runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&m)
				return int64(m.HeapAlloc)
			}
			before, most := live(), int64(0)
			var all sync.WaitGroup
			var records atomic.Int64
			for range 48 {
				all.Go(func() {
					first := true
					err := topic.NewPage(turns, batch).Each(t.Context(), func(*topic.Record) bool {
						if first { // as long as somebody waits for a receiver
							time.Sleep(50 * time.Millisecond)
						}
						first = false
						records.Add(1)
						return true
					})
					if err != nil {
						t.Error(err)
					}
				})
			}
			done := make(chan struct{})
			go func() { all.Wait(); close(done) }()
			for running := true; running; {
				select {
				case <-done:
					running = false
				case <-time.After(10 * time.Millisecond):
					most = max(most, live()-before)
				}
			}
			t.Logf("%d records, %d MiB of memory at the most", records.Load(), most/mib)
			if most > 2*topic.UnpackedAtOnce {
				t.Errorf("unpacking took %d MiB, want at most %d", most/mib, 2*topic.UnpackedAtOnce/mib)
			}
		})
	}
}
