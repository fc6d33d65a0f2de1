package subscriptions

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"fanout/event"
)

// The snapshot file: a line that says what it is; the fingerprint of what wrote it; the event names, in the order of the
// bits below; the Redis it was taken from; the position in the change stream; the time of the last contact; then the
// subscriptions, account by account, and a CRC-32C over all that. Format 1 had neither the fingerprint nor the names, and up
// to format 2 a subscription had no notifications.
const (
	snapshotMagic  = "fanout subscriptions 3"
	snapshotMagic2 = "fanout subscriptions 2"
	snapshotMagic1 = "fanout subscriptions 1"
)

// snapshotHead stands before the subscriptions.
type snapshotHead struct {
	held
	fingerprint string
	names       []string // of the events: name i is bit i of a subscription
	origin      string
	format1     bool
	pieces      int              // of a subscription's text
	catalogue   *event.Catalogue // of this process
}

// head describes the table as it is now.
func (f *snapshotFile) head() snapshotHead {
	return snapshotHead{
		held:        f.fresh.held(), // the position before the table: a change in between is applied twice rather than never
		fingerprint: fingerprint(f.catalogue), names: f.catalogue.Texts(), catalogue: f.catalogue, origin: f.origin,
	}
}

// fingerprint tells whether a file was written by this build and with these event names, keys and rules. Another one may
// have understood the same JSON in another way.
func fingerprint(c *event.Catalogue) string {
	sum := sha256.New()
	if info, ok := debug.ReadBuildInfo(); ok {
		fmt.Fprintln(sum, info)
	}
	for _, name := range c.Texts() {
		fmt.Fprintln(sum, name)
	}
	for _, k := range keys {
		fmt.Fprintln(sum, k.name, k.since)
	}
	fmt.Fprintln(sum, refusedHeaders)
	return hex.EncodeToString(sum.Sum(nil)[:8])
}

func (h *snapshotHead) write(w io.Writer) {
	fmt.Fprintf(w, "%s\n%s\n%s\n%s\n%s\n%d\n", snapshotMagic, h.fingerprint, strings.Join(h.names, " "), h.origin, h.position, h.contact.UnixMilli())
}

func readSnapshotHead(in *bufio.Reader, c *event.Catalogue) (snapshotHead, error) {
	line := func() string {
		text, _ := in.ReadString('\n') // what is missing is missing at the next line as well, and at the first subscription
		return strings.TrimSuffix(text, "\n")
	}
	h := snapshotHead{catalogue: c, pieces: pieces}
	switch line() {
	case snapshotMagic:
		h.fingerprint, h.names = line(), strings.Fields(line())
	case snapshotMagic2:
		h.fingerprint, h.names, h.pieces = line(), strings.Fields(line()), pieceFilter
	case snapshotMagic1:
		h.format1, h.pieces = true, pieceFilter
	default:
		return h, errNotSnapshot
	}
	h.origin, h.position = line(), line()
	if ms, err := strconv.ParseInt(line(), 10, 64); err == nil && ms > 0 {
		h.contact = time.UnixMilli(ms)
	}
	h.source, h.foreign = "file", h.fingerprint != fingerprint(c)
	return h, nil
}

func (f *snapshotFile) encode(file io.Writer, head snapshotHead) error {
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	w := bufio.NewWriterSize(io.MultiWriter(file, sum), 256<<10)
	head.write(w)
	bit := make(map[event.Name]int, len(head.names))
	for i, text := range head.names {
		if name, ok := head.catalogue.Parse(text); ok {
			bit[name] = i
		}
	}
	var buf []byte
	for s := range f.table.all() {
		buf = s.encode(buf[:0], head.catalogue, bit)
		if _, err := w.Write(buf); err != nil {
			return err
		}
	}
	_ = w.WriteByte(0) // no subscription has no text
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := file.Write(sum.Sum(nil))
	return err
}

func (s *Subscription) encode(buf []byte, c *event.Catalogue, bit map[event.Name]int) []byte {
	buf = binary.AppendUvarint(buf, uint64(s.size()))
	buf = append(append(buf, s.head()...), s.piece(pieceFilter)...)
	for _, n := range s.length {
		buf = binary.AppendUvarint(buf, uint64(n))
	}
	selected := uint64(0)
	for _, name := range s.events.Names(c) {
		if i, ok := bit[name]; ok {
			selected |= 1 << i
		}
	}
	buf = binary.LittleEndian.AppendUint64(buf, s.hash)
	buf = binary.LittleEndian.AppendUint32(buf, math.Float32bits(s.perSec))
	buf = binary.LittleEndian.AppendUint32(buf, uint32(s.flight)) // not negative
	flags := s.flags
	if s.batchMax > 0 {
		flags |= flagBatch
	}
	buf = binary.AppendUvarint(append(buf, flags), selected)
	if s.batchMax > 0 {
		buf = binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint16(buf, s.batchMax), s.batchWait)
	}
	return buf
}

