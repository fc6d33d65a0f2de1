package wire

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
	"time"

	"github.com/segmentio/kafka-go/compress"
	"github.com/segmentio/kafka-go/protocol"
)

// Batch is a batch of records as it lies in a log, its records still packed (KIP-98, message format 2).
type Batch struct {
	Base, Last    int64 // its offsets; those at the end may be gone by compaction
	Epoch         int32 // of the leader that wrote it
	FirstTime     int64 // Unix ms
	MaxTime       int64 // Unix ms; of a topic with LogAppendTime, when the broker appended it
	ProducerID    int64
	Count         int
	LogAppendTime bool // MaxTime is every record's time, whatever its producer wrote
	Transactional bool
	Control       bool // a transaction's end rather than records

	// Wanted, where it is set, says by its key and its value which record is read whole. Of the others the value and the headers are left out.
	Wanted func(key, value []byte) bool

	// Buffer bounds the memory for one record of a compressed batch, in bytes; 0 is MaxRecord. A larger record is a *BufferError.
	Buffer int

	compression compress.Compression
	packed      []byte
}

// Record is one record of a batch. Its slices are good until the next record is read.
type Record struct {
	Offset     int64
	Time       time.Time
	Key, Value []byte // nil is null
	Headers    []protocol.Header
	Size       int // of key and value; more than they hold where the record was larger than MaxRecord
}

// MaxRecord bounds what is kept of one record, in bytes. A larger one, which only a compressed batch may hold, has its value
// cut there, and its headers are left out.
const MaxRecord = 16 << 20

// Places of a batch's fields.
const (
	batchLength    = 8
	batchEpoch     = 12
	batchMagic     = 16
	batchChecksum  = 17
	batchChecked   = 21 // where what the checksum covers begins
	batchAttribute = 21
	batchLastDelta = 23
	batchFirstTime = 27
	batchMaxTime   = 35
	batchProducer  = 43
	batchCount     = 57
	batchRecords   = 61
)

// ErrFormat says that the log holds records of message format 0 or 1, from before Kafka 0.11. They are not read.
var ErrFormat = errors.New("the log holds records of an old message format (log.message.format.version below 0.11): fanout reads format 2 only")

// errChecksum says that bytes have changed on their way.
var errChecksum = errors.New("a record batch's checksum is wrong")

//nolint:gochecknoglobals // a constant table
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// NextBatch takes the first batch off the records of an answer. ok is false where there is none, or only a part of one, as
// brokers send where an answer is full.
func NextBatch(records []byte) (batch Batch, rest []byte, ok bool, err error) {
	if len(records) <= batchMagic {
		return Batch{}, nil, false, nil
	}
	size := int(int32(binary.BigEndian.Uint32(records[batchLength:]))) + batchEpoch
	if magic := records[batchMagic]; magic != 2 {
		return Batch{}, nil, false, fmt.Errorf("%w (found %d)", ErrFormat, magic)
	}
	if size < batchRecords {
		return Batch{}, nil, false, errShort
	}
	if size > len(records) {
		return Batch{}, nil, false, nil
	}
	b := records[:size:size]
	if crc32.Checksum(b[batchChecked:], castagnoli) != binary.BigEndian.Uint32(b[batchChecksum:]) {
		return Batch{}, nil, false, errChecksum
	}
	attributes := binary.BigEndian.Uint16(b[batchAttribute:])
	base, lastDelta := int64(binary.BigEndian.Uint64(b)), int32(binary.BigEndian.Uint32(b[batchLastDelta:]))
	count := int32(binary.BigEndian.Uint32(b[batchCount:]))
	if count < 0 || lastDelta < 0 {
		return Batch{}, nil, false, errShort
	}
	return Batch{
		Base: base, Last: base + int64(lastDelta),
		Epoch:     int32(binary.BigEndian.Uint32(b[batchEpoch:])),
		FirstTime: int64(binary.BigEndian.Uint64(b[batchFirstTime:])), MaxTime: int64(binary.BigEndian.Uint64(b[batchMaxTime:])),
		ProducerID: int64(binary.BigEndian.Uint64(b[batchProducer:])), Count: int(count),
		compression: compress.Compression(attributes & 7), LogAppendTime: attributes&8 != 0, Transactional: attributes&16 != 0, Control: attributes&32 != 0,
		packed: b[batchRecords:],
	}, records[size:], true, nil
}

// Compressed says whether reading the records takes memory for unpacking them.
func (b *Batch) Compressed() bool { return b.compression != compress.None }

// Each calls f with each record in turn, until it returns false or an error is met. Records are unpacked one by one: a batch
// never lies in memory as a whole, however large it is when unpacked. f must not keep a record's slices.
func (b *Batch) Each(f func(*Record) bool) error {
	if !b.Compressed() {
		return b.plain(f)
	}
	codec := b.compression.Codec()
	if codec == nil {
		return fmt.Errorf("the batch at offset %d is compressed by an unknown codec (%d)", b.Base, b.compression)
	}
	if size := b.Unpacking(); size > MaxUnpacking {
		return &UnpackingError{b.Base, size}
	}
	unpacking := codec.NewReader(&sliceReader{b.packed})
	defer unpacking.Close()
	u, ok := unpackers.Get().(*unpacker)
	if !ok {
		u = &unpacker{from: bufio.NewReaderSize(nil, 16<<10)}
	}
	defer u.free()
	u.from.Reset(unpacking)
	return b.unpacked(u, f)
}

