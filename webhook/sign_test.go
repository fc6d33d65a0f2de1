package webhook_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"fanout/webhook"
)

// The test vector that Standard Webhooks publishes with its libraries.
const (
	vectorSecret    = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	vectorID        = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	vectorTime      = 1614265330
	vectorBody      = `{"test": 2432232314}`
	vectorSignature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
)

var now = time.Unix(vectorTime, 0)

func parse(tb testing.TB, texts ...string) webhook.Secret {
	tb.Helper()
	return parseAll(tb, texts...)[0]
}

func parseAll(tb testing.TB, texts ...string) []webhook.Secret {
	tb.Helper()
	secrets := make([]webhook.Secret, 0, len(texts))
	for _, text := range texts {
		secret, err := webhook.ParseVerifier(text)
		if err != nil {
			tb.Fatal(err)
		}
		secrets = append(secrets, secret)
	}
	return secrets
}

func TestSignVector(t *testing.T) {
	signer := webhook.NewSigner(parseAll(t, vectorSecret))
	for range 2 { // the state is restored
		if got := string(signer.AppendSignature(nil, vectorID, vectorTime, []byte(vectorBody))); got != vectorSignature {
			t.Errorf("got %s, want %s", got, vectorSignature)
		}
	}
	if got := string(signer.AppendSignature([]byte("x: "), vectorID, vectorTime, []byte(vectorBody))); got != "x: "+vectorSignature {
		t.Errorf("it does not append: %s", got)
	}
}

// The keyed states give what crypto/hmac gives, whatever the key's and the body's length.
func TestSignEqualsHMAC(t *testing.T) {
	for _, size := range []int{24, 25, 32, 63, 64} {
		text := encode("whsec_", size)
		signer := webhook.NewSigner(parseAll(t, text))
		for _, length := range []int{0, 1, 20, 63, 64, 65, 1000, 100_000} {
			body := bytes.Repeat([]byte("b"), length)
			mac := hmac.New(sha256.New, []byte(strings.Repeat("k", size)))
			fmt.Fprintf(mac, "msg_1.-5.%s", body)
			want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
			if got := string(signer.AppendSignature(nil, "msg_1", -5, body)); got != want {
				t.Errorf("key of %d, body of %d: %s, want %s", size, length, got, want)
			}
		}
	}
}

func TestSignWithEverySecret(t *testing.T) {
	whsk, whpk := webhook.GenerateKeyPair()
	secrets := parseAll(t, vectorSecret, whsk, whpk, encode("whsec_", 32))
	signature := string(webhook.NewSigner(secrets).AppendSignature(nil, vectorID, vectorTime, []byte(vectorBody)))
	parts := strings.Split(signature, " ")
	if len(parts) != 3 || parts[0] != vectorSignature || !strings.HasPrefix(parts[1], "v1a,") || !strings.HasPrefix(parts[2], "v1,") {
		t.Fatalf("%s", signature)
	}
	for i, secret := range secrets { // whpk_ verifies what whsk_ signed
		if _, err := webhook.Verify([]webhook.Secret{secret}, vectorID, "1614265330", signature, []byte(vectorBody), now, time.Minute); err != nil {
			t.Errorf("secret %d: %v", i, err)
		}
	}
}

func TestNoSecretNoSignature(t *testing.T) {
	if got := webhook.NewSigner(nil).AppendSignature(nil, "msg_1", 1, nil); got != nil {
		t.Errorf("%s", got)
	}
}

