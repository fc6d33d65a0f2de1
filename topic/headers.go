package topic

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"fanout/dispatcher"
	"fanout/event"
	"fanout/webhook"
)

// The headers of retry, replay and dead-letter records, all readable text (docs/contract.md#retry-record).
const (
	HeaderWebhookID    = "fanout-webhook-id"
	HeaderAccount      = "fanout-account"
	HeaderSubscription = "fanout-subscription"
	HeaderEvent        = "fanout-event"
	HeaderAttempts     = "fanout-attempts"      // POSTs made so far
	HeaderNotBefore    = "fanout-not-before"    // Unix ms
	HeaderFirstSeen    = "fanout-first-seen"    // Unix ms
	HeaderGroup        = "fanout-group"         // the consumer group that wrote it
	HeaderOrigin       = "fanout-origin"        // topic/partition/offset
	HeaderReason       = "fanout-reason"        // of the last attempt or decision
	HeaderDetail       = "fanout-detail"        // at most 512 bytes
	HeaderStatus       = "fanout-status"        // the last HTTP status
	HeaderDeadAt       = "fanout-dead-at"       // Unix ms
	HeaderReplays      = "fanout-replays"       // how often it has been replayed
	HeaderReplay       = "fanout-replay"        // the name of the replay
	HeaderDeadLetter   = "fanout-dead-letter"   // partition/offset of the dead letter it was replayed from
	HeaderTruncated    = "fanout-truncated"     // the original size, of a value that the broker refused as too large
	HeaderBatchMax     = "fanout-batch-max"     // the bound of the delivery's next batch
	HeaderBatchRefused = "fanout-batch-refused" // true: its last answer was a 4xx that halves batches
	HeaderTraceParent  = "traceparent"
	HeaderTraceState   = "tracestate"
)

// Bounds of what is taken from a retry or replay record, into which anybody may have written.
const (
	maxHeaders     = 64
	maxHeaderBytes = 4096
	maxTrace       = 512
	MaxDetail      = 512 // of fanout-detail, in bytes
	MaxReplayName  = 256 // of fanout-replay
	maxGroup       = 256 // of fanout-group
)

// DeliveryHeaders are the headers of a delivery's next record, which the group writes.
func DeliveryHeaders(group string, d *dispatcher.Delivery, out *dispatcher.Outcome, notBefore time.Time) []Header {
	attempts := d.Attempts
	if out.Attempted {
		attempts++
	}
	status := cmp.Or(out.Status, d.Last.Status) // the last one ever, also where the last attempt got none
	h := make([]Header, 0, 21)
	add := func(key, value string) { h = append(h, Header{Key: key, Value: []byte(value)}) }
	add(HeaderWebhookID, d.ID)
	add(HeaderAccount, d.Account)
	add(HeaderSubscription, d.Subscription)
	add(HeaderEvent, d.Event.String())
	add(HeaderAttempts, strconv.Itoa(attempts))
	add(HeaderNotBefore, UnixMilli(notBefore))
	add(HeaderFirstSeen, UnixMilli(d.FirstSeen))
	add(HeaderGroup, group)
	add(HeaderOrigin, d.Origin.String())
	add(HeaderReason, out.Reason.String())
	add(HeaderDetail, out.Detail)
	if status != 0 {
		add(HeaderStatus, strconv.Itoa(status))
	}
	if d.TraceParent != "" {
		add(HeaderTraceParent, d.TraceParent)
		if d.TraceState != "" {
			add(HeaderTraceState, d.TraceState)
		}
	}
	batchMax, refused := d.BatchMax, d.BatchRefused
	if out.Attempted {
		batchMax, refused = out.BatchMax, out.BatchRefused
	}
	if batchMax > 0 {
		add(HeaderBatchMax, strconv.Itoa(batchMax))
	}
	if refused {
		add(HeaderBatchRefused, "true")
	}
	if d.Replay != "" {
		add(HeaderReplay, d.Replay)
		if d.DeadLetter != "" { // a backfilled or resent one has none
			add(HeaderDeadLetter, d.DeadLetter)
		}
	}
	if d.Replays > 0 {
		add(HeaderReplays, strconv.Itoa(d.Replays))
	}
	return h
}

// UnixMilli is a time as headers carry it.
func UnixMilli(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }

// RecordKey is the key of retry, replay and dead-letter records.
func RecordKey(d *dispatcher.Delivery) []byte {
	return []byte(d.Account + "/" + d.Subscription)
}

