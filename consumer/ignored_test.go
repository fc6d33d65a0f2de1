package consumer_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"fanout/consumer"
)

// A source of which everything is ignored is told once, and again after something else came.
func TestIgnoredWatch(t *testing.T) {
	w := consumer.NewIgnoredWatch()
	for i, c := range []struct{ events, ignored, unmatched, want uint64 }{
		{0, 0, 0, 0}, {0, 3, 0, 3}, {0, 9, 0, 0}, {0, 9, 0, 0}, {0, 12, 0, 0}, {1, 20, 0, 0}, {1, 20, 0, 0}, {1, 22, 0, 2}, {1, 23, 1, 0}, {1, 24, 1, 1},
	} {
		if got := w.Look("a", c.events, c.ignored, c.unmatched); got != c.want {
			t.Errorf("look %d: %d, want %d", i, got, c.want)
		}
	}
	if got := w.Look("b", 0, 5, 0); got != 5 {
		t.Errorf("another source: %d", got)
	}
}

func TestSourceIgnoredWholeIsWarnedOf(t *testing.T) {
	w := newWorld(t, "channel.email")
	in := w.start()
	ctx, stop := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	watching.Go(func() { in.c.WatchIgnored(ctx, 20*time.Millisecond) })
	defer watching.Wait()
	defer stop()
	const ignored = `{"accountId":"acme","channel":"EMAIL","type":"DELIVERED","trackingId":"t","notificationId":"n","userId":"u"}`
	w.produce("channel.email", 0, kafka.Record{Value: kafka.NewBytes([]byte(ignored))})
	w.until("the source is warned of", func() bool {
		return w.logs.FilterMessageSnippet("every record of a source is ignored").Len() == 1
	})
}
