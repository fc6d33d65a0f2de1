package topic

import (
	"encoding/json"
	"slices"
)

// EndpointEvent is a record of the events topic: something about an endpoint has changed (docs/contract.md#endpoint-events).
// Its key is that of the endpoint's other records.
type EndpointEvent struct {
	Time         int64  `json:"time"` // Unix ms
	Kind         string `json:"kind"`
	Account      string `json:"account"`
	Subscription string `json:"subscription"`
	Detail       string `json:"detail"`
	Actor        string `json:"actor"`
	From         string `json:"from,omitempty"`     // the address that the actor asked from
	Instance     string `json:"instance,omitempty"` // whose lane it is about, or which counted
}

// The kinds of endpoint events.
const (
	KindParked      = "parked"
	KindOpened      = "opened"
	KindGone        = "gone"
	KindInvalid     = "invalid"
	KindValid       = "valid"
	KindDead        = "dead"
	KindCreated     = "created"
	KindUpdated     = "updated"
	KindDeleted     = "deleted"
	KindRotated     = "rotated"
	KindPaused      = "paused"
	KindResumed     = "resumed"
	KindReplay      = "replay"
	KindReleased    = "released"
	KindResent      = "resent"
	KindBackfill    = "backfill"
	KindAccepted    = "accepted"
	KindLinkCreated = "link_created"
	KindLinkRevoked = "link_revoked"
)

// EndpointKinds lists the kinds of endpoint events.
func EndpointKinds() []string {
	return []string{
		KindParked, KindOpened, KindGone, KindInvalid, KindValid, KindDead, KindCreated, KindUpdated, KindDeleted, KindRotated, KindPaused,
		KindResumed, KindReplay, KindReleased, KindResent, KindBackfill, KindAccepted, KindLinkCreated, KindLinkRevoked,
	}
}

// ActorFanout is the actor of what nobody has asked for.
const ActorFanout = "fanout"

// Record is the key and the value of the event's record.
func (e *EndpointEvent) Record() (key, value []byte) {
	value, err := json.Marshal(e)
	if err != nil {
		value = []byte("{}") // strings and numbers always marshal
	}
	if e.Account == "" {
		return []byte{}, value
	}
	return []byte(e.Account + "/" + e.Subscription), value
}

// ParseEndpointEvent reads a record of the events topic; false where it is not one.
func ParseEndpointEvent(value []byte) (EndpointEvent, bool) {
	var e EndpointEvent
	err := json.Unmarshal(value, &e)
	return e, err == nil && slices.Contains(EndpointKinds(), e.Kind)
}
