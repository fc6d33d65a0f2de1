package consumer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"fanout/dispatcher"
	"fanout/topic"
)

// group is one of the two consumer groups: that of the sources, or that of the retry topics and the replay topic. It holds the partitions
// that its membership is given, and commits for them.
type group struct {
	cfg        groupConfig
	membership *membership
	committer  *committer
	identity   *topicIdentity
	log        *zap.Logger
	observe    *groupMetrics

	topics   *groupTopics
	watch    *watch
	handover *handover

	mu      sync.Mutex // guards all below
	holds   map[topic.Partition]*holding
	read    bool   // it has begun to read what it was given first
	problem string // why what was added is not read yet

	readers sync.WaitGroup
}

// groupConfig configures a group.
type groupConfig struct {
	id           string
	cluster      *topic.Cluster
	flow         func(name string) *intake                    // by topic
	delay        func(name string) time.Duration              // of a retry tier
	start        func(name string) (at int64, err error)      // where a source without an offset begins, as wire.OffsetRequest has it; nil: with its first record
	strangers    *strangers                                   // of the retry and replay topics; nil: whatever lies there is ours
	capacity     func(ctx context.Context, name string) error // waits until another record of that topic may be read
	writable     func() bool                                  // false while a record cannot be written
	sending      func() bool                                  // false while a fault of our own keeps anything from being sent
	opened       *openedLanes                                 // for the retry tiers; else nil
	waits        func(*topic.Record) topic.Waits              // likewise
	stalledAfter time.Duration                                // records wait and none is settled: the group is joined again
	background   context.Context                              //nolint:containedctx // ends when everything has drained
}

// holding is a partition that this member has, and its reader.
type holding struct {
	name      topic.Partition
	stop      context.CancelFunc
	done      chan struct{} // closed when the reader has ended
	mu        sync.Mutex    // guards partition
	partition *partition    // nil until the group's offset is known
}

func (h *holding) get() *partition {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.partition
}

// newGroup makes a group. begun are the topics that it is known to have an offset of; label names it in metrics.
func newGroup(cfg groupConfig, begun map[string]bool, log *zap.Logger, m *metrics, label string) *group {
	g := &group{
		cfg: cfg, log: log, observe: m.group(label), holds: make(map[topic.Partition]*holding),
		topics: &groupTopics{begun: begun}, watch: newWatch(cfg.stalledAfter, time.Now()),
	}
	coordinator := cfg.cluster.Group(cfg.id)
	g.identity = &topicIdentity{cluster: cfg.cluster, group: coordinator, metrics: m, log: log}
	g.committer = &committer{
		group: coordinator, identity: g.identity, log: log,
		who: func() memberID { return g.membership.who() }, refused: func(i memberID) { g.membership.refused(i) },
		turn: make(chan struct{}, 1),
	}
	g.handover = &handover{background: cfg.background, committer: g.committer, suspended: func() bool { return g.membership.suspended() }, log: log}
	return g
}

// run keeps the membership, and commits, until stop is done; then it drains. When it returns nothing of it is under way.
func (g *group) run(stop context.Context) {
	working, cancel := context.WithCancel(g.cfg.background)
	defer cancel()
	defer context.AfterFunc(stop, g.membership.stop)()
	var committing sync.WaitGroup
	committing.Go(func() { g.commitUntil(working) })
	g.membership.run(g.cfg.background)
	cancel()
	committing.Wait()
	g.readers.Wait()
}

// setSizes tells which of the group's topics exist, and how large they are. The group shares them again where they have grown.
func (g *group) setSizes(sizes map[string]int) {
	if g.topics.set(sizes) {
		g.log.Info("topics or partitions have changed; the group shares them again", zap.Any("partitions", sizes))
		g.membership.topicsChanged()
	}
}

// held implements holdings.
func (g *group) held() []topic.Partition {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.SortedFunc(maps.Keys(g.holds), topic.Partition.Compare)
}

// holdsNow says whether the partition is held.
func (g *group) holdsNow(p topic.Partition) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.holds[p] != nil
}

// add implements holdings.
func (g *group) add(added []topic.Partition) {
	ctx, cancel := context.WithCancel(g.cfg.background)
	begin := &beginning{g: g, ctx: ctx}
	g.mu.Lock()
	for _, name := range added {
		reading, stop := context.WithCancel(ctx)
		h := &holding{name: name, stop: stop, done: make(chan struct{})}
		g.holds[name] = h
		begin.holds = append(begin.holds, h)
		begin.reading = append(begin.reading, reading)
	}
	g.mu.Unlock()
	g.readers.Go(func() {
		defer cancel()
		begin.run()
	})
}

