package admin

import (
	"fmt"
	"html/template"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// badge is a state in a word and a sign: its colour says nothing that they do not.
type badge struct{ Kind, Sign, Text string }

func good(text string) badge { return badge{"good", "✓", text} }
func warn(text string) badge { return badge{"warn", "!", text} }
func poor(text string) badge { return badge{"bad", "✕", text} }
func idle(text string) badge { return badge{"", "·", text} }

func laneBadge(state string) badge {
	switch state {
	case "parked":
		return poor(state)
	case "limited":
		return warn(state)
	}
	return warn("failing")
}

// outcomeBadge names the outcome, and the reason where no request was made for it.
func outcomeBadge(a *attempt) badge {
	text := a.Outcome
	if a.Attempt == 0 && a.Reason != "" {
		text += " (" + a.Reason + ")"
	}
	switch a.Outcome {
	case "delivered":
		return good(text)
	case "dead":
		return poor(text)
	case "retry":
		return warn("failed, retry")
	}
	return idle(text)
}

func testBadge(t *tested) badge {
	switch {
	case t.Outcome == "delivered":
		return good("delivered")
	case !t.Sent:
		return poor("not sent: " + t.Reason)
	}
	return poor("failed: " + t.Reason)
}

func replayBadge(state string) badge {
	switch state {
	case runDone:
		return good(state)
	case runFailed:
		return poor(state)
	case runCanceled:
		return warn(state)
	}
	return idle(state)
}

// functions are what the templates use.
func functions() template.FuncMap {
	return template.FuncMap{
		"good": good, "poor": poor, "idle": idle, "yes": func(b *bool) bool { return b != nil && *b }, "laneBadge": laneBadge, "testBadge": testBadge, "replayBadge": replayBadge,
		"iso":     func(t any) string { return moment(t).UTC().Format(time.RFC3339) },
		"date":    func(t any) string { return moment(t).UTC().Format("2006-01-02 15:04 MST") },
		"clock":   func(t any) string { return clock(moment(t), time.Now()) },
		"minute":  func(t time.Time) string { return t.UTC().Format("15:04") },
		"ago":     func(t any) string { return ago(time.Since(moment(t))) },
		"due":     func(t any) string { return due(time.Until(moment(t))) },
		"overdue": func(t any) string { return overdue(time.Until(moment(t))) },
		"timed":   timed,
		"after":   func(text, state string) string { return strings.TrimPrefix(text, state+": ") },
		"key":     key, "plural": plural, "sentence": sentence,
		"num": number,
		"ms": func(v *float64) string {
			if v == nil {
				return "–"
			}
			return millis(*v)
		},
		"ms3":   millis,
		"whole": wholeMillis,
		"wholeOf": func(v *float64) string {
			if v == nil {
				return "–"
			}
			return wholeMillis(*v)
		},
		"percent": func(v *float64) string {
			if v == nil {
				return "–"
			}
			return share(*v)
		},
		"seconds": func(v float64) string { return length(time.Duration(v * float64(time.Second))) },
		"anchor":  func(field string) string { return anchors[fieldOf(field)] },
		"label": func(field string) string {
			if l, ok := labels[fieldOf(field)]; ok {
				return l
			}
			return field
		},
	}
}

// anchors and labels are where a field is on the page, and what it is called there.
//
//nolint:gochecknoglobals // tables
var (
	anchors = map[string]string{
		"url": "url", "events": "events", "id": "id", "headers": "headers", "maxInFlight": "maxInFlight", "maxPerSecond": "maxPerSecond",
		"description": "description", "account": "account", "reason": "reason", "rate": "rate", "maxFailures": "max", "from": "from", "to": "to",
		"event": "event", "outcome": "outcome", "status": "status", "topic": "topic", "notificationIds": "notificationIds", "batchMax": "batchMax", "batchWait": "batchWait",
	}
	labels = map[string]string{
		"url": "Webhook URL", "events": "Events", "id": "Name", "account": "Account", "headers": "Request headers", "description": "Description",
		"maxInFlight": "Attempts at once", "maxPerSecond": "Attempts a second", "reason": "Reason", "rate": "Rate", "maxFailures": "Failures", "from": "From", "to": "To",
		"event": "Event", "outcome": "Outcome", "status": "HTTP status", "topic": "Source",
		"notificationIds": "Only these notifications", "batchMax": "Events in one request", "batchWait": "Wait for others",
	}
)

func moment(t any) time.Time {
	switch t := t.(type) {
	case time.Time:
		return t
	case *time.Time:
		if t != nil {
			return *t
		}
	}
	return time.Time{}
}

// ago says how long ago something was.
func ago(d time.Duration) string {
	if d < time.Second {
		return "now"
	}
	return length(d) + " ago"
}

// due says how far ahead something planned lies. Once its time has come it happens at the next opportunity: now.
func due(d time.Duration) string {
	if d < time.Second {
		return "now"
	}
	return "in " + length(d)
}

// lateAfter is how far what Kafka was asked may lag behind: offsets are committed every half second, and what is shown
// may be shownAsNow old.
const lateAfter = 10 * time.Second

// overdue is due for what is late when its time has passed.
func overdue(d time.Duration) string {
	if d < -lateAfter {
		return "overdue by " + length(-d)
	}
	return due(d)
}

// clock is a time in UTC, with the date where that is not today's.
func clock(t, now time.Time) string {
	t, now = t.UTC(), now.UTC()
	if t.YearDay() == now.YearDay() && t.Year() == now.Year() {
		return t.Format(time.TimeOnly)
	}
	return t.Format(time.DateTime)
}

// isoTime is a time as sentences for people and programs have it.
var isoTime = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`)

// timed is a sentence whose times are written as everywhere on the pages.
func timed(text string) template.HTML {
	var out strings.Builder
	now, from := time.Now(), 0
	for _, at := range isoTime.FindAllStringIndex(text, -1) {
		iso := text[at[0]:at[1]]
		t, err := time.Parse(time.RFC3339, iso)
		if err != nil {
			continue
		}
		out.WriteString(template.HTMLEscapeString(text[from:at[0]]))
		fmt.Fprintf(&out, `<time datetime="%s" title="%[1]s">%s UTC</time>`, iso, clock(t, now))
		from = at[1]
	}
	out.WriteString(template.HTMLEscapeString(text[from:]))
	return template.HTML(out.String()) //nolint:gosec // all of it is escaped, but for the times, which are ours
}

// plural is a number and what is counted: "1 webhook", "2 webhooks", "2 deliveries".
func plural(n int, one string) string {
	text := strconv.Itoa(n) + " "
	stem, y := strings.CutSuffix(one, "y")
	switch {
	case n == 1:
		return text + one
	case y:
		return text + stem + "ies"
	}
	return text + one + "s"
}

// sentence is an error's text as a page writes it: with a capital and a full stop.
func sentence(text string) string {
	first, size := utf8.DecodeRuneInString(text)
	if size == 0 {
		return ""
	}
	text = string(unicode.ToUpper(first)) + text[size:]
	if !strings.ContainsAny(text[len(text)-1:], ".?!:") {
		text += "."
	}
	return text
}

func length(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

func number(v float64) string {
	if v > 0 && v < 10 {
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(math.Round(v), 'f', 0, 64)
}

// share is a part of the whole.
func share(v float64) string { return strconv.FormatFloat(math.Floor(v*1000)/10, 'f', 1, 64) + " %" }

// wholeMillis is a duration of an attempts record, which has whole milliseconds.
func wholeMillis(v float64) string {
	switch {
	case v < 1:
		return "< 1 ms"
	case v < 10_000:
		return strconv.FormatFloat(math.Round(v), 'f', 0, 64) + " ms"
	}
	return strconv.FormatFloat(v/1000, 'f', 1, 64) + " s"
}

func millis(v float64) string {
	switch {
	case v < 0.1:
		return "< 0.1 ms"
	case v < 10:
		return strconv.FormatFloat(v, 'f', 1, 64) + " ms"
	case v < 10_000:
		return strconv.FormatFloat(v, 'f', 0, 64) + " ms"
	}
	return strconv.FormatFloat(v/1000, 'f', 1, 64) + " s"
}
