package operate

import (
	"cmp"
	"hash/fnv"
	"strconv"
	"sync"
	"time"

	"fanout/topic"
)

// digest stands for texts in maps that hold hundreds of thousands of them. Two of them never meet, as far as anybody lives to see.
type digest [16]byte

func digestOf(texts ...string) (d digest) {
	hash := fnv.New128a()
	for _, text := range texts {
		_, _ = hash.Write(strconv.AppendInt(nil, int64(len(text)), 10)) // a hash takes everything
		_, _ = hash.Write([]byte{' '})
		_, _ = hash.Write([]byte(text))
	}
	hash.Sum(d[:0])
	return d
}

// lifeOf tells which delivery a dead letter is of, for a replay: a crash between the dead letter and the commit writes it twice, and a
// replayed one that dies again has another life (docs/contract.md#twin-letters).
func lifeOf(d *topic.DeadLetter) digest {
	if d.ID == "" {
		return digestOf(d.Position()) // of itself
	}
	return digestOf(d.ID, strconv.Itoa(d.Replays), d.Replay, d.From)
}

// sentBy says who has sent something: the replay itself, or others.
type sentBy struct{ own, others bool }

func (s sentBy) or(t sentBy) sentBy { return sentBy{s.own || t.own, s.others || t.others} }

// standing is what is known of one delivery among those that a replay is about. There is one for each: it is small.
type standing struct {
	at, offset int64 // when the newest of its dead letters that may be sent was appended, Unix ms, and where it lies
	partition  int32
	sent       sentBy // one of its dead letters was
}

// take makes a dead letter the newest, where it is.
func (s *standing) take(d *topic.DeadLetter) {
	at, partition := d.AppendedAt.UnixMilli(), int32(d.Partition) // Kafka numbers them with 32 bits
	if s.at == 0 || cmp.Or(cmp.Compare(at, s.at), cmp.Compare(partition, s.partition), cmp.Compare(d.Offset, s.offset)) > 0 {
		s.at, s.partition, s.offset = at, partition, d.Offset
	}
}

// newest says whether the dead letter is the one to send.
func (s *standing) newest(d *topic.DeadLetter) bool {
	return s.at != 0 && int(s.partition) == d.Partition && s.offset == d.Offset
}

// sentRecords is what the replay topic holds: who sent which dead letter.
type sentRecords struct {
	mu     sync.Mutex // guards all below
	began  time.Time  // when the replay sent its first; zero: it has sent nothing yet
	at     map[position]sentBy
	first  map[digest]sentBy    // by webhook-id, those that had never been replayed before
	ids    map[digest]bool      // webhook-ids of what the replay itself has sent
	resent map[digest]time.Time // by webhook-id, when it was resent or backfilled last
}

func newSentRecords() *sentRecords {
	return &sentRecords{at: make(map[position]sentBy), first: make(map[digest]sentBy), ids: make(map[digest]bool), resent: make(map[digest]time.Time)}
}

// take enters a record of the replay topic, for the replay of that name.
func (s *sentRecords) take(m *topic.Record, name string) error {
	at, err := sentPosition(m)
	if err != nil {
		return nil // somebody else's record
	}
	id := digestOf(m.Header(topic.HeaderWebhookID))
	by := sentBy{own: m.Header(topic.HeaderReplay) == name}
	by.others = !by.own
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at[at] = s.at[at].or(by)
	switch {
	case by.own:
		s.ids[id] = true
		if s.began.IsZero() || m.Time.Before(s.began) {
			s.began = m.Time
		}
	case at.partition < 0:
		s.resent[id] = later(s.resent[id], m.Time)
	}
	if at.partition >= 0 && m.Header(topic.HeaderReplays) == "1" {
		s.first[id] = s.first[id].or(by)
	}
	return nil
}

// by says who sent the dead letter, or its twin where that need not be looked at: all that were never replayed are one.
func (s *sentRecords) by(d *topic.DeadLetter) sentBy {
	by := s.at[positionOf(d)]
	if d.ID != "" && d.Replays == 0 && d.Replay == "" && d.From == "" {
		by = by.or(s.first[digestOf(d.ID)])
	}
	return by
}