// giveUp implements holdings.
func (g *group) giveUp(given []topic.Partition, last bool) {
	g.handover.run(g.take(given, false), last)
	g.take(given, true)
}

// lose implements holdings.
func (g *group) lose() {
	g.mu.Lock()
	all := slices.Collect(maps.Keys(g.holds))
	g.mu.Unlock()
	abandon(stopReaders(g.take(all, true)))
}

// take is the holdings of the partitions, which are let go of where that is said.
func (g *group) take(wanted []topic.Partition, letGo bool) []*holding {
	g.mu.Lock()
	defer g.mu.Unlock()
	var holds []*holding
	for _, name := range wanted {
		if h := g.holds[name]; h != nil {
			holds = append(holds, h)
		}
		if letGo {
			delete(g.holds, name)
		}
	}
	return holds
}

// partitions are those whose offset is known.
func (g *group) partitions() (all []*partition) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, h := range g.holds {
		if p := h.get(); p != nil {
			all = append(all, p)
		}
	}
	return all
}

// commitUntil commits what is settled, again and again, and watches whether the group makes progress.
func (g *group) commitUntil(ctx context.Context) {
	tick := time.NewTicker(commitInterval)
	defer tick.Stop()
	var failures failures
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		partitions := g.partitions()
		err := g.committer.by(ctx, partitions, time.Now().Add(commitTimeout))
		switch {
		case err == nil:
			failures.over()
			g.watch.committedAt(time.Now())
		case errors.Is(err, errFenced), errors.Is(err, errLater), ctx.Err() != nil:
		default:
			if failures.add(err, 20) {
				g.log.Warn("commit fails; it is tried again", zap.Error(err), zap.Int("failures", failures.count))
			}
		}
		g.look(partitions, time.Now())
	}
}

// look notes whether the partitions make progress. Where they stand still although there is something to do, the group is joined again.
func (g *group) look(partitions []*partition, now time.Time) {
	held := !g.cfg.writable() || !g.cfg.sending()
	reports := make([]progressReport, len(partitions))
	for i, p := range partitions {
		reports[i] = p.makesProgress(now, held)
	}
	if stalled := g.watch.look(reports, now); stalled != nil {
		g.log.Error("this instance's part of the group has stalled; it joins again", zap.Error(stalled))
		g.membership.refused(g.membership.who())
	}
}

// healthy says whether the group looks after itself and makes progress.
func (g *group) healthy(now time.Time) error {
	if err := g.watch.healthy(now); err != nil {
		return fmt.Errorf("group %s: %w", g.cfg.id, err)
	}
	return nil
}

// ready says why the group does not read.
func (g *group) ready() error {
	if err := g.membership.ready(); err != nil {
		return fmt.Errorf("group %s %w", g.cfg.id, err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.problem != "":
		return fmt.Errorf("group %s cannot begin to read (%s)", g.cfg.id, g.problem)
	case !g.read && len(g.holds) > 0:
		return fmt.Errorf("group %s begins to read", g.cfg.id)
	}
	return nil
}

func (g *group) reader(p *partition) *reader {
	r := &reader{
		partition: p, fetcher: g.cfg.cluster.Fetcher(p.Partition), identity: g.identity, intake: g.cfg.flow(p.Topic), strangers: g.cfg.strangers,
		capacity: func(ctx context.Context) error { return g.cfg.capacity(ctx, p.Topic) }, writable: g.cfg.writable, suspended: g.membership.suspended,
		log: g.log.With(zap.String("topic", p.Topic), zap.Int("partition", p.ID)),
	}
	if p.stage == dispatcher.StageRetry {
		r.ahead = newScout(r, g.cfg.cluster.FetcherAhead(p.Partition), g.cfg.opened, g.cfg.waits, func() bool { return !g.committer.bare.Load() })
	}
	return r
}

// joinErrors is the errors of several groups as one, in order; nil where there is none.
func joinErrors(errs []error) error {
	var texts []string
	for _, err := range errs {
		if err != nil {
			texts = append(texts, err.Error())
		}
	}
	if len(texts) == 0 {
		return nil
	}
	slices.Sort(texts)
	return errors.New(strings.Join(texts, "; "))
}
