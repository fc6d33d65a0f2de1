package event

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unsafe"
)

// MaxDepth is how deep objects and arrays may nest in a record, the outermost one counted. A record that nests deeper is
// malformed (docs/contract.md#malformed).
const MaxDepth = 64

// maxAccount bounds accountId, in bytes: it is part of Kafka and Redis keys.
const maxAccount = 256

// Decode reads a record value. Its error is [ErrIgnored] or a [*MalformedError].
//
// Malformed wins: the whole record is checked before its type is looked up, so that a producer's mistake shows in
// records nobody waits for as well. The limit max_event_bytes is the caller's to check.
//
// The event's strings alias value, except those that were written with escapes.
func (d *Decoder) Decode(value []byte) (Event, error) {
	if value == nil {
		return Event{}, ErrIgnored
	}
	s := scanner{data: value}
	if len(d.payload) > 0 {
		s.extra = make([]found, len(d.payload))
	}
	if bad := s.document(d.root); bad != nil {
		return Event{}, bad
	}
	if d.channel != "" {
		s.found[channel] = found{kind: plainText, text: d.channel}
	}
	var text [required]string
	for f := range required {
		var problem string
		if text[f], problem = s.found[f].required(); problem != "" {
			return Event{}, &MalformedError{Field: fieldNames[f], Problem: problem}
		}
	}
	if problem := badAccount(text[accountID]); problem != "" {
		return Event{}, &MalformedError{Field: fieldNames[accountID], Problem: problem}
	}
	name, known := d.catalogue.Lookup(text[channel], d.alias(text[rawType]))
	switch {
	case !known:
		return Event{}, &MalformedError{Field: fieldNames[channel], Problem: fmt.Sprintf("unknown channel %.32q", text[channel])}
	case name == Name{}:
		return Event{}, ErrIgnored
	}
	return Event{
		Account: text[accountID], Name: name,
		TrackingID: text[trackingID], NotificationID: text[notificationID], UserID: text[userID],
		ID: s.found[id].id(), OccurredAt: s.found[occurredAt].time(), Extra: d.extra(s.extra),
	}, nil
}

func badAccount(account string) string {
	switch {
	case len(account) > maxAccount:
		return fmt.Sprintf("longer than %d bytes", maxAccount)
	case strings.ContainsFunc(account, unicode.IsControl):
		return "has a control character"
	}
	return ""
}

// kind says what stands at a field's path.
type kind uint8

const (
	absent kind = iota
	plainText
	escapedText
	integer
	fraction // a number that is not written as an integer
	boolean
	otherValue
)

// found is what stands at a field's path. text is a string's inside, or a number's or boolean's literal; it aliases the record.
type found struct {
	kind kind
	text string
}

// required is the field's text, or what is wrong with it.
func (f found) required() (text, problem string) {
	switch f.kind {
	case absent:
		return "", "missing"
	case integer, fraction, boolean, otherValue:
		return "", "not a string"
	case plainText, escapedText:
	}
	if f.text == "" {
		return "", "empty"
	}
	return f.string(), ""
}

// string is a string's value; empty where it is none.
func (f found) string() string {
	switch f.kind {
	case plainText:
		return f.text
	case escapedText:
		return unescape(f.text)
	case absent, integer, fraction, boolean, otherValue:
	}
	return ""
}

// id is the producer's event id: a string, or an integer's literal text. Empty counts as absent.
func (f found) id() string {
	if f.kind == integer {
		return f.text
	}
	return f.string()
}

// maxTime bounds the text of occurredAt: nine digits of a second are as many as a time can hold.
const maxTime = 64

// time is zero where the field is not an RFC 3339 time. The RFC lets T and Z be lower-case.
func (f found) time() time.Time {
	text := f.string()
	if text == "" || len(text) > maxTime {
		return time.Time{} // the library's error would cost an allocation
	}
	text = strings.ToUpper(text)
	var t time.Time
	if t.UnmarshalText(unsafe.Slice(unsafe.StringData(text), len(text))) != nil || !strictTime(text) {
		return time.Time{}
	}
	return t.UTC()
}

// strictTime refuses what the standard library takes beyond RFC 3339: an hour of one digit, a comma before the fraction,
// an offset that no clock has.
func strictTime(text string) bool {
	zone := text[len(text)-len("+23:59"):]
	return text[len("2006-01-02T15")] == ':' && text[len("2006-01-02T15:04:05")] != ',' &&
		(text[len(text)-1] == 'Z' || zone[1:3] <= "23" && zone[4:] <= "59")
}
