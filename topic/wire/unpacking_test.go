package wire_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/segmentio/kafka-go/compress"

	"fanout/topic/wire"
)

const kib, mib = 1 << 10, 1 << 20

// What a batch takes to unpack is told by its first bytes, whoever compressed it.
func TestUnpacking(t *testing.T) {
	skipped := []byte{0x5a, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 'n', 'o'}
	small := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x00, 0x09, 0, 0, 'x'} // a window of 1 KiB, one raw block of one byte, the last
	repeated := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x04, 0x52, 0x02, 0, 1, 'x', 0x03, 0, 1, 'x', 1, 2, 3, 4}
	for name, c := range map[string]struct {
		codec       compress.Compression
		packed      []byte
		least, most int64
	}{
		"none":                               {compress.None, []byte("x"), 0, 0},
		"gzip":                               {compress.Gzip, []byte{0x1f, 0x8b}, 32 * kib, 128 * kib},
		"zstd, a window of 2 MiB":            {compress.Zstd, []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 11 << 3}, 2 * mib, 3 * mib},
		"zstd, a window of 7/4 GiB":          {compress.Zstd, []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 20<<3 | 6}, 1792 * mib, 1793 * mib},
		"zstd, in one piece of 200 bytes":    {compress.Zstd, []byte{0x28, 0xb5, 0x2f, 0xfd, 0x20, 200}, 200, 128 * kib},
		"zstd, in one piece of 1000 bytes":   {compress.Zstd, []byte{0x28, 0xb5, 0x2f, 0xfd, 0x60, 0xe8, 2}, 1000, 128 * kib},
		"zstd, in one piece of 16 MiB":       {compress.Zstd, []byte{0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0, 1}, 16 * mib, 17 * mib},
		"zstd, in one piece of all":          {compress.Zstd, []byte{0x28, 0xb5, 0x2f, 0xfd, 0xe0, 255, 255, 255, 255, 255, 255, 255, 255}, 1 << 40, 1<<40 + mib},
		"zstd, a frame with a larger window": {compress.Zstd, slices.Concat(skipped, small, small, []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 13 << 3}), 8 * mib, 9 * mib},
		"zstd, behind repeated bytes":        {compress.Zstd, slices.Concat(repeated, []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 13 << 3}), 8 * mib, 9 * mib},
		"zstd, nothing of it":                {compress.Zstd, nil, 0, 128 * kib},
		"lz4, blocks of 64 KiB":              {compress.Lz4, []byte{0x04, 0x22, 0x4d, 0x18, 0x60, 0x40}, 128 * kib, 256 * kib},
		"lz4, blocks of 4 MiB":               {compress.Lz4, []byte{0x04, 0x22, 0x4d, 0x18, 0x60, 0x70}, 8 * mib, 9 * mib},
		"lz4, as long ago":                   {compress.Lz4, []byte{0x02, 0x21, 0x4c, 0x18, 0, 0}, 16 * mib, 17 * mib},
		"snappy, 3 MiB":                      {compress.Snappy, []byte{0x80, 0x80, 0xc0, 1}, 3 * mib, 4 * mib},
		"snappy, in chunks": {
			compress.Snappy, []byte("\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x02\x80\x01\x00\x00\x00\x03\x80\x80\x04"), 64 * kib, 192 * kib,
		},
		"snappy, a chunk that is cut off": {compress.Snappy, []byte("\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01\xff\xff\xff\xff\x80\x01"), 0, 128 * kib},
	} {
		if got := wire.Unpacking(c.codec, c.packed); got < c.least || got > c.most {
			t.Errorf("%s: %d bytes, want %d to %d", name, got, c.least, c.most)
		}
	}
}

// What takes more than 128 MiB is refused before any memory is taken, and a record that is larger than its buffer is told.
func TestUnpackingIsBounded(t *testing.T) {
	b := packed(t, compress.Zstd, record(0, "k", strings.Repeat("long", 100_000)))
	i := bytes.Index(b, []byte{0x28, 0xb5, 0x2f, 0xfd})
	b[i+5] = 18 << 3 // a window of 256 MiB
	wire.Seal(b)
	batch, _, _, err := wire.NextBatch(b)
	if err != nil {
		t.Fatal(err)
	}
	err = batch.Each(func(*wire.Record) bool { return true })
	if _, ok := errors.AsType[*wire.UnpackingError](err); !ok || !strings.Contains(err.Error(), "takes 256 MiB of memory to unpack; at most 128 MiB are given") {
		t.Errorf("a window of 256 MiB: %v", err)
	}

	batch, _, _, err = wire.NextBatch(packed(t, compress.Gzip, record(0, "k", "small"), record(1, "k", strings.Repeat("x", 5000))))
	if err != nil {
		t.Fatal(err)
	}
	batch.Buffer = 4 * kib
	n := 0
	err = batch.Each(func(*wire.Record) bool { n++; return true })
	if large, ok := errors.AsType[*wire.BufferError](err); !ok || large.Size < 5000 || large.Size > 5100 || n != 1 {
		t.Errorf("%d records, then %v", n, err)
	}
}
