package admin

import (
	"crypto/hkdf"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
)

// How keys come from admin.token (docs/contract.md#derived-keys). These never change: another value would end every link
// and session. A portal link is in a customer's hands, who may try tokens against it: each try costs as much as one
// derivation.
const (
	derivationSalt   = "fanout admin.token v2"
	derivationRounds = 600_000
	keyBytes         = 32
)

// MinToken is the least length of a token that others can try, in characters.
const MinToken = 32

// NewToken makes a token of 52 letters and digits, from 260 random bits.
func NewToken() string { return rand.Text() + rand.Text() }

// Keys are derived from admin.token, one for each purpose: what is made for one purpose is not valid for another. The zero
// Keys are those of an instance without a token: there are none. They are safe for concurrent use.
type Keys struct{ master []byte }

// DeriveKeys derives the keys of a token: PBKDF2 with HMAC-SHA256, 600 000 rounds and a fixed salt, then HKDF-SHA256 for
// each purpose. It takes a good part of a second.
func DeriveKeys(token string) Keys {
	if token == "" {
		return Keys{}
	}
	master, err := pbkdf2.Key(sha256.New, token, []byte(derivationSalt), derivationRounds, keyBytes)
	if err != nil { // the parameters are fixed, and right
		return Keys{}
	}
	return Keys{master}
}

// Purposes of keys.
const (
	forPortal    = "portal link"
	forCookie    = "portal cookie"
	forSession   = "session"
	forNotice    = "notice"
	forSettings  = "settings mark"
	forHeartbeat = "heartbeat"
	forInstance  = "instance"
)

// Heartbeat is the key of what instances announce in their heartbeats; nil without a token.
func (k Keys) Heartbeat() []byte { return k.For(forHeartbeat) }

// For is the key for one purpose; nil without a token.
func (k Keys) For(purpose string) []byte {
	if k.master == nil {
		return nil
	}
	key, err := hkdf.Expand(sha256.New, k.master, "fanout "+purpose, keyBytes)
	if err != nil { // the length is right
		return nil
	}
	return key
}

// orRandom is the key for one purpose. Without a token there is one instance, on this machine, with a key of its own.
func (k Keys) orRandom(purpose string) []byte {
	if key := k.For(purpose); key != nil {
		return key
	}
	key := make([]byte, keyBytes)
	_, _ = rand.Read(key) // never fails
	return key
}
