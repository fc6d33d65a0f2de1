package webhook

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
)

// variant is one way in which something may have been done, and the words for it; the right way has none.
type variant[T any] struct {
	value T
	words string
}

// mistake finds out which of the common mistakes made the signatures what they are; empty: none that is known. It tries
// what a signature may be over, what may have been taken for the key, and how it may have been written down, the fewest
// mistakes first.
func mistake(secrets []Secret, signature, id, timestamp string, body []byte) string {
	var best string
	fewest := 3 // more mistakes than two at once prove nothing
	signed := signedVariants(id, timestamp, body)
	for _, text := range signatureTexts(signature) {
		for _, raw := range decodings(text) {
			for _, secret := range secrets {
				for _, key := range keyVariants(secret) {
					for _, s := range signed {
						words := joined(s.words, key.words, raw.words)
						n := len(words)
						if n > 0 && n < fewest && key.value(raw.value, s.value) {
							best, fewest = strings.Join(words, ", and "), n
						}
					}
				}
			}
		}
	}
	return best
}

func joined(words ...string) []string {
	return slices.DeleteFunc(words, func(w string) bool { return w == "" })
}

// signatureTexts is the signatures of a header; a whole header that is one signature without a version, too.
func signatureTexts(signature string) []string {
	const most = 8 // bounds the work
	texts := strings.Fields(signature)
	return texts[:min(len(texts), most)]
}

// decodings is the bytes that a signature may stand for.
func decodings(text string) (all []variant[[]byte]) {
	version, encoded, ok := strings.Cut(text, ",")
	missing := ""
	if !ok || version != "v1" && version != "v1a" {
		if rest, github := strings.CutPrefix(text, "sha256="); github {
			text = rest
		}
		encoded, missing = text, `the signature lacks its version, "v1,"`
	}
	add := func(raw []byte, words string) {
		all = append(all, variant[[]byte]{raw, strings.Join(joined(missing, words), ", and ")})
	}
	if raw, ok := decodeBase64(encoded); ok {
		add(raw, "")
	}
	if raw, err := hex.DecodeString(encoded); err == nil {
		add(raw, "the signature is hexadecimal, not base64")
	}
	if strings.ContainsAny(encoded, "-_") {
		if raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(encoded, "=")); err == nil {
			add(raw, "the signature is in base64's alphabet for URLs, not the standard one")
		}
	}
	return all
}

// check says whether raw is a signature over signed.
type check func(raw, signed []byte) bool

// keyVariants is what a secret may have been taken for.
func keyVariants(secret Secret) []variant[check] {
	all := []variant[check]{{secret.verifies, ""}}
	if secret.prefix != symmetric {
		return all
	}
	encoded := base64.StdEncoding.EncodeToString(secret.key())
	bare := strings.TrimRight(encoded, "=")
	for _, key := range []variant[string]{
		{symmetric + encoded, "the whole text of the secret is the key: decode the base64 after whsec_"},
		{symmetric + bare, "the whole text of the secret is the key: decode the base64 after whsec_"},
		{encoded, "the text after whsec_ is the key: decode it as base64"},
		{bare, "the text after whsec_ is the key: decode it as base64"},
		{hex.EncodeToString(secret.key()), "the key is the secret in hexadecimal: decode it"},
	} {
		all = append(all, variant[check]{func(raw, signed []byte) bool {
			mac := hmac.New(sha256.New, []byte(key.value))
			_, _ = mac.Write(signed)
			return hmac.Equal(mac.Sum(nil), raw)
		}, key.words})
	}
	return all
}

// signedVariants is what a signature may be over.
func signedVariants(id, timestamp string, body []byte) (all []variant[[]byte]) {
	for _, b := range bodyVariants(body) {
		for _, t := range timestampVariants(timestamp) {
			all = append(all, variant[[]byte]{[]byte(id + "." + t.value + "." + string(b.value)), strings.Join(joined(t.words, b.words), ", and ")})
		}
	}
	return append(all,
		variant[[]byte]{body, "it is over the body alone: sign webhook-id, webhook-timestamp and the body, with dots between them"},
		variant[[]byte]{[]byte(timestamp + "." + string(body)), "it is over timestamp and body: webhook-id and a dot go before them"},
		variant[[]byte]{[]byte(id + timestamp + string(body)), "the dots between webhook-id, webhook-timestamp and the body are missing"},
	)
}

