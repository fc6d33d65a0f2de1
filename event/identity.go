package event

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of the two names that identify a subscription (docs/contract.md#identity), in bytes. Both are parts of keys in Kafka and
// Redis, and of file names and URLs.
const (
	MaxAccount      = 256
	MaxSubscription = 64
)

// ValidAccount says whether it may be an account's id: 1 to MaxAccount bytes of UTF-8 without control characters.
func ValidAccount(id string) bool {
	return id != "" && len(id) <= MaxAccount && utf8.ValidString(id) && !strings.ContainsFunc(id, unicode.IsControl)
}

// ValidSubscription says whether it may be a subscription's id: 1 to MaxSubscription characters, each of them A-Z, a-z, 0-9 or one of . _ - only.
func ValidSubscription(id string) bool {
	if id == "" || len(id) > MaxSubscription {
		return false
	}
	for _, c := range []byte(id) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}
