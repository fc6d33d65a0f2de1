package dispatcher

import (
	"testing"
	"time"
)

// play lets a tuner adjust the limit for a receiver side whose pace depends on it, and returns the limit at the end.
func play(tr *tuner, limit int64, ticks int, pace func(limit int64) float64) int64 {
	now, ended := time.Unix(0, 0), uint64(0)
	for range ticks {
		ended += uint64(pace(limit) * tuneEvery.Seconds())
		now = now.Add(tuneEvery)
		limit = tr.tuneConcurrency(now, limit, 2048, ended, true)
	}
	return limit
}

func TestTuneConcurrency(t *testing.T) {
	fresh := func() *tuner { return &tuner{least: 96, pace: 16_000} }
	// Processors bound the pace: any limit is as good as the highest.
	if limit := play(fresh(), 2048, 20, func(int64) float64 { return 40_000 }); limit > 200 {
		t.Errorf("with processors as the bottleneck %d attempts are left under way", limit)
	}
	// Time bounds the pace, at a high one: 40 ms an attempt. The highest limit is needed.
	if limit := play(fresh(), 2048, 200, func(limit int64) float64 { return float64(limit) / 0.040 }); limit < 1400 {
		t.Errorf("with time as the bottleneck only %d attempts may be under way", limit)
	}
	// Slow receivers, a second an attempt: from the start on the highest limit is reached within two seconds.
	if limit := play(fresh(), tuneStart, 10, func(limit int64) float64 { return float64(limit) }); limit != 2048 {
		t.Errorf("for slow receivers only %d attempts may be under way", limit)
	}
	// Receivers that were fast become slow: what was taken away comes back.
	tr := fresh()
	limit := play(tr, 2048, 20, func(int64) float64 { return 40_000 })
	tr.ended = 0
	if limit = play(tr, limit, 10, func(limit int64) float64 { return float64(limit) }); limit != 2048 {
		t.Errorf("after receivers became slow only %d attempts may be under way", limit)
	}
	// At first the connections are made. That does not call for more of them.
	tr, now, ended, cold := fresh(), time.Unix(0, 0), uint64(0), int64(tuneStart)
	for _, pace := range []float64{0, 3000, 8000, 14_000, 40_000} {
		ended += uint64(pace * tuneEvery.Seconds())
		now = now.Add(tuneEvery)
		if cold = tr.tuneConcurrency(now, cold, 2048, ended, true); cold > tuneStart {
			t.Errorf("%d attempts may be under way while the first connections are made", cold)
		}
	}
}