// snapshotDecoder reads the subscriptions of a file.
type snapshotDecoder struct {
	in      *bufio.Reader
	names   []event.Name // of each bit; zero: this process does not know it
	format1 bool
	pieces  int
	foreign bool
}

func newSnapshotDecoder(in *bufio.Reader, head *snapshotHead) *snapshotDecoder {
	d := &snapshotDecoder{in: in, format1: head.format1, pieces: head.pieces, foreign: head.foreign}
	for _, text := range head.names {
		name, _ := head.catalogue.Parse(text)
		d.names = append(d.names, name)
	}
	return d
}

// all hands over the subscriptions, account by account. The list is good until fill returns.
func (d *snapshotDecoder) all(fill func([]*Subscription)) error {
	var subs []*Subscription
	for {
		s, err := d.next()
		if err != nil {
			return err
		}
		if len(subs) > 0 && (s == nil || s.Account() != subs[0].Account()) {
			fill(subs)
			subs = subs[:0]
		}
		if s == nil {
			return nil
		}
		subs = append(subs, s)
	}
}

// next reads a subscription; nil at the end. The checksum was right, so the lengths are ours; they are checked all the
// same, for the file lies where others may write.
func (d *snapshotDecoder) next() (*Subscription, error) {
	size, err := binary.ReadUvarint(d.in)
	if err != nil || size == 0 {
		return nil, err
	}
	if size > maxText {
		return nil, errors.New("a subscription is too long")
	}
	text := make([]byte, size)
	if _, err := io.ReadFull(d.in, text); err != nil {
		return nil, err
	}
	s := &Subscription{serial: serials.Add(1), text: string(text)}
	total := uint64(0)
	for i := range d.pieces {
		n, err := binary.ReadUvarint(d.in)
		if err != nil {
			return nil, err
		}
		s.length[i] = uint16(n) // the sum is checked
		total += n
	}
	if total != size {
		return nil, errors.New("a subscription's lengths are wrong")
	}
	if err := d.rest(s); err != nil {
		return nil, err
	}
	if d.foreign {
		s.hash = 0 // no JSON is the same as this one: it is read again
	}
	return s, nil
}

// rest reads what follows the text.
func (d *snapshotDecoder) rest(s *Subscription) error {
	var fixed [16]byte
	if _, err := io.ReadFull(d.in, fixed[:]); err != nil {
		return err
	}
	s.hash = binary.LittleEndian.Uint64(fixed[:])
	s.perSec = math.Float32frombits(binary.LittleEndian.Uint32(fixed[8:]))
	s.flight = int32(binary.LittleEndian.Uint32(fixed[12:])) // as it was written
	if d.format1 {
		return d.rest1(s)
	}
	flags, err := d.in.ReadByte()
	if err != nil {
		return err
	}
	selected, err := binary.ReadUvarint(d.in)
	if err != nil {
		return err
	}
	s.flags = flags &^ flagBatch
	if flags&flagBatch != 0 {
		if _, err := io.ReadFull(d.in, fixed[:4]); err != nil {
			return err
		}
		s.batchMax, s.batchWait = binary.LittleEndian.Uint16(fixed[:]), binary.LittleEndian.Uint16(fixed[2:])
	}
	if s.SelectsEvery() {
		s.events = event.AllNames
		return nil
	}
	for i := 0; selected != 0; i++ {
		if selected&1 != 0 && i < len(d.names) {
			s.events = s.events.With(d.names[i])
		}
		selected >>= 1
	}
	return nil
}

// rest1 reads the events and flags of format 1: bit i is event name i, of eight, and nothing tells "*" from all of them.
func (d *snapshotDecoder) rest1(s *Subscription) error {
	var fixed [3]byte
	if _, err := io.ReadFull(d.in, fixed[:]); err != nil {
		return err
	}
	const eight = 0x1fe
	selected := binary.LittleEndian.Uint16(fixed[:])
	s.flags = fixed[2]
	if selected == eight {
		s.flags, s.events = s.flags|flagEvery, event.AllNames
		return nil
	}
	s.events = event.Set(selected&eight) >> 1
	return nil
}
