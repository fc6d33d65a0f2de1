package admin

import (
	"context"
	"sync"
	"time"
)

// How often Kafka is asked whether it is there, and how long its answer may take.
const (
	presenceEvery = 4 * time.Second
	presenceLasts = 3 * time.Second
)

// presence says whether Kafka answers. The group does not: it stays joined until its session ends, and while the coordinator is away.
type presence struct {
	mu    sync.Mutex // guards all below
	why   string     // the last error; empty: it answers
	since time.Time  // of the first error in a row
}

func (k *presence) run(ctx context.Context, p *panel) {
	tick := time.NewTicker(presenceEvery)
	defer tick.Stop()
	for {
		asked := time.Now()
		err := k.ask(ctx, p)
		if ctx.Err() != nil {
			return
		}
		k.note(asked, err)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (k *presence) ask(ctx context.Context, p *panel) error {
	ctx, cancel := context.WithTimeout(ctx, presenceLasts)
	defer cancel()
	_, err := p.Kafka.Ranges(ctx, p.Kafka.Config().Names().DeadLetter, time.Time{})
	return err
}

func (k *presence) note(asked time.Time, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case err == nil:
		k.why, k.since = "", time.Time{}
		return
	case k.why == "":
		k.since = asked
	}
	k.why = err.Error()
}

// finding is that Kafka does not answer, if so.
func (k *presence) finding() []finding {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.why == "" {
		return nil
	}
	return []finding{{
		key: "kafka", Badge: poor("Kafka does not answer"), Since: k.since,
		Text: "(" + k.why + "). What is published waits there, and is delivered once it can be read.",
	}}
}
