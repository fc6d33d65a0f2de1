package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// Go's collector lets the heap grow to twice what lives. Of a small heap that is little, and collecting it again and
// again was a tenth of a delivery's CPU (cmd/proof/bench): the heap may always grow to idleHeap.
const (
	idleHeap    = 128 << 20              // bytes
	leastGrowth = 50                     // percent: of a large heap, collecting more often costs less than the memory is worth
	mostGrowth  = 800                    // percent
	lookEvery   = 100 * time.Millisecond // a backlog makes what lives three times as large within a second
)

// tuneCollector sets the collector's growth by what lives, until ctx is done. Whoever sets GOGC or GOMEMLIMIT knows
// better.
func tuneCollector(ctx context.Context) error {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return nil
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	set := 100
	for {
		metrics.Read(live)
		if percent := collectorGrowth(live[0].Value.Uint64()); percent != set {
			set = percent
			debug.SetGCPercent(percent)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// collectorGrowth is how far the heap may grow beyond what lives, in percent and in steps of 50.
func collectorGrowth(live uint64) int {
	percent := 100 * (idleHeap - int64(live)) / int64(max(live, 1))
	return int(min(max(leastGrowth, percent/50*50), mostGrowth))
}
