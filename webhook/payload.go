package webhook

import (
	"bytes"
	"encoding/json"
)

// AppendPayload appends the request body: exactly these five keys, in this order, no white space. Only ", \ and
// characters below U+0020 are escaped, so the body is UTF-8 as long as the arguments are.
func AppendPayload(dst []byte, eventType, trackingID, notificationID, channel, userID string) []byte {
	dst = appendText(append(dst, `{"eventType":"`...), eventType)
	dst = appendText(append(dst, `","trackingId":"`...), trackingID)
	dst = appendText(append(dst, `","notificationId":"`...), notificationID)
	dst = appendText(append(dst, `","channel":"`...), channel)
	dst = appendText(append(dst, `","userId":"`...), userID)
	return append(dst, `"}`...)
}

// AppendKey adds a further key to a payload's end: value is a string's text, or, where literal, a number or boolean as it is.
func AppendKey(payload []byte, key, value string, literal bool) []byte {
	payload = append(payload[:len(payload)-1], `,"`...) // in place of the closing brace
	payload = append(appendText(payload, key), `":`...)
	if literal {
		payload = append(payload, value...)
	} else {
		payload = append(appendText(append(payload, '"'), value), '"')
	}
	return append(payload, '}')
}

// NotificationID is what a payload says of it; empty where it says nothing.
func NotificationID(payload []byte) string {
	if id, ok := plainNotificationID(payload); ok {
		return string(id)
	}
	var keys struct {
		ID string `json:"notificationId"`
	}
	if json.Unmarshal(payload, &keys) != nil {
		return ""
	}
	return keys.ID
}

// plainNotificationID finds it in a payload as AppendPayload writes it, where nothing is escaped. It is asked for with each delivery of a
// subscription that filters, and parsing JSON for it costs more than the rest of planning.
func plainNotificationID(payload []byte) (id []byte, ok bool) {
	rest := payload
	for _, key := range [...]string{`{"eventType":"`, `,"trackingId":"`, `,"notificationId":"`} {
		if rest, ok = bytes.CutPrefix(rest, []byte(key)); !ok {
			return nil, false
		}
		end := bytes.IndexByte(rest, '"')
		if end < 0 {
			return nil, false
		}
		id, rest = rest[:end], rest[end+1:]
		for _, c := range id {
			if c < ' ' || c > '~' || c == '\\' {
				return nil, false
			}
		}
	}
	return id, true
}

// appendText appends the inside of a JSON string.
func appendText(dst []byte, s string) []byte {
	done := 0
	for i := range len(s) {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = appendEscape(append(dst, s[done:i]...), c)
		done = i + 1
	}
	return append(dst, s[done:]...)
}

func appendEscape(dst []byte, c byte) []byte {
	const hex = "0123456789abcdef"
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\b':
		return append(dst, `\b`...)
	case '\f':
		return append(dst, `\f`...)
	case '\n':
		return append(dst, `\n`...)
	case '\r':
		return append(dst, `\r`...)
	case '\t':
		return append(dst, `\t`...)
	}
	return append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
}
