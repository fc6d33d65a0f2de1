package wire

import (
	"encoding/binary"
	"hash/crc32"
	"time"

	"github.com/segmentio/kafka-go/compress"
)

// ParseFetch reads an answer to Fetch of that version; the second error is the broker's.
func ParseFetch(b []byte, version int16) (fetched Fetched, err, said error) {
	x := &fetchExchange{version: version}
	err = x.parse(&reader{b: b})
	return x.answer, err, x.err
}

// FetchVersion is the newest version of Fetch that is spoken.
const FetchVersion = fetchVersion

// ParseMetadata reads an answer to Metadata, of a version with topic ids or of the last without.
func ParseMetadata(b []byte, ids bool) (*Cluster, error) {
	r := &reader{b: b}
	if ids {
		r.skipTags()
		c := parseMetadataFlexible(r)
		return c, r.err
	}
	c := parseMetadata(r, metadataPlain)
	return c, r.err
}

// Seal makes the checksum of a batch right, and says whether the bytes are as many as its head claims.
func Seal(b []byte) bool {
	if len(b) < batchRecords {
		return false
	}
	size := int(int32(binary.BigEndian.Uint32(b[batchLength:]))) + batchEpoch
	if size < batchRecords || size > len(b) {
		return false
	}
	binary.BigEndian.PutUint32(b[batchChecksum:], crc32.Checksum(b[batchChecked:size], castagnoli))
	return true
}

// Unpacking is what a batch with those packed bytes takes to unpack.
func Unpacking(codec compress.Compression, packed []byte) int64 {
	b := Batch{compression: codec, packed: packed}
	return b.Unpacking()
}

// SetPatience sets how long one request for leaders may take.
func (l *Leaders) SetPatience(d time.Duration) { l.patience = d }
