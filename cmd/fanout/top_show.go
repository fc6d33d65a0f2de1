package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"fanout/cmd/internal/terminal"
	"fanout/operate"
)

// topPage is the look on a screen of that size: at most so many rows, and the keys on the last line.
func topPage(v *operate.Top, width, height, rows int, order string) []string {
	const besides = 4 // lines around the rows: the heading, what is left out, an empty one, the keys
	head := topHead(v, width)
	lines := topLines(v, width, max(1, min(rows, height-len(head)-besides)))
	lines = lines[:min(len(lines), max(0, height-1))]
	for len(lines) < height-1 {
		lines = append(lines, "")
	}
	return append(lines, topKeys(order))
}

// topKeys says what the keys do; the order in force is in brackets.
func topKeys(chosen string) string {
	keys := []string{"q:quit  sort by"}
	for _, order := range operate.TopOrders() {
		text := order[:1] + ":" + order
		if order == chosen {
			text = "[" + text + "]"
		}
		keys = append(keys, text)
	}
	return strings.Join(keys, " ")
}

// topLines is the look: what is known of the whole, then at most so many rows.
func topLines(v *operate.Top, width, rows int) []string {
	lines := topHead(v, width)
	if len(v.Rows) == 0 {
		return append(lines, terminal.Wrap(nothingToShow(v), width)...)
	}
	shown := v.Rows[:min(len(v.Rows), rows)]
	table := topTable(v, shown)
	body, _ := table.Lines(width)
	lines = append(lines, body...)
	if more := len(v.Rows) - len(shown); more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", more))
	}
	return lines
}

// nothingToShow is what to say without rows: no more than is known.
func nothingToShow(v *operate.Top) string {
	switch {
	case len(v.Answered) == 0:
		return "no instance answers: what is under way is unknown"
	case len(v.Silent) > 0:
		return "nothing is under way on the instances that answered"
	case v.Tiers && v.Waiting == nil:
		return "nothing is under way; what waits in the retry topics is unknown"
	case !v.Tiers:
		return "nothing is under way"
	}
	return "nothing is under way and nothing waits"
}

// topHead is what is known of the whole, and what is not.
func topHead(v *operate.Top, width int) (lines []string) {
	say := func(text string) { lines = append(lines, terminal.Wrap(terminal.Visible(text), width)...) }
	say(v.Time.Local().Format("15:04:05") + "  " + count(len(v.Answered), "instance") + " answered")
	for _, base := range slices.Sorted(maps.Keys(v.Silent)) {
		say("no answer: " + v.Silent[base])
	}
	for _, base := range slices.Sorted(maps.Keys(v.Notes)) {
		say(base + " says: " + v.Notes[base])
	}
	sums := "in flight " + orUnknown(v.InFlight) + "  queued " + orUnknown(v.Queued)
	if v.Tiers {
		sums += "  waiting in retry topics " + orUnknown(v.Waiting)
	}
	say(sums)
	switch {
	case v.TiersProblem != "" && v.TiersRead != nil:
		say("the retry topics are shown as of " + v.TiersRead.Local().Format("15:04:05") + ", they cannot be read: " + v.TiersProblem)
	case v.TiersProblem != "":
		say("the retry topics cannot be read: " + v.TiersProblem)
	case v.Tiers && v.TiersRead == nil:
		say("the retry topics are being read")
	}
	if v.StatesProblem != "" {
		say("how subscriptions are configured is unknown: " + v.StatesProblem)
	}
	return append(lines, "")
}

func topTable(v *operate.Top, rows []operate.TopRow) *terminal.Table {
	t := &terminal.Table{Columns: []terminal.Column{
		{Name: "SHARE", Right: true, Leave: 2},
		{Name: "ACCOUNT", Least: 8},
		{Name: "SUBSCRIPTION", Least: 8},
		{Name: "STATE"},
		{Name: "IN FLIGHT", Right: true},
		{Name: "QUEUED", Right: true, Leave: 4},
		{Name: "PACE/S", Right: true, Leave: 6},
	}}
	if v.Tiers {
		t.Columns = append(t.Columns, terminal.Column{Name: "WAITING", Right: true}, terminal.Column{Name: "TIERS", Least: 8, Leave: 3})
	}
	t.Columns = append(t.Columns,
		terminal.Column{Name: "OLDEST", Right: true, Leave: 5}, terminal.Column{Name: "FAILING", Right: true, Leave: 7}, terminal.Column{Name: "WHY", Least: 28, Leave: 1})
	for i := range rows {
		r := &rows[i]
		cells := []string{shareText(r.Share), r.Account, r.Subscription, r.State, orUnknown(r.InFlight), orUnknown(r.Queued), paceText(r.Pace)}
		if v.Tiers {
			cells = append(cells, orUnknown(r.Waiting), tierText(r.Tiers))
		}
		t.Rows = append(t.Rows, append(cells, age(v.Time, r.Oldest), age(v.Time, r.FailingSince), topWhy(r)))
	}
	return t
}

// topWhy is until when the subscription is held, and why.
func topWhy(r *operate.TopRow) string {
	if r.Until == nil {
		return r.Why
	}
	return strings.TrimSuffix("until "+r.Until.Local().Format("15:04:05")+": "+r.Why, ": ")
}

func orUnknown(n *int) string {
	if n == nil {
		return "?"
	}
	return strconv.Itoa(*n)
}

func shareText(share *float64) string {
	if share == nil {
		return "?"
	}
	return strconv.FormatFloat(100**share, 'f', 0, 64) + "%"
}

func paceText(pace *float64) string {
	if pace == nil {
		return "?"
	}
	return strconv.FormatFloat(*pace, 'f', 1, 64)
}

// tierText is what waits by tier, such as "30s:120 5m:7", the shortest first.
func tierText(tiers map[string]int) string {
	type tier struct {
		name  string
		delay time.Duration // 0 for the replay topic
		n     int
	}
	var all []tier
	for topic, n := range tiers {
		name := topic[strings.LastIndexByte(topic, '.')+1:]
		delay, _ := time.ParseDuration(name)
		all = append(all, tier{name, delay, n})
	}
	slices.SortFunc(all, func(a, b tier) int { return int(a.delay - b.delay) })
	parts := make([]string, len(all))
	for i, t := range all {
		parts[i] = t.name + ":" + strconv.Itoa(t.n)
	}
	return orDash(strings.Join(parts, " "))
}
