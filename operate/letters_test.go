package operate_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"fanout/operate"
	"fanout/topic"
)

// list is what a list shows of each dead letter, and what it leaves out.
func (w *world) list(open bool, limit int) (shown []string, out *operate.ListedLetters) {
	w.t.Helper()
	ranges, err := w.DeadLetters().Ranges(w.t.Context(), &topic.Filter{})
	must(w.t, err)
	out, err = operate.List(w.t.Context(), w.Cluster, &operate.LetterList{Ranges: ranges, Open: open, Limit: limit}, func(d operate.ListedLetter) error {
		shown = append(shown, d.Position()+" "+string(d.State))
		return nil
	})
	must(w.t, err)
	return shown, out
}

// states are those of all dead letters, as they are counted.
func (w *world) states() (states map[operate.LetterState]int, total int) {
	w.t.Helper()
	ranges, err := w.DeadLetters().Ranges(w.t.Context(), &topic.Filter{})
	must(w.t, err)
	groups, _, err := operate.CountDeadLetters(w.t.Context(), w.Cluster, &operate.StatsConfig{Ranges: ranges})
	must(w.t, err)
	if len(groups) == 0 {
		return nil, 0
	}
	return groups[0].States, groups[0].Count
}

// A dead letter is open until it, or its twin, is replayed, repaired or delivered. One that died in a later life is open again, and where the topics
// do not reach nobody knows.
func TestOpenDeadLetters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	died := time.Now().Add(-time.Second)
	malformed := []string{"fanout-reason", "malformed_event", "fanout-origin", "channel.email/0/0"}
	w.write("channel.email", 0, "{")
	w.delivered(id(9), died)
	want := make(map[string]operate.LetterState)
	want[w.letter(id(1), died)] = operate.LetterOpen
	first := w.letter(id(2), died)
	want[first] = operate.LetterReplayed
	want[w.letter(id(2), died)] = operate.LetterReplayed // its twin
	w.replay(operate.ReplayConfig{Name: "one", Filter: topic.Filter{IDs: []string{first}}})
	want[w.letter(id(2), died, "fanout-replays", "1", "fanout-replay", "one", "fanout-dead-letter", first)] = operate.LetterOpen // died again
	want[w.letter(id(3), died)] = operate.LetterDelivered
	w.delivered(id(3), died.Add(time.Millisecond))
	want[w.letter(id(4), died)] = operate.LetterOpen
	w.delivered(id(4), died.Add(-time.Millisecond)) // before it died: a crash repeated it
	want[w.letter(id(5), died)] = operate.LetterReplayed
	time.Sleep(2 * time.Millisecond) // the broker's clock goes on
	w.write("fanout.replay", 0, "{}", "fanout-webhook-id", id(5), "fanout-replay", "resend-1")
	want[w.letter(id(6), died.Add(-time.Hour))] = operate.LetterUnknown
	want[w.letter(id(7), died, "fanout-origin", "channel.email/1/7")] = operate.LetterUnknown
	gap, err := json.Marshal(topic.AttemptsGap{Kind: topic.KindGap, Source: "channel.email/1", From: 5, To: 9, Time: time.Now().UnixMilli()})
	must(t, err)
	w.write("fanout.attempts", 0, string(gap))
	want[w.letter("", died, malformed...)] = operate.LetterOpen
	repaired := w.letter("", died, malformed...)
	want[repaired] = operate.LetterReplayed
	w.write("channel.email", 0, "{}", "fanout-dead-letter", repaired)

	shown, out := w.list(false, 0)
	if len(shown) != len(want) || out.More {
		t.Errorf("%d shown, %+v", len(shown), out)
	}
	counts := make(map[operate.LetterState]int)
	var open []string
	for _, line := range shown {
		var position, state string
		if _, err := fmt.Sscanf(line, "%s %s", &position, &state); err != nil || string(want[position])[:3] != state[:3] {
			t.Errorf("%s, want %s", line, want[position])
		}
		counts[want[position]]++
		if want[position] == operate.LetterOpen {
			open = append(open, line)
		}
	}
	if got, out := w.list(true, 0); !slices.Equal(got, open) || out.Unknown != 2 || out.Since.IsZero() {
		t.Errorf("open: %v, %+v; want %v", got, out, open)
	}
	if got, out := w.list(true, 2); !slices.Equal(got, open[:2]) || !out.More {
		t.Errorf("two open: %v, %+v", got, out)
	}
	if got, out := w.list(false, 3); !slices.Equal(got, shown[:3]) || !out.More {
		t.Errorf("three: %v, %+v", got, out)
	}
	states, total := w.states()
	if total != len(want) || len(states) != 4 {
		t.Errorf("%d in %v, want %d", total, states, len(want))
	}
	for state, n := range states {
		if counts[state] != n {
			t.Errorf("%s: %d, want %d", state, n, counts[state])
		}
	}
}

// Behind the first page, too, each is listed once and in its state; and without attempts nothing is open, since nobody knows.
func TestManyDeadLettersAreJudged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	died := time.Now()
	const all = 350
	for i := range all {
		w.letter(id(i), died.Add(-time.Duration(all-i)*time.Millisecond))
	}
	if got, out := w.list(true, 0); len(got) != 0 || out.Unknown != all || !out.Since.IsZero() {
		t.Errorf("without attempts: %d open, %+v", len(got), out)
	}
	w.delivered(id(all-1), died) // of the first page
	w.delivered(id(0), died)     // and of the last
	got, out := w.list(true, 0)
	if len(got) != all-2 || out.Unknown != 0 || out.More {
		t.Errorf("%d open, %+v", len(got), out)
	}
	if slices.Sort(got); len(slices.Compact(got)) != all-2 {
		t.Error("some are listed twice")
	}
}
