package dispatcher_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// One line when a lane parks and one when it is back, and the metric says what it is in between.
func TestParkingShows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.InfoLevel)
		reg := prometheus.NewPedanticRegistry()
		w := newWorldWith(t, config(), zap.New(core), reg)
		stop := w.run()
		defer stop()
		w.set("s", "")
		w.on("s", always(answer{status: 503, after: time.Millisecond}))
		for range 60 {
			w.submit("s")
			time.Sleep(time.Second)
		}
		lanes := func(open, limited, parked float64) {
			t.Helper()
			families, err := reg.Gather()
			if err != nil {
				t.Fatal(err)
			}
			got := make(map[string]float64)
			for _, f := range families {
				if f.GetName() == "fanout_lanes" {
					for _, m := range f.GetMetric() {
						got[m.GetLabel()[0].GetValue()] = m.GetGauge().GetValue()
					}
				}
			}
			if len(got) != 3 || got["open"] != open || got["limited"] != limited || got["parked"] != parked {
				t.Errorf("fanout_lanes %v", got)
			}
		}
		lanes(0, 0, 1)
		parked := logs.TakeAll()
		if len(parked) != 1 || parked[0].Message != "lane parked" {
			t.Fatalf("log: %v", parked)
		}
		fields := parked[0].ContextMap()
		if fields["subscription"] != "s" || fields["account"] != "a" || fields["cause"] != "status" || fields["status"] != int64(503) || fields["failures"] != int64(10) {
			t.Errorf("log: %v", fields)
		}
		w.on("s", always(ok))
		time.Sleep(5 * time.Minute)
		w.submit("s")
		time.Sleep(time.Second)
		lanes(0, 1, 0) // at a growing pace
		if back := logs.TakeAll(); len(back) != 1 || back[0].Message != "lane open again" || back[0].ContextMap()["why"] != "delivered" {
			t.Errorf("log: %v", back)
		}
		time.Sleep(time.Minute)
		lanes(0, 0, 0)

		w.on("s", always(gone))
		w.submit("s")
		time.Sleep(3 * time.Second)
		logs.TakeAll()
		w.set("s", `,"description":"another"`)
		w.on("s", always(ok))
		w.submit("s")
		time.Sleep(time.Second)
		back := logs.TakeAll()
		if len(back) != 1 || back[0].ContextMap()["why"] != "configuration changed" || back[0].ContextMap()["parked_for"] != 2999*time.Millisecond {
			t.Errorf("log of a lane that was changed: %v", back)
		}
	})
}

// A broken network does not flood the log.
func TestParkingLogIsRateLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.InfoLevel)
		cfg := config()
		cfg.Lanes.ParkAfter = 1
		w := newWorldWith(t, cfg, zap.New(core), nil)
		stop := w.run()
		defer stop()
		for i := range 500 {
			id := "s" + strings.Repeat("x", i%50) + string(rune('a'+i/50))
			w.set(id, "")
			w.on(id, always(answer{status: 500, after: time.Millisecond}))
			w.submit(id)
		}
		time.Sleep(2 * time.Second)
		if n := logs.Len(); n > 20 {
			t.Errorf("%d lines within two seconds", n)
		}
		w.set("last", "")
		w.on("last", always(answer{status: 500, after: time.Millisecond}))
		w.submit("last")
		time.Sleep(time.Second)
		if n := logs.FilterMessage("more lanes parked or came back than were logged").Len(); n != 1 {
			t.Errorf("%d lines about what was left out, want 1", n)
		}
	})
}
