package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Lab owns one temporary folder and what was started in it. Its methods are safe for concurrent use.
type Lab struct {
	dir string

	mu      sync.Mutex // guards closers
	closers []func()
}

// New makes an empty lab. The caller must Close it.
func New() (*Lab, error) {
	dir, err := os.MkdirTemp("", "fanout-lab-")
	if err != nil {
		return nil, err
	}
	if err := raiseFiles(); err != nil {
		return nil, errors.Join(err, os.Remove(dir))
	}
	return &Lab{dir: dir}, nil
}

// ForTest is New for a test: the lab is closed when the test ends, and the tails of the logs are shown if it failed.
func ForTest(tb testing.TB) *Lab {
	tb.Helper()
	l, err := New()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if tb.Failed() {
			l.tails(tb.Logf)
		}
		l.Close()
	})
	return l
}

// Dir is the lab's folder: an absolute path, removed by Close.
func (l *Lab) Dir() string { return l.dir }

// Close kills every process of the lab, in the reverse order of starting, waits for it, and removes the folder.
func (l *Lab) Close() {
	l.mu.Lock()
	closers := l.closers
	l.closers = nil
	l.mu.Unlock()
	for _, end := range slices.Backward(closers) {
		end()
	}
	_ = os.RemoveAll(l.dir)
}

func (l *Lab) onClose(end func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closers = append(l.closers, end)
}

// subdir makes a fresh folder for one process.
func (l *Lab) subdir(name string) (string, error) {
	return os.MkdirTemp(l.dir, name+"-")
}

// tails prints the last lines of every log, for a test that failed.
func (l *Lab) tails(logf func(string, ...any)) {
	const most = 4 << 10
	logs, _ := filepath.Glob(filepath.Join(l.dir, "*", "*.log"))
	for _, path := range logs {
		text, err := os.ReadFile(path)
		if err != nil || len(text) == 0 {
			continue
		}
		logf("--- %s\n%s", path, text[max(0, len(text)-most):])
	}
}

// raiseFiles lifts the soft limit of open files to the hard one. Go does that for itself, but hands its children the
// old limit unless the program has set one.
func raiseFiles() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("getrlimit: %w", err)
	}
	limit.Cur = limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("setrlimit: %w", err)
	}
	return nil
}

// Await calls ok every few milliseconds until it answers true, or ctx ends; then it says what was waited for.
func Await(ctx context.Context, what string, ok func() bool) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("await %s: %w", what, context.Cause(ctx))
		case <-tick.C:
		}
	}
	return nil
}