// ParseKey is the account and the subscription of a record's key. A subscription's id has no slash.
func ParseKey(key []byte) (account, subscription string) {
	account, subscription, _ = cutLast(string(key))
	return account, subscription
}

// DecodeDelivery reads a retry or replay record. The delivery's body is the record's value, and its event may be one that the
// catalogue does not hold (docs/contract.md#unknown-event-names). Its error says what is wrong with
// the record, which becomes a dead letter then: anybody may write to these topics (docs/contract.md#foreign-records).
func DecodeDelivery(c *event.Catalogue, r *Record, stage dispatcher.Stage) (dispatcher.Delivery, error) {
	d := dispatcher.Delivery{Stage: stage, Body: r.Value, AppendedAt: r.Time}
	if len(r.Headers) > maxHeaders {
		return d, fmt.Errorf("it has %d headers; at most %d are taken", len(r.Headers), maxHeaders)
	}
	if len(r.Value) == 0 {
		return d, errors.New("it has no value")
	}
	if !utf8.Valid(r.Value) {
		return d, errors.New("its value is not UTF-8")
	}
	for i := range r.Headers {
		if h := &r.Headers[i]; len(h.Value) > maxHeaderBytes {
			return d, fmt.Errorf("header %s has %d bytes; at most %d are taken", Clip(h.Key, 64), len(h.Value), maxHeaderBytes)
		}
	}
	var ok bool
	var errs [7]error
	d.ID, d.Account, d.Subscription = r.Header(HeaderWebhookID), r.Header(HeaderAccount), r.Header(HeaderSubscription)
	d.Attempts, errs[0] = decodeCount(r.Header(HeaderAttempts))
	d.FirstSeen, errs[1] = DecodeTime(r.Header(HeaderFirstSeen))
	d.Origin, errs[2] = ParseOrigin(r.Header(HeaderOrigin))
	d.NotBefore, errs[3] = optional(r.Header(HeaderNotBefore), DecodeTime)
	d.Last.Status, errs[4] = optional(r.Header(HeaderStatus), decodeStatus)
	d.Replays, errs[5] = optional(r.Header(HeaderReplays), decodeCount)
	d.BatchMax, errs[6] = optional(r.Header(HeaderBatchMax), decodeCount)
	d.BatchRefused = r.Header(HeaderBatchRefused) == "true"
	d.Event, ok = c.ParseAny(r.Header(HeaderEvent))
	switch {
	case !webhook.ValidID(d.ID):
		return d, unusable(HeaderWebhookID)
	case !event.ValidAccount(d.Account):
		return d, unusable(HeaderAccount)
	case !event.ValidSubscription(d.Subscription):
		return d, unusable(HeaderSubscription)
	case !ok:
		return d, unusable(HeaderEvent)
	}
	for i, name := range [...]string{HeaderAttempts, HeaderFirstSeen, HeaderOrigin, HeaderNotBefore, HeaderStatus, HeaderReplays, HeaderBatchMax} {
		if errs[i] != nil {
			return d, unusable(name)
		}
	}
	d.Last.Reason, _ = dispatcher.ParseReason(r.Header(HeaderReason))
	d.Last.Detail = Clip(r.Header(HeaderDetail), MaxDetail)
	d.Replay = Clip(r.Header(HeaderReplay), MaxReplayName)
	if d.Replay != "" {
		d.DeadLetter = Clip(r.Header(HeaderDeadLetter), 64)
	}
	if d.TraceParent = traceValue(r.Header(HeaderTraceParent)); d.TraceParent != "" {
		d.TraceState = traceValue(r.Header(HeaderTraceState))
	}
	return d, nil
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

func decodeCount(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return 0, errors.New("not a count")
	}
	return int(n), nil
}

func decodeStatus(s string) (int, error) {
	n, err := decodeCount(s)
	if err == nil && (n < 100 || n > 999) {
		err = errors.New("not an HTTP status")
	}
	return n, err
}

// DecodeTime reads a time as headers carry it.
func DecodeTime(s string) (time.Time, error) {
	ms, err := strconv.ParseInt(s, 10, 64)
	if err != nil || ms < 0 || ms > 1<<48 {
		return time.Time{}, errors.New("not a time in Unix milliseconds")
	}
	return time.UnixMilli(ms), nil
}

// ParseOrigin reads topic/partition/offset.
func ParseOrigin(s string) (dispatcher.Origin, error) {
	bad := errors.New("is not a topic/partition/offset")
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

// Clip shortens text to at most n bytes of UTF-8, at a rune's end.
func Clip(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.ToValidUTF8(s, "")
}
