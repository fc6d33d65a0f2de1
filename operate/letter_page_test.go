package operate_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"testing"
	"time"

	"fanout/operate"
	"fanout/operate/letters"
	"fanout/topic"
)

// indexed is an index that has caught up, and no longer follows.
func (w *world) indexed(memory int64) *letters.Builder {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	b := letters.NewBuilder(w.Cluster, letters.Config{Memory: memory}, nil)
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if s := b.Status(); s.Records >= 0 && s.Unread == 0 {
			break
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("the index is not built: %+v", b.Status())
		}
	}
	cancel()
	must(w.t, <-ended)
	return b
}

// dies appends a dead letter of an account to a partition.
func (w *world) dies(partition int, account, subscription, reason, body string, at time.Time) string {
	w.t.Helper()
	return w.write("fanout.dead-letter", partition, body, "fanout-webhook-id", id(int(at.UnixMilli()%1_000_000)), "fanout-account", account, "fanout-subscription", subscription,
		"fanout-event", "EMAIL_OPEN", "fanout-origin", "channel.email/0/1", "fanout-reason", reason, "fanout-dead-at", topic.UnixMilli(at), "fanout-replays", "0")
}

// pages are the places of all dead letters that a query finds, page by page, and what the first page says.
func (w *world) pages(q operate.LetterQuery) (found []string, first *operate.LetterPage) {
	w.t.Helper()
	for range 100 {
		page, err := operate.FindLetters(w.t.Context(), w.Cluster, &q)
		must(w.t, err)
		if first == nil {
			first = page
		}
		for _, one := range page.Letters {
			found = append(found, one.Position())
			if len(one.Value) == 0 {
				w.t.Errorf("%s has no body", one.Position())
			}
		}
		if q.Cursor = page.Cursor; q.Cursor == "" {
			return found, first
		}
	}
	w.t.Fatal("the pages have no end")
	return nil, nil
}

// What an index finds is what a scan of the topic finds: each dead letter once, the same counts, and what died after the index was built too.
func TestIndexedPagesAreThoseOfAScan(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	at := time.UnixMilli(1_800_000_000_000)
	var b *letters.Builder
	want := map[string][]string{}
	for i := range 700 {
		at = at.Add(time.Duration(i%7-1) * time.Millisecond) // clocks differ
		account := []string{"few", "many", "many", "many"}[i%4]
		if account == "few" && i > 40 && i < 690 {
			account = "others"
		}
		place := w.dies(i%2, account, "hook-"+strconv.Itoa(i%3), []string{"expired", "gone"}[i%5/4], fmt.Sprintf(`{"n":"%d-"}`, i), at)
		want[account] = append(want[account], place)
		if i == 650 {
			b = w.indexed(0)
		}
	}
	for name, q := range map[string]operate.LetterQuery{
		"few": {Filter: topic.Filter{Account: "few"}}, "many": {Filter: topic.Filter{Account: "many"}}, "nobody": {Filter: topic.Filter{Account: "nobody"}},
		"one webhook": {Filter: topic.Filter{Account: "many", Subscription: "hook-1"}}, "a reason": {Filter: topic.Filter{Account: "many", Reasons: []string{"gone"}}},
		"a text": {Filter: topic.Filter{Account: "few"}, Text: `"n":"1`}, "a text of many": {Filter: topic.Filter{Account: "many"}, Text: `"n":"1`},
		"no event": {Filter: topic.Filter{Account: "few", Event: "SMS_FAILED"}}, "a time": {Filter: topic.Filter{Account: "many", Until: at.Add(-time.Second)}},
	} {
		q.Limit = 30
		scanned, plain := w.pages(q)
		q.Index = b
		found, page := w.pages(q)
		if plain.Indexed || !page.Indexed {
			t.Errorf("%s: indexed %t, and %t without one", name, page.Indexed, plain.Indexed)
		}
		unique := slices.Compact(slices.Sorted(slices.Values(found)))
		if len(unique) != len(found) || !slices.Equal(unique, slices.Sorted(slices.Values(scanned))) {
			t.Errorf("%s: %d found, %d of them different, %d by a scan", name, len(found), len(unique), len(scanned))
		}
		if all := want[name]; all != nil && len(found) != len(all) {
			t.Errorf("%s: %d found, %d died", name, len(found), len(all))
		}
		if !plain.Counted || plain.Matched != len(scanned) {
			t.Errorf("%s: a scan counts %d (all %t) of %d", name, plain.Matched, plain.Counted, len(scanned))
		}
		if page.Counted && (page.Matched != plain.Matched || !slices.Equal(page.Groups, plain.Groups)) {
			t.Errorf("%s: the index counts %d %v, a scan %d %v", name, page.Matched, page.Groups, plain.Matched, plain.Groups)
		}
		if !page.Counted && name != "a text of many" && name != "a time" {
			t.Errorf("%s is not counted", name)
		}
	}
	// Who does not fit into the index is looked for in the topic.
	if found, page := w.pages(operate.LetterQuery{Filter: topic.Filter{Account: "few"}, Limit: 30, Index: w.indexed(10)}); page.Indexed || len(found) != len(want["few"]) {
		t.Errorf("without room in the index: %d, indexed %t", len(found), page.Indexed)
	}
}

