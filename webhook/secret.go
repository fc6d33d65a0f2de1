package webhook

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
)

// The prefixes of Standard Webhooks 1.0.
const (
	symmetric  = "whsec_"
	privateKey = "whsk_"
	publicKey  = "whpk_"
)

// The bounds of a symmetric secret in bytes, as Standard Webhooks 1.0 has them: a shorter one can be guessed from the
// signatures it makes.
const (
	minSecret = 24
	maxSecret = 64
)

// Secret is a key that signs or verifies. It never prints itself, whatever it is printed with. The zero Secret is none:
// it signs and verifies nothing.
type Secret struct {
	prefix string
	until  int64 // Unix seconds from which on it signs nothing; 0: it does not expire
	// key is the HMAC key, ed25519.PrivateKey or ed25519.PublicKey. It is a function because fmt calls no method of a
	// Secret in another struct's unexported field: it would print the bytes.
	key func() []byte
}

// ParseSecret reads a secret that can sign: whsec_ and base64 of 24 to 64 bytes, or whsk_ and base64 of an Ed25519
// private key (64 bytes, or its 32-byte seed). The base64 is the standard one, with padding or without. The error never
// quotes the secret.
func ParseSecret(s string) (Secret, error) {
	secret, err := ParseVerifier(s)
	if err == nil && secret.prefix == publicKey {
		return Secret{}, errors.New("secret: a whpk_ key verifies and cannot sign; want whsec_ or whsk_")
	}
	return secret, err
}

// ParseVerifier reads what can verify: any secret of [ParseSecret], or whpk_ and base64 of an Ed25519 public key.
func ParseVerifier(s string) (Secret, error) {
	for _, prefix := range []string{symmetric, privateKey, publicKey} {
		text, ok := strings.CutPrefix(s, prefix)
		if !ok {
			continue
		}
		key, ok := decodeBase64(text)
		if !ok {
			return Secret{}, fmt.Errorf("secret: the text after %s is not base64", prefix)
		}
		key, err := checkKey(prefix, key)
		if err != nil {
			return Secret{}, fmt.Errorf("secret: %w", err)
		}
		return Secret{prefix: prefix, key: func() []byte { return key }}, nil
	}
	return Secret{}, errors.New("secret: it begins with neither whsec_ nor whsk_")
}

// decodeBase64 takes standard base64, padded or not. The standard library would also skip line ends.
func decodeBase64(text string) ([]byte, bool) {
	if strings.ContainsAny(text, "\r\n") {
		return nil, false
	}
	encoding := base64.RawStdEncoding
	if strings.HasSuffix(text, "=") {
		encoding = base64.StdEncoding
	}
	data, err := encoding.DecodeString(text)
	return data, err == nil
}

func checkKey(prefix string, key []byte) ([]byte, error) {
	switch {
	case prefix == symmetric && (len(key) < minSecret || len(key) > maxSecret):
		return nil, fmt.Errorf("whsec_ holds %d bytes, want %d to %d", len(key), minSecret, maxSecret)
	case prefix == publicKey && len(key) != ed25519.PublicKeySize:
		return nil, fmt.Errorf("whpk_ holds %d bytes, want %d", len(key), ed25519.PublicKeySize)
	case prefix == privateKey && len(key) == ed25519.SeedSize:
		return ed25519.NewKeyFromSeed(key), nil
	case prefix == privateKey && len(key) != ed25519.PrivateKeySize:
		return nil, fmt.Errorf("whsk_ holds %d bytes, want %d or %d", len(key), ed25519.PrivateKeySize, ed25519.SeedSize)
	case prefix == privateKey && !bytes.Equal(ed25519.NewKeyFromSeed(key[:ed25519.SeedSize]), key):
		// Signing with another key's public half gives the private one away.
		return nil, errors.New("whsk_ holds a private and a public key that do not belong together")
	}
	return key, nil
}

// GenerateSecret makes a whsec_ secret of 32 random bytes.
func GenerateSecret() string {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails, since Go 1.24
	return symmetric + base64.StdEncoding.EncodeToString(key)
}

// GenerateKeyPair makes an Ed25519 key pair: whsk_ signs, whpk_ is for the receiver.
func GenerateKeyPair() (whsk, whpk string) {
	seed := make([]byte, ed25519.SeedSize)
	_, _ = rand.Read(seed)
	key := ed25519.NewKeyFromSeed(seed)
	public := key[ed25519.SeedSize:] // RFC 8032: the private key ends with the public one
	return privateKey + base64.StdEncoding.EncodeToString(key), publicKey + base64.StdEncoding.EncodeToString(public)
}

// Until is the same secret, which signs nothing from t on. A part of a second is rounded up. The zero time takes the
// expiry away.
func (s Secret) Until(t time.Time) Secret {
	s.until = 0
	if !t.IsZero() {
		s.until = max(1, t.Add(time.Second-1).Unix())
	}
	return s
}

// Expired says whether the secret has ceased to sign.
func (s Secret) Expired(now time.Time) bool { return expired(s.until, now.Unix()) }

func expired(until, now int64) bool { return until != 0 && now >= until }

// Fingerprint names a secret, as it is written, without telling it: the first 16 hex digits of its SHA-256.
func Fingerprint(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:8])
}

// String is the mask: the prefix alone.
func (s Secret) String() string { return s.prefix + "…" }

// MarshalText is the mask, for JSON too.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Format prints the mask for every verb, %#v and %d included, which would else print the bytes.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }
