package topic

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"
)

// ReadPage reads a broker's answer to a fetch from the offset, with the aborted transactions that it lists: by producer, where each begins.
func ReadPage(ctx context.Context, from int64, aborted map[int64][]int64, packed []byte) (offsets []int64, next int64, err error) {
	p := &Page{next: from, packed: packed, aborted: aborted, aborting: make(map[int64]bool), unpacking: new(unpacking).begin()}
	err = p.Each(ctx, func(r *Record) bool {
		offsets = append(offsets, r.Offset)
		return true
	})
	return offsets, p.Next(), err
}

// Survey is what the offsets of one partition say: where it begins and ends, where its records younger than an hour and those
// that are dated an hour ahead begin (-1: nowhere), and where reading would begin.
func Survey(first, end, young, future, start int64) (records, ahead int64, history bool) {
	var s SourceStart
	s.survey(bounds{first, end, young, future, start})
	return s.Records, s.Ahead, s.History
}

// UnpackedAtOnce is what a process unpacks at once, in bytes.
const UnpackedAtOnce = unpackedAtOnce

// Turns is the turns to unpack.
type Turns struct{ t *turns }

// NewTurns makes turns for so many bytes.
func NewTurns(all int64) *Turns { return &Turns{newTurns(all)} }

// Turn is one of them.
type Turn struct {
	*turn

	context.Context //nolint:containedctx // of a test
}

// Take waits for a turn.
func (t *Turns) Take(ctx context.Context, size int64) (Turn, error) {
	one, turning, err := t.t.take(ctx, size)
	return Turn{one, turning}, err
}

// GoesOn begins its time.
func (t Turn) GoesOn() { t.goesOn() }

// End gives it back.
func (t Turn) End() { t.end() }

// NewPage is a page with batches from offset 0 on.
func NewPage(t *Turns, packed []byte) *Page {
	return &Page{packed: packed, unpacking: (&unpacking{turns: t.t}).begin()}
}

// Nearest says which broker a partition is read from.
type Nearest struct{ n nearest }

// TwoNearest are those of two partitions.
func TwoNearest(log *zap.Logger) (first, second *Nearest) {
	failing := &failingReplicas{log: log}
	return &Nearest{nearest{failing: failing, replica: noReplica}}, &Nearest{nearest{failing: failing, replica: noReplica}}
}

// Prefers tells what the leader prefers.
func (n *Nearest) Prefers(replica int32) { n.n.prefers(replica, time.Now()) }

// Reads says whether a replica is read.
func (n *Nearest) Reads() bool {
	replica, _ := n.n.choose(time.Now())
	return replica != noReplica
}

// Failed tells that the replica failed.
func (n *Nearest) Failed() { n.n.failed(time.Now(), errors.New("it failed")) }

// Serves tells that a broker answers.
func (n *Nearest) Serves(broker int32) { n.n.failing.serves(broker) }
