package subscriptions

import (
	"cmp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap/zapcore"

	"fanout/event"
	"fanout/webhook"
)

// Subscription is an account's webhook. It never changes once published: another JSON makes another Subscription, and
// the same JSON is the [Subscription.Same] for as long as the process knows it, though perhaps at another address.
//
// A million of them have to fit in memory: all text lies in one string, one piece after the other, and what is seldom
// asked for (secrets, headers) is taken apart when it is asked for. The last piece stands at the end of the string, where
// other text may lie before it: subscriptions of a shard that name the same notifications share that piece.
type Subscription struct {
	text   string
	hash   uint64 // of the JSON it was made from
	serial uint32 // of its making in this process
	perSec float32
	flight int32

	batchMax, batchWait uint16 // see Batch; the wait is in milliseconds

	events event.Set
	length [pieces]uint16
	flags  uint8
	packed bool // the text is part of its shard's
}

// serials numbers subscriptions as they are made, from 1.
//
//nolint:gochecknoglobals // unique in the process, wherever a subscription is made
var serials atomic.Uint32

// Same says that nothing has changed between the two. Two that were made of the same JSON at different times, for
// instance before and after it was deleted, are not the same. Either may be nil.
func (s *Subscription) Same(other *Subscription) bool {
	return s == other || s != nil && other != nil && s.serial == other.serial && s.hash == other.hash
}

// Clone is the Same with text of its own: whoever keeps one for long would else keep the text of the sixty beside it, as
// it was then.
func (s *Subscription) Clone() *Subscription {
	own := *s
	own.text, own.packed = strings.Clone(s.whole()), false
	return &own
}

// whole is the text with nothing of others in it.
func (s *Subscription) whole() string { return s.head() + s.piece(pieceFilter) }

// head is the text without the last piece.
func (s *Subscription) head() string { return s.text[:s.size()-int(s.length[pieceFilter])] }

// size is the length of the text, in bytes, without what is not its own.
func (s *Subscription) size() int {
	size := 0
	for _, length := range s.length {
		size += int(length)
	}
	return size
}

// The pieces of text, in their order.
const (
	pieceAccount = iota
	pieceID
	pieceURL
	pieceSecrets // one a line: the secret, and the Unix seconds of its expiry where it has one
	pieceHeaders // name:value, one a line
	pieceNote    // the description; of an invalid one, what is wrong with it
	pieceFilter  // the notifications, one a line; the last one, see Subscription
	pieces
)

const (
	flagDisabled = 1 << iota
	flagPaused
	flagInvalid
	flagEvery   // it selects "*", or what it selects cannot be read
	flagFilters // it names notifications
	flagUnknown // it names events that the catalogue does not hold
	flagBatch   // of the snapshot file: the numbers of a batch follow
)

// Header is a header of the subscription's own. It prints its name only.
type Header struct {
	Name, Value string
}

// String is the header with its value masked.
func (h Header) String() string { return h.Name + ": " + mask }

// GoString is String: %#v shows no value either.
func (h Header) GoString() string { return h.String() }

func (s *Subscription) piece(n int) string {
	if n == pieceFilter {
		return s.text[len(s.text)-int(s.length[pieceFilter]):]
	}
	start := 0
	for _, length := range s.length[:n] {
		start += int(length)
	}
	return s.text[start : start+int(s.length[n])]
}

// Account is the tenant, the accountId of its events.
func (s *Subscription) Account() string { return s.text[:s.length[pieceAccount]] }

// ID is unique in its account only.
func (s *Subscription) ID() string { return s.piece(pieceID) }

// URL is where events go, as it was written; whether it may be called is the dispatcher's to judge.
func (s *Subscription) URL() string { return s.piece(pieceURL) }

// Events are the selected event names. Of an invalid subscription they are the ones it names, or all where that cannot
// be read.
func (s *Subscription) Events() event.Set { return s.events }

// SelectsEvery says whether it selects "*", whatever event names there are. An invalid subscription does so where the events
// that it names cannot be read.
func (s *Subscription) SelectsEvery() bool { return s.flags&flagEvery != 0 }

