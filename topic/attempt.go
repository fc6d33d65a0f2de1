package topic

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"fanout/dispatcher"
)

// HeaderOutcome is the outcome of a record of the attempts topic. With HeaderWebhookID, which such a record has too, it lets readers
// pass over records whose JSON they need not parse (docs/contract.md#attempts-record).
const HeaderOutcome = "fanout-outcome"

// Attempt is one record of the attempts topic: an attempt, or a decision not to make one. Its key is the account.
type Attempt struct {
	Time           int64  `json:"time"` // Unix ms, when it was decided
	ID             string `json:"id"`   // webhook-id
	Account        string `json:"account"`
	Subscription   string `json:"subscription"`
	Event          string `json:"event"`
	TrackingID     string `json:"trackingId,omitempty"` // these four are of the payload
	NotificationID string `json:"notificationId,omitempty"`
	UserID         string `json:"userId,omitempty"`
	Channel        string `json:"channel,omitempty"`
	Origin         string `json:"origin"`
	Stage          string `json:"stage"`
	Outcome        string `json:"outcome"`
	Reason         string `json:"reason,omitempty"`
	Attempt        int    `json:"attempt,omitempty"` // which POST of the delivery this was; 0: none was made
	Status         int    `json:"status,omitempty"`
	TookMillis     int64  `json:"tookMs,omitempty"`
	Batch          string `json:"batch,omitempty"`     // webhook-id of the request, where the delivery went out in a batch
	BatchSize      int    `json:"batchSize,omitempty"` // how many deliveries that had
	Detail         string `json:"detail,omitempty"`
	Response       string `json:"response,omitempty"` // at most the first KiB
	Replay         string `json:"replay,omitempty"`
	DeadLetter     string `json:"deadLetter,omitempty"`
	Instance       string `json:"instance,omitempty"` // which process decided it
}

// AttemptWriter writes attempts as they lie in the attempts topic.
type AttemptWriter struct {
	Instance string
	Response bool // keep the first KiB of answers
}

// Append appends the JSON of what became of a delivery, at the time now. It is the same as that of an Attempt, and written by hand, since
// there is one record an attempt.
func (w *AttemptWriter) Append(b []byte, d *dispatcher.Delivery, out *dispatcher.Outcome, now time.Time) []byte {
	b = strconv.AppendInt(append(b, `{"time":`...), now.UnixMilli(), 10)
	b = appendText(b, `,"id":`, d.ID)
	b = appendText(b, `,"account":`, d.Account)
	b = appendText(b, `,"subscription":`, d.Subscription)
	b = appendText(b, `,"event":`, d.Event.String())
	b = appendPayload(b, d.Body)
	b = append(b, `,"origin":`...)
	end := len(b)
	b = appendText(b, "", d.Origin.Topic)
	b = strconv.AppendInt(append(b[:max(len(b)-1, end)], '/'), int64(d.Origin.Partition), 10)
	b = append(strconv.AppendInt(append(b, '/'), d.Origin.Offset, 10), '"')
	b = appendText(b, `,"stage":`, d.Stage.String())
	b = appendText(b, `,"outcome":`, out.Result.String())
	b = appendOptional(b, `,"reason":`, out.Reason.String())
	if out.Attempted {
		b = appendNumber(b, `,"attempt":`, int64(d.Attempts)+1)
	}
	b = appendNumber(b, `,"status":`, int64(out.Status))
	b = appendNumber(b, `,"tookMs":`, out.Took.Milliseconds())
	b = appendOptional(b, `,"batch":`, out.Batch)
	b = appendNumber(b, `,"batchSize":`, int64(out.BatchSize))
	b = appendOptional(b, `,"detail":`, out.Detail)
	if w.Response && len(out.Response) > 0 {
		b = appendText(b, `,"response":`, string(out.Response))
	}
	b = appendOptional(b, `,"replay":`, d.Replay)
	b = appendOptional(b, `,"deadLetter":`, d.DeadLetter)
	return append(appendOptional(b, `,"instance":`, w.Instance), '}')
}

func appendNumber(b []byte, key string, n int64) []byte {
	if n == 0 {
		return b
	}
	return strconv.AppendInt(append(b, key...), n, 10)
}

func appendOptional(b []byte, key, text string) []byte {
	if text == "" {
		return b
	}
	return appendText(b, key, text)
}

// appendText appends a key and a JSON string.
func appendText(b []byte, key, text string) []byte {
	b = append(b, key...)
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return appendQuoted(b, text)
		}
	}
	return append(append(append(b, '"'), text...), '"')
}

func appendQuoted(b []byte, text string) []byte {
	var quoted bytes.Buffer
	encoder := json.NewEncoder(&quoted)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(strings.ToValidUTF8(text, "\ufffd")); err != nil {
		return append(b, `""`...) // a string always can be encoded
	}
	return append(b, bytes.TrimSuffix(quoted.Bytes(), []byte("\n"))...)
}

// appendPayload appends the keys of a payload that deliveries are looked for by. Those that are written as fanout writes them are copied
// as they are; anybody may have written to a retry topic, and of what is not a payload none are kept.
func appendPayload(b, body []byte) []byte {
	if plain, ok := plainPayload(body); ok {
		return append(append(b, ','), plain...)
	}
	var p struct {
		TrackingID     string `json:"trackingId"`
		NotificationID string `json:"notificationId"`
		Channel        string `json:"channel"`
		UserID         string `json:"userId"`
	}
	if json.Unmarshal(body, &p) != nil {
		return b
	}
	b = appendOptional(b, `,"trackingId":`, p.TrackingID)
	b = appendOptional(b, `,"notificationId":`, p.NotificationID)
	b = appendOptional(b, `,"channel":`, p.Channel)
	return appendOptional(b, `,"userId":`, p.UserID)
}

