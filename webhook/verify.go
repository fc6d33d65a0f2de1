package webhook

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Explanation says what a verification looked at, for a person who looks for the difference. It holds no secret.
type Explanation struct {
	Signed     []byte        // the text that is signed: id.timestamp.body
	Skew       time.Duration // how much older the timestamp is than now; negative: it lies ahead
	Signatures []Signature   // those of the header, in its order
}

// Signature is one signature of the header webhook-signature.
type Signature struct {
	Text    string // as the header has it
	Secret  int    // index of the secret it matches; -1: none
	Problem string // why it matches none; empty where it matches
}

// Verify checks a received webhook as its receiver should: the three headers, then the signatures against each secret,
// then the timestamp's age against tolerance (not checked where tolerance is 0). It returns the explanation with an
// error too, as far as it got. Signatures are compared in constant time.
func Verify(secrets []Secret, id, timestamp, signature string, body []byte, now time.Time, tolerance time.Duration) (Explanation, error) {
	var e Explanation
	for _, header := range [][2]string{{"webhook-id", id}, {"webhook-timestamp", timestamp}, {"webhook-signature", signature}} {
		if header[1] == "" {
			return e, fmt.Errorf("verify: no %s header", header[0])
		}
	}
	e.Signed = append([]byte(id+"."+timestamp+"."), body...)
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil {
		return e, errors.New("verify: webhook-timestamp is not a number of Unix seconds")
	}
	e.Skew = now.Sub(time.Unix(seconds, 0))

	matched := false
	for text := range strings.FieldsSeq(signature) {
		s := match(secrets, text, e.Signed)
		matched = matched || s.Secret >= 0
		e.Signatures = append(e.Signatures, s)
	}
	switch {
	case !matched:
		return e, mismatch(secrets, e.Signatures, signature, id, timestamp, body)
	case tolerance > 0 && isMilliseconds(seconds):
		return e, errors.New("verify: the signature is right, but webhook-timestamp is in milliseconds; want Unix seconds")
	case tolerance > 0 && e.Skew.Abs() > tolerance:
		return e, fmt.Errorf("verify: the signature is right, but webhook-timestamp is %s off, more than %s", e.Skew.Abs(), tolerance)
	}
	return e, nil
}

// match looks for the secret that made the signature.
func match(secrets []Secret, text string, signed []byte) Signature {
	s := Signature{Text: text, Secret: -1}
	version, encoded, _ := strings.Cut(text, ",")
	if version != "v1" && version != "v1a" {
		s.Problem = "unknown version, want v1 or v1a"
		return s
	}
	raw, ok := decodeBase64(encoded)
	if !ok {
		s.Problem = "no base64"
		return s
	}
	s.Problem = "no secret of its kind to check it with"
	for i, secret := range secrets {
		if (version == "v1") != (secret.prefix == symmetric) {
			continue
		}
		if secret.verifies(raw, signed) {
			s.Secret, s.Problem = i, ""
			return s
		}
		s.Problem = "made with another secret, or over another id, timestamp or body"
	}
	return s
}

// verifies says whether raw is the secret's signature over signed.
func (s Secret) verifies(raw, signed []byte) bool {
	switch s.prefix {
	case symmetric:
		mac := hmac.New(sha256.New, s.key())
		_, _ = mac.Write(signed)
		return hmac.Equal(mac.Sum(nil), raw)
	case privateKey:
		return ed25519.Verify(s.key()[ed25519.SeedSize:], signed, raw)
	case publicKey:
		return ed25519.Verify(s.key(), signed, raw)
	}
	return false
}

// mismatch is the error where nothing matches. It names the mistake, where it is one of the common ones.
func mismatch(secrets []Secret, signatures []Signature, signature, id, timestamp string, body []byte) error {
	bare := bytes.TrimRight(body, "\r\n")
	problems := make([]string, 0, len(signatures))
	for i, s := range signatures {
		if len(bare) < len(body) && match(secrets, s.Text, []byte(id+"."+timestamp+"."+string(bare))).Secret >= 0 {
			return errors.New("verify: no signature matches, but one does without the line end after the body")
		}
		problems = append(problems, fmt.Sprintf("signature %d: %s", i+1, s.Problem))
	}
	if len(problems) == 0 {
		return errors.New("verify: webhook-signature is blank")
	}
	if words := mistake(secrets, signature, id, timestamp, body); words != "" {
		return fmt.Errorf("verify: no signature matches as it is, but: %s", words)
	}
	return fmt.Errorf("verify: no signature matches (%s)", strings.Join(problems, "; "))
}
