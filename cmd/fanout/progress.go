package main

import (
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/schollz/progressbar/v3"

	"fanout/cmd/internal/terminal"
)

// progress shows a bar on a terminal, and nothing elsewhere. What is done is counted in done, and total adds to what there
// is to do. end takes the bar away.
func (o *output) progress(what string) (done *atomic.Int64, total func(int64), end func()) {
	done = new(atomic.Int64)
	if !terminal.Is(o.stderr) {
		return done, func(int64) {}, func() {}
	}
	bar := progressbar.NewOptions64(0, barOptions(o.stderr, what, terminal.Limit(o.stderr, ""))...)
	stop := make(chan struct{})
	var running sync.WaitGroup
	var sum atomic.Int64
	running.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				_ = bar.Finish()
				return
			case <-tick.C:
				if n := sum.Load(); n > 0 {
					bar.ChangeMax64(n)
					_ = bar.Set64(min(done.Load(), n))
				}
			}
		}
	})
	return done, func(n int64) { sum.Add(n) }, func() { close(stop); running.Wait() }
}

// barOptions make a bar that fits into a line of so many cells: one that does not is torn at each step.
func barOptions(w io.Writer, what string, width int) []progressbar.Option {
	const numbers = 48 // cells: percent, count, times; those of a count grow with it
	options := []progressbar.Option{
		progressbar.OptionSetWriter(w), progressbar.OptionThrottle(100 * time.Millisecond), progressbar.OptionClearOnFinish(),
		progressbar.OptionShowCount(),
	}
	room := width - numbers
	if room > terminal.Width(what) {
		options = append(options, progressbar.OptionSetDescription(what))
		room -= terminal.Width(what)
	}
	if room < 4 {
		options = append(options, progressbar.OptionSetElapsedTime(false), progressbar.OptionSetPredictTime(false))
	}
	return append(options, progressbar.OptionSetWidth(min(40, max(4, room))))
}
