package dispatcher_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"fanout/dispatcher"
)

// A backlog of many accounts, none of them slow, is read no faster than it is delivered, and none of it is put off: whoever
// of them has more waiting at the moment has it by chance, and delivers it soon.
func TestBacklogOfHealthyAccounts(t *testing.T) {
	for name, test := range map[string]struct {
		accounts, deliveries int
		answer               time.Duration
	}{
		"as many as have one each": {1000, 20_000, 2 * time.Millisecond},
		"slower":                   {1000, 5_000, 100 * time.Millisecond},
		"a few":                    {10, 20_000, 2 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config()
			cfg.Delivery.MaxInFlight = 64
			in(t, cfg, func(w *world) {
				for i := range test.accounts {
					w.set(fmt.Sprintf("b%d/s%d", i, i), "")
					w.on(fmt.Sprintf("b%d/s%d", i, i), always(answer{status: 204, after: test.answer}))
				}
				random := rand.New(rand.NewPCG(1, 2))
				var all []*dispatcher.Delivery
				most := int64(0)
				for range test.deliveries {
					if err := w.d.WaitForCapacity(w.t.Context()); err != nil {
						t.Fatal(err)
					}
					i := random.IntN(test.accounts)
					all = append(all, w.submit(fmt.Sprintf("b%d/s%d", i, i)))
					counted, beyond := w.d.Waiting()
					most = max(most, counted+beyond)
				}
				time.Sleep(10 * time.Second)
				putOff := 0
				for _, del := range all {
					if w.outcome(del).Result != dispatcher.Delivered {
						putOff++
					}
				}
				t.Logf("%d waited at most", most)
				if putOff > 0 || most > 4000 {
					t.Errorf("%d of %d put off, %d waited at most", putOff, len(all), most)
				}
			})
		})
	}
}

// A few accounts whose receivers hang stop nobody's reading, however large what they have waiting is.
func TestLargeDeliveriesThatHang(t *testing.T) {
	in(t, config(), func(w *world) {
		const accounts, hanging = 100, 20
		large := []byte(`{"eventType":"OPEN","trackingId":"` + strings.Repeat("x", 1<<20) + `"}`)
		for i := range accounts {
			w.set(fmt.Sprintf("b%d/s%d", i, i), `,"maxInFlight":1`)
			w.on(fmt.Sprintf("b%d/s%d", i, i), always(answer{status: 204, after: time.Millisecond}))
			if i < hanging {
				w.on(fmt.Sprintf("b%d/s%d", i, i), always(hang))
			}
		}
		read := func(i int) *dispatcher.Delivery {
			began := time.Now()
			if err := w.d.WaitForCapacity(w.t.Context()); err != nil {
				t.Fatal(err)
			}
			if waited := time.Since(began); waited > 0 {
				t.Fatalf("reading waited for %s", waited)
			}
			return w.delivery(fmt.Sprintf("b%d/s%d", i, i))
		}
		for range 20 {
			for i := range accounts {
				del := read(i)
				if i < hanging {
					del.Body = large
				}
				w.d.Submit(del)
			}
			time.Sleep(50 * time.Millisecond)
		}
	})
}

// Accounts that were quick and fall silent have much waiting then, and reading soon goes on without them.
func TestAccountsThatFallSilent(t *testing.T) {
	for _, silent := range []int{1, 10, 40} {
		t.Run(strconv.Itoa(silent), func(t *testing.T) {
			in(t, config(), func(w *world) {
				const accounts = 100
				for i := range accounts {
					w.set(fmt.Sprintf("b%d/s%d", i, i), "")
					w.on(fmt.Sprintf("b%d/s%d", i, i), always(answer{status: 204, after: 5 * time.Millisecond}))
				}
				longest, sum := time.Duration(0), time.Duration(0)
				read := func(n int) { // 4 000 a second, for as many seconds
					longest, sum = 0, 0
					for tick := range n * 40 {
						for i := range accounts {
							began := time.Now()
							if err := w.d.WaitForCapacity(w.t.Context()); err != nil {
								t.Fatal(err)
							}
							longest, sum = max(longest, time.Since(began)), sum+time.Since(began)
							w.submit(fmt.Sprintf("b%d/s%d", (i+tick)%accounts, (i+tick)%accounts))
						}
						time.Sleep(25 * time.Millisecond)
					}
				}
				read(5)
				if longest > 0 {
					t.Fatalf("before: reading waited for %s", longest)
				}
				for i := range silent {
					w.on(fmt.Sprintf("b%d/s%d", i, i), always(hang))
				}
				read(5)
				t.Logf("reading waited for %s at most, %s in all", longest, sum)
				if longest > time.Second || sum > 2*time.Second {
					t.Errorf("reading waited for %s at most, %s in all", longest, sum)
				}
			})
		})
	}
}

