package webhook

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"strconv"
)

// idLength is that of msg_ and 26 characters.
const idLength = 4 + 26

//nolint:gochecknoglobals // a constant table
var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// EventID is the webhook-id of a delivery whose producer gave the event an id: the same for that id however often it is
// produced. It is fixed for ever (docs/contract.md#webhook-id): receivers recognize a delivery that they had before by it.
func EventID(account, name, id, subscription string) string {
	return hashID(account, name, id, subscription)
}

// OffsetID is the webhook-id of a delivery whose event has no id of its own: the source record's place stands for it.
// It is fixed for ever as well.
func OffsetID(topic string, partition int, offset int64, subscription string) string {
	return hashID(topic, strconv.Itoa(partition), strconv.FormatInt(offset, 10), subscription)
}

// hashID is lower-case base32 of the first 16 bytes of SHA-256 over the parts, each preceded by its length.
func hashID(parts ...string) string {
	var space [384]byte // on the stack; longer parts move to the heap
	buf := space[:0]
	for _, part := range parts {
		buf = append(binary.AppendUvarint(buf, uint64(len(part))), part...)
	}
	sum := sha256.Sum256(buf)
	text := [idLength]byte{'m', 's', 'g', '_'}
	idEncoding.Encode(text[4:], sum[:16])
	return string(text[:])
}

// ValidID says whether it is a webhook-id of the form that is made here. It becomes an HTTP header, and a stranger may have
// written it.
func ValidID(id string) bool {
	if len(id) != idLength || id[:4] != "msg_" {
		return false
	}
	for _, c := range []byte(id[4:]) {
		if (c < 'a' || c > 'z') && (c < '2' || c > '7') {
			return false
		}
	}
	return true
}
