package post

import (
	"bytes"
	"errors"
	"strconv"
	"time"
)

const (
	maxBody   = 64 << 10        // bytes of a body that are read, framing included, beyond what came with the header
	maxKept   = 1 << 10         // of these, kept for the record
	bodyLimit = 1 * time.Second // how long a body may hold up an exchange whose status is known
)

var errBody = errors.New("malformed body")

// body reads the body as far as it is worth it: its beginning for the record, the rest only so that the connection can
// be used again. whole says that all of it was read.
func (in *reader) body(h *header, resp *Response) (whole bool) {
	in.budget = maxBody
	switch {
	case h.chunked:
		in.bare = false
		// Chunks whose lines end in LF alone are read, but proxies disagree about them: the connection is not used again.
		return in.chunks(h.keep, resp) == nil && !in.bare
	case h.length < 0:
		_ = in.take(maxKept, resp)
		return false
	case h.length > maxBody || !h.keep:
		_ = in.take(min(h.length, maxKept), resp)
		return false
	}
	return in.take(h.length, resp) == nil
}

// take reads n bytes and keeps what there is room for.
func (in *reader) take(n int64, resp *Response) error {
	for n > 0 {
		if in.empty() {
			if err := in.fill(); err != nil {
				return err
			}
		}
		got := int(min(n, int64(in.w-in.r)))
		keep := min(got, maxKept-len(resp.Body))
		resp.Body = append(resp.Body, in.block[in.r:in.r+keep]...)
		in.r += got
		n -= int64(got)
	}
	return nil
}

// chunks reads a chunked body and its trailers (RFC 9112 section 7.1), to its end only where that is of use.
func (in *reader) chunks(toEnd bool, resp *Response) error {
	for toEnd || len(resp.Body) < maxKept {
		n, err := in.chunkSize()
		if err != nil {
			return err
		}
		if n == 0 {
			return in.trailers()
		}
		if err := in.take(n, resp); err != nil {
			return err
		}
		if line, _, _, err := in.line(2); err != nil || len(line) > 0 {
			return errBody
		}
	}
	return errBody
}

func (in *reader) chunkSize() (int64, error) {
	line, _, cut, err := in.line(blockSize)
	if err != nil || cut {
		return 0, errBody
	}
	size, _, _ := bytes.Cut(line, []byte(";"))
	n, err := strconv.ParseUint(string(bytes.TrimRight(size, " \t")), 16, 31)
	if err != nil || size[0] == '+' {
		return 0, errBody
	}
	return int64(n), nil
}

// trailers reads to the end of the message. A line that is not a field leaves it open what others would make of it, and the
// connection is not used again (RFC 9112 section 7.1.2).
func (in *reader) trailers() error {
	for left := maxBody; ; {
		line, size, cut, err := in.line(left)
		if err != nil {
			return err
		}
		if len(line) == 0 && !cut {
			return nil
		}
		if i := bytes.IndexByte(line, ':'); i <= 0 || cut || !isToken(line[:i]) || hasControl(line[i+1:]) {
			return errBody
		}
		left -= size
	}
}
