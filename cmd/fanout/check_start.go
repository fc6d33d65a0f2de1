package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"fanout/config"
	"fanout/topic"
)

// starts says of each source that exists what a first run would send, or that the group goes on where it was. A source
// whose history nobody has decided about is a problem: run does not start, or leaves it unread.
func (f *findings) starts(ctx context.Context, cfg *config.Config, admin *topic.Cluster, partitions map[string]int) {
	starts, err := askStarts(ctx, admin, partitions)
	if err != nil {
		f.problem("sources", err.Error(), "the Kafka user needs Read on the source topics and on the group: see ACLs in docs/operating.md")
		return
	}
	without := "fanout run does not start"
	if slices.ContainsFunc(starts, func(s topic.SourceStart) bool { return s.Begun }) {
		without = "it stays unread"
	}
	for i := range starts {
		s := &starts[i]
		if !s.Begun && s.Records > 0 {
			s.Oldest = admin.Oldest(ctx, s.Topic, s.Partitions)
		}
		what, found := "source "+s.Topic, count(s.Partitions, "partition")+"; "+firstRun(s, cfg.Kafka.Group)
		if s.Undecided() {
			f.problem(what, found+": "+without, "set kafka.start, or start of this source under sources:, to one of\n"+strings.Join(topic.StartChoices(), "\n"))
		} else {
			f.okf(what, "%s", found)
		}
	}
}

// firstRun says in words what a run would make of what the source holds now.
func firstRun(s *topic.SourceStart, group string) string {
	switch {
	case s.Begun:
		return "group " + group + " goes on from its committed offsets"
	case s.Undecided():
		return fmt.Sprintf("it holds %s, group %s has no offset for it, and no start says whether they are to be sent", s.Holds(), group)
	case s.Records == 0:
		return "a first run would send nothing yet: it holds no records"
	case s.Start == topic.StartLatest:
		return fmt.Sprintf("a first run would send none of what it holds, %s, only what is written from then on (start: latest)", s.Holds())
	case s.Start == "" || s.Start == topic.StartEarliest:
		return fmt.Sprintf("a first run would send all that it holds, %s (start: %s)", s.Holds(), cmp.Or(s.Start, "not set"))
	}
	return fmt.Sprintf("a first run would send about %d of what it holds, %s (start: %s)", s.Ahead, s.Holds(), s.Start)
}

// temporary is an error of Kafka's that may pass.
type temporary interface {
	error
	Temporary() bool
}

// askStarts tries for a few seconds: a cluster that has just started has no coordinator for the group yet.
func askStarts(ctx context.Context, admin *topic.Cluster, partitions map[string]int) ([]topic.SourceStart, error) {
	ctx, cancel := context.WithTimeout(ctx, 8*time.Second)
	defer cancel()
	for {
		starts, err := admin.Starts(ctx, partitions)
		if passing, ok := errors.AsType[temporary](err); !ok || !passing.Temporary() {
			return starts, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(300 * time.Millisecond):
		}
	}
}
