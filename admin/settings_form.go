package admin

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"fanout/event"
	"fanout/subscriptions"
)

// settingsForm is the settings' form as it was sent.
type settingsForm struct {
	catalogue *event.Catalogue
	values    url.Values
	fresh     bool   // for a new webhook
	taken     string // the webhook that has its name already
	bad       []badField

	headers map[string]string
	numbers map[string]json.RawMessage
	batch   map[string]any // empty: one request for each event
}

func (f *settingsForm) wrong(field, detail string) { f.bad = append(f.bad, badField{field, detail}) }

// check reads what is text in the form and something else in a subscription.
func (f *settingsForm) check() {
	f.headers, f.numbers = map[string]string{}, map[string]json.RawMessage{}
	for _, name := range []string{"maxInFlight", "maxPerSecond"} {
		text := strings.TrimSpace(f.values.Get(name))
		if text == "" {
			continue
		}
		if _, err := strconv.ParseFloat(text, 64); err != nil || !json.Valid([]byte(text)) {
			f.wrong(name, "enter a number")
			continue
		}
		f.numbers[name] = json.RawMessage(text)
	}
	f.checkBatch()
	for line := range strings.Lines(f.values.Get("headers")) {
		line = strings.TrimSpace(line)
		name, value, ok := strings.Cut(line, ":")
		switch name = strings.TrimSpace(name); {
		case line == "":
		case !ok || name == "":
			f.wrong("headers", "write one a line, as name: value")
		default:
			f.headers[name] = strings.TrimSpace(value)
		}
	}
}

// checkBatch reads how many events may be in one request, and how long they wait for others.
func (f *settingsForm) checkBatch() {
	most, wait := strings.TrimSpace(f.values.Get("batchMax")), strings.TrimSpace(f.values.Get("batchWait"))
	f.batch = map[string]any{}
	if most != "" {
		if _, err := strconv.Atoi(most); err != nil {
			f.wrong("batch.max", fmt.Sprintf("enter a whole number from %d to %d", subscriptions.MinBatch, subscriptions.MaxBatch))
			return
		}
		f.batch["max"] = json.RawMessage(most)
	}
	if wait != "" {
		f.batch["wait"] = wait
	}
}

// json is the form as a subscription (docs/contract.md#subscription-json). A new webhook gets a secret; of a stored one stays
// what the form does not have.
func (f *settingsForm) json(stored []byte) ([]byte, error) {
	sub := map[string]any{
		"url": strings.TrimSpace(f.values.Get("url")), "events": f.events(stored), "enabled": f.values.Has("enabled"), "headers": f.headers,
	}
	if f.values.Has("paused") {
		sub["paused"] = true
	}
	if text := f.values.Get("description"); text != "" {
		sub["description"] = text
	}
	if ids := f.filter(); len(ids) > 0 {
		sub["notificationIds"] = ids
	}
	for name, number := range f.numbers {
		sub[name] = number
	}
	if len(f.batch) > 0 {
		sub["batch"] = f.batch
	}
	if stored == nil {
		sub["secrets"] = []string{generate}
	}
	for name, raw := range f.notOnTheForm(stored) {
		sub[name] = raw
	}
	return json.Marshal(sub)
}

// every says whether the form asks for all events, those to come too.
func (f *settingsForm) every() bool { return f.values.Get("events") == "*" }

// events are the names that are ticked, or "*" where the form says so. A page that was opened before an upgrade does not say;
// then it stays stored where all are ticked.
func (f *settingsForm) events(stored []byte) []string {
	if f.every() {
		return []string{"*"}
	}
	var now storedForm
	if !f.values.Has("events") && json.Unmarshal(stored, &now) == nil && slices.Equal(now.Events, []string{"*"}) && len(f.values["event"]) == len(f.catalogue.Names()) {
		return now.Events
	}
	return append([]string{}, f.values["event"]...)
}

// filter are the notifications that are wanted, one a line; none: every one.
func (f *settingsForm) filter() (ids []string) {
	for line := range strings.Lines(f.values.Get("notificationIds")) {
		if id := strings.TrimSpace(line); id != "" {
			ids = append(ids, id)
		}
	}
	return ids
}

// notOnTheForm are the stored keys that fanout knows and the form does not have, as that of a page which was opened before an
// upgrade. A write keeps the others by itself.
func (f *settingsForm) notOnTheForm(stored []byte) map[string]json.RawMessage {
	var now, kept map[string]json.RawMessage
	if json.Unmarshal(stored, &now) != nil {
		return nil // nothing of it can be kept
	}
	kept = map[string]json.RawMessage{}
	onForm := []string{"url", "events", "enabled", "paused", "description", "headers", "maxInFlight", "maxPerSecond", "secrets", "secretExpiry"}
	if f.values.Has("batchMax") {
		onForm = append(onForm, "batch")
	}
	if f.values.Has("notificationIds") {
		onForm = append(onForm, "notificationIds")
	}
	for _, name := range subscriptions.Keys() {
		if raw, ok := now[name]; ok && !slices.Contains(onForm, name) {
			kept[name] = raw
		}
	}
	return kept
}