// An account that is alone and slow stops nobody's reading either: somebody else's event may lie behind its backlog.
func TestSlowAccountThatIsAlone(t *testing.T) {
	in(t, config(), func(w *world) {
		w.set("slow/s", "")
		w.on("slow/s", always(answer{status: 204, after: 9 * time.Second}))
		w.set("b/s", "")
		began := time.Now()
		for range 20_000 {
			if err := w.d.WaitForCapacity(w.t.Context()); err != nil {
				t.Fatal(err)
			}
			w.submit("slow/s")
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("reading what lies before another account's event took %s", took)
		}
		del := w.submit("b/s")
		time.Sleep(20 * time.Millisecond)
		if out := w.outcome(del); out.Result != dispatcher.Delivered {
			t.Errorf("another account's delivery: %+v", out.Outcome)
		}
	})
}

// A backlog for receivers that take batches is read no faster than it is delivered either, and fills their batches.
func TestBacklogOfBatches(t *testing.T) {
	for name, test := range map[string]struct{ accounts, deliveries, together int }{
		"one account": {1, 60_000, 100}, "a hundred": {100, 60_000, 100}, "large ones": {100, 200_000, 1000}, "small ones": {100, 30_000, 10},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, config(), func(w *world) {
				for i := range test.accounts {
					w.set(fmt.Sprintf("b%d/s%d", i, i), fmt.Sprintf(`,"batch":{"max":%d,"wait":"1s"}`, test.together))
					w.on(fmt.Sprintf("b%d/s%d", i, i), always(answer{status: 204, after: 20 * time.Millisecond}))
				}
				random := rand.New(rand.NewPCG(1, 2))
				for range test.deliveries {
					if err := w.d.WaitForCapacity(w.t.Context()); err != nil {
						t.Fatal(err)
					}
					i := random.IntN(test.accounts)
					w.submit(fmt.Sprintf("b%d/s%d", i, i))
				}
				time.Sleep(10 * time.Second)
				w.mu.Lock()
				defer w.mu.Unlock()
				requests, putOff := 0, 0
				for _, list := range w.requests {
					requests += len(list)
				}
				for _, list := range w.outcomes {
					if list[0].Result != dispatcher.Delivered {
						putOff++
					}
				}
				t.Logf("%d requests, %.0f deliveries in each", requests, float64(test.deliveries)/float64(requests))
				if putOff > 0 || test.deliveries/requests < test.together/10 {
					t.Errorf("%d of %d put off; %d requests", putOff, test.deliveries, requests)
				}
			})
		})
	}
}

// However large lanes.queue is, reading stops: where three quarters of it wait, or for their bytes.
func TestLargeQueue(t *testing.T) {
	for queue, want := range map[int]int{60_000: 45_000, 200_000: 63_000} {
		t.Run(strconv.Itoa(queue), func(t *testing.T) {
			cfg := config()
			cfg.Lanes.Queue = queue
			in(t, cfg, func(w *world) {
				w.set("s", "")
				w.on("s", always(hang))
				ctx, cancel := context.WithTimeout(w.t.Context(), 500*time.Millisecond)
				defer cancel()
				read := 0
				for ; read < queue && w.d.WaitForCapacity(ctx) == nil; read++ {
					w.submit("s")
				}
				if read < want || read > want+1000 {
					t.Errorf("%d were read, want about %d", read, want)
				}
			})
		})
	}
}
