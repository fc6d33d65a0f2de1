package dispatcher_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fanout/dispatcher"
	"fanout/subscriptions"
)

// cluster is several instances that share by demand once a second, as subscriptions.Peers does.
type cluster struct {
	instances []*world

	mu      sync.Mutex // guards demands, and the random numbers of resubmission
	demands []subscriptions.Demand
}

func (c *cluster) share(i int) func(account, id string) float64 {
	return func(account, id string) float64 {
		c.mu.Lock()
		defer c.mu.Unlock()
		key, total, n := subscriptions.DemandKey(account, id), 0.0, float64(len(c.demands))
		for _, demand := range c.demands {
			total += demand[key]
		}
		if total == 0 {
			return 1 / n
		}
		return 0.1/n + 0.9*c.demands[i][key]/total
	}
}

// A maxPerSecond holds over all instances together, wherever the load is, and nothing dies of it.
func TestMaxPerSecondOverInstances(t *testing.T) {
	const seconds, settling, arriving, allowed = 60, 5, 100, 50
	for _, instances := range []int{1, 3} {
		for _, where := range []string{"spread", "one"} {
			t.Run(fmt.Sprintf("%d/%s", instances, where), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := &cluster{demands: make([]subscriptions.Demand, instances)}
					for i := range instances {
						w := newWorld(t, config(), dispatcher.WithShare(c.share(i)))
						defer w.run()()
						w.set("s", fmt.Sprintf(`,"maxPerSecond":%d`, allowed))
						c.instances = append(c.instances, w)
					}
					random := rand.New(rand.NewPCG(1, 2))
					for _, w := range c.instances { // a retry record is due wherever its partition is
						w.circulate()
						w.resubmit = func(del *dispatcher.Delivery) {
							c.mu.Lock()
							to := c.instances[random.IntN(instances)]
							c.mu.Unlock()
							to.d.Submit(del)
						}
					}
					beat := time.NewTicker(time.Second)
					defer beat.Stop()
					done := make(chan struct{})
					defer close(done)
					go func() {
						for {
							select {
							case <-beat.C:
							case <-done:
								return
							}
							next := make([]subscriptions.Demand, instances)
							for i, w := range c.instances {
								next[i] = w.d.Demand()
							}
							c.mu.Lock()
							c.demands = next
							c.mu.Unlock()
						}
					}()
					start := time.Now()
					for n := range seconds * arriving {
						at := 0
						if where == "spread" {
							at = n % instances
						}
						c.instances[at].submit("s")
						time.Sleep(time.Second / arriving)
					}
					perSecond := make([]int, seconds+1)
					for _, w := range c.instances {
						for _, r := range w.got("s") {
							perSecond[min(int(r.at.Sub(start)/time.Second), seconds)]++
						}
					}
					total := 0
					for s, n := range perSecond[settling:seconds] {
						total += n
						if n > 55 || n < 40 {
							t.Errorf("second %d: %d requests", s+settling, n)
						}
					}
					if mean := float64(total) / (seconds - settling); mean < 45 || mean > 55 {
						t.Errorf("%.1f requests a second", mean)
					} else {
						t.Logf("%.1f requests a second", mean)
					}
					finished := 0
					for hours := 0; finished < seconds*arriving && hours < 12; hours++ { // waits double while the cause lasts
						time.Sleep(time.Hour)
						finished = 0
						for _, w := range c.instances {
							finished += w.done()
						}
					}
					if finished != seconds*arriving {
						t.Errorf("%d delivered of %d", finished, seconds*arriving)
					}
				})
			})
		}
	}
}

// A pace of less than one attempt in the time for which an idle lane is kept holds too.
func TestMaxPerSecondWhileIdle(t *testing.T) {
	for _, test := range []struct {
		rate string
		wait time.Duration
	}{{"0.02", 50 * time.Second}, {"0.001", 1000 * time.Second}} {
		in(t, config(), func(w *world) {
			w.set("s", `,"maxPerSecond":`+test.rate)
			w.submit("s")
			for at := 20 * time.Second; at < test.wait; at += 20 * time.Second {
				time.Sleep(20 * time.Second)
				w.submit("s")
			}
			time.Sleep(5 * time.Second)
			if n := len(w.got("s")); n != 1 {
				t.Errorf("%d requests within %v, want 1", n, test.wait)
			}
			time.Sleep(20 * time.Second)
			w.submit("s")
			time.Sleep(time.Second)
			if n := len(w.got("s")); n != 2 {
				t.Errorf("%d requests after %v, want 2", n, test.wait)
			}
		})
	}
}
