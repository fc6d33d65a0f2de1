//go:build real

package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"fanout/cmd/internal/lab"
	"fanout/webhook"
)

// wireEvents are the eight events: channel and raw type as a producer writes them, and the body that must arrive.
var wireEvents = []struct{ name, channel, typ, body string }{
	{"EMAIL_OPEN", "EMAIL", "OPEN", `{"eventType":"OPEN","trackingId":"abc123","notificationId":"welcome-email","channel":"EMAIL","userId":"user-123"}`},
	{"EMAIL_CLICK", "email", "click", `{"eventType":"CLICK","trackingId":"abc123","notificationId":"welcome-email","channel":"EMAIL","userId":"user-123"}`},
	{"EMAIL_FAILED", "EMAIL", "FAILED", `{"eventType":"EMAIL_FAILED","trackingId":"abc123","notificationId":"welcome-email","channel":"EMAIL","userId":"user-123"}`},
	{"SMS_FAILED", "SMS", "FAILED", `{"eventType":"SMS_FAILED","trackingId":"abc123","notificationId":"welcome-email","channel":"SMS","userId":"user-123"}`},
	{"CALL_FAILED", "CALL", "Failed", `{"eventType":"CALL_FAILED","trackingId":"abc123","notificationId":"welcome-email","channel":"CALL","userId":"user-123"}`},
	{"PUSH_FAILED", "PUSH", "FAILED", `{"eventType":"PUSH_FAILED","trackingId":"abc123","notificationId":"welcome-email","channel":"PUSH","userId":"user-123"}`},
	{"WEB_PUSH_FAILED", "WEB_PUSH", "FAILED", `{"eventType":"WEB_PUSH_FAILED","trackingId":"abc123","notificationId":"welcome-email","channel":"WEB_PUSH","userId":"user-123"}`},
	{"INAPP_WEB_FAILED", "INAPP_WEB", "FAILED", `{"eventType":"INAPP_WEB_FAILED","trackingId":"abc123","notificationId":"welcome-email","channel":"INAPP_WEB","userId":"user-123"}`},
}

const secondSecret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"

const wireTrace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// kcat produces a file as one record, with a key and headers.
func (s *site) kcat(t *testing.T, topic, key string, value []byte, headers ...string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "record")
	if err := os.WriteFile(file, value, 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"kcat", "-P", "-b", s.kafka.Addr(), "-t", topic, "-p", "0", "-k", key}
	for _, h := range headers {
		args = append(args, "-H", h)
	}
	tool(t, "", append(args, file)...)
}

// Eight events of a foreign producer, on the topics and with the names that fanout has by default, arrive as sections 2
// and 3 of DESIGN.md have them, and only where they were selected; malformed records are kept byte for byte.
func TestRealWire(t *testing.T) {
	s := newSite(t, "fanout", lab.KeepAll)
	var topics []lab.Topic
	for _, channel := range []string{"email", "sms", "call", "push", "web_push", "inapp_web"} {
		topics = append(topics, lab.Topic{Name: "channel." + channel, Partitions: 2})
	}
	s.topics(t, topics...)
	delete(s.config, "sources")
	s.subscribe(t, "acme", "all", "/all", `"events":["*"],"secrets":["`+secret+`","`+secondSecret+`"],"headers":{"x-tenant":"acme"}`)
	s.subscribe(t, "acme", "opens", "/opens", `"events":["EMAIL_OPEN"]`)
	s.subscribe(t, "acme", "two", "/two", `"events":["SMS_FAILED","EMAIL_CLICK"]`)
	s.subscribe(t, "acme", "off", "/off", `"events":["*"],"enabled":false`)
	s.subscribe(t, "other", "all", "/other", `"events":["*"]`)
	s.start(t)

	raw := func(channel, typ, more string) []byte {
		return fmt.Appendf(nil, `{"accountId":"acme","channel":%q,"type":%q,"trackingId":"abc123","notificationId":"welcome-email","userId":"user-123","extra":{"a":[1]}%s}`, channel, typ, more)
	}
	for i, e := range wireEvents {
		more := `,"id":"wire-` + strconv.Itoa(i) + `"`
		if i == 0 {
			more = "" // the record's place is its identity
		}
		s.kcat(t, "channel."+strings.ToLower(e.channel), "acme", raw(e.channel, e.typ, more), "traceparent="+wireTrace, "x-other=1")
	}
	s.kcat(t, "channel.email", "acme", raw("EMAIL", "DELIVERED", ""))
	s.kcat(t, "channel.email", "none", []byte(strings.Replace(string(raw("EMAIL", "OPEN", "")), "acme", "nobody", 1)))
	malformed := s.produceMalformed(t)

	if err := s.receiver.WaitSeen(within(t, 20*time.Second), "/all", 8); err != nil {
		t.Fatal(err)
	}
	s.settled(t, 20*time.Second, "channel.email", "channel.sms", "channel.call", "channel.push", "channel.web_push", "channel.inapp_web")

	s.checkWire(t)
	for path, want := range map[string][]string{
		"/opens": {wireEvents[0].body}, "/two": {wireEvents[1].body, wireEvents[3].body}, "/off": nil, "/other": nil,
	} {
		var got []string
		for _, r := range s.receiver.Requests(path) {
			got = append(got, string(r.Body))
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s got %q, want %q", path, got, want)
		}
	}
	m, err := s.fanout.Metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for result, want := range map[string]float64{"event": 8, "ignored": 1, "unmatched": 1, "malformed": float64(len(malformed))} {
		if got := m.Sum("fanout_records_total", `result="`+result+`"`); got != want {
			t.Errorf("fanout_records_total %s = %v, want %v", result, got, want)
		}
	}
	s.checkMalformed(t, malformed)
}

