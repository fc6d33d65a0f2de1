package consumer

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/zap"

	"fanout/topic"
)

// ignoredFor is for how long all records of a source are ignored before that is worth a warning: most likely its mapping is wrong.
const ignoredFor = time.Minute

// logMappings says what each source's mapping drops, so that nothing is dropped in silence.
func logMappings(sources []topic.SourceConfig, log *zap.Logger) {
	for _, source := range sources {
		if ignored := source.Ignored(); len(ignored) > 0 {
			log.Info("source mapping ignores types", zap.String("topic", source.Topic), zap.Strings("types", ignored))
		}
	}
}

// ignoredWatch compares what became of each source's records with what it was when it looked last.
type ignoredWatch struct {
	seen   map[string][recordResults]uint64
	warned map[string]bool
}

func newIgnoredWatch() *ignoredWatch {
	return &ignoredWatch{seen: make(map[string][recordResults]uint64), warned: make(map[string]bool)}
}

// run warns of each source of which everything was ignored for a while, until ctx is done: once until something else comes.
func (w *ignoredWatch) run(ctx context.Context, every time.Duration, counts func() map[string][recordResults]uint64, log *zap.Logger) {
	for topic.Sleep(ctx, every) {
		now := counts()
		for _, name := range slices.Sorted(maps.Keys(now)) {
			if n := w.look(name, now[name]); n > 0 {
				log.Warn("every record of a source is ignored: no event name stands for their types; see types of the source, and events",
					zap.String("topic", name), zap.Uint64("count", n))
			}
		}
	}
}

// look returns how many records were ignored since, where all were and that has not been returned before.
func (w *ignoredWatch) look(name string, now [recordResults]uint64) (ignored uint64) {
	before := w.seen[name]
	w.seen[name] = now
	others := uint64(0)
	for r := range recordResults {
		if r != recordIgnored {
			others += now[r] - before[r]
		}
	}
	ignored = now[recordIgnored] - before[recordIgnored]
	switch {
	case others > 0:
		w.warned[name] = false
		return 0
	case ignored == 0 || w.warned[name]:
		return 0
	}
	w.warned[name] = true
	return ignored
}

// counts says what became of the records of each source so far.
func (m *metrics) counts() map[string][recordResults]uint64 {
	counts := make(map[string][recordResults]uint64)
	known := m.bySource.Load()
	if known == nil {
		return counts
	}
	for name, row := range *known {
		var n [recordResults]uint64
		for r, counter := range row {
			n[r] = valueOf(counter)
		}
		counts[name] = n
	}
	return counts
}

func valueOf(counter prometheus.Counter) uint64 {
	var m dto.Metric
	if counter.Write(&m) != nil {
		return 0
	}
	return uint64(m.GetCounter().GetValue())
}
