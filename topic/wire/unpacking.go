package wire

import (
	"encoding/binary"
	"fmt"

	"github.com/segmentio/kafka-go/compress"
)

// MaxUnpacking bounds what a codec may keep while it unpacks one batch, in bytes: zstd's own tools refuse more as well.
const MaxUnpacking = 128 << 20

// What codecs keep at least, in bytes.
const (
	unpackingLeast = 64 << 10
	zstdBlock      = 128 << 10 // of what is unpacked
)

// UnpackingError says that a batch cannot be unpacked within MaxUnpacking.
type UnpackingError struct {
	Offset, Size int64 // of the batch; what unpacking it would keep in memory
}

func (e *UnpackingError) Error() string {
	return fmt.Sprintf("the batch at offset %d takes %d MiB of memory to unpack; at most %d MiB are given", e.Offset, e.Size>>20, MaxUnpacking>>20)
}

// BufferError says that a record is larger than the memory that there is for one.
type BufferError struct {
	Offset int64 // of the batch
	Size   int   // of the record, MaxRecord at most
}

func (e *BufferError) Error() string {
	return fmt.Sprintf("a record of the batch at offset %d has %d bytes", e.Offset, e.Size)
}

// Unpacking is what the batch's codec keeps in memory while the records are read one by one, in bytes, as far as the compressed bytes
// tell: what later bytes may refer to, and the blocks that are unpacked at once. It is about right, and 0 where nothing is compressed.
func (b *Batch) Unpacking() int64 {
	switch b.compression {
	case compress.Snappy:
		return unpackingLeast + snappyUnpacking(b.packed)
	case compress.Lz4:
		return unpackingLeast + lz4Unpacking(b.packed)
	case compress.Zstd:
		return unpackingLeast + zstdUnpacking(b.packed)
	case compress.Gzip:
		return unpackingLeast
	case compress.None:
	}
	return 0
}

// xerialHead is how the Java client frames snappy, before two version numbers and the chunks.
const xerialHead, xerialChunks = "\x82SNAPPY\x00", 16

// snappyUnpacking is the largest chunk, packed and unpacked. Without frames all is one chunk.
func snappyUnpacking(b []byte) (most int64) {
	if len(b) < xerialChunks || string(b[:len(xerialHead)]) != xerialHead {
		return snappyChunk(b)
	}
	for b = b[xerialChunks:]; len(b) >= 4; {
		size := min(int(binary.BigEndian.Uint32(b)), len(b)-4)
		most = max(most, snappyChunk(b[4:4+size]))
		b = b[4+size:]
	}
	return most
}

func snappyChunk(b []byte) int64 {
	unpacked, _ := binary.Uvarint(b)
	return int64(2*len(b)) + int64(min(unpacked, 1<<32))
}

// lz4Unpacking is two blocks of the size that the frame's head names.
func lz4Unpacking(b []byte) int64 {
	const frame, descriptor, legacyBlock = 0x184d2204, 5, 8 << 20
	if len(b) <= descriptor || binary.LittleEndian.Uint32(b) != frame {
		return 2 * legacyBlock
	}
	return 2 << (8 + 2*max(4, int64(b[descriptor]>>4&7))) // 64 KiB, 256 KiB, 1 MiB or 4 MiB
}

// zstdUnpacking is the largest window of the frames, and the blocks around it.
func zstdUnpacking(b []byte) (most int64) {
	for {
		window, rest, ok := zstdFrame(b)
		most = max(most, window)
		if !ok {
			return most + 2*min(most, zstdBlock)
		}
		b = rest
	}
}

// zstdFrame takes the first frame off (RFC 8878, section 3.1), and says how far back its bytes may refer. ok is false where nothing comes
// behind.
func zstdFrame(b []byte) (window int64, rest []byte, ok bool) {
	const frame, skippable = 0xfd2fb528, 0x184d2a50
	r := reader{b: b}
	switch magic := r.littleEndian(4); {
	case magic&^0xf == skippable:
		r.take(int(r.littleEndian(4)))
		return 0, r.b, r.err == nil && len(r.b) > 0
	case magic != frame:
		return 0, nil, false
	}
	head := byte(r.int8())
	single := head&0x20 != 0
	if !single {
		said := byte(r.int8())
		base := int64(1) << (10 + said>>3)
		window = base + base/8*int64(said&7)
	}
	_ = r.take(int([]byte{0, 1, 2, 4}[head&3])) // the dictionary's id
	size := r.littleEndian([]int{0, 2, 4, 8}[head>>6])
	if single {
		if head>>6 == 0 {
			size = r.littleEndian(1)
		}
		if head>>6 == 1 {
			size += 256
		}
		window = int64(min(size, 1<<40)) // all of it may be referred to
	}
	for last := false; !last && r.err == nil; {
		block := r.littleEndian(3)
		last = block&1 != 0
		length := int(block >> 3)
		if block>>1&3 == 1 { // one byte, which is repeated
			length = 1
		}
		r.take(length)
	}
	if head&4 != 0 {
		r.take(4) // a checksum
	}
	return window, r.b, r.err == nil && len(r.b) > 0
}

func (r *reader) littleEndian(n int) (number uint64) {
	for i, b := range r.take(n) {
		number |= uint64(b) << (8 * i)
	}
	return number
}
