package admin_test

import (
	"net/http"
	"strconv"
	"testing"
	"time"

	verify "fanout/admin/web/verify/go"
	"fanout/webhook"
)

// signedCase is what a receiver gets, and whether it is to be believed.
type signedCase struct {
	Name      string `json:"name"`
	ID        string `json:"id"`
	Timestamp string `json:"timestamp"`
	Signature string `json:"signature"`
	Body      string `json:"body"`
	Good      bool   `json:"good"`
}

func signedCases(secret string) []signedCase {
	parsed, err := webhook.ParseSecret(secret)
	if err != nil {
		panic(err)
	}
	const id, body = "msg_aaaaaaaaaaaaaaaaaaaaaaaaaa", `{"eventType":"OPEN","trackingId":"Zoë ✓","notificationId":"n","channel":"EMAIL","userId":"u"}`
	now := time.Now().Unix()
	sign := func(at int64) string {
		return string(webhook.NewSigner([]webhook.Secret{parsed}).AppendSignature(nil, id, at, []byte(body)))
	}
	at := func(seconds int64) string { return strconv.FormatInt(seconds, 10) }
	good := sign(now)
	return []signedCase{
		{"good", id, at(now), good, body, true},
		{"while secrets rotate", id, at(now), "v1,AAAA v1a,xx " + good, body, true},
		{"another body", id, at(now), good, body + " ", false},
		{"another id", id + "b", at(now), good, body, false},
		{"another time", id, at(now - 1), good, body, false},
		{"too old", id, at(now - 3600), sign(now - 3600), body, false},
		{"too new", id, at(now + 3600), sign(now + 3600), body, false},
		{"no time", id, "soon", good, body, false},
		{"another version", id, at(now), "v2" + good[2:], body, false},
		{"no signature", id, at(now), "", body, false},
		{"odd signature", id, at(now), "v1 , ,, é", body, false},
	}
}

func TestVerifySampleInGo(t *testing.T) {
	t.Parallel()
	secret := webhook.GenerateSecret()
	for _, c := range signedCases(secret) {
		h := http.Header{}
		h.Set("webhook-id", c.ID)
		h.Set("webhook-timestamp", c.Timestamp)
		h.Set("webhook-signature", c.Signature)
		if got := verify.Verify(secret, h, []byte(c.Body), 5*time.Minute); got != c.Good {
			t.Errorf("%s: %v", c.Name, got)
		}
	}
}