// A search that is ended says how far it came, and goes on there.
func TestLetterSearchThatIsEndedGoesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	at := time.UnixMilli(1_800_000_000_000)
	for i := range 60 {
		w.dies(i%2, []string{"acme", "others"}[i/40], "hook", "gone", "{}", at.Add(time.Duration(i)*time.Millisecond))
	}
	q := operate.LetterQuery{Filter: topic.Filter{Account: "acme"}, Limit: 100, Patience: 1}
	page, err := operate.FindLetters(t.Context(), w.Cluster, &q)
	must(t, err)
	if !page.Unfinished || page.Cursor == "" || page.Counted || page.Total != 60 || page.Read >= 60 || page.Partitions != 2 {
		t.Errorf("ended: %+v", page)
	}
	q.Patience, q.Cursor = time.Minute, page.Cursor
	if found, page := w.pages(q); len(found) != 40 || page.Unfinished || page.Read != 60 || page.Finished != 2 {
		t.Errorf("gone on: %d, %+v", len(found), page)
	}
	if _, err := operate.FindLetters(t.Context(), w.Cluster, &operate.LetterQuery{Limit: 1, Cursor: "x"}); err == nil {
		t.Error("a cursor that nobody gave is taken")
	}
	// A partition that has come since the first page has nothing older than that page.
	if found, _ := w.pages(operate.LetterQuery{Limit: 100, Cursor: "0.10"}); len(found) != 10 {
		t.Errorf("behind a cursor of one partition: %d, want its 10", len(found))
	}
}

// Open and settled dead letters are told apart page by page, as `deadletter list --open` tells them.
func TestOpenLettersPageByPage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	died := time.Now()
	w.delivered(id(1000), died.Add(-time.Minute)) // the attempts topic begins before they died
	state := map[string]operate.LetterState{}
	for i := range 260 {
		place := w.letter(id(i), died.Add(time.Duration(i)*time.Millisecond))
		if state[place] = operate.LetterOpen; i%13 == 0 {
			w.delivered(id(i), died.Add(time.Minute))
			state[place] = operate.LetterSettled
		}
	}
	for _, index := range []*letters.Builder{nil, w.indexed(0)} {
		for _, asked := range []operate.LetterState{operate.LetterOpen, operate.LetterSettled} {
			found, page := w.pages(operate.LetterQuery{Filter: topic.Filter{Account: "acme"}, State: asked, Limit: 50, Index: index})
			var want []string
			for place := range maps.Keys(state) {
				if state[place] == asked {
					want = append(want, place)
				}
			}
			if got := slices.Sorted(slices.Values(found)); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
				t.Errorf("%s: %d found, want %d", asked, len(got), len(want))
			}
			if page.Since.IsZero() {
				t.Error("since when what was delivered is known is not said")
			}
		}
	}
}