// plainPayload is the part of a body from trackingId to userId, where it has the form of a payload and its texts nothing that is escaped.
func plainPayload(body []byte) (part []byte, ok bool) {
	rest, begin := body, 0
	for i, key := range [...]string{`{"eventType":"`, `"trackingId":"`, `"notificationId":"`, `"channel":"`, `"userId":"`} {
		if len(rest) < len(key) || string(rest[:len(key)]) != key {
			return nil, false
		}
		rest = rest[len(key):]
		end := bytes.IndexByte(rest, '"')
		if end < 0 || end+1 >= len(rest) || !unescaped(rest[:end]) {
			return nil, false
		}
		rest = rest[end+1:]
		switch i {
		case 0:
			begin = len(body) - len(rest) + 1
		case 4:
			return body[begin : len(body)-len(rest)], true
		}
		if rest[0] != ',' {
			return nil, false
		}
		rest = rest[1:]
	}
	return nil, false
}

// unescaped says whether text may stand in a JSON string as it is.
func unescaped(text []byte) bool {
	ascii := true
	for _, c := range text {
		if c < ' ' || c == '\\' {
			return false
		}
		ascii = ascii && c < utf8.RuneSelf
	}
	// JSON's encoder escapes these two; AttemptText must find what stands there.
	return ascii || utf8.Valid(text) && !bytes.Contains(text, []byte("\u2028")) && !bytes.Contains(text, []byte("\u2029"))
}

// AccountPartition is the partition of the attempts topic, of a topic of that size, in which an account's records lie while it can be
// written. It is the one that Java's clients choose for the key.
func AccountPartition(account string, size int) int {
	return int(murmur2(account)&0x7fffffff) % size
}

// murmur2 is the hash of Java's clients.
func murmur2(key string) uint32 {
	const m, r = 0x5bd1e995, 24
	h := uint32(0x9747b28c) ^ uint32(len(key))
	for ; len(key) >= 4; key = key[4:] {
		k := (uint32(key[0]) | uint32(key[1])<<8 | uint32(key[2])<<16 | uint32(key[3])<<24) * m
		k = (k ^ k>>r) * m
		h = h*m ^ k
	}
	for i := len(key) - 1; i >= 0; i-- {
		h ^= uint32(key[i]) << (8 * i)
	}
	if len(key) > 0 {
		h *= m
	}
	h = (h ^ h>>13) * m
	return h ^ h>>15
}

// ParseAttempt reads the value of a record of the attempts topic; false where it is not an attempt.
func ParseAttempt(value []byte) (Attempt, bool) {
	var a Attempt
	err := json.Unmarshal(value, &a)
	return a, err == nil && a.ID != "" && a.Outcome != ""
}

// AttemptsGap is a record of the attempts topic that says for which source records attempts are missing there: the topic could not be
// written. It has no key, and no header.
type AttemptsGap struct {
	Kind     string `json:"kind"`   // KindGap
	Source   string `json:"source"` // topic/partition of the records that the deliveries were planned from
	From     int64  `json:"from"`   // the first offset, and
	To       int64  `json:"to"`     // the last
	Time     int64  `json:"time"`   // Unix ms, when it was written
	Instance string `json:"instance,omitempty"`
}

// KindGap is the kind of an AttemptsGap.
const KindGap = "gap"

// ParseAttemptsGap reads the value of a record of the attempts topic; false where it is not a gap's mark.
func ParseAttemptsGap(value []byte) (AttemptsGap, bool) {
	if !bytes.HasPrefix(value, []byte(`{"kind":`)) {
		return AttemptsGap{}, false
	}
	var g AttemptsGap
	err := json.Unmarshal(value, &g)
	return g, err == nil && g.Kind == KindGap && g.Source != "" && g.From >= 0 && g.To >= g.From
}

// InBatch says in which batch the delivery went out; empty where it went out by itself.
func (a *Attempt) InBatch() string { return InBatch(a.Batch, a.BatchSize) }

// InBatch says that a delivery went out in the batch of that webhook-id and size; empty where there is none. A record of before has no size.
func InBatch(id string, size int) string {
	switch {
	case id == "":
		return ""
	case size == 0:
		return "in " + id
	case size == 1:
		return "alone in " + id
	}
	return "one of " + strconv.Itoa(size) + " in " + id
}

// AttemptText is how an attempt's record has a text under a key: what to look for in records before their JSON is parsed. What stands in
// the value was written by AttemptWriter.
func AttemptText(key, text string) []byte { return appendText(nil, `"`+key+`":`, text) }

// OfDelivery selects, by a record's value, the attempts of the delivery with that webhook-id.
func OfDelivery(id string) func(key, value []byte) bool {
	text := AttemptText("id", id)
	return func(_, value []byte) bool { return bytes.Contains(value, text) }
}

// AttemptID is the webhook-id of an attempt, from its record's value as AttemptWriter writes it, without taking that apart; false where it
// is written in another way, or is not an attempt.
func AttemptID(value []byte) (id []byte, ok bool) {
	rest, ok := bytes.CutPrefix(value, []byte(`{"time":`))
	if !ok {
		return nil, false
	}
	_, rest, ok = bytes.Cut(rest, []byte(`,"id":"`))
	if !ok {
		return nil, false
	}
	id, _, ok = bytes.Cut(rest, []byte{'"'})
	return id, ok && !bytes.Contains(id, []byte{'\\'})
}
