package topic

import (
	"sync"
	"time"

	"go.uber.org/zap"
)

// Times of reading from a replica.
const (
	// replicaTimeout bounds one fetch from a replica: the leader is there to be asked.
	replicaTimeout = fetchWait + 3*time.Second
	// preferredFor is how long a replica is read before the leader is asked again which one it prefers. Nothing else tells that a replica has
	// fallen behind.
	preferredFor = 30 * time.Second
	// A broker that failed as a replica is left for a while, which grows each time: its leader may prefer it for as long as the rest of the
	// cluster can reach it.
	leftFor    = 10 * time.Second
	leftForMax = 10 * time.Minute
)

// nearest says which broker a partition is read from: its leader, or the replica that the leader prefers for this rack (KIP-392). A leader that
// prefers a replica sends no records, so one that is not to be read is not named to it: without a rack, the leader serves.
type nearest struct {
	failing *failingReplicas
	replica int32     // noReplica: the leader
	until   time.Time // then the leader is asked again; where replica is noReplica, it is not told the rack before then
}

const noReplica = -1

// choose is the replica to read from, or noReplica for the leader. named says whether the leader is to be told the rack.
func (n *nearest) choose(now time.Time) (replica int32, named bool) {
	if now.Before(n.until) {
		return n.replica, false
	}
	n.replica = noReplica
	return noReplica, true
}

// prefers takes what the leader prefers. It is false where that replica is not to be read now: then the leader is to be asked without the rack.
func (n *nearest) prefers(replica int32, now time.Time) bool {
	if until := n.failing.until(replica); now.Before(until) {
		n.replica, n.until = noReplica, until
		return false
	}
	n.replica, n.until = replica, now.Add(preferredFor)
	return true
}

// failed gives the replica up, for the reason.
func (n *nearest) failed(now time.Time, reason error) {
	n.until = n.failing.add(n.replica, now, reason)
	n.replica = noReplica
}

// failingReplicas are the brokers that cannot be read as replicas, for all partitions: each of them would find out by itself, and stand
// meanwhile. It is safe for concurrent use.
type failingReplicas struct {
	log *zap.Logger // may be nil

	mu  sync.Mutex // guards all below
	all map[int32]failingReplica
}

type failingReplica struct {
	until time.Time
	pause time.Duration
}

// until is when the broker may be read again.
func (f *failingReplicas) until(broker int32) time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.all[broker].until
}

// left is how many brokers are not to be read as replicas now.
func (f *failingReplicas) left(now time.Time) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, one := range f.all {
		if now.Before(one.until) {
			n++
		}
	}
	return n
}

// add notes that the broker failed, and says until when it is left. What several partitions find at the same time counts once. It is logged
// the first time, and not again before the broker has answered.
func (f *failingReplicas) add(broker int32, now time.Time, reason error) time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	one, known := f.all[broker]
	if now.Before(one.until) {
		return one.until
	}
	one.pause = min(max(leftFor, 2*one.pause), leftForMax)
	one.until = now.Add(one.pause)
	if f.all == nil {
		f.all = make(map[int32]failingReplica)
	}
	f.all[broker] = one
	if !known && f.log != nil {
		f.log.Warn("the replica in this rack cannot be read: partitions are read from their leaders", zap.Int32("broker", broker), zap.Time("again", one.until), zap.Error(reason))
	}
	return one.until
}

// serves notes that the broker answers.
func (f *failingReplicas) serves(broker int32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, known := f.all[broker]; !known {
		return
	}
	delete(f.all, broker)
	if f.log != nil {
		f.log.Info("the replica in this rack is read again", zap.Int32("broker", broker))
	}
}
