package operate_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	"fanout/operate"
	"fanout/topic"
)

// counts are what a plan says of the dead letters, but for zeros.
func counts(p *operate.ReplayPlan) map[string]int {
	all := map[string]int{
		"send": p.Send, "sent": p.Sent, "replayed": p.Replayed, "own": p.Own, "later": p.Later, "delivered": p.Delivered, "waiting": p.Waiting, "older": p.Older,
		"malformed": p.Malformed, "unusable": p.Unusable, "notFound": p.NotFound, "uncertain": p.Uncertain,
	}
	for name, n := range all {
		if n == 0 {
			delete(all, name)
		}
	}
	return all
}

// A dead letter that a crash has written twice is sent once, whoever asks for which of the two; one of a later life is another.
func TestTwinsAreSentOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	now := time.Now()
	first, twin := w.letter(id(1), now), w.letter(id(1), now.Add(time.Second))
	other := w.letter(id(2), now)
	for range 2 { // without a webhook-id nobody can tell
		w.letter("", now)
		w.letter("", now, "fanout-reason", "malformed_event")
	}
	p, sent := w.replay(operate.ReplayConfig{Name: "one"})
	want(t, "one", counts(p), map[string]int{"send": 2, "older": 1, "malformed": 2, "unusable": 2})
	if slices.Sort(sent); !slices.Equal(sent, []string{twin, other}) {
		t.Errorf("sent %v, want %s and %s", sent, twin, other)
	}
	for _, name := range []string{"one", "two"} {
		key := map[string]string{"one": "sent", "two": "replayed"}[name]
		_, p = w.plan(operate.ReplayConfig{Name: name})
		want(t, "after it "+name, counts(p), map[string]int{key: 3, "malformed": 2, "unusable": 2})
		_, p = w.plan(operate.ReplayConfig{Name: name, Filter: topic.Filter{IDs: []string{first}}})
		want(t, name+" for the twin that was not sent", counts(p), map[string]int{key: 1})
	}
	// Both were written in its second life too.
	life := []string{"fanout-replays", "1", "fanout-replay", "one", "fanout-dead-letter", twin}
	w.letter(id(1), now.Add(time.Minute), life...)
	again := w.letter(id(1), now.Add(time.Minute), life...)
	p, sent = w.replay(operate.ReplayConfig{Name: "two"})
	want(t, "a second life", counts(p), map[string]int{"send": 1, "older": 1, "replayed": 3, "malformed": 2, "unusable": 2})
	if !slices.Equal(sent, []string{again}) {
		t.Errorf("sent %v, want %s", sent, again)
	}
	_, p = w.plan(operate.ReplayConfig{Name: "one"})
	want(t, "the first again", counts(p), map[string]int{"sent": 3, "own": 2, "malformed": 2, "unusable": 2})
}

// Again sends of all dead letters with a webhook-id the newest, whatever names sent the others, and nothing that is on its way.
func TestAgainSendsTheNewest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	now := time.Now()
	last := w.letter(id(1), now)
	for i, name := range []string{"one", "two", "three"} { // each is sent, and dies again
		if p, sent := w.replay(operate.ReplayConfig{Name: name}); p.Send != 1 || len(sent) != 1 {
			t.Fatalf("%s: %+v, sent %v", name, counts(p), sent)
		}
		w.settle("fanout.replay")
		last = w.letter(id(1), now.Add(time.Duration(i+1)*time.Minute), "fanout-replays", string(rune('1'+i)), "fanout-replay", name, "fanout-dead-letter", last)
	}
	_, p := w.plan(operate.ReplayConfig{Name: "three", Again: true})
	want(t, "its own", counts(p), map[string]int{"sent": 3, "own": 1})
	p, sent := w.replay(operate.ReplayConfig{Name: "four", Again: true})
	want(t, "four", counts(p), map[string]int{"send": 1, "older": 3})
	if !slices.Equal(sent, []string{last}) {
		t.Errorf("sent %v, want %s", sent, last)
	}
	_, p = w.plan(operate.ReplayConfig{Name: "four", Again: true})
	want(t, "four, resumed", counts(p), map[string]int{"sent": 4})
	_, p = w.plan(operate.ReplayConfig{Name: "five", Again: true})
	want(t, "while it waits on the replay topic", counts(p), map[string]int{"waiting": 4})
	w.settle("fanout.replay")
	w.write("fanout.retry.5s", 0, `{}`, "fanout-webhook-id", id(1))
	_, p = w.plan(operate.ReplayConfig{Name: "five", Again: true})
	want(t, "while it waits in a tier", counts(p), map[string]int{"waiting": 4})
	w.settle("fanout.retry.5s")
	w.delivered(id(1), now.Add(time.Hour))
	_, p = w.plan(operate.ReplayConfig{Name: "five", Again: true})
	want(t, "delivered", counts(p), map[string]int{"send": 1, "older": 3})
	_, p = w.plan(operate.ReplayConfig{Name: "five"})
	want(t, "delivered, and not again", counts(p), map[string]int{"replayed": 4})
}

// Whether a dead letter is from before a replay began is judged by the broker's clock: an instance's may be an hour ahead, or behind.
func TestResumedReplayHasOneClock(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, ahead := w.letter(id(1), time.Now()), w.letter(id(2), time.Now().Add(time.Hour))
	if _, sent := w.replay(operate.ReplayConfig{Name: "one", Filter: topic.Filter{IDs: []string{first}}}); len(sent) != 1 {
		t.Fatalf("sent %v", sent)
	}
	time.Sleep(2 * time.Millisecond) // the broker's clock goes on: it counts milliseconds
	w.letter(id(3), time.Now().Add(-time.Hour))
	p, sent := w.replay(operate.ReplayConfig{Name: "one"})
	want(t, "resumed", counts(p), map[string]int{"send": 1, "sent": 1, "later": 1})
	if slices.Sort(sent); !slices.Equal(sent, []string{first, ahead}) {
		t.Errorf("sent %v, want %s and %s", sent, first, ahead)
	}
}

// What became a dead letter since its tier's offsets were lost is sent, and counted apart: it may have been delivered.
func TestReplayOfWhatMayHaveBeenDelivered(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.letter(id(1), time.Now(), "fanout-reason", "expired", "fanout-detail", "the tier's offsets were lost, and it may have been delivered")
	w.letter(id(2), time.Now(), "fanout-reason", "expired", "fanout-detail", "older than 72h0m0s since it was first planned")
	_, p := w.plan(operate.ReplayConfig{Name: "one"})
	want(t, "the plan", counts(p), map[string]int{"send": 2, "uncertain": 1})
}

func want(t *testing.T, what string, got, want map[string]int) {
	t.Helper()
	if !maps.Equal(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}
