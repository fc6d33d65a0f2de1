package wire

import (
	"encoding/binary"
	"errors"
	"iter"
	"slices"
)

// errShort says that bytes end before what they announce.
var errShort = errors.New("the message is cut short")

// reader takes a message's bytes apart. After the first error all that it returns is empty.
type reader struct {
	b   []byte
	err error
}

func (r *reader) take(n int) []byte {
	if r.err != nil || n < 0 || n > len(r.b) {
		r.fail()
		return nil
	}
	taken := r.b[:n:n]
	r.b = r.b[n:]
	return taken
}

func (r *reader) fail() {
	if r.err == nil {
		r.err = errShort
	}
}

func (r *reader) int8() int8 {
	if b := r.take(1); b != nil {
		return int8(b[0])
	}
	return 0
}

func (r *reader) int16() int16 {
	if b := r.take(2); b != nil {
		return int16(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (r *reader) int32() int32 {
	if b := r.take(4); b != nil {
		return int32(binary.BigEndian.Uint32(b))
	}
	return 0
}

func (r *reader) int64() int64 {
	if b := r.take(8); b != nil {
		return int64(binary.BigEndian.Uint64(b))
	}
	return 0
}

// uvarint reads the lengths and tags of flexible messages (KIP-482).
func (r *reader) uvarint() uint64 {
	n, size := binary.Uvarint(r.b)
	if r.err != nil || size <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[size:]
	return n
}

// varint reads the zigzag numbers of records.
func (r *reader) varint() int64 {
	n, size := binary.Varint(r.b)
	if r.err != nil || size <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[size:]
	return n
}

// count is the length of an array. An element has two bytes at least: what claims more than there are is an error, and no
// allocation.
func (r *reader) count() int { return r.bounded(int64(r.int32())) }

// compactCount is count in flexible messages.
func (r *reader) compactCount() int { return r.bounded(int64(r.uvarint()) - 1) }

func (r *reader) bounded(n int64) int {
	if n > int64(len(r.b)/2) {
		r.fail()
		return 0
	}
	return int(max(n, 0))
}

// each goes n times, and ends early where the bytes do: what was forged about their number becomes no memory.
func (r *reader) each(n int) iter.Seq[int] {
	return func(yield func(int) bool) {
		for i := 0; i < n && r.err == nil && yield(i); i++ {
		}
	}
}

func (r *reader) string() string { return string(r.take(int(max(r.int16(), 0)))) }

func (r *reader) compactString() string {
	n := int64(r.uvarint()) - 1
	if n > int64(len(r.b)) {
		r.fail()
		return ""
	}
	return string(r.take(int(max(n, 0))))
}

func (r *reader) bytes() []byte {
	n := r.int32()
	if n < 0 {
		return nil
	}
	return slices.Clone(r.take(int(n)))
}

// skipTags passes over the tagged fields at the end of a flexible structure.
func (r *reader) skipTags() {
	for range r.bounded(int64(r.uvarint())) {
		_ = r.uvarint()
		r.take(int(min(r.uvarint(), uint64(len(r.b)+1))))
	}
}

// skipInts passes over an array of 32-bit numbers, and says how many there were.
func (r *reader) skipInts(n int) int {
	r.take(4 * n)
	return n
}

func (r *reader) partitions() (all []Partition) {
	for range r.each(r.count()) {
		topic := r.string()
		for range r.each(r.count()) {
			all = append(all, Partition{topic, int(r.int32())})
		}
	}
	return all
}
