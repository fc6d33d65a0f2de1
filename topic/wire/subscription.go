package wire

import (
	"encoding/binary"
	"slices"
)

// Subscription is a member's metadata: what it would read, and what it has. Bytes as of version 1 (KIP-429) are written;
// any version is read, and a member that sends less has less.
type Subscription struct {
	Topics   []string
	UserData []byte
	Owned    []Partition
}

// Append appends the subscription's bytes, in an order that does not change: a static member's restart goes without a
// rebalance where its bytes are the same.
func (s *Subscription) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, 1)
	topics := slices.Sorted(slices.Values(s.Topics))
	b = binary.BigEndian.AppendUint32(b, uint32(len(topics)))
	for _, topic := range topics {
		b = appendString(b, topic)
	}
	b = appendBytes(b, s.UserData)
	return appendPartitions(b, s.Owned)
}

// ParseSubscription reads a member's metadata, of whatever version it is: fields beyond those above are passed over, and
// missing ones are empty. The version alone is not believed: kafka-go writes 1 with nothing behind the user data.
func ParseSubscription(b []byte) (Subscription, error) {
	r := reader{b: b}
	version := r.int16()
	var s Subscription
	for range r.each(r.count()) {
		s.Topics = append(s.Topics, r.string())
	}
	s.UserData = r.bytes()
	if r.err != nil {
		return Subscription{}, r.err
	}
	if version >= 1 && len(r.b) > 0 {
		s.Owned = r.partitions()
	}
	return s, r.err
}

// Assignment is what the leader gives a member.
type Assignment struct {
	Partitions []Partition
	UserData   []byte
}

// Append appends the assignment's bytes.
func (a *Assignment) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, 0)
	b = appendPartitions(b, a.Partitions)
	return appendBytes(b, a.UserData)
}

// ParseAssignment reads an assignment. No bytes at all are an empty one.
func ParseAssignment(b []byte) (Assignment, error) {
	if len(b) == 0 {
		return Assignment{}, nil
	}
	r := reader{b: b}
	_ = r.int16()
	a := Assignment{Partitions: r.partitions()}
	if r.err == nil && len(r.b) > 0 {
		a.UserData = r.bytes()
	}
	return a, r.err
}

func appendString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

func appendBytes(b, data []byte) []byte {
	if data == nil {
		return binary.BigEndian.AppendUint32(b, 0xffffffff)
	}
	return append(binary.BigEndian.AppendUint32(b, uint32(len(data))), data...)
}

// appendPartitions groups the partitions by topic, in order.
func appendPartitions(b []byte, partitions []Partition) []byte {
	sorted := slices.Clone(partitions)
	slices.SortFunc(sorted, Partition.Compare)
	count := len(b)
	b = binary.BigEndian.AppendUint32(b, 0)
	topics := 0
	for from := 0; from < len(sorted); topics++ {
		to := from
		for to < len(sorted) && sorted[to].Topic == sorted[from].Topic {
			to++
		}
		b = appendString(b, sorted[from].Topic)
		b = binary.BigEndian.AppendUint32(b, uint32(to-from))
		for _, p := range sorted[from:to] {
			b = binary.BigEndian.AppendUint32(b, uint32(p.ID))
		}
		from = to
	}
	binary.BigEndian.PutUint32(b[count:], uint32(topics))
	return b
}
