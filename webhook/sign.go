package webhook

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding"
	"encoding/base64"
	"hash"
	"strconv"
	"sync"
)

// Signer signs for one subscription, with all of its secrets: while secrets rotate, a receiver finds the signature of
// the one it knows. It is immutable: any number of goroutines may share it.
type Signer struct{ keys []signingKey }

// signingKey holds an HMAC's two SHA-256 states after the key's block, which is half of the work of a short body, or an
// Ed25519 key.
type signingKey struct {
	inner, outer []byte
	private      ed25519.PrivateKey
	until        int64 // as in Secret
}

// NewSigner prepares the secrets, in their order. A public key (whpk_) signs nothing and is left out.
func NewSigner(secrets []Secret) *Signer {
	s := &Signer{keys: make([]signingKey, 0, len(secrets))}
	for _, secret := range secrets {
		var key signingKey
		switch secret.prefix {
		case symmetric:
			key = newHMACKey(secret.key())
		case privateKey:
			key.private = secret.key()
		default:
			continue
		}
		key.until = secret.until
		s.keys = append(s.keys, key)
	}
	return s
}

// newHMACKey prepares a key of at most one block.
func newHMACKey(key []byte) signingKey {
	t, _ := scratches.Get().(*scratch)
	defer scratches.Put(t)
	states := t.appendKeyed(make([]byte, 0, 2*stateSize), key, 0x36)
	n := len(states)
	states = t.appendKeyed(states, key, 0x5c)
	return signingKey{inner: states[:n:n], outer: states[n:]}
}

// stateSize is what a saved SHA-256 takes; a longer one would only cost an allocation.
const stateSize = 108

// appendKeyed appends the state of SHA-256 after the block that RFC 2104 begins with: the key XOR the pad.
func (t *scratch) appendKeyed(dst, key []byte, pad byte) []byte {
	block := append(t.block[:0], key...)
	block = append(block, make([]byte, sha256.BlockSize-len(key))...)
	for i := range block {
		block[i] ^= pad
	}
	t.hash.Reset()
	_, _ = t.hash.Write(block)
	dst, err := t.hash.AppendBinary(dst)
	if err != nil {
		panic(err) // a SHA-256 can always be saved
	}
	clear(block)
	return dst
}

// AppendSignature appends the value of the header webhook-signature: one signature a secret, separated by spaces, over
// `id.timestamp.body` (Standard Webhooks 1.0). timestamp is in Unix seconds; a secret that has expired by then signs
// nothing. Without a secret that signs, it appends nothing.
func (s *Signer) AppendSignature(dst []byte, id string, timestamp int64, body []byte) []byte {
	if len(s.keys) == 0 {
		return dst
	}
	t, _ := scratches.Get().(*scratch)
	defer scratches.Put(t)
	t.head = append(append(t.head[:0], id...), '.')
	t.head = append(strconv.AppendInt(t.head, timestamp, 10), '.')
	start := len(dst)
	for _, key := range s.keys {
		if expired(key.until, timestamp) {
			continue
		}
		if len(dst) > start {
			dst = append(dst, ' ')
		}
		if key.private != nil {
			message := append(append(make([]byte, 0, len(t.head)+len(body)), t.head...), body...)
			dst = base64.StdEncoding.AppendEncode(append(dst, "v1a,"...), ed25519.Sign(key.private, message))
			continue
		}
		dst = base64.StdEncoding.AppendEncode(append(dst, "v1,"...), t.hmac(key, body))
	}
	return dst
}

// scratch is what one signature needs for itself.
type scratch struct {
	hash  saveable
	head  []byte // id.timestamp.
	sum   []byte
	block [sha256.BlockSize]byte // a key; cleared after use
}

// saveable is the SHA-256 of crypto/sha256.
type saveable interface {
	hash.Hash
	encoding.BinaryAppender
	encoding.BinaryUnmarshaler
}

//nolint:gochecknoglobals // all signers share it: an idle subscription keeps no hash
var scratches = sync.Pool{New: func() any { return newScratch() }}

func newScratch() *scratch {
	h, ok := sha256.New().(saveable)
	if !ok {
		panic("crypto/sha256 cannot save its state") // it can, since Go 1.24
	}
	return &scratch{hash: h, head: make([]byte, 0, 64), sum: make([]byte, 0, sha256.Size)}
}

// hmac is HMAC-SHA256 (RFC 2104) of head and body. The result is good until the next call.
func (t *scratch) hmac(key signingKey, body []byte) []byte {
	t.restore(key.inner)
	_, _ = t.hash.Write(t.head)
	_, _ = t.hash.Write(body)
	t.sum = t.hash.Sum(t.sum[:0])
	t.restore(key.outer)
	_, _ = t.hash.Write(t.sum)
	t.sum = t.hash.Sum(t.sum[:0])
	return t.sum
}

func (t *scratch) restore(state []byte) {
	if err := t.hash.UnmarshalBinary(state); err != nil {
		panic(err) // it was saved by appendKeyed
	}
}
