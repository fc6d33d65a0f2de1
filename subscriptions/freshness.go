package subscriptions

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
)

// maxReasons bounds how many reasons of one outage are logged: it often begins with a closed connection, and what has to
// be mended comes later.
const maxReasons = 8

// held is what is known of the table as a whole; the snapshot file has it too.
type held struct {
	source   string    // "redis" once that has been read: what differs from now on has changed since. "file", or empty while nothing is known
	foreign  bool      // the file was of another catalogue or version: only a full load tells what is in force
	position string    // of the change stream: what came up to here is in the table; empty where that is not known
	contact  time.Time // when it last agreed with Redis; zero in a file that does not say
}

// freshness says where the table comes from, when it last agreed with Redis, and how talking to Redis goes. From that follows
// when the subscriptions count as known.
type freshness struct {
	log       *zap.Logger
	intervals *intervals

	ready     chan struct{} // closed once they are known
	readyOnce sync.Once

	mu      sync.Mutex
	table   held
	err     string   // of the change stream
	reasons []string // of this outage, as far as they are logged
	loadErr string   // of the last full load

	began       time.Time // of a start with a snapshot file
	answered    bool      // Redis has, since
	failing     time.Time // the first failure of the change stream in a row
	loadFailing time.Time // and of full loads
}

func newFreshness(log *zap.Logger, wait *intervals) *freshness {
	return &freshness{log: log, intervals: wait, ready: make(chan struct{}), table: held{contact: time.Now()}}
}

func (f *freshness) markReady() { f.readyOnce.Do(func() { close(f.ready) }) }

func (f *freshness) isReady() bool {
	select {
	case <-f.ready:
		return true
	default:
		return false
	}
}

// restored notes that the table is as the snapshot file had it.
func (f *freshness) restored(file held) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if file.contact.IsZero() {
		file.contact = f.table.contact
	}
	f.table, f.began = file, time.Now()
}

// fallBack ends a start's waiting for a Redis that fails, where there is a snapshot file: when it has not answered since the
// start for intervals.start, and when changes or full loads have failed for intervals.patience, each time. An answer may be a
// moment away else, and the file may lack what Redis holds. The caller holds the lock.
func (f *freshness) fallBack() {
	if f.began.IsZero() {
		return
	}
	now := time.Now()
	long := func(since time.Time, wait time.Duration) bool { return !since.IsZero() && now.Sub(since) >= wait }
	if !f.answered && long(f.began, f.intervals.start) || long(f.failing, f.intervals.patience) || long(f.loadFailing, f.intervals.patience) {
		f.markReady()
	}
}

// followed notes that the change stream was read up to position. agrees says that no full load is refused.
func (f *freshness) followed(position string, agrees bool) {
	f.mu.Lock()
	away := len(f.reasons) > 0
	f.err, f.reasons = "", nil
	f.answered, f.failing = true, time.Time{}
	if f.table.source == "redis" || f.table.position != "" {
		f.table.position = position // without a gap since the table was filled
	}
	if f.table.source == "redis" && agrees {
		f.table.contact = time.Now()
	}
	f.mu.Unlock()
	if away {
		f.log.Info("redis is back")
	}
}

// followFailed notes why the change stream could not be read, and logs a reason of this outage once.
func (f *freshness) followFailed(err error) {
	reason := describe(err)
	f.mu.Lock()
	if f.failing.IsZero() {
		f.failing = time.Now()
	}
	f.fallBack()
	f.err = reason
	news := len(f.reasons) < maxReasons && !slices.Contains(f.reasons, reason)
	if news {
		f.reasons = append(f.reasons, reason)
	}
	f.mu.Unlock()
	if news {
		f.log.Warn("redis is away; going on with what is known", zap.String("error", reason))
	}
}

// loadFailed notes why a full load failed, and logs a reason once.
func (f *freshness) loadFailed(err error) {
	reason := describe(err)
	f.mu.Lock()
	was := f.loadErr
	f.loadErr = reason
	if f.loadFailing.IsZero() {
		f.loadFailing = time.Now()
	}
	f.fallBack()
	f.mu.Unlock()
	if was != reason {
		f.log.Warn("full load of subscriptions failed; trying again", zap.String("error", reason))
	}
}

// loadRefused notes that a full load has ended, and is not in force.
func (f *freshness) loadRefused() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.loadErr = ""
	f.markReady() // something is known, or nothing would be missing
}

// loaded notes that what Redis holds is in force, and says whether that is so for the first time.
func (f *freshness) loaded(found int) (first bool) {
	f.mu.Lock()
	first = f.table.source != "redis"
	f.table.source, f.table.foreign, f.loadErr = "redis", false, ""
	f.mu.Unlock()
	if first && found == 0 {
		f.log.Warn("redis holds no subscriptions")
	} else if first {
		f.log.Info("subscriptions loaded", zap.Int("count", found))
	}
	f.markReady()
	return first
}

// agreed notes that the table agrees with Redis.
func (f *freshness) agreed() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.table.contact = time.Now()
}

// held is what is to be said of the table as it is now.
func (f *freshness) held() held {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.table
}

// status adds what is known here.
func (f *freshness) status(s *Status) {
	s.Loaded = f.isReady()
	f.mu.Lock()
	defer f.mu.Unlock()
	s.Source, s.Age, s.Error = f.table.source, max(0, time.Since(f.table.contact)), cmp.Or(f.err, f.loadErr)
}
