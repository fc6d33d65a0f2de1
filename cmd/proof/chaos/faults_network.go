package main

import (
	"context"
	"time"

	"fanout/cmd/internal/lab"
)

func proxied(c *lab.KafkaConfig) { c.Proxied = true }

// slowNetwork puts a bad line between fanout and the broker: slow, then dead without a word, then cut.
func slowNetwork(ctx context.Context, w *world) error {
	p, err := newProxy(w.kafka.Nodes[0].Proxy())
	if err != nil {
		return err
	}
	w.closers = append(w.closers, p.close)
	through := func(c lab.Config) { c.Set("kafka.brokers", []string{p.ln.Addr().String()}) }
	for range 2 {
		if _, err := w.add(ctx, through); err != nil {
			return err
		}
	}
	p.delay.Store(int64(w.between(20*time.Millisecond, 60*time.Millisecond)))
	w.notef("%v one way", time.Duration(p.delay.Load()).Round(time.Millisecond))
	if err := pause(ctx, w.length(15*time.Second, 6*time.Second)); err != nil {
		return err
	}
	from := time.Now()
	p.hole.Store(true)
	w.sayf("the line is dead")
	if err := pause(ctx, w.between(9*time.Second, 14*time.Second)); err != nil { // longer than a session
		return err
	}
	p.hole.Store(false)
	w.sayf("the line is back")
	w.crashed(from, time.Now())
	w.faultEnded()
	if err := pause(ctx, 12*time.Second); err != nil {
		return err
	}
	from = time.Now()
	p.cut()
	w.sayf("every connection is cut")
	w.faultEnded()
	err = pause(ctx, 8*time.Second)
	w.crashed(from, from)
	w.revoked(from, time.Now())
	return err
}