// unpacker is the memory for unpacking a batch's records one by one.
type unpacker struct {
	from   *bufio.Reader
	record []byte // the one that is read
}

// keptRecord bounds what an unpacker keeps for the records of the next batch: most are smaller.
const keptRecord = 64 << 10

//nolint:gochecknoglobals // many batches have a record or two: what each takes would be most of what reading them costs
var unpackers sync.Pool // of *unpacker

func (u *unpacker) free() {
	u.from.Reset(nil)
	if cap(u.record) > keptRecord {
		u.record = nil
	}
	unpackers.Put(u)
}

// sliceReader is a bytes.Reader that shows nothing but Read: some codecs would else read it in ways that are slower.
type sliceReader struct{ b []byte }

// Read implements io.Reader.
func (r *sliceReader) Read(to []byte) (int, error) {
	if len(r.b) == 0 {
		return 0, io.EOF
	}
	n := copy(to, r.b)
	r.b = r.b[n:]
	return n, nil
}

// plain reads records that lie in the answer as they are.
func (b *Batch) plain(f func(*Record) bool) error {
	r := reader{b: b.packed}
	var record Record
	for range b.Count {
		size := r.varint()
		if size < 0 || size > int64(len(r.b)) {
			return fmt.Errorf("a record of the batch at offset %d: %w", b.Base, errShort)
		}
		if err := b.parse(r.take(int(size)), &record); err != nil {
			return err
		}
		if !f(&record) {
			return nil
		}
	}
	return r.err
}

// unpacked reads records out of a stream.
func (b *Batch) unpacked(u *unpacker, f func(*Record) bool) error {
	var record Record
	from, buffer := u.from, u.record
	defer func() { u.record = buffer }()
	for range b.Count {
		size, err := binary.ReadVarint(from)
		if err == nil && size < 0 {
			err = errShort
		}
		if err != nil {
			return fmt.Errorf("a record of the batch at offset %d: %w", b.Base, unexpectedEOF(err))
		}
		kept := min(size, MaxRecord)
		if b.Buffer > 0 && kept > int64(b.Buffer) {
			return &BufferError{b.Base, int(kept)}
		}
		if int64(cap(buffer)) < kept {
			buffer = make([]byte, kept, max(kept, min(kept+kept/4, int64(b.Buffer))))
		}
		buffer = buffer[:kept]
		if _, err := io.ReadFull(from, buffer); err != nil {
			return fmt.Errorf("a record of the batch at offset %d: %w", b.Base, unexpectedEOF(err))
		}
		if kept == size {
			err = b.parse(buffer, &record)
		} else {
			if _, err := io.CopyN(io.Discard, from, size-kept); err != nil {
				return fmt.Errorf("a record of the batch at offset %d: %w", b.Base, unexpectedEOF(err))
			}
			b.parseCut(buffer, &record, int(size))
		}
		if err != nil {
			return err
		}
		if !f(&record) {
			return nil
		}
	}
	return nil
}

// parse takes a record apart.
func (b *Batch) parse(bytes []byte, record *Record) error {
	r := reader{b: bytes}
	b.head(&r, record)
	record.Key = takeOrNull(&r, r.varint())
	record.Value, record.Headers = takeOrNull(&r, r.varint()), nil
	record.Size = len(record.Key) + len(record.Value)
	if b.Wanted != nil && r.err == nil && !b.Wanted(record.Key, record.Value) {
		record.Value = nil
		return nil
	}
	n := r.varint()
	if n < 0 || n > int64(len(r.b)/2) {
		r.fail()
		n = 0
	}
	if n > 0 {
		record.Headers = make([]protocol.Header, n)
		for i := range record.Headers {
			record.Headers[i] = protocol.Header{Key: string(takeOrNull(&r, r.varint())), Value: takeOrNull(&r, r.varint())}
		}
	}
	if r.err != nil {
		return fmt.Errorf("the record at offset %d: %w", record.Offset, r.err)
	}
	return nil
}

// parseCut takes apart what is kept of a record of the size given.
func (b *Batch) parseCut(bytes []byte, record *Record, size int) {
	r := reader{b: bytes}
	b.head(&r, record)
	record.Headers = nil
	n := r.varint()
	record.Key = takeOrNull(&r, min(n, int64(len(r.b))))
	record.Value = nil
	if length := r.varint(); r.err == nil && length >= 0 {
		record.Value = r.b[:min(int(length), len(r.b))]
	}
	record.Size = size
}

func (b *Batch) head(r *reader, record *Record) {
	_ = r.int8()
	stamp := b.FirstTime + r.varint()
	if b.LogAppendTime {
		stamp = b.MaxTime
	}
	record.Time = time.UnixMilli(stamp)
	record.Offset = b.Base + r.varint()
}

func takeOrNull(r *reader, n int64) []byte {
	if n < 0 {
		return nil
	}
	if n > int64(len(r.b)) {
		r.fail()
		return nil
	}
	return r.take(int(n))
}
