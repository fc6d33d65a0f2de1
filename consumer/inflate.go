package consumer

import (
	"errors"
	"io"
	"time"

	"github.com/segmentio/kafka-go/compress"
)

// maxInflated bounds what one compressed batch becomes in memory, where kafka-go has it whole. Producers bound a batch by
// its size before or about before compression, by a megabyte or a few; a broker bounds what it is after. 1 MiB of gzip
// may hold 1 GiB, and a process that ends for lack of memory reads no partition, again and again.
const maxInflated = 128 << 20

// inflatedPause is between two looks at such a batch, each of which costs half a second of CPU.
const inflatedPause = 30 * time.Second

// errInflated says that a partition cannot be read on. No record of the batch can be had, so none can be dead-lettered.
var errInflated = errors.New("a compressed batch has more than 128 MiB: nothing is read of this partition until the batch's retention ends, or" +
	" the group is stopped and moved past it (kafka-consumer-groups.sh --reset-offsets)")

func init() { //nolint:gochecknoinits // the table is the library's, and is read by every connection
	for i, codec := range compress.Codecs {
		if codec != nil {
			compress.Codecs[i] = boundedCodec{codec}
		}
	}
}

// boundedCodec is a codec whose readers end with errInflated past maxInflated.
type boundedCodec struct{ compress.Codec }

// NewReader implements compress.Codec.
func (c boundedCodec) NewReader(r io.Reader) io.ReadCloser {
	return &boundedReader{c.Codec.NewReader(r), maxInflated}
}

type boundedReader struct {
	io.ReadCloser
	left int
}

// Read implements io.Reader.
func (r *boundedReader) Read(b []byte) (int, error) {
	n, err := r.ReadCloser.Read(b)
	if r.left -= n; r.left < 0 {
		return 0, errInflated
	}
	return n, err
}
