package main

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"fanout/cmd/internal/lab"
)

// diskFull lets instances keep their snapshot on a disk that is full. Where this process may not mount one, the path
// cannot be written for another reason.
func diskFull(ctx context.Context, w *world) error {
	dir := filepath.Join(w.lab.Dir(), "disk")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	file := filepath.Join(dir, "subscriptions")
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err == nil {
		w.closers = append(w.closers, func() { _ = syscall.Unmount(dir, 0) })
		w.fill(filepath.Join(dir, "full"))
		w.notef("a full tmpfs")
	} else {
		if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
			return err
		}
		file = filepath.Join(dir, "file", "subscriptions")
		w.notef("an impossible path, since a disk cannot be mounted: %v", err)
	}
	for range 2 {
		if _, err := w.add(ctx, func(c lab.Config) { c.Set("redis.snapshot_file", file) }); err != nil {
			return err
		}
	}
	for range 5 { // changes that should be written down
		if err := w.subscribe(ctx); err != nil {
			return err
		}
		if err := pause(ctx, 2*time.Second); err != nil {
			return err
		}
	}
	if err := w.redis.Pause(); err != nil {
		return err
	}
	w.faultEnded()
	if err := pause(ctx, 4*time.Second); err != nil {
		return err
	}
	if err := w.redis.Resume(); err != nil {
		return err
	}
	if err := pause(ctx, 2*time.Second); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() != "full" && e.Name() != "file" {
			w.problems.addf("%s is left on the full disk", e.Name())
		}
	}
	return nil
}

// fill writes until there is no room.
func (w *world) fill(path string) {
	f, err := os.Create(path)
	if err != nil {
		w.problems.addf("fill the disk: %v", err)
		return
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
}