func timestampVariants(timestamp string) []variant[string] {
	all := []variant[string]{{timestamp, ""}}
	n, err := strconv.ParseInt(timestamp, 10, 64)
	switch {
	case err != nil:
	case isMilliseconds(n):
		all = append(all, variant[string]{strconv.FormatInt(n/1000, 10), "webhook-timestamp is in milliseconds, and was signed in seconds"})
	default:
		all = append(all, variant[string]{timestamp + "000", "the timestamp was signed in milliseconds"})
	}
	return all
}

// isMilliseconds reports whether n, as Unix seconds, lies beyond the year 5000: as milliseconds it is a time in this
// century.
func isMilliseconds(n int64) bool { return n > 100_000_000_000 && n < 10_000_000_000_000 }

// bodyVariants is the body, and what it may have been before somebody changed it, or have been changed into.
func bodyVariants(body []byte) []variant[[]byte] {
	const (
		bom     = "\uFEFF"
		rewrote = "the body was parsed and written again: use its raw bytes, before any JSON parser"
	)
	all := []variant[[]byte]{{body, ""}}
	add := func(b []byte, words string) {
		if b != nil && !bytes.Equal(b, body) {
			all = append(all, variant[[]byte]{b, words})
		}
	}
	add(bytes.TrimRight(body, "\r\n"), "the body here has a line end that was not signed")
	add(append(bytes.Clone(body), '\n'), "a line end after the body was signed too")
	add(bytes.TrimPrefix(body, []byte(bom)), "the body here begins with a byte order mark that was not signed")
	add(append([]byte(bom), body...), "a byte order mark before the body was signed too")
	add(bytes.ReplaceAll(body, []byte("\r\n"), []byte("\n")), "the line ends in the body were changed")
	for _, b := range rewritten(body) {
		add(b, rewrote)
	}
	return all
}

// rewritten is JSON as the usual libraries write it, and as fanout does; nothing where the body is not a JSON object.
func rewritten(body []byte) (all [][]byte) {
	var compact bytes.Buffer
	members := map[string]json.RawMessage{}
	if json.Compact(&compact, body) != nil || json.Unmarshal(body, &members) != nil {
		return nil
	}
	all = append(all, compact.Bytes())
	if payload := asPayload(members); payload != nil {
		all = append(all, payload, spaced(payload, false), spaced(payload, true))
		all = append(all, bytes.ReplaceAll(escapedASCII(payload), []byte("/"), []byte(`\/`))) // PHP's json_encode
	}
	all = append(all, spaced(compact.Bytes(), false), spaced(compact.Bytes(), true))
	if sorted, err := json.Marshal(members); err == nil {
		all = append(all, sorted, spaced(sorted, false), spaced(sorted, true))
	}
	for _, indent := range []string{"  ", "    ", "\t"} {
		var b bytes.Buffer
		if json.Indent(&b, body, "", indent) == nil {
			all = append(all, b.Bytes())
		}
	}
	return all
}

// asPayload is the body as fanout wrote it, if it has the five keys and no other.
func asPayload(members map[string]json.RawMessage) []byte {
	values := make([]any, 0, 5)
	for _, key := range []string{"eventType", "trackingId", "notificationId", "channel", "userId"} {
		var text string
		if raw, ok := members[key]; !ok || json.Unmarshal(raw, &text) != nil {
			return nil
		}
		values = append(values, text)
	}
	if len(members) != len(values) {
		return nil
	}
	text := func(i int) string { return values[i].(string) } //nolint:errcheck,forcetypeassert // made above
	return AppendPayload(nil, text(0), text(1), text(2), text(3), text(4))
}

// escapedASCII is JSON with all else than ASCII escaped.
func escapedASCII(text []byte) []byte {
	var b bytes.Buffer
	for _, c := range string(text) {
		if c < 0x80 {
			b.WriteRune(c)
			continue
		}
		for _, unit := range utf16.AppendRune(nil, c) {
			fmt.Fprintf(&b, `\u%04x`, unit)
		}
	}
	return b.Bytes()
}

// spaced is compact JSON with a blank after each comma and colon, as Python's json.dumps writes it; ascii says whether
// it escapes all else, as it does by default.
func spaced(compact []byte, ascii bool) []byte {
	var b bytes.Buffer
	quoted := false
	for i, c := range compact {
		b.WriteByte(c)
		switch {
		case c == '"' && (!quoted || !escaped(compact[:i])):
			quoted = !quoted
		case !quoted && (c == ',' || c == ':'):
			b.WriteByte(' ')
		}
	}
	if ascii {
		return escapedASCII(b.Bytes())
	}
	return b.Bytes()
}

// escaped reports whether what follows text is behind an odd number of backslashes.
func escaped(text []byte) bool { return (len(text)-len(bytes.TrimRight(text, `\`)))%2 == 1 }
