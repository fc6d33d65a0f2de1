package subscriptions

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"fanout/event"
)

// The snapshot file: a line that says what it is, the Redis it was taken from, the position in the change stream, the
// time of the last contact, then the subscriptions, account by account, and a CRC-32C over all that.
const (
	snapshotMagic = "fanout subscriptions 1\n"
	manyFrom      = 10_000 // subscriptions from which on the file is written less often
	maxText       = 64 << 10
)

var errForeign = errors.New("was taken from another redis")

// origin names the Redis without naming it: an instance must not begin with another system's subscriptions because
// both left the snapshot file at its default.
func (c *Config) origin() string {
	t, err := c.target()
	if err != nil {
		return ""
	}
	slices.Sort(t.addrs)
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %q %d %s", t.kind, t.addrs, t.db, t.master))
	return hex.EncodeToString(sum[:8])
}

func (d *Directory) askWrite() {
	select {
	case d.dirty <- struct{}{}:
	default:
	}
}

// writeLoop writes the snapshot file soon after a change, and at the end.
func (d *Directory) writeLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			d.writeSnapshot()
			return
		case <-d.dirty:
		}
		wait := d.pace.write
		if d.Len() >= manyFrom {
			wait = d.pace.writeMany
		}
		sleep(ctx, wait)
		if ctx.Err() == nil {
			drain(d.dirty)
			if !d.writeSnapshot() {
				sleep(ctx, 10*wait) // a full disk may pass without another change
				d.askWrite()
			}
		}
	}
}

func drain(ch chan struct{}) {
	select {
	case <-ch:
	default:
	}
}

// writeSnapshot writes the file, or leaves the old one and says false. Before anything is known there is nothing to write.
func (d *Directory) writeSnapshot() bool {
	if d.snapshot == "" || !d.Loaded() {
		return true
	}
	err := d.saveSnapshot()
	if err != nil {
		d.log.Warn("snapshot file is not written; going on", zap.Error(err))
	}
	return err == nil
}

func (d *Directory) saveSnapshot() error {
	dir := filepath.Dir(d.snapshot)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	file, err := os.CreateTemp(dir, filepath.Base(d.snapshot)+".*.tmp") // mode 0600
	if err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	defer os.Remove(file.Name()) // fails once it is renamed
	err = d.encode(file)
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), d.snapshot)
	}
	if err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	if folder, err := os.Open(dir); err == nil {
		_ = folder.Sync() // the rename outlasts a power cut; not every file system can
		_ = folder.Close()
	}
	return nil
}

// sweep removes what a killed process left half written.
func (d *Directory) sweep() {
	if d.snapshot == "" {
		return
	}
	left, _ := filepath.Glob(d.snapshot + ".*.tmp") // a strange path only leaves the litter
	for _, name := range left {
		if info, err := os.Stat(name); err == nil && time.Since(info.ModTime()) > time.Minute {
			_ = os.Remove(name)
		}
	}
}

