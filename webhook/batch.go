package webhook

import (
	"bytes"
	"encoding/json"
)

// A batch is a JSON array of payloads, each with its webhook-id as its first key (docs/contract.md#batch-body).

// BatchID is the webhook-id of a request that has the deliveries with these ids in its body, in this order. It is fixed for
// ever too: the same deliveries in the same order make the same id.
func BatchID(ids []string) string { return hashID(ids...) }

// AppendElement appends the payload, a JSON object, as an element of a batch. What is not an object is appended as it is.
func AppendElement(dst []byte, id string, payload []byte) []byte {
	payload = bytes.TrimSpace(payload)
	if len(payload) == 0 || payload[0] != '{' {
		return append(dst, payload...)
	}
	dst = append(append(append(dst, `{"id":"`...), id...), '"')
	rest := bytes.TrimLeft(payload[1:], " \t\r\n")
	if len(rest) > 0 && rest[0] != '}' {
		dst = append(dst, ',')
	}
	return append(dst, rest...)
}

// ElementOverhead is how many bytes an element of a batch has beside its payload, the comma after it included.
const ElementOverhead = len(`"id":"",,`) + idLength

// BatchMembers are the ids of the deliveries of a batch's body; none where it is not one of fanout's.
func BatchMembers(body []byte) (ids []string) {
	var elements []struct {
		ID string `json:"id"`
	}
	if json.Unmarshal(body, &elements) != nil {
		return nil
	}
	for _, e := range elements {
		if !ValidID(e.ID) {
			return nil
		}
		ids = append(ids, e.ID)
	}
	return ids
}
