package event

import (
	"fmt"
	"regexp"
	"slices"
)

// The bounds of the payload's further keys (docs/contract.md#more-payload-keys).
const (
	MaxPayload      = 16      // keys
	MaxPayloadValue = 8 << 10 // bytes of a value; a longer one counts as absent
)

// Extra is a further key of the payload and its value, which the raw event has.
type Extra struct {
	Key   string
	Value string // a string's text; a number or boolean as the record writes it
	Text  bool   // it is a string
}

var wellFormedPayloadKey = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`)

// PayloadKeyProblem says what keeps a key from following the five; empty where nothing does. before are those before it.
func PayloadKeyProblem(key string, before []string) string {
	five := []string{"eventType", "trackingId", "notificationId", "channel", "userId"}
	switch same := func(other string) bool { return equalFold(other, key) }; {
	case !wellFormedPayloadKey.MatchString(key):
		return "want a letter or _ and up to 63 of A-Z a-z 0-9 _, as in failureCode"
	case slices.ContainsFunc(five, same):
		return "the payload has this key already: name further ones only"
	case equalFold(key, "id"):
		return "id is the webhook-id's key in batches: give the value another name, with the path in the source's fields"
	case slices.ContainsFunc(before, same):
		return "given twice; case does not count here, as it does not in a source's fields"
	case len(before) >= MaxPayload:
		return fmt.Sprintf("more than %d keys", MaxPayload)
	}
	return ""
}

// extra are the further keys that the record has a value for.
func (d *Decoder) extra(values []found) []Extra {
	if len(values) == 0 {
		return nil
	}
	list := make([]Extra, 0, len(values))
	for i, f := range values {
		e := Extra{Key: d.payload[i], Value: f.text}
		switch f.kind {
		case absent, otherValue:
			continue
		case plainText, escapedText:
			e.Value, e.Text = f.string(), true
		case integer, fraction, boolean:
		}
		if len(e.Value) <= MaxPayloadValue {
			list = append(list, e)
		}
	}
	return list
}
