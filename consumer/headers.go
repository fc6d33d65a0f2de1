package consumer

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/segmentio/kafka-go"

	"fanout/dispatcher"
	"fanout/event"
)

// The headers of retry, replay and dead-letter records, all readable text (DESIGN.md section 4).
const (
	headerWebhookID    = "fanout-webhook-id"
	headerAccount      = "fanout-account"
	headerSubscription = "fanout-subscription"
	headerEvent        = "fanout-event"
	headerAttempts     = "fanout-attempts"    // POSTs made so far
	headerNotBefore    = "fanout-not-before"  // Unix ms
	headerFirstSeen    = "fanout-first-seen"  // Unix ms
	headerOrigin       = "fanout-origin"      // topic/partition/offset
	headerReason       = "fanout-reason"      // of the last attempt or decision
	headerDetail       = "fanout-detail"      // at most 512 bytes
	headerStatus       = "fanout-status"      // the last HTTP status
	headerDeadAt       = "fanout-dead-at"     // Unix ms
	headerReplays      = "fanout-replays"     // how often it has been replayed
	headerReplay       = "fanout-replay"      // the name of the replay
	headerDeadLetter   = "fanout-dead-letter" // partition/offset of the dead letter it was replayed from
	headerTruncated    = "fanout-truncated"   // the original size, of a value that the broker refused as too large
	headerTraceParent  = "traceparent"
	headerTraceState   = "tracestate"
)

// Bounds of what is taken from a retry or replay record, into which anybody may have written.
const (
	maxHeaders     = 64
	maxHeaderBytes = 4096
	maxTrace       = 512
)

// deliveryHeaders are the headers of a delivery's next record.
func deliveryHeaders(d *dispatcher.Delivery, out *dispatcher.Outcome, notBefore time.Time) []kafka.Header {
	attempts := d.Attempts
	if out.Attempted {
		attempts++
	}
	status := cmp.Or(out.Status, d.Last.Status) // the last one ever, also where the last attempt got none
	h := make([]kafka.Header, 0, 18)
	add := func(key, value string) { h = append(h, kafka.Header{Key: key, Value: []byte(value)}) }
	add(headerWebhookID, d.ID)
	add(headerAccount, d.Account)
	add(headerSubscription, d.Subscription)
	add(headerEvent, d.Event.String())
	add(headerAttempts, strconv.Itoa(attempts))
	add(headerNotBefore, unixMilli(notBefore))
	add(headerFirstSeen, unixMilli(d.FirstSeen))
	add(headerOrigin, d.Origin.String())
	add(headerReason, out.Reason.String())
	add(headerDetail, out.Detail)
	if status != 0 {
		add(headerStatus, strconv.Itoa(status))
	}
	if d.TraceParent != "" {
		add(headerTraceParent, d.TraceParent)
		if d.TraceState != "" {
			add(headerTraceState, d.TraceState)
		}
	}
	if d.Replay != "" {
		add(headerReplay, d.Replay)
		add(headerDeadLetter, d.DeadLetter)
	}
	if d.Replays > 0 {
		add(headerReplays, strconv.Itoa(d.Replays))
	}
	return h
}

func unixMilli(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }

// recordKey is the key of retry, replay and dead-letter records.
func recordKey(d *dispatcher.Delivery) []byte {
	return []byte(d.Account + "/" + d.Subscription)
}

