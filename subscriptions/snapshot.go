package subscriptions

import (
	"bufio"
	"context"
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

	"fanout/event"
)

const (
	manyFrom = 10_000 // subscriptions from which on the file is written less often
	maxText  = 64 << 10
)

var (
	errForeign     = errors.New("was taken from another redis")
	errNotSnapshot = errors.New("is no snapshot file")
)

// snapshotFile keeps the table on disk.
type snapshotFile struct {
	path      string // empty: there is none
	named     bool   // the operator named it
	origin    string // of this process
	catalogue *event.Catalogue
	log       *zap.Logger
	intervals *intervals
	table     *table
	fresh     *freshness
	dirty     signal // asks for it to be written
}

// run writes the file soon after a change, and at the end.
func (f *snapshotFile) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			f.write()
			return
		case <-f.dirty:
		}
		wait := f.intervals.write
		if f.table.len() >= manyFrom {
			wait = f.intervals.writeMany
		}
		sleep(ctx, wait)
		if ctx.Err() == nil {
			select { // what was asked for meanwhile is written now
			case <-f.dirty:
			default:
			}
			if !f.write() {
				sleep(ctx, 10*wait) // a full disk may pass without another change
				f.dirty.ask()
			}
		}
	}
}

// write writes the file, or leaves the old one and says false. Before anything is known there is nothing to write,
// and a file of another version, which may hold what this one cannot read, stays until Redis has been read.
func (f *snapshotFile) write() bool {
	if f.path == "" || !f.fresh.isReady() || f.fresh.held().foreign {
		return true
	}
	err := f.save()
	if err != nil {
		f.log.Warn("snapshot file is not written; going on", zap.Error(fmt.Errorf("write snapshot: %w", err)))
	}
	return err == nil
}

func (f *snapshotFile) save() error {
	file, err := createBeside(f.path)
	if err != nil {
		return err
	}
	defer os.Remove(file.Name()) // fails once it is renamed
	err = f.encode(file, f.head())
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), f.path)
	}
	if err != nil {
		return err
	}
	if folder, err := os.Open(filepath.Dir(f.path)); err == nil {
		_ = folder.Sync() // the rename outlasts a power cut; not every file system can
		_ = folder.Close()
	}
	return nil
}

// createBeside makes an unfinished file, which sweep knows by its name. Its mode is 0600.
func createBeside(path string) (*os.File, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return os.CreateTemp(dir, filepath.Base(path)+".*.tmp")
}

// sweep removes what a killed process left half written.
func (f *snapshotFile) sweep() {
	if f.path == "" {
		return
	}
	left, _ := filepath.Glob(f.path + ".*.tmp") // a strange path only leaves the litter
	for _, name := range left {
		if info, err := os.Stat(name); err == nil && time.Since(info.ModTime()) > time.Minute {
			_ = os.Remove(name)
		}
	}
}

// read hands over the subscriptions in the file, account by account. It says false without a file to use.
func (f *snapshotFile) read(fill func([]*Subscription)) (held, bool) {
	if f.path == "" {
		return held{}, false
	}
	r, err := f.restore(fill)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return r, false
	case err != nil:
		f.log.Warn("snapshot file is not used", zap.Error(err))
		return r, false
	}
	if r.foreign {
		f.log.Info("snapshot file is of another version; it serves until redis has been read")
	}
	return r, true
}

func (f *snapshotFile) restore(fill func([]*Subscription)) (held, error) {
	file, err := os.Open(f.path)
	if err != nil {
		return held{}, fmt.Errorf("read snapshot: %w", err)
	}
	defer file.Close()
	failed := func(err error) (held, error) {
		return held{}, fmt.Errorf("read snapshot %s: %w", filepath.Base(f.path), err)
	}
	if err := checksum(file); err != nil {
		return failed(err)
	}
	in := bufio.NewReaderSize(file, 256<<10)
	head, err := readSnapshotHead(in, f.catalogue)
	if err != nil {
		return failed(err)
	}
	// A file that the operator named is the operator's choice, whatever address Redis has now.
	if !f.named && head.origin != f.origin {
		return failed(errForeign)
	}
	if head.origin != f.origin {
		head.position = "" // of another stream
	}
	if err := newSnapshotDecoder(in, &head).all(fill); err != nil {
		return failed(err)
	}
	f.fresh.restored(head.held)
	return head.held, nil
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