func (d *Directory) encode(file io.Writer) error {
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	w := bufio.NewWriterSize(io.MultiWriter(file, sum), 256<<10)
	d.state.mu.Lock()
	// The position before the table: a change in between is applied twice rather than never.
	position, contact := d.state.position, d.state.contact
	d.state.mu.Unlock()
	fmt.Fprintf(w, "%s%s\n%s\n%d\n", snapshotMagic, d.cfg.origin(), position, contact.UnixMilli())
	var buf []byte
	for s := range d.All() {
		buf = s.encode(buf[:0])
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

func (s *Subscription) encode(buf []byte) []byte {
	buf = binary.AppendUvarint(buf, uint64(len(s.text)))
	buf = append(buf, s.text...)
	for _, n := range s.length {
		buf = binary.AppendUvarint(buf, uint64(n))
	}
	buf = binary.LittleEndian.AppendUint64(buf, s.hash)
	buf = binary.LittleEndian.AppendUint32(buf, math.Float32bits(s.perSec))
	buf = binary.LittleEndian.AppendUint32(buf, uint32(s.flight)) // not negative
	buf = binary.LittleEndian.AppendUint16(buf, uint16(s.events))
	return append(buf, s.flags)
}

// readSnapshot fills the table from the file, and returns the position in the change stream. It says false where there
// is no file to use.
func (d *Directory) readSnapshot() (position string, ok bool) {
	if d.snapshot == "" {
		return "", false
	}
	position, err := d.restore()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", false
	case err != nil:
		d.log.Warn("snapshot file is not used", zap.Error(err))
		return "", false
	}
	return position, true
}

func (d *Directory) restore() (string, error) {
	file, err := os.Open(d.snapshot)
	if err != nil {
		return "", fmt.Errorf("read snapshot: %w", err)
	}
	defer file.Close()
	if err := checksum(file); err != nil {
		return "", fmt.Errorf("read snapshot %s: %w", filepath.Base(d.snapshot), err)
	}
	r := bufio.NewReaderSize(file, 256<<10)
	_, _ = r.Discard(len(snapshotMagic)) // checksum has seen it
	var head [3]string
	for i := range head {
		line, _ := r.ReadString('\n')
		head[i] = strings.TrimSuffix(line, "\n")
	}
	// A file that the operator named is the operator's choice, whatever address Redis has now.
	if d.cfg.SnapshotFile == "" && head[0] != d.cfg.origin() {
		return "", fmt.Errorf("read snapshot %s: %w", filepath.Base(d.snapshot), errForeign)
	}
	position := head[1]
	if head[0] != d.cfg.origin() {
		position = "" // of another stream
	}
	if err := d.decodeAll(r); err != nil {
		return "", fmt.Errorf("read snapshot %s: %w", filepath.Base(d.snapshot), err)
	}
	d.state.mu.Lock()
	defer d.state.mu.Unlock()
	d.state.source, d.state.position = "file", position
	if ms := millis(head[2]); ms > 0 {
		d.state.contact = time.UnixMilli(ms)
	}
	return position, nil
}

// checksum reads the whole file before anything of it is believed, and leaves it at its beginning.
func checksum(file *os.File) error {
	magic := make([]byte, len(snapshotMagic))
	if _, err := io.ReadFull(file, magic); err != nil || string(magic) != snapshotMagic {
		return errors.New("is no snapshot of this version")
	}
	info, err := file.Stat()
	if err != nil {
		return err
	}
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	_, _ = file.Seek(0, io.SeekStart)
	if _, err := io.CopyN(sum, file, info.Size()-crc32.Size); err != nil {
		return err
	}
	want := make([]byte, crc32.Size)
	if _, err := io.ReadFull(file, want); err != nil || !slices.Equal(want, sum.Sum(nil)) {
		return errors.New("its checksum is wrong")
	}
	_, err = file.Seek(0, io.SeekStart)
	return err
}

// decodeAll fills the table. Subscriptions of one account stand together.
func (d *Directory) decodeAll(r *bufio.Reader) error {
	d.writing.mu.Lock()
	defer d.writing.mu.Unlock()
	var subs []*Subscription
	publish := func() {
		if len(subs) == 0 {
			return
		}
		d.table.replace(subs[0].Account(), subs)
		for i, n := range d.tally(subs[0].Account()) {
			d.counts[i].Add(n)
		}
		subs = subs[:0]
	}
	for {
		s, err := decodeOne(r)
		if err != nil {
			return err
		}
		if len(subs) > 0 && (s == nil || s.Account() != subs[0].Account()) {
			publish()
		}
		if s == nil {
			return nil
		}
		subs = append(subs, s)
	}
}

// decodeOne reads a subscription; nil at the end. The checksum was right, so the lengths are ours; they are checked
// all the same, for the file lies where others may write.
func decodeOne(r *bufio.Reader) (*Subscription, error) {
	size, err := binary.ReadUvarint(r)
	if err != nil || size == 0 {
		return nil, err
	}
	if size > maxText {
		return nil, errors.New("a subscription is too long")
	}
	text := make([]byte, size)
	if _, err := io.ReadFull(r, text); err != nil {
		return nil, err
	}
	s := &Subscription{serial: serials.Add(1), text: string(text)}
	total := uint64(0)
	for i := range s.length {
		n, err := binary.ReadUvarint(r)
		if err != nil {
			return nil, err
		}
		s.length[i] = uint16(n) // the sum is checked
		total += n
	}
	if total != size {
		return nil, errors.New("a subscription's lengths are wrong")
	}
	var fixed [19]byte
	if _, err := io.ReadFull(r, fixed[:]); err != nil {
		return nil, err
	}
	s.hash = binary.LittleEndian.Uint64(fixed[:])
	s.perSec = math.Float32frombits(binary.LittleEndian.Uint32(fixed[8:]))
	s.flight = int32(binary.LittleEndian.Uint32(fixed[12:])) // as it was written
	s.events = event.Set(binary.LittleEndian.Uint16(fixed[16:]))
	s.flags = fixed[18]
	return s, nil
}
