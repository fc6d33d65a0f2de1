package main

import (
	"fmt"
	"io"
	"strings"

	"fanout/cmd/internal/terminal"
	"fanout/operate"
)

// showExplained shows a person what explain has found out, of each record.
func showExplained(w io.Writer, all ...*operate.Explained) {
	for i, out := range all {
		if i > 0 {
			fmt.Fprintln(w)
		}
		showRecord(w, out)
	}
}

func showRecord(w io.Writer, out *operate.Explained) {
	if out.Record != "" {
		state := "not settled yet"
		if *out.Committed {
			state = "settled"
		}
		fmt.Fprintf(w, "record   %s, appended %s, %s\n", out.Record, clock(out.Appended), state)
	}
	fmt.Fprintf(w, "result   %s", out.Result)
	if out.Problem != "" {
		fmt.Fprintf(w, ": %s", terminal.Visible(out.Problem))
	}
	fmt.Fprintln(w)
	if out.DeadLetter != "" {
		fmt.Fprintf(w, "         dead letter %s; `fanout deadletter show %s`\n", out.DeadLetter, out.DeadLetter)
	}
	if out.Event == nil {
		return
	}
	ev := map[string]string{}
	for key, value := range out.Event {
		ev[key] = terminal.Visible(value)
	}
	fmt.Fprintf(w, "event    %s of account %s: trackingId %s, notificationId %s, userId %s", ev["name"], ev["account"], ev["trackingId"], ev["notificationId"], ev["userId"])
	if ev["id"] != "" {
		fmt.Fprintf(w, ", id %s", ev["id"])
	}
	fmt.Fprintln(w)
	if len(out.Subscriptions) == 0 {
		fmt.Fprintln(w, "\nthe account has no subscription")
	}
	for i := range out.Subscriptions {
		showMatch(w, &out.Subscriptions[i])
	}
}

func showMatch(w io.Writer, m *operate.ExplainedSubscription) {
	mark := "✗"
	switch {
	case m.Match && m.Problem != "":
		mark = "!"
	case m.Match:
		mark = "✓"
	}
	fmt.Fprintf(w, "\n%s %s  %s\n", mark, terminal.Visible(m.Subscription), terminal.Visible(m.Why))
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "  %-10s %s\n", name, terminal.Visible(value))
		}
	}
	if m.Problem != "" {
		line("problem", "a dead letter at once: "+m.Problem)
	}
	line("webhook-id", m.ID)
	line("now", m.Where)
	line("lane", m.Lane)
	if m.Trace != nil && len(m.Trace.Attempts) > 0 {
		showTrace(w, m.Trace)
	}
	if m.Curl != "" {
		fmt.Fprintf(w, "  request    (signed for now; not sent)\n    %s\n", strings.ReplaceAll(terminal.VisibleLines(m.Curl), "\n", "\n    "))
	}
}
