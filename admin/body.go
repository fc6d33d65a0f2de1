package admin

import (
	"io"
)

// readBody is a body that has been read, with the error that it ended with.
type readBody struct {
	data []byte
	err  error // nil: it is whole
}

// Read implements io.Reader.
func (b *readBody) Read(p []byte) (n int, err error) {
	if len(b.data) > 0 {
		n = copy(p, b.data)
		b.data = b.data[n:]
		return n, nil
	}
	if b.err != nil {
		return 0, b.err
	}
	return 0, io.EOF
}

// Close implements io.Closer.
func (b *readBody) Close() error { return nil }
