package dispatcher

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"sync/atomic"
	"time"

	"fanout/event"
	"fanout/subscriptions"
)

// TestResult is the result of a test event.
type TestResult struct {
	Request  string // the request as it was, or would have been, sent; secrets and own header values are masked
	Sent     bool   // a request was made, or tried; else Detail says why not
	Result   Result
	Reason   Reason
	Status   int // 0 where none came
	Took     time.Duration
	Detail   string
	Response []byte // at most 1 KiB
}

// ErrTestLimit is why a test event is not sent: as many are in flight, or wait, as the subscription's and the process's
// limits allow.
var ErrTestLimit = errors.New("too many test events at once: the limits of the webhook leave no room for this one; try again later")

// maxTestsWaiting bounds the test events that wait in one lane.
const maxTestsWaiting = 64

// testEvent is a sample on its way. It settles its own delivery.
type testEvent struct {
	sub      *subscriptions.Subscription
	req      *request
	deadline time.Time
	begun    atomic.Bool
	head     []byte // of the request
	body     []byte
	done     chan Outcome
}

// asTest is the test event that a delivery of stageTest belongs to.
func asTest(del *Delivery) *testEvent {
	t, _ := del.Settler.(*testEvent)
	return t
}

// Settle implements Settler.
func (t *testEvent) Settle(_ *Delivery, out Outcome) { t.done <- out }

// Test sends one signed sample event to the subscription, in one attempt. It is for whoever wants to see what the receiver
// answers: it goes out although the lane is parked, held or paused, and the lane learns nothing from it. But it takes its turn:
// the subscription's in-flight limit and maxPerSecond hold for it, and the process's permits, of which one is kept for test
// events. It needs no Run.
//
// It takes no longer than delivery.timeout for its turn and as long for the attempt, nor longer than ctx allows. Where its
// turn does not come the error is ErrTestLimit, or the cause of ctx.
func (d *Dispatcher) Test(ctx context.Context, sub *subscriptions.Subscription, name event.Name) (TestResult, error) {
	if ctx.Err() != nil {
		return TestResult{}, context.Cause(ctx)
	}
	req := d.renderer.request(sub)
	if invalid := sub.Invalid(); invalid != "" {
		return TestResult{Result: Dead, Reason: InvalidSubscription, Detail: Detail(invalid)}, nil
	}
	if req.blocked != "" {
		return TestResult{Result: Dead, Reason: BlockedDestination, Detail: Detail(req.blocked)}, nil
	}
	t := &testEvent{sub: sub, req: req, done: make(chan Outcome, 1)}
	t.deadline, _ = ctx.Deadline()
	del := sample(sub, name, time.Now())
	del.Stage, del.Settler = stageTest, t
	now := time.Now()
	l := d.lanes.get(laneKey{del.Account, del.Subscription})
	if l.sub == nil {
		d.follower.adopt(l, sub, now)
	}
	if l.queue.tests >= maxTestsWaiting {
		l.mu.Unlock()
		return TestResult{}, ErrTestLimit
	}
	l.used = now
	d.workers.proceed(l, &del, noPermit, now)
	turn := time.NewTimer(d.cfg.Delivery.Timeout)
	defer turn.Stop()
	for {
		select {
		case out := <-t.done:
			return t.result(&out)
		case <-turn.C:
			if !t.begun.Load() && del.Claim() {
				return TestResult{}, ErrTestLimit
			}
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) && t.begun.Load() {
				out := <-t.done // the attempt has the same deadline
				return t.result(&out)
			}
			del.Claim()
			return TestResult{}, context.Cause(ctx)
		}
	}
}

func (t *testEvent) result(out *Outcome) (TestResult, error) {
	if out.Reason == Shutdown || out.Reason == Network {
		return TestResult{}, errors.New("the test event was not sent: this instance stops, or its network is away")
	}
	return TestResult{
		Request: maskHead(t.head, t.sub) + string(t.body), Sent: out.Reason != BlockedDestination,
		Result: out.Result, Reason: out.Reason, Status: out.Status, Took: out.Took, Detail: out.Detail, Response: out.Response,
	}, nil
}

// begin notes that the attempt begins, and returns its deadline.
func (t *testEvent) begin(head, body []byte, deadline time.Time) time.Time {
	t.head, t.body = bytes.Clone(head), bytes.Clone(body)
	t.begun.Store(true)
	if !t.deadline.IsZero() && t.deadline.Before(deadline) {
		return t.deadline
	}
	return deadline
}

// sample is a delivery that says it is a test. Its webhook-id is new each time: receivers drop what they have seen.
func sample(sub *subscriptions.Subscription, name event.Name, now time.Time) Delivery {
	ev := event.Event{
		Account: sub.Account(), Name: name, ID: "fanout-test-" + rand.Text(),
		TrackingID: "test-tracking-id", NotificationID: sub.SampleNotification("test-notification"), UserID: "test-user",
	}
	return Delivery{
		ID: WebhookID(&ev, Origin{}, sub.ID()), Account: ev.Account, Subscription: sub.ID(), Event: name,
		Body: Body(&ev), FirstSeen: now,
	}
}
