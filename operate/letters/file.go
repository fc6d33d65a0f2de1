package letters

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// magic begins an index file, and says how it is written. Whoever changes that changes it.
const magic = "fanout dead letters 1\n"

// errForeign says that a file is about another topic, or none of ours.
var errForeign = errors.New("it is about another topic")

// errDamaged says that a file is not whole.
var errDamaged = errors.New("it is damaged")

// castagnoli is CRC-32C, which processors have an instruction for.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// save writes the index of a topic to a file, which is whole or not there at all.
func (x *Index) save(path, topicID string) (size int64, err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return 0, fmt.Errorf("write index: %w", err)
	}
	file, err := os.CreateTemp(dir, filepath.Base(path)+".*.tmp") // mode 0600
	if err != nil {
		return 0, fmt.Errorf("write index: %w", err)
	}
	defer os.Remove(file.Name()) // fails once it is renamed
	buffered := bufio.NewWriterSize(file, 64<<10)
	err = x.encode(buffered, topicID)
	err = errors.Join(err, buffered.Flush())
	if info, statErr := file.Stat(); statErr == nil {
		size = info.Size()
	}
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return 0, fmt.Errorf("write index: %w", err)
	}
	if folder, err := os.Open(dir); err == nil {
		_ = folder.Sync() // the rename outlasts a power cut; not every file system can
		_ = folder.Close()
	}
	return size, nil
}

// sweep removes what a killed process left half written.
func sweep(path string) {
	left, _ := filepath.Glob(path + ".*.tmp") // a strange path only leaves the litter
	for _, name := range left {
		if info, err := os.Stat(name); err == nil && time.Since(info.ModTime()) > time.Minute {
			_ = os.Remove(name)
		}
	}
}

// load takes what a file says, if it is about that topic. After an error the index knows nothing.
func (x *Index) load(path, topicID string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	x.mu.Lock()
	defer x.mu.Unlock()
	x.clear()
	if err := x.decode(bufio.NewReaderSize(file, 64<<10), topicID); err != nil {
		x.clear()
		return err
	}
	return nil
}

// encode writes the index. Its builder alone changes an index, and writes it, so that nobody waits for that.
func (x *Index) encode(w io.Writer, topicID string) error {
	x.mu.RLock()
	defer x.mu.RUnlock()
	out := &encoder{w: w}
	out.write([]byte(magic))
	out.text(topicID)
	out.bool(x.left)
	out.offsets(x.reached)
	out.offsets(x.starts)
	out.number(uint64(len(x.accounts)))
	for _, a := range x.accounts {
		out.account(a)
	}
	sum := out.sum
	out.write(binary.LittleEndian.AppendUint32(nil, sum))
	return out.err
}

// encoder writes numbers and texts. The first error stays.
type encoder struct {
	w   io.Writer
	sum uint32
	err error
	buf [binary.MaxVarintLen64]byte
}

func (e *encoder) write(b []byte) {
	if e.err == nil {
		e.sum = crc32.Update(e.sum, castagnoli(), b)
		_, e.err = e.w.Write(b)
	}
}

func (e *encoder) number(n uint64) { e.write(binary.AppendUvarint(e.buf[:0], n)) }

func (e *encoder) bool(b bool) {
	n := uint64(0)
	if b {
		n = 1
	}
	e.number(n)
}

func (e *encoder) text(s string) {
	e.number(uint64(len(s)))
	e.write([]byte(s))
}

func (e *encoder) offsets(m map[int]int64) {
	e.number(uint64(len(m)))
	for id, at := range m {
		e.number(uint64(id))
		e.number(uint64(at))
	}
}

func (e *encoder) account(a *account) {
	e.text(a.name)
	e.number(uint64(a.shift))
	e.number(uint64(len(a.groups)))
	for _, g := range a.groups {
		e.text(g.subscription)
		e.text(g.reason)
	}
	e.number(uint64(len(a.places)))
	for _, p := range a.places {
		e.number(p.at)
		e.number(p.where)
	}
	e.number(uint64(len(a.older)))
	for _, o := range a.older {
		e.number(o.piece)
		e.number(uint64(o.count))
		e.number(uint64(o.group))
	}
}

// decode reads what encode wrote. The caller holds mu.
func (x *Index) decode(r *bufio.Reader, topicID string) error {
	in := &decoder{r: r}
	head := in.read(len(magic))
	of := in.text(maxName)
	switch {
	case in.err != nil, string(head) != magic:
		return errDamaged
	case of != topicID:
		return errForeign
	}
	x.left = in.number(1) == 1
	x.reached, x.starts = in.offsets(), in.offsets()
	for range in.count(1 << 32) {
		a := in.account(x.reason)
		if in.err != nil {
			return errDamaged
		}
		if x.left || x.used+a.size() > x.memory { // it was given more when it wrote that
			x.left = true
			continue
		}
		x.accounts[a.name] = a
		x.used += a.size()
	}
	sum := in.sum
	if last := in.read(4); in.err != nil || binary.LittleEndian.Uint32(last) != sum {
		return errDamaged
	}
	if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
		return errDamaged
	}
	return nil
}

// decoder reads numbers and texts, none larger than the caller says. The first error stays.
type decoder struct {
	r   *bufio.Reader
	sum uint32
	err error
}

// ReadByte reads one byte of a number.
func (d *decoder) ReadByte() (byte, error) {
	b, err := d.r.ReadByte()
	if err == nil {
		d.sum = crc32.Update(d.sum, castagnoli(), []byte{b})
	}
	return b, err
}

func (d *decoder) read(n int) []byte {
	b := make([]byte, n)
	if d.err == nil {
		_, d.err = io.ReadFull(d.r, b)
		d.sum = crc32.Update(d.sum, castagnoli(), b)
	}
	return b
}

func (d *decoder) number(most uint64) uint64 {
	if d.err != nil {
		return 0
	}
	n, err := binary.ReadUvarint(d)
	if err != nil || n > most {
		d.err = errDamaged
		return 0
	}
	return n
}

func (d *decoder) count(most int) int { return int(d.number(uint64(most))) }

func (d *decoder) text(most int) string { return string(d.read(d.count(most))) }

func (d *decoder) offsets() map[int]int64 {
	m := make(map[int]int64)
	for range d.count(maxPartition + 1) {
		id := d.count(maxPartition)
		m[id] = int64(d.number(maxOffset))
		if d.err != nil {
			break
		}
	}
	return m
}

func (d *decoder) account(reason func(string) string) *account {
	a := &account{name: d.text(maxName), shift: uint8(d.count(maxShift))}
	a.groups = make([]group, d.count(maxGroups))
	for i := range a.groups {
		a.groups[i] = group{d.text(maxSubs), reason(d.text(maxSubs))}
	}
	a.places = make([]place, d.count(MaxPlaces))
	for i := range a.places {
		a.places[i] = place{d.number(1<<64 - 1), d.number(1<<64 - 1)}
		if a.places[i].group() >= len(a.groups) {
			d.err = errDamaged
		}
	}
	a.older = make([]older, d.count(maxOlder+maxGroups<<8))
	for i := range a.older {
		a.older[i] = older{d.number(1<<64 - 1), uint32(d.number(1<<32 - 1)), uint8(d.number(1<<8 - 1))}
		if int(a.older[i].group) >= len(a.groups) {
			d.err = errDamaged
		}
	}
	if !slices.IsSortedFunc(a.places, byOffset) || !slices.IsSortedFunc(a.older, compareOlder) {
		d.err = errDamaged
	}
	return a
}
