package dispatcher_test

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"fanout/dispatcher"
)

// One account, however many webhooks it has and however slowly they answer, delays no other one; and all that it gets is
// delivered in the end.
func TestNoAccountDelaysAnother(t *testing.T) {
	slow := answer{status: 204, after: 9 * time.Second}
	failing := answer{status: 500, after: 9 * time.Second}
	for name, test := range map[string]struct {
		webhooks, perSecond int
		answers             func(webhook int) answer
		recovers            bool
	}{
		"204 after 9 s":        {50, 10, func(int) answer { return slow }, false},
		"fewer webhooks":       {10, 10, func(int) answer { return slow }, false},
		"fewer events":         {50, 2, func(int) answer { return slow }, false},
		"500 after 9 s":        {50, 5, func(int) answer { return failing }, true},
		"hanging":              {50, 5, func(int) answer { return hang }, true},
		"half slow, half hang": {50, 5, func(i int) answer { return []answer{slow, hang}[i%2] }, true},
		"number alone":         {1200, 1, func(int) answer { return ok }, false},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config()
			cfg.Delivery.MaxInFlight /= 4 // for a quarter of the webhooks that would fill it, so that the race detector has less to watch
			in(t, cfg, func(w *world) {
				const others, span = 20, 12 * time.Second
				for i := range others {
					w.set(fmt.Sprintf("b%d/s", i), "")
					w.on(fmt.Sprintf("b%d/s", i), always(answer{status: 204, after: 5 * time.Millisecond}))
				}
				for i := range test.webhooks {
					w.set(strconv.Itoa(i), "")
					w.on(strconv.Itoa(i), always(test.answers(i)))
				}
				w.circulate()
				settle := w.onSettle
				late, putOff := time.Duration(0), 0
				w.onSettle = func(del *dispatcher.Delivery, out dispatcher.Outcome) {
					if del.Account != "a" {
						w.mu.Lock()
						if late = max(late, time.Since(del.FirstSeen)); out.Result != dispatcher.Delivered {
							putOff++
						}
						w.mu.Unlock()
					}
					settle(del, out)
				}
				planned, reading := 0, time.Duration(0)
				read := func() {
					began := time.Now()
					if err := w.d.WaitForCapacity(w.t.Context()); err != nil {
						t.Fatal(err)
					}
					reading = max(reading, time.Since(began))
				}
				for tick := range int(span / (10 * time.Millisecond)) {
					for i := range 2 { // 200 a second
						read()
						w.submit(fmt.Sprintf("b%d/s", (2*tick+i)%others))
						planned++
					}
					if tick%(100/test.perSecond) == 0 {
						for i := range test.webhooks {
							read()
							w.submit(strconv.Itoa(i))
							planned++
						}
					}
					time.Sleep(10 * time.Millisecond)
				}
				w.mu.Lock()
				if putOff > 0 || late > 20*time.Millisecond || reading > 0 {
					t.Errorf("of the others, %d were put off and one came after %s; reading waited for %s", putOff, late, reading)
				}
				w.mu.Unlock()
				if test.recovers {
					for i := range test.webhooks {
						w.on(strconv.Itoa(i), always(ok))
					}
				}
				for hours := 0; w.done() < planned && hours < 24; hours++ {
					time.Sleep(time.Hour)
				}
				if n := w.done(); n != planned {
					t.Errorf("%d delivered of %d", n, planned)
				}
			})
		})
	}
}