// A secret signs until its expiry, by the clock of the attempt: nothing has to be prepared again for it.
func TestExpiredSecretSignsNothing(t *testing.T) {
	at := time.Unix(vectorTime, 0)
	secrets := parseAll(t, vectorSecret, encode("whsec_", 32), encode("whsec_", 48))
	secrets[0], secrets[1] = secrets[0].Until(at.Add(time.Minute)), secrets[1].Until(at.Add(1500*time.Millisecond))
	signer := webhook.NewSigner(secrets)
	for _, c := range []struct {
		after time.Duration
		signs []int // which secrets
	}{{0, []int{0, 1, 2}}, {time.Second, []int{0, 1, 2}}, {2 * time.Second, []int{0, 2}}, {59 * time.Second, []int{0, 2}}, {time.Minute, []int{2}}, {time.Hour, []int{2}}} {
		now := at.Add(c.after)
		id, stamp := vectorID, strconv.FormatInt(now.Unix(), 10)
		signature := string(signer.AppendSignature([]byte("before"), id, now.Unix(), []byte(vectorBody)))
		signature, ok := strings.CutPrefix(signature, "before")
		if got := strings.Count(signature, "v1,"); !ok || got != len(c.signs) || len(strings.Fields(signature)) != got || strings.TrimSpace(signature) != signature {
			t.Errorf("after %s: %q, want %d signatures", c.after, signature, len(c.signs))
		}
		for i, secret := range secrets {
			_, err := webhook.Verify([]webhook.Secret{secret}, id, stamp, signature, []byte(vectorBody), now, 0)
			if signs := slices.Contains(c.signs, i); signs != (err == nil) || signs == secret.Expired(now) {
				t.Errorf("after %s: secret %d: expired %v, %v", c.after, i, secret.Expired(now), err)
			}
		}
	}
	gone := webhook.NewSigner([]webhook.Secret{secrets[0]}).AppendSignature(nil, vectorID, at.Add(time.Hour).Unix(), nil)
	if gone != nil {
		t.Errorf("the only secret has expired, and signs %s", gone)
	}
	if forever := secrets[0].Until(time.Time{}); forever.Expired(at.Add(1e6 * time.Hour)) {
		t.Error("a secret whose expiry was taken away expires")
	}
}

// The vectors of RFC 8032 say that the key of a seed is the right one; test 1's seed and public key.
func TestSeedIsRFC8032(t *testing.T) {
	whsk := "whsk_nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="
	whpk := "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
	signature := string(webhook.NewSigner(parseAll(t, whsk)).AppendSignature(nil, vectorID, vectorTime, []byte(vectorBody)))
	if _, err := webhook.Verify(parseAll(t, whpk), vectorID, "1614265330", signature, []byte(vectorBody), now, 0); err != nil {
		t.Error(err)
	}
}

func TestSignFromManyGoroutines(t *testing.T) {
	signer := webhook.NewSigner(parseAll(t, vectorSecret, encode("whsec_", 32)))
	ids := []string{"msg_1", vectorID, "msg_a_longer_one_than_the_others_are"}
	var group sync.WaitGroup
	for i := range 8 {
		id := ids[i%len(ids)]
		want := string(signer.AppendSignature(nil, id, int64(i), []byte(vectorBody)))
		group.Go(func() {
			for range 200 {
				if got := string(signer.AppendSignature(nil, id, int64(i), []byte(vectorBody))); got != want {
					t.Errorf("got %s, want %s", got, want)
					return
				}
			}
		})
	}
	group.Wait()
}

func BenchmarkAppendSignature(b *testing.B) {
	whsk, _ := webhook.GenerateKeyPair()
	body := webhook.AppendPayload(nil, "OPEN", "01JNQ7Y3M0W8ABCDEF", "welcome-email", "EMAIL", "user-123456")
	for name, texts := range map[string][]string{"hmac": {vectorSecret}, "two": {vectorSecret, encode("whsec_", 32)}, "ed25519": {whsk}} {
		b.Run(name, func(b *testing.B) {
			signer, dst := webhook.NewSigner(parseAll(b, texts...)), make([]byte, 0, 256)
			b.ReportAllocs()
			for b.Loop() {
				signer.AppendSignature(dst, vectorID, vectorTime, body)
			}
		})
	}
}

// BenchmarkPooledHMAC is the alternative: a crypto/hmac that is reset, pooled for each secret.
func BenchmarkPooledHMAC(b *testing.B) {
	mac := hmac.New(sha256.New, bytes.Repeat([]byte("k"), 24))
	body := webhook.AppendPayload(nil, "OPEN", "01JNQ7Y3M0W8ABCDEF", "welcome-email", "EMAIL", "user-123456")
	head, dst, sum := []byte(vectorID+".1614265330."), make([]byte, 0, 256), make([]byte, 0, 32)
	b.ReportAllocs()
	for b.Loop() {
		mac.Reset()
		mac.Write(head)
		mac.Write(body)
		base64.StdEncoding.AppendEncode(dst, mac.Sum(sum))
	}
}
