package subscriptions_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"fanout/subscriptions"
	"fanout/webhook"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// fataler is what tests and rapid's have in common.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// secretKeys are the keys of a subscription that say who signs.
type secretKeys struct {
	Secrets []string             `json:"secrets"`
	Expiry  map[string]time.Time `json:"secretExpiry"`
}

func keysOf(t fataler, data []byte) (k secretKeys) {
	t.Helper()
	if err := json.Unmarshal(data, &k); err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	return k
}

// signing are the secrets that the subscription's deliveries are signed with at a time.
func signing(t fataler, data []byte, at time.Time) (fingerprints []string) {
	t.Helper()
	for _, s := range subscriptions.Signing(data, at) {
		fingerprints = append(fingerprints, s.Fingerprint)
	}
	sub, bad := subscriptions.Parse("acme", "a", data)
	if bad != nil {
		t.Fatalf("%s: %v", data, bad)
	}
	header := string(webhook.NewSigner(sub.Secrets()).AppendSignature(nil, "msg_1", at.Unix(), []byte("{}")))
	if n := len(strings.Fields(header)); n != len(fingerprints) {
		t.Fatalf("%s: %d signatures at %s, and %d secrets that sign", data, n, at, len(fingerprints))
	}
	return fingerprints
}

func TestRotateKeepsTheFormerSecretUntilItsExpiry(t *testing.T) {
	stored := []byte(`{"url":"https://x","events":["*"],"secrets":["` + secret + `"],"owner":{"n": 1.0}}`)
	first, err := subscriptions.Rotate(stored, 24*time.Hour, noon)
	if err != nil {
		t.Fatal(err)
	}
	k := keysOf(t, first.JSON)
	if !slices.Equal(k.Secrets, []string{first.Secret, secret}) || !k.Expiry[fingerprint(secret)].Equal(noon.Add(24*time.Hour)) || len(k.Expiry) != 1 {
		t.Errorf("%s", first.JSON)
	}
	if !strings.Contains(string(first.JSON), `"owner":{"n": 1.0}`) {
		t.Errorf("what fanout does not know has changed: %s", first.JSON)
	}
	// A second one keeps what has not expired, with the expiry that it had.
	second, err := subscriptions.Rotate(first.JSON, time.Hour, noon.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	for at, want := range map[time.Duration][]string{
		time.Hour: {second.Secret, first.Secret, secret}, 2*time.Hour - time.Second: {second.Secret, first.Secret, secret},
		2 * time.Hour: {second.Secret, secret}, 24*time.Hour - time.Second: {second.Secret, secret}, 24 * time.Hour: {second.Secret},
	} {
		var prints []string
		for _, s := range want {
			prints = append(prints, fingerprint(s))
		}
		if got := signing(t, second.JSON, noon.Add(at)); !slices.Equal(got, prints) {
			t.Errorf("after %s %v sign, want %v", at, got, prints)
		}
	}
	// What has expired goes at the next write, and its expiry with it.
	merged, err := subscriptions.Merge(second.JSON, []byte(`{"url":"https://y","events":["*"]}`), noon.Add(3*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if k := keysOf(t, merged); !slices.Equal(k.Secrets, []string{second.Secret, secret}) || len(k.Expiry) != 1 {
		t.Errorf("%s", merged)
	}
	third, err := subscriptions.Rotate(second.JSON, time.Hour, noon.Add(25*time.Hour))
	if err != nil || !slices.Equal(keysOf(t, third.JSON).Secrets, []string{third.Secret, second.Secret}) || len(keysOf(t, third.JSON).Expiry) != 1 {
		t.Errorf("%s %v", third.JSON, err)
	}
}

func TestRotateOtherCases(t *testing.T) {
	whsk, _ := webhook.GenerateKeyPair()
	with := func(secrets ...string) string {
		list, _ := json.Marshal(secrets)
		return `{"url":"https://x","events":["*"],"secrets":` + string(list) + `}`
	}
	other := webhook.GenerateSecret()
	for name, c := range map[string]struct {
		stored string
		lasts  time.Duration
		stays  []string // besides the new one
		expire int
	}{
		"no secret":                      {`{"url":"https://x","events":["*"]}`, time.Hour, nil, 0},
		"null":                           {`{"url":"https://x","events":["*"],"secrets":null,"secretExpiry":null}`, time.Hour, nil, 0},
		"at once":                        {with(secret), 0, nil, 0},
		"one without an expiry stays so": {with(secret, whsk), time.Hour, []string{secret, whsk}, 1},
		"at once, of two":                {with(secret, other), 0, []string{other}, 0},
		"a key pair":                     {with(whsk), time.Hour, []string{whsk}, 1},
	} {
		r, err := subscriptions.Rotate([]byte(c.stored), c.lasts, noon)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if k := keysOf(t, r.JSON); !slices.Equal(k.Secrets, append([]string{r.Secret}, c.stays...)) || len(k.Expiry) != c.expire {
			t.Errorf("%s: %s", name, r.JSON)
		}
		if pair := name == "a key pair"; strings.HasPrefix(r.Secret, "whsk_") != pair || strings.HasPrefix(r.PublicKey, "whpk_") != pair {
			t.Errorf("%s: %.6s %.6s", name, r.Secret, r.PublicKey)
		}
		if r.Signing[0].Fingerprint != fingerprint(r.Secret) || !r.Signing[0].Until.IsZero() || len(r.Signing) != 1+len(c.stays) {
			t.Errorf("%s: %v", name, r.Signing)
		}
	}
	for _, stored := range []string{``, `[]`, `{"secrets":"x"}`, `{"secrets":[1]}`} {
		_, err := subscriptions.Rotate([]byte(stored), time.Hour, noon)
		if _, conflict := errors.AsType[*subscriptions.ConflictError](err); !conflict {
			t.Errorf("%s: %v", stored, err)
		}
	}
}

// A new secret never makes one fall out that still signs.
func TestRotateWithoutRoom(t *testing.T) {
	stored := []byte(`{"url":"https://x","events":["*"],"secrets":["` + secret + `"]}`)
	for n := range 9 {
		r, err := subscriptions.Rotate(stored, time.Duration(n+1)*time.Hour, noon)
		if err != nil {
			t.Fatal(err)
		}
		stored = r.JSON
	}
	_, err := subscriptions.Rotate(stored, time.Hour, noon.Add(time.Minute))
	if err == nil || !strings.Contains(err.Error(), "10 secrets sign already") || !strings.Contains(err.Error(), "expires at 2026-03-01T13:00:00Z") {
		t.Errorf("the eleventh: %v", err)
	}
	if _, err := subscriptions.Rotate(stored, time.Hour, noon.Add(time.Hour)); err != nil {
		t.Errorf("once there is room: %v", err)
	}
}

// Whatever is done in whatever order: a secret that signs goes on signing until the time that was said, or until somebody
// removes that very one.
func TestRotateModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		now, stored := noon, []byte(`{"url":"https://x","events":["*"]}`)
		promised := map[string]time.Time{} // until when receivers may rely on a secret; zero: for ever
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 7200).Draw(rt, "seconds")) * time.Second)
			switch rapid.SampledFrom([]string{"rotate", "rotate", "put", "retire"}).Draw(rt, "step") {
			case "rotate":
				lasts := time.Duration(rapid.IntRange(1, 10).Draw(rt, "hours")) * time.Hour
				r, err := subscriptions.Rotate(stored, lasts, now)
				if _, conflict := errors.AsType[*subscriptions.ConflictError](err); conflict {
					if n := len(subscriptions.Signing(stored, now)); n < 10 {
						rt.Fatalf("refused with %d: %v", n, err)
					}
					break
				} else if err != nil {
					rt.Fatal(err)
				}
				for fp, until := range promised {
					if until.IsZero() {
						promised[fp] = now.Add(lasts)
					}
				}
				stored, promised[fingerprint(r.Secret)] = r.JSON, time.Time{}
			case "put":
				merged, err := subscriptions.Merge(stored, subscriptions.Masked(stored), now)
				if err != nil {
					rt.Fatal(err)
				}
				stored = merged
			case "retire":
				list := subscriptions.Signing(stored, now)
				if len(list) < 2 {
					break
				}
				fp := list[rapid.IntRange(1, len(list)-1).Draw(rt, "which")].Fingerprint
				next, err := subscriptions.Retire(stored, fp, now)
				if err != nil {
					rt.Fatal(err)
				}
				stored = next
				delete(promised, fp)
			}
			got := signing(rt, stored, now)
			for fp, until := range promised {
				if good := until.IsZero() || now.Before(until); good != slices.Contains(got, fp) {
					rt.Fatalf("at %s %s signs: %v, promised until %s\n%s", now, fp, !good, until, stored)
				}
			}
			if r := subscriptions.ReviewSent("acme", "a", stored, now); r.Invalid != nil {
				rt.Fatal(r.Invalid)
			}
		}
	})
}

