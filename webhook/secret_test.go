package webhook_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"fanout/webhook"
)

func encode(prefix string, size int) string {
	return prefix + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", size)))
}

func TestParseSecret(t *testing.T) {
	whsk, whpk := webhook.GenerateKeyPair()
	private, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(whsk, "whsk_"))
	foreign := append(private[:ed25519.SeedSize:ed25519.SeedSize], make([]byte, 32)...)
	for _, s := range []string{
		"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", encode("whsec_", 24), encode("whsec_", 25), encode("whsec_", 64),
		strings.TrimRight(encode("whsec_", 25), "="), encode("whsk_", 32), whsk, webhook.GenerateSecret(),
	} {
		if _, err := webhook.ParseSecret(s); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	bad := []string{
		"", "whsec_", "whsec", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "WHSEC_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLa_w",
		"whsec_MfKQ9r8GKYqrTwjU\nPD8ILPZIo2LaLaSw", " whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_…", encode("whsec_", 23), encode("whsec_", 65),
		encode("whsec_", 25) + "=", encode("whsk_", 31), encode("whsk_", 33), "whsk_", whpk, "whsk_" + base64.StdEncoding.EncodeToString(foreign),
	}
	for _, s := range bad {
		_, err := webhook.ParseSecret(s)
		if err == nil {
			t.Errorf("%q: accepted", s)
			continue
		}
		if _, key, _ := strings.Cut(s, "_"); len(key) > 3 && strings.Contains(err.Error(), key) {
			t.Errorf("the error quotes the secret: %v", err)
		}
	}
	if _, err := webhook.ParseVerifier(whpk); err != nil {
		t.Errorf("ParseVerifier: %v", err)
	}
	for _, s := range []string{encode("whpk_", 31), encode("whpk_", 64)} {
		if _, err := webhook.ParseVerifier(s); err == nil {
			t.Errorf("%s: accepted", s)
		}
	}
}

func TestSecretPrintsItsMask(t *testing.T) {
	const text = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	secret := parse(t, text)
	raw, err := json.Marshal(map[string]any{"secret": secret, "list": []webhook.Secret{secret}})
	if err != nil || string(raw) != `{"list":["whsec_…"],"secret":"whsec_…"}` {
		t.Errorf("%s, %v", raw, err)
	}
	for _, verb := range []string{"%s", "%v", "%+v", "%#v", "%d", "%x", "%q", "%c"} {
		if got := fmt.Sprintf(verb, secret); got != "whsec_…" {
			t.Errorf("%s prints %s", verb, got)
		}
		if got := fmt.Sprintf(verb, []webhook.Secret{secret}); strings.Contains(got, "MfKQ") || strings.Contains(got, "49") || strings.Contains(got, "31f2") {
			t.Errorf("%s of a slice prints %s", verb, got)
		}
		// 49 is the first byte of the key.
		if got := fmt.Sprintf(verb, struct{ hidden webhook.Secret }{secret}); strings.Contains(got, "49 ") || strings.Contains(got, "31f2") {
			t.Errorf("%s of an unexported field prints %s", verb, got)
		}
	}
}

func TestFingerprint(t *testing.T) {
	// printf %s whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw | sha256sum
	if got := webhook.Fingerprint("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"); got != "96ad2ccd81462a76" {
		t.Errorf("fingerprint %s", got)
	}
}

func TestGeneratedSecretsDiffer(t *testing.T) {
	if first, second := webhook.GenerateSecret(), webhook.GenerateSecret(); first == second {
		t.Error("the same secret twice")
	}
}

func FuzzParseSecret(f *testing.F) {
	whsk, whpk := webhook.GenerateKeyPair()
	for _, s := range []string{"", "whsec_", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", encode("whsk_", 32), encode("whsec_", 25), whsk, whpk} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		secret, err := webhook.ParseSecret(s)
		if err != nil {
			return
		}
		prefix, _, _ := strings.Cut(s, "_")
		if secret.String() != prefix+"_…" {
			t.Errorf("%q prints %s", s, secret)
		}
		signature := webhook.NewSigner([]webhook.Secret{secret}).AppendSignature(nil, "msg_1", 1, []byte("{}"))
		if _, err := webhook.Verify([]webhook.Secret{secret}, "msg_1", "1", string(signature), []byte("{}"), now, 0); err != nil {
			t.Errorf("%q signs what it does not verify: %v", s, err)
		}
	})
}
