package webhook_test

import (
	"strings"
	"testing"
	"time"

	"fanout/webhook"
)

func TestVerifyExplains(t *testing.T) {
	_, whpk := webhook.GenerateKeyPair()
	type input struct {
		secrets                  []string
		id, timestamp, signature string
		body                     string
		now                      time.Time
	}
	good := input{[]string{encode("whsec_", 32), vectorSecret}, vectorID, "1614265330", vectorSignature, vectorBody, now}
	for name, test := range map[string]struct {
		change  func(*input)
		want    string // in the error; empty: it verifies
		secret  int    // index that the last signature matches
		problem string // of the last signature
	}{
		"good":              {func(*input) {}, "", 1, ""},
		"among others":      {func(in *input) { in.signature = "v2,x v1,AAAA  " + vectorSignature }, "", 1, ""},
		"as old as allowed": {func(in *input) { in.now = now.Add(5 * time.Minute) }, "", 1, ""},
		"no id":             {func(in *input) { in.id = "" }, "no webhook-id header", -1, ""},
		"no timestamp":      {func(in *input) { in.timestamp = "" }, "no webhook-timestamp header", -1, ""},
		"no signature":      {func(in *input) { in.signature = "" }, "no webhook-signature header", -1, ""},
		"blank signature":   {func(in *input) { in.signature = " " }, "webhook-signature is blank", -1, ""},
		"timestamp a date":  {func(in *input) { in.timestamp = "2021-02-25" }, "not a number of Unix seconds", -1, ""},
		"no base64":         {func(in *input) { in.signature = "v1,***" }, "signature 1: no base64", -1, "no base64"},
		"no version":        {func(in *input) { in.signature = strings.TrimPrefix(vectorSignature, "v1,") }, `lacks its version, "v1,"`, -1, "unknown version, want v1 or v1a"},
		"other version":     {func(in *input) { in.signature = "v2" + vectorSignature[2:] }, "unknown version", -1, "unknown version, want v1 or v1a"},
		"no secret":         {func(in *input) { in.secrets = nil }, "no secret of its kind", -1, "no secret of its kind to check it with"},
		"other kind":        {func(in *input) { in.secrets = []string{whpk} }, "no secret of its kind", -1, "no secret of its kind to check it with"},
		"other secret":      {func(in *input) { in.secrets = in.secrets[:1] }, "made with another secret", -1, "made with another secret, or over another id, timestamp or body"},
		"other body":        {func(in *input) { in.body = `{"test":2432232315}` }, "over another id, timestamp or body", -1, "made with another secret, or over another id, timestamp or body"},
		"other id":          {func(in *input) { in.id += "x" }, "made with another secret", -1, "made with another secret, or over another id, timestamp or body"},
		"cut signature":     {func(in *input) { in.signature = "v1,g0hM9SsE" }, "made with another secret", -1, "made with another secret, or over another id, timestamp or body"},
		"line end":          {func(in *input) { in.body += "\r\n" }, "without the line end after the body", -1, "made with another secret, or over another id, timestamp or body"},
		"too old":           {func(in *input) { in.now = now.Add(5*time.Minute + time.Second) }, "is 5m1s off, more than 5m0s", 1, ""},
		"too new":           {func(in *input) { in.now = now.Add(-time.Hour) }, "is 1h0m0s off", 1, ""},
		"too old and wrong": {func(in *input) { in.now, in.body = now.Add(time.Hour), "" }, "no signature matches", -1, "made with another secret, or over another id, timestamp or body"},
		"far off":           {func(in *input) { in.timestamp = "9223372036854775807" }, "no signature matches", -1, "made with another secret, or over another id, timestamp or body"},
	} {
		t.Run(name, func(t *testing.T) {
			in := good
			test.change(&in)
			e, err := webhook.Verify(parseAll(t, in.secrets...), in.id, in.timestamp, in.signature, []byte(in.body), in.now, 5*time.Minute)
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Fatalf("%v, want %q", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), "MfKQ") {
				t.Errorf("the error quotes a secret: %v", err)
			}
			if len(e.Signatures) == 0 {
				return
			}
			if last := e.Signatures[len(e.Signatures)-1]; last.Secret != test.secret || last.Problem != test.problem {
				t.Errorf("%+v, want secret %d, problem %q", last, test.secret, test.problem)
			}
			if want := in.id + "." + in.timestamp + "." + in.body; string(e.Signed) != want {
				t.Errorf("signed %s, want %s", e.Signed, want)
			}
		})
	}
}

func TestVerifyWithoutTolerance(t *testing.T) {
	e, err := webhook.Verify(parseAll(t, vectorSecret), vectorID, "1614265330", vectorSignature, []byte(vectorBody), now.Add(8760*time.Hour), 0)
	if err != nil || e.Skew != 8760*time.Hour {
		t.Errorf("skew %s, %v", e.Skew, err)
	}
}