func TestRetire(t *testing.T) {
	r, err := subscriptions.Rotate([]byte(`{"url":"https://x","events":["*"],"secrets":["`+secret+`"]}`), time.Hour, noon)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := subscriptions.Retire(r.JSON, fingerprint(r.Secret), noon); err == nil {
		t.Error("the newest secret is removed")
	}
	for _, fp := range []string{fingerprint(secret), "0123456789abcdef"} {
		if r.JSON, err = subscriptions.Retire(r.JSON, fp, noon); err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf(`{"url":"https://x","events":["*"],"secrets":[%q]}`, r.Secret); string(r.JSON) != want {
			t.Errorf("%s, want %s", r.JSON, want)
		}
	}
}

// A secret that somebody has given an expiry keeps it when it is rotated: receivers may have been told.
func TestRotateKeepsAnExpiry(t *testing.T) {
	until := noon.Add(72 * time.Hour)
	r, err := subscriptions.Rotate(fmt.Appendf(nil, `{"url":"https://x","events":["*"],"secrets":[%q],"secretExpiry":{%q:%q}}`,
		secret, strings.ToUpper(fingerprint(secret)), until.Format(time.RFC3339)), time.Hour, noon)
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Signing[1].Until; !got.Equal(until) {
		t.Errorf("it signs until %s, want %s: %s", got, until, r.JSON)
	}
}