// decodeDelivery reads a retry or replay record. Its error says what is wrong with it, and is nobody's fault but the
// writer's: such a record is a dead letter.
func decodeDelivery(m *message, stage dispatcher.Stage) (dispatcher.Delivery, error) {
	d := dispatcher.Delivery{Stage: stage, Body: m.value, AppendedAt: m.time}
	if len(m.headers) > maxHeaders {
		return d, fmt.Errorf("it has %d headers; at most %d are taken", len(m.headers), maxHeaders)
	}
	if len(m.value) == 0 {
		return d, errors.New("it has no value")
	}
	if !utf8.Valid(m.value) {
		return d, errors.New("its value is no UTF-8")
	}
	for i := range m.headers {
		if h := &m.headers[i]; len(h.Value) > maxHeaderBytes {
			return d, fmt.Errorf("header %s has %d bytes; at most %d are taken", clip(h.Key, 64), len(h.Value), maxHeaderBytes)
		}
	}
	var ok bool
	var errs [6]error
	d.ID, d.Account, d.Subscription = m.header(headerWebhookID), m.header(headerAccount), m.header(headerSubscription)
	d.Attempts, errs[0] = decodeCount(m.header(headerAttempts))
	d.FirstSeen, errs[1] = decodeTime(m.header(headerFirstSeen))
	d.Origin, errs[2] = ParseOrigin(m.header(headerOrigin))
	d.NotBefore, errs[3] = optional(m.header(headerNotBefore), decodeTime)
	d.Last.Status, errs[4] = optional(m.header(headerStatus), decodeStatus)
	d.Replays, errs[5] = optional(m.header(headerReplays), decodeCount)
	d.Event, ok = event.ParseName(m.header(headerEvent))
	switch {
	case !validID(d.ID):
		return d, unusable(headerWebhookID)
	case !validAccount(d.Account):
		return d, unusable(headerAccount)
	case !validSubscription(d.Subscription):
		return d, unusable(headerSubscription)
	case !ok:
		return d, unusable(headerEvent)
	}
	for i, name := range [...]string{headerAttempts, headerFirstSeen, headerOrigin, headerNotBefore, headerStatus, headerReplays} {
		if errs[i] != nil {
			return d, unusable(name)
		}
	}
	d.Last.Reason, _ = dispatcher.ParseReason(m.header(headerReason))
	d.Last.Detail = clip(m.header(headerDetail), 512)
	d.Replay = clip(m.header(headerReplay), 256)
	if d.Replay != "" {
		d.DeadLetter = clip(m.header(headerDeadLetter), 64)
	}
	if d.TraceParent = traceValue(m.header(headerTraceParent)); d.TraceParent != "" {
		d.TraceState = traceValue(m.header(headerTraceState))
	}
	return d, nil
}

// header is the text of a header; of one given twice the last counts (DESIGN.md section 4).
func (m *message) header(key string) string {
	for _, h := range slices.Backward(m.headers) {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

// optional reads a header that need not be there.
func optional[T any](s string, decode func(string) (T, error)) (value T, err error) {
	if s == "" {
		return value, nil
	}
	return decode(s)
}

func unusable(header string) error {
	return fmt.Errorf("header %s is missing or not usable", header)
}

// validAccount says whether it is one that an event may have (DESIGN.md section 2).
func validAccount(s string) bool {
	return s != "" && len(s) <= 256 && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// validID says whether a webhook-id is one that fanout makes: it becomes an HTTP header.
func validID(s string) bool {
	if len(s) != 30 || !strings.HasPrefix(s, "msg_") {
		return false
	}
	for _, c := range []byte(s[4:]) {
		if (c < 'a' || c > 'z') && (c < '2' || c > '7') {
			return false
		}
	}
	return true
}

func validSubscription(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

func decodeCount(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return 0, errors.New("is no count")
	}
	return int(n), nil
}

func decodeStatus(s string) (int, error) {
	n, err := decodeCount(s)
	if err == nil && (n < 100 || n > 999) {
		err = errors.New("is no HTTP status")
	}
	return n, err
}

func decodeTime(s string) (time.Time, error) {
	ms, err := strconv.ParseInt(s, 10, 64)
	if err != nil || ms < 0 || ms > 1<<48 {
		return time.Time{}, errors.New("is no time in Unix milliseconds")
	}
	return time.UnixMilli(ms), nil
}

// ParseOrigin reads topic/partition/offset.
func ParseOrigin(s string) (dispatcher.Origin, error) {
	bad := errors.New("is no topic/partition/offset")
	rest, offset, ok := cutLast(s)
	if !ok {
		return dispatcher.Origin{}, bad
	}
	topic, partition, ok := cutLast(rest)
	if !ok || topic == "" {
		return dispatcher.Origin{}, bad
	}
	p, err := strconv.ParseUint(partition, 10, 31)
	if err != nil {
		return dispatcher.Origin{}, bad
	}
	o, err := strconv.ParseUint(offset, 10, 63)
	if err != nil {
		return dispatcher.Origin{}, bad
	}
	return dispatcher.Origin{Topic: topic, Partition: int(p), Offset: int64(o)}, nil
}

func cutLast(s string) (before, after string, found bool) {
	i := strings.LastIndexByte(s, '/')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// traceValue is a traceparent or tracestate that may become an HTTP header; empty where it may not.
func traceValue(s string) string {
	if len(s) > maxTrace {
		return ""
	}
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' {
			return ""
		}
	}
	return s
}

// clip shortens text to at most n bytes, at a rune's end.
func clip(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.ToValidUTF8(s, "")
}
