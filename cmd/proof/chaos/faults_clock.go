package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"fanout/cmd/internal/lab"
)

// The clock of a machine cannot be set for one process, and libfaketime stands between a program and its C library, which
// Go does not ask for the time. So fanout is built with another runtime: its wall clock is off by as many seconds as the
// file `clock` in its folder says.
const (
	clockRuntime = `package runtime

import _ "unsafe"

//go:linkname clockOffset
var clockOffset int64

func clockNow() (sec int64, nsec int32, mono int64)

//go:linkname time_now time.now
func time_now() (sec int64, nsec int32, mono int64) {
	sec, nsec, mono = clockNow()
	return sec + clockOffset, nsec, mono
}
`
	clockMain = `package main

import (
	"os"
	"strconv"
	"sync/atomic"
	"time"
	_ "unsafe"
)

//go:linkname clockOffset runtime.clockOffset
var clockOffset int64

func init() {
	go func() {
		for range time.Tick(50 * time.Millisecond) {
			text, _ := os.ReadFile("clock")
			seconds, _ := strconv.ParseInt(string(text), 10, 64)
			atomic.StoreInt64(&clockOffset, seconds)
		}
	}()
}
`
)

// clockSteps sets the clocks of two instances forwards and backwards, both and one of them. What was put aside while a
// clock was ahead is due when that clock said so: it waits beyond the end of the run.
func clockSteps(ctx context.Context, w *world) error {
	if err := w.unload(ctx); err != nil {
		return err
	}
	if err := w.buildWithClock(ctx); err != nil {
		return err
	}
	w.load(ctx, w.set.rate)
	for range 2 {
		if _, err := w.add(ctx, nil); err != nil {
			return err
		}
	}
	defer func() {
		for _, f := range w.fans {
			_ = os.Remove(filepath.Join(f.Dir(), "clock"))
		}
	}()
	// Two hours ahead is more than Kafka takes in a record's timestamp: retry records have to wait.
	for _, step := range []time.Duration{50 * time.Minute, -3 * time.Hour, 2 * time.Hour, 0} {
		which := w.fans
		if w.rng.IntN(2) == 0 {
			which = w.fans[:1]
		}
		if step == 0 {
			which = w.fans
		}
		for _, f := range which {
			path := filepath.Join(f.Dir(), "clock")
			if err := os.WriteFile(path, []byte(strconv.Itoa(int(step.Seconds()))), 0o600); err != nil {
				return err
			}
		}
		w.sayf("%d clocks are off by %v", len(which), step)
		if step != 2*time.Hour {
			w.faultEnded()
		}
		if err := pause(ctx, w.between(5*time.Second, 8*time.Second)); err != nil {
			return err
		}
	}
	return nil
}

// buildWithClock builds fanout for this scenario.
func (w *world) buildWithClock(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("go env: %w", err)
	}
	source := filepath.Join(strings.TrimSpace(string(out)), "src", "runtime")
	root, err := lab.Root()
	if err != nil {
		return err
	}
	file := func(name, text string) string {
		path := filepath.Join(w.lab.Dir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil { // in the lab's own folder
			w.problems.addf("%v", err)
		}
		return path
	}
	assembly := filepath.Join(source, "time_linux_"+runtime.GOARCH+".s")
	code, err := os.ReadFile(assembly)
	if err != nil {
		return fmt.Errorf("the clock of %s cannot be replaced: %w", runtime.GOARCH, err)
	}
	replace := map[string]string{
		filepath.Join(root, "cmd", "fanout", "clock_chaos.go"): file("clock_main.go", clockMain),
		filepath.Join(source, "timeasm.go"):                    file("clock_runtime.go", clockRuntime),
		assembly:                                               file("clock_runtime.s", strings.ReplaceAll(string(code), "time·now", "·clockNow")),
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return err
	}
	w.program, err = w.lab.Build(ctx, "-overlay", file("overlay.json", string(overlay)))
	w.sayf("built with a clock of our own")
	return err
}
