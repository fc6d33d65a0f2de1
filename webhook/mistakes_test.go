package webhook_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"fanout/webhook"
)

// TestMistakes makes each of the common mistakes of receivers and senders, and reads what verify says.
func TestMistakes(t *testing.T) {
	const (
		id, at = "msg_2kd7tuelszbk5xh6gq3p4wyrmc", "1731000000"
		sent   = `{"eventType":"OPEN","trackingId":"a/<b>","notificationId":"Grüße 😀 \"x\"","channel":"EMAIL","userId":"user,: 123"}`
		python = `{"eventType": "OPEN", "trackingId": "a/<b>", "notificationId": "Gr\u00fc\u00dfe \ud83d\ude00 \"x\"", "channel": "EMAIL", "userId": "user,: 123"}`
		golang = `{"channel":"EMAIL","eventType":"OPEN","notificationId":"Grüße 😀 \"x\"","trackingId":"a/\u003cb\u003e","userId":"user,: 123"}`
		php    = `{"eventType":"OPEN","trackingId":"a\/<b>","notificationId":"Gr\u00fc\u00dfe \ud83d\ude00 \"x\"","channel":"EMAIL","userId":"user,: 123"}`
		bom    = "\uFEFF"
	)
	secret := vectorSecret
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		t.Fatal(err)
	}
	mac := func(key, signed string) []byte {
		m := hmac.New(sha256.New, []byte(key))
		m.Write([]byte(signed))
		return m.Sum(nil)
	}
	v1 := func(key, signed string) string { return "v1," + base64.StdEncoding.EncodeToString(mac(key, signed)) }
	right := func(body string) string { return id + "." + at + "." + body }
	k := string(key)
	const rewritten = "the body was parsed and written again"
	for name, tt := range map[string]struct{ body, timestamp, signature, want string }{
		"received body was written again by Python": {python, at, v1(k, right(sent)), rewritten},
		"received body was written again by Go":     {golang, at, v1(k, right(sent)), rewritten},
		"received body was written again by PHP":    {php, at, v1(k, right(sent)), rewritten},
		"signed what Python writes":                 {sent, at, v1(k, right(python)), rewritten},
		"signed what Go writes":                     {sent, at, v1(k, right(golang)), rewritten},
		"signed what PHP writes":                    {sent, at, v1(k, right(php)), rewritten},
		"signed with indentation":                   {`{"a":1}`, at, v1(k, right("{\n  \"a\": 1\n}")), rewritten},
		"byte order mark":                           {bom + sent, at, v1(k, right(sent)), "begins with a byte order mark"},
		"byte order mark signed":                    {sent, at, v1(k, right(bom+sent)), "a byte order mark before the body was signed too"},
		"line end signed":                           {sent, at, v1(k, right(sent+"\n")), "a line end after the body was signed too"},
		"line ends changed":                         {"{\r\n}", at, v1(k, right("{\n}")), "the line ends in the body were changed"},
		"secret as text":                            {sent, at, v1(secret, right(sent)), "the whole text of the secret is the key"},
		"secret not decoded":                        {sent, at, v1(strings.TrimPrefix(secret, "whsec_"), right(sent)), "the text after whsec_ is the key"},
		"secret as hex":                             {sent, at, v1(hex.EncodeToString(key), right(sent)), "the secret in hexadecimal"},
		"hex":                                       {sent, at, "v1," + hex.EncodeToString(mac(k, right(sent))), "the signature is hexadecimal, not base64"},
		"base64 for URLs":                           {sent, at, "v1," + base64.RawURLEncoding.EncodeToString(mac(k, right(sent))), "alphabet for URLs"},
		"as GitHub does":                            {sent, at, "sha256=" + hex.EncodeToString(mac(k, sent)), "over the body alone"},
		"as Stripe does":                            {sent, at, v1(k, at+"."+sent), "webhook-id and a dot go before them"},
		"no dots":                                   {sent, at, v1(k, id+at+sent), "the dots"},
		"milliseconds in the header":                {sent, at + "123", v1(k, right(sent)), "webhook-timestamp is in milliseconds"},
		"milliseconds signed":                       {sent, at, v1(k, id+"."+at+"000."+sent), "was signed in milliseconds"},
		"milliseconds all along":                    {sent, at + "000", v1(k, id+"."+at+"000."+sent), "webhook-timestamp is in milliseconds; want Unix seconds"},
		"two at once":                               {python, at, v1(secret, right(sent)), "the whole text of the secret is the key: decode the base64 after whsec_"},
	} {
		if name == "base64 for URLs" && !strings.ContainsAny(tt.signature, "-_") {
			t.Fatal("this signature is the same in both alphabets")
		}
		_, err := webhook.Verify(parseAll(t, encode("whsec_", 32), secret), id, tt.timestamp, tt.signature, []byte(tt.body), time.Unix(1731000000, 0), 5*time.Minute)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want …%s…", name, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "MfKQ") {
			t.Errorf("%s: the error quotes the secret", name)
		}
	}
	_, err = webhook.Verify(parseAll(t, secret), id, at, v1("another key", right(sent)), []byte(sent), time.Unix(1731000000, 0), 0)
	if err == nil || !strings.Contains(err.Error(), "made with another secret") {
		t.Errorf("no mistake that is known: %v", err)
	}
}

// FuzzMistakes says that no body breaks the search, and that it never takes a wrong signature for a right one.
func FuzzMistakes(f *testing.F) {
	f.Add([]byte(`{"a":"\\\"😀"}`), "v1,AAAA", "1731000000")
	f.Add([]byte("\uFEFF{"), "sha256=ff", "x")
	secrets := []webhook.Secret{}
	if s, err := webhook.ParseSecret(vectorSecret); err == nil {
		secrets = append(secrets, s)
	}
	f.Fuzz(func(t *testing.T, body []byte, signature, timestamp string) {
		if len(body) > 4096 {
			return
		}
		if _, err := webhook.Verify(secrets, "msg_x", timestamp, signature, body, time.Unix(0, 0), 0); err == nil {
			t.Fatalf("%q verifies %q", signature, body)
		}
	})
}