// checkWire looks at the requests of the subscription that takes all.
func (s *site) checkWire(t *testing.T) {
	t.Helper()
	var keys []webhook.Secret
	for _, text := range []string{secret, secondSecret} {
		key, err := webhook.ParseSecret(text)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	byBody := make(map[string]lab.Request)
	for _, r := range s.receiver.Requests("/all") {
		byBody[string(r.Body)] = r
	}
	if len(byBody) != len(wireEvents) || s.receiver.Seen("/all") != 8 {
		t.Errorf("%d requests with %d bodies, want 8 of each", s.receiver.Seen("/all"), len(byBody))
	}
	for i, e := range wireEvents {
		r, ok := byBody[e.body]
		if !ok {
			t.Errorf("%s did not arrive as %s", e.name, e.body)
			continue
		}
		want := map[string]string{
			"host": strings.TrimPrefix(s.receiver.URL(""), "http://"), "content-type": "application/json", "content-length": strconv.Itoa(len(e.body)),
			"accept": "*/*", "accept-encoding": "identity", "traceparent": wireTrace, "x-tenant": "acme", "user-agent": userAgent(),
			"webhook-id": identity("acme", e.name, "wire-"+strconv.Itoa(i), "all"), "webhook-timestamp": r.Header["webhook-timestamp"],
			"webhook-signature": hmacOf(t, &r, secret) + " " + hmacOf(t, &r, secondSecret),
		}
		if i == 0 {
			want["webhook-id"] = identity("channel.email", "0", "0", "all")
		}
		want["user-agent"] = r.Header["user-agent"]
		if !strings.HasPrefix(want["user-agent"], "fanout/") || r.Method != http.MethodPost || !maps.Equal(r.Header, want) {
			t.Errorf("%s: %s with %v\nwant POST with %v", e.name, r.Method, r.Header, want)
		}
		if _, err := webhook.Verify(keys[1:], r.WebhookID, r.Header["webhook-timestamp"], r.Header["webhook-signature"], r.Body, r.At, 5*time.Second); err != nil {
			t.Errorf("%s: %v", e.name, err)
		}
	}
}

// identity is the webhook-id (docs/contract.md#webhook-id), computed a second time.
func identity(parts ...string) string {
	var text []byte
	for _, p := range parts {
		text = append(binary.AppendUvarint(text, uint64(len(p))), p...)
	}
	sum := sha256.Sum256(text)
	return "msg_" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:16]))
}

// hmacOf signs as Standard Webhooks 1.0 has it, with nothing of ours.
func hmacOf(t *testing.T, r *lab.Request, secret string) string {
	t.Helper()
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s.%s", r.Header["webhook-id"], r.Header["webhook-timestamp"], r.Body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// produceMalformed writes malformed records of many kinds, by key.
func (s *site) produceMalformed(t *testing.T) map[string][]byte {
	t.Helper()
	records := map[string][]byte{
		"too-large": []byte(`{"accountId":"acme","channel":"EMAIL","type":"OPEN","trackingId":"a","notificationId":"b","userId":"c","x":"` + strings.Repeat("x", 262_144) + `"}`),
	}
	for _, kind := range []string{
		"not-json", "not-an-object", "invalid-utf8", "unpaired-surrogate", "nested-too-deep", "field-twice", "account-missing", "type-empty", "user-number", "channel-unknown",
	} {
		value, err := os.ReadFile(filepath.Join("..", "..", "testdata", "events", "malformed-"+kind+".json"))
		if err != nil {
			t.Fatal(err)
		}
		records[kind] = value
	}
	for kind, value := range records {
		s.kcat(t, "channel.sms", kind, value, "x-kind="+kind, "fanout-like=yes", "x-kind=again")
	}
	return records
}

// checkMalformed reads the dead letters with kcat, since it knows nothing of ours.
func (s *site) checkMalformed(t *testing.T, want map[string][]byte) {
	t.Helper()
	out := tool(t, "", "kcat", "-C", "-b", s.kafka.Addr(), "-t", s.deadLetter(), "-o", "beginning", "-e", "-q", "-f", `%K %S %k%s%h\n`)
	seen := 0
	for out != "" {
		var keyLength, size int
		if _, err := fmt.Sscanf(out, "%d %d ", &keyLength, &size); err != nil {
			t.Fatalf("kcat: %v in %.80q", err, out)
		}
		out = out[len(fmt.Sprintf("%d %d ", keyLength, size)):]
		key, value := out[:keyLength], out[keyLength:keyLength+size]
		header, rest, _ := strings.Cut(out[keyLength+size:], "\n")
		out = rest
		seen++
		if value != string(want[key]) {
			t.Errorf("%s: the dead letter holds %d bytes, want the %d that were produced", key, size, len(want[key]))
		}
		if !strings.HasPrefix(header, "x-kind="+key+",fanout-like=yes,x-kind=again,") {
			t.Errorf("%s: headers %s, want its own first", key, header)
		}
		for _, name := range []string{"fanout-origin=channel.sms/0/", "fanout-reason=malformed_event", "fanout-detail=", "fanout-dead-at=", "fanout-replays=0"} {
			if !strings.Contains(header, ","+name) {
				t.Errorf("%s: headers %s, want %s", key, header, name)
			}
		}
		t.Logf("%-18s %6d bytes kept: %s", key, size, header[strings.Index(header, "fanout-origin"):])
	}
	if seen != len(want) {
		t.Errorf("%d dead letters, want %d", seen, len(want))
	}
}
