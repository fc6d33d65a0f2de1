package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/segmentio/kafka-go"
)

// crowding is what some accounts do beside the others: each has many webhooks, and each of its events is for all of them.
type crowding struct {
	name      string
	accounts  int
	webhooks  int
	perSecond int      // events of each account
	answers   []string // of the webhooks, in turn: the receiver's paths
}

// How the receiver answers a webhook of a crowd, by the first part of its path.
const (
	pathSlow    = "/slow/"    // 204 after crowdDelay
	pathFailing = "/failing/" // 500 after crowdDelay
	pathHangs   = "/hangs/"   // never
	pathFast    = "/fast/"    // 204 at once
	crowdDelay  = 9 * time.Second
)

func crowds() []crowding {
	slow, failing, hangs, fast := []string{pathSlow}, []string{pathFailing}, []string{pathHangs}, []string{pathFast}
	return []crowding{
		{name: "200 webhooks, 10/s, 204 after 9 s", accounts: 1, webhooks: 200, perSecond: 10, answers: slow},
		{name: "40 webhooks, 10/s, 204 after 9 s", accounts: 1, webhooks: 40, perSecond: 10, answers: slow},
		{name: "200 webhooks, 2/s, 204 after 9 s", accounts: 1, webhooks: 200, perSecond: 2, answers: slow},
		{name: "200 webhooks, 10/s, 500 after 9 s", accounts: 1, webhooks: 200, perSecond: 10, answers: failing},
		{name: "200 webhooks, 10/s, hanging", accounts: 1, webhooks: 200, perSecond: 10, answers: hangs},
		{name: "200 webhooks, 10/s, half of each", accounts: 1, webhooks: 200, perSecond: 10, answers: []string{pathSlow, pathHangs}},
		{name: "100 000 webhooks, 1/s", accounts: 1, webhooks: 100_000, perSecond: 1, answers: fast},
		{name: "5 accounts of 40 webhooks, 10/s, slow", accounts: 5, webhooks: 40, perSecond: 10, answers: slow},
		{name: "20 accounts of 40 webhooks, 10/s, slow", accounts: 20, webhooks: 40, perSecond: 10, answers: slow},
	}
}

// fairness is the part of that name: what all other accounts notice of those that have many webhooks, with and without them in turns.
func fairness(ctx context.Context, args []string, out io.Writer) error {
	fs := flag.NewFlagSet("fairness", flag.ContinueOnError)
	ld := load{subscriptions: 80, partitions: 6}
	rate := fs.Int("rate", 1500, "events a second of all the others")
	span := fs.Duration("for", 30*time.Second, "how long each run is")
	warm := fs.Duration("warm", 5*time.Second, "how long at its beginning nothing is measured")
	pairs := fs.Int("pairs", 2, "how often the runs take turns")
	only := fs.String("only", "", "those whose name holds this")
	w, end, err := begin(ctx, fs, args, nil)
	if err != nil {
		return err
	}
	defer end()
	fmt.Fprintf(out, "%s; the others: %d accounts, %d events a second for %s after %s, real Kafka\n", machine(), ld.subscriptions, *rate, *span, *warm)
	run := 0
	for _, c := range crowds() {
		if !strings.Contains(c.name, *only) {
			continue
		}
		var throughput, p99 []float64
		for range *pairs {
			results := make([]othersSaw, 0, 2)
			for _, now := range []*crowding{nil, &c} {
				run++
				s := w.steady("bench.fairness."+strconv.Itoa(run), ld, *rate, *span+*warm)
				s.crowd = now
				saw, err := s.others(ctx, slowReceivers{}, 0, int(*warm/produceEvery))
				if err != nil {
					return err
				}
				results = append(results, saw)
			}
			alone, beside := results[0], results[1]
			throughput = append(throughput, beside.inTime/alone.inTime)
			p99 = append(p99, float64(beside.p99)/float64(alone.p99))
			fmt.Fprintf(out, "  %-38s  the others: in time %.4f, p50 %.2f ms, p99 %.2f ms; without it: in time %.4f, p50 %.2f ms, p99 %.2f ms; dead of the crowd: %.0f\n",
				c.name, beside.inTime, millis(beside.p50), millis(beside.p99), alone.inTime, millis(alone.p50), millis(alone.p99), beside.dead)
		}
		slices.Sort(throughput)
		slices.Sort(p99)
		fmt.Fprintf(out, "%-40s  the others: throughput %.3f of the run without it (target at least 0.95), p99 %.2f × (target at most 1.5)\n",
			c.name, throughput[len(throughput)/2], p99[len(p99)/2])
	}
	return nil
}

func (c *crowding) account(i int) string { return "crowd-" + strconv.Itoa(i) }

// store fills Redis with the crowd's webhooks, or takes away those of the crowd before.
func (c *crowding) store(ctx context.Context, w *world, url string) error {
	client := redis.NewClient(&redis.Options{Addr: w.redis.Addr()})
	defer client.Close()
	for i := range 100 {
		if err := client.Del(ctx, "fanout:account:"+c.account(i)).Err(); err != nil {
			return fmt.Errorf("remove a crowd: %w", err)
		}
	}
	for i := range c.accounts {
		for some := range slices.Chunk(numbers(c.webhooks), 1000) {
			_, err := client.Pipelined(ctx, func(p redis.Pipeliner) error {
				for _, n := range some {
					value := fmt.Sprintf(`{"url":"%s%s%d","events":["EMAIL_OPEN"],"secrets":["%s"]}`, url, c.answers[n%len(c.answers)], n, secret())
					p.HSet(ctx, "fanout:account:"+c.account(i), subscription(n), value)
				}
				return nil
			})
			if err != nil {
				return fmt.Errorf("store a crowd: %w", err)
			}
		}
	}
	return nil
}

func numbers(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

// produce writes the crowd's events until ctx is done.
func (c *crowding) produce(ctx context.Context, s *steady) error {
	client := s.w.kafka.Client()
	if c.perSecond == 0 {
		return nil
	}
	tick := time.NewTicker(time.Second / time.Duration(c.perSecond))
	defer tick.Stop()
	for t := 0; ; t++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		records := make([]kafka.Record, c.accounts)
		for i := range records {
			value := fmt.Appendf(nil, `{"accountId":"%s","channel":"EMAIL","type":"OPEN","trackingId":"crowd-%d","notificationId":"n","userId":"u"}`, c.account(i), t)
			records[i] = kafka.Record{Key: kafka.NewBytes([]byte(c.account(i))), Value: kafka.NewBytes(value)}
		}
		answer, err := client.Produce(ctx, &kafka.ProduceRequest{
			Topic: s.topic, Partition: t % s.ld.partitions, RequiredAcks: kafka.RequireOne, Records: kafka.NewRecordReader(records...),
		})
		if err == nil {
			err = answer.Error
		}
		if err != nil && !errors.Is(err, context.Canceled) {
			return fmt.Errorf("produce for a crowd: %w", err)
		}
	}
}

// produceBeside produces for the others, and for the crowd where there is one.
func (s *steady) produceBeside(ctx context.Context) error {
	if s.crowd == nil {
		return s.produce(ctx)
	}
	crowding, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- s.crowd.produce(crowding, s) }()
	err := s.produce(ctx)
	stop()
	return errors.Join(err, <-ended)
}
