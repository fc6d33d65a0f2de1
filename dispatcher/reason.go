package dispatcher

// Reason says why an outcome is what it is. The lists are closed (docs/contract.md#outcomes-and-reasons):
// they are header values and metric labels.
type Reason uint8

// The reasons. NoReason belongs to Delivered and Abandoned.
const (
	NoReason Reason = iota

	// Dead.
	MalformedEvent
	AttemptsExhausted
	Expired
	Gone
	PermanentStatus
	BlockedDestination
	InvalidSubscription

	// Retry.
	StatusFailed
	Timeout
	DNS
	Connect
	TLS
	Connection

	// Deferred.
	QueueFull
	Parked
	Paused
	Rate
	RetryAfter
	Network
	UnknownEvent
	Shutdown

	// Discarded.
	Deleted
	Disabled
	Deselected

	reasons
)

// reasonTable names each reason, and the result it belongs to.
//
//nolint:gochecknoglobals // a constant table
var reasonTable = [reasons]struct {
	name string
	of   Result
}{
	NoReason: {"", Delivered},

	MalformedEvent:      {"malformed_event", Dead},
	AttemptsExhausted:   {"attempts_exhausted", Dead},
	Expired:             {"expired", Dead},
	Gone:                {"gone", Dead},
	PermanentStatus:     {"permanent_status", Dead},
	BlockedDestination:  {"blocked_destination", Dead},
	InvalidSubscription: {"invalid_subscription", Dead},

	StatusFailed: {"status", Retry},
	Timeout:      {"timeout", Retry},
	DNS:          {"dns", Retry},
	Connect:      {"connect", Retry},
	TLS:          {"tls", Retry},
	Connection:   {"connection", Retry},

	QueueFull:  {"queue", Deferred},
	Parked:     {"parked", Deferred},
	Paused:     {"paused", Deferred},
	Rate:       {"rate", Deferred},
	RetryAfter: {"retry_after", Deferred},
	Network:    {"network", Deferred},
	Shutdown:   {"shutdown", Deferred},

	UnknownEvent: {"unknown_event", Deferred},

	Deleted:    {"deleted", Discarded},
	Disabled:   {"disabled", Discarded},
	Deselected: {"deselected", Discarded},
}

// String is the reason as headers and metric labels carry it; empty for NoReason.
func (r Reason) String() string { return reasonTable[r].name }

// Of is the result that the reason belongs to.
func (r Reason) Of() Result { return reasonTable[r].of }

// Dead says whether a delivery, or a record, can be dead for the reason.
func (r Reason) Dead() bool { return r.Of() == Dead }

// ParseReason is the inverse of String; unknown text is NoReason and false.
func ParseReason(s string) (Reason, bool) {
	for r := NoReason + 1; r < reasons; r++ {
		if reasonTable[r].name == s {
			return r, true
		}
	}
	return NoReason, false
}

// ReasonNames lists every reason.
func ReasonNames() (names []string) {
	for r := NoReason + 1; r < reasons; r++ {
		names = append(names, r.String())
	}
	return names
}

// DeadReasons lists the reasons that dead letters have.
func DeadReasons() (names []string) {
	for r := range reasons {
		if r.Dead() {
			names = append(names, r.String())
		}
	}
	return names
}
