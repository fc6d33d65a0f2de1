package resolve

import (
	"os"
	"sync"
	"time"
)

// rereadAfter is how long a file's content is used without a look at whether it has changed.
const rereadAfter = 5 * time.Second

// file is a parsed file that is read again when it has changed. A file that is not there reads as an empty one; while
// it cannot be read, what it said before holds.
type file[T any] struct {
	path  string
	parse func(text []byte) T

	mu      sync.Mutex // guards all below
	value   T
	loaded  bool
	checked time.Time
	changed time.Time // the file's own time
	size    int64
}

// current is the file's content at the time now.
func (f *file[T]) current(now time.Time) T {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.loaded && now.Sub(f.checked) < rereadAfter {
		return f.value
	}
	f.checked = now
	var changed time.Time
	var size int64
	if info, err := os.Stat(f.path); err == nil {
		changed, size = info.ModTime(), info.Size()
	}
	if f.loaded && changed.Equal(f.changed) && size == f.size {
		return f.value
	}
	text, err := os.ReadFile(f.path)
	if err != nil && !os.IsNotExist(err) && f.loaded {
		return f.value
	}
	f.value, f.loaded, f.changed, f.size = f.parse(text), true, changed, size
	return f.value
}
