package subscriptions

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.uber.org/zap"
)

const (
	manyFrom = 10_000 // subscriptions from which on the file is written less often
	maxText  = 64 << 10
)

var (
	errForeign     = errors.New("was taken from another redis")
	errNotSnapshot = errors.New("is no snapshot file")
)

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
		wait := d.intervals.write
		if d.Len() >= manyFrom {
			wait = d.intervals.writeMany
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

// writeSnapshot writes the file, or leaves the old one and says false. Before anything is known there is nothing to write,
// and a file of another version, which may hold what this one cannot read, stays until Redis has been read.
func (d *Directory) writeSnapshot() bool {
	if d.snapshot == "" || !d.Loaded() || d.fresh.held().foreign {
		return true
	}
	err := d.saveSnapshot()
	if err != nil {
		d.log.Warn("snapshot file is not written; going on", zap.Error(err))
	}
	return err == nil
}

// TrySnapshot says why the snapshot file could not be written: it makes a file beside it, and removes that again. Without a
// snapshot file there is nothing to say.
func (c *Config) TrySnapshot() (path string, err error) {
	path, err = c.snapshotPath()
	if err != nil || path == "" {
		return path, err
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return path, err
	}
	file, err := os.CreateTemp(dir, filepath.Base(path)+".*.tmp")
	if err != nil {
		return path, err
	}
	return path, errors.Join(file.Close(), os.Remove(file.Name()))
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
	err = d.encode(file, d.snapshotHead())
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

// restored is what the snapshot file says beside the table.
type restored struct {
	position string    // in the change stream; empty where that is another one's
	foreign  bool      // of another catalogue or version: only a full load tells what is in force
	contact  time.Time // when the table last agreed with Redis; zero: not known
}

// readSnapshot fills the table from the file. It says false without a file to use.
func (d *Directory) readSnapshot() (restored, bool) {
	if d.snapshot == "" {
		return restored{}, false
	}
	r, err := d.restore()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return r, false
	case err != nil:
		d.log.Warn("snapshot file is not used", zap.Error(err))
		return r, false
	}
	if r.foreign {
		d.log.Info("snapshot file is of another version; it serves until redis has been read")
	}
	return r, true
}

func (d *Directory) restore() (restored, error) {
	file, err := os.Open(d.snapshot)
	if err != nil {
		return restored{}, fmt.Errorf("read snapshot: %w", err)
	}
	defer file.Close()
	failed := func(err error) (restored, error) {
		return restored{}, fmt.Errorf("read snapshot %s: %w", filepath.Base(d.snapshot), err)
	}
	if err := checksum(file); err != nil {
		return failed(err)
	}
	in := bufio.NewReaderSize(file, 256<<10)
	head, err := readSnapshotHead(in, d.cfg.Catalogue)
	if err != nil {
		return failed(err)
	}
	// A file that the operator named is the operator's choice, whatever address Redis has now.
	if d.cfg.SnapshotFile == "" && head.origin != d.cfg.origin() {
		return failed(errForeign)
	}
	r := restored{position: head.position, foreign: head.foreign()}
	if head.contact > 0 {
		r.contact = time.UnixMilli(head.contact)
	}
	if head.origin != d.cfg.origin() {
		r.position = "" // of another stream
	}
	if err := d.decodeAll(in, &head); err != nil {
		return failed(err)
	}
	d.fresh.restored(r)
	return r, nil
}

// checksum reads the whole file before anything of it is believed, and leaves it at its beginning.
func checksum(file *os.File) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if info.Size() < crc32.Size {
		return errNotSnapshot
	}
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
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