// NamesUnknown says whether it names events, too, that the catalogue does not hold. They select nothing.
func (s *Subscription) NamesUnknown() bool { return s.flags&flagUnknown != 0 }

// Filters says whether only some notifications are wanted.
func (s *Subscription) Filters() bool { return s.flags&flagFilters != 0 }

// WantsNotification says whether events of that notification are wanted.
func (s *Subscription) WantsNotification(id string) bool {
	if !s.Filters() {
		return true
	}
	for line := range strings.Lines(s.piece(pieceFilter)) {
		wanted := strings.TrimSuffix(line, "\n")
		if prefix, open := strings.CutSuffix(wanted, "*"); wanted == id || open && strings.HasPrefix(id, prefix) {
			return true
		}
	}
	return false
}

// SampleNotification is a notification that is wanted, for samples: the fallback, where every one is.
func (s *Subscription) SampleNotification(fallback string) string {
	ids := s.NotificationIDs()
	if len(ids) == 0 || s.WantsNotification(fallback) {
		return fallback
	}
	return cmp.Or(strings.TrimSuffix(ids[0], "*"), fallback)
}

// NotificationIDs are the notifications that are wanted, where only some are. The slice is a new one each time.
func (s *Subscription) NotificationIDs() []string {
	if !s.Filters() {
		return nil
	}
	return strings.Split(strings.TrimSuffix(s.piece(pieceFilter), "\n"), "\n")
}

// Enabled is false where the subscription is off: it gets no deliveries.
func (s *Subscription) Enabled() bool { return s.flags&flagDisabled == 0 }

// Paused holds deliveries back without dropping them.
func (s *Subscription) Paused() bool { return s.flags&flagPaused != 0 }

// MaxInFlight bounds the attempts at once; 0 where it asks for no bound.
func (s *Subscription) MaxInFlight() int { return int(s.flight) }

// MaxPerSecond bounds the attempts of all instances together; 0 where it asks for no bound.
func (s *Subscription) MaxPerSecond() float64 { return float64(s.perSec) }

// Secrets are what its deliveries are signed with, the first one first, each until its expiry: one that has expired is
// among them, and signs nothing. The slice is a new one each time: keep it.
func (s *Subscription) Secrets() []webhook.Secret {
	var list []webhook.Secret
	for line := range strings.Lines(s.piece(pieceSecrets)) {
		text, until, expires := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		secret, err := webhook.ParseSecret(text)
		if err != nil {
			continue // only what parsed has been kept
		}
		if expires {
			unix, _ := strconv.ParseInt(until, 10, 64) // it has been written from a number
			secret = secret.Until(time.Unix(unix, 0))
		}
		list = append(list, secret)
	}
	return list
}

// Headers are its own headers, sorted by name. The slice is a new one each time: keep it.
func (s *Subscription) Headers() []Header {
	var list []Header
	for line := range strings.Lines(s.piece(pieceHeaders)) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		list = append(list, Header{name, value})
	}
	return list
}

// Description is the owner's own words.
func (s *Subscription) Description() string {
	if s.flags&flagInvalid != 0 {
		return ""
	}
	return s.piece(pieceNote)
}

// Invalid says what is wrong with a subscription that does not validate and has no last good version. It is empty for
// every other one. Deliveries to an invalid subscription are dead (invalid_subscription).
func (s *Subscription) Invalid() string {
	if s.flags&flagInvalid == 0 {
		return ""
	}
	return s.piece(pieceNote)
}

// String names the subscription and nothing that is private to it.
func (s *Subscription) String() string {
	if s == nil {
		return "<nil>"
	}
	return s.Account() + "/" + s.ID()
}

// GoString is String: %#v shows no secret either.
func (s *Subscription) GoString() string { return s.String() }

// MarshalLogObject logs what String shows, and the state.
func (s *Subscription) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	enc.AddString("account", s.Account())
	enc.AddString("subscription", s.ID())
	enc.AddBool("enabled", s.Enabled())
	enc.AddBool("paused", s.Paused())
	if invalid := s.Invalid(); invalid != "" {
		enc.AddString("invalid", invalid)
	}
	return nil
}
