package event

import (
	"errors"
	"unicode/utf8"
)

// ErrIgnored says that a record is not meant for fanout: a null value, or a known channel with a type that no event
// name stands for. It is counted and never dead-lettered.
var ErrIgnored = errors.New("ignored")

// maxDetail bounds an error's text in bytes: it becomes the header fanout-detail, which has at most 512.
const maxDetail = 512

// MalformedError says that a record cannot be decoded, and why. Its record goes to the dead-letter topic.
type MalformedError struct {
	Field   string // the raw event's field, by its documented name (accountId); empty where the record as a whole is wrong
	Problem string
}

// Error is at most 512 bytes of readable UTF-8. It quotes at most a short piece of the record.
func (e *MalformedError) Error() string {
	text := "malformed event: " + e.Problem
	if e.Field != "" {
		text = "malformed event: " + e.Field + ": " + e.Problem
	}
	if len(text) <= maxDetail {
		return text
	}
	end := maxDetail
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end]
}
