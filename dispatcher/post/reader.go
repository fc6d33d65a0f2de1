package post

import (
	"bytes"
	"errors"
	"io"
)

// errLong means that a limit was met.
var errLong = errors.New("more than may be read")

// reader reads lines and bodies from a response through one block, taken when there is something to read. Longer lines
// are cut rather than kept: nothing of interest is long.
type reader struct {
	src     io.Reader
	block   *block
	r, w    int  // what is read and not yet used
	budget  int  // bytes that may still be read from src
	started bool // something came in since the request was sent
	bare    bool // a line ended in LF alone
}

// first begins a response with a byte that was read without a block.
func (in *reader) first(b byte) {
	blk, _ := blocks.Get().(*block)
	blk[0] = b
	in.filled(blk, 1)
}

// filled begins a response with a block that was read into.
func (in *reader) filled(b *block, n int) { in.block, in.r, in.w, in.started = b, 0, n, true }

func (in *reader) empty() bool { return in.r == in.w }

func (in *reader) pending() []byte {
	if in.block == nil {
		return nil
	}
	return in.block[in.r:in.w]
}

// fill reads more; the block must not be full. errLong means that the budget is spent.
func (in *reader) fill() error {
	if in.block == nil {
		in.block, _ = blocks.Get().(*block)
	}
	if in.r == in.w {
		in.r, in.w = 0, 0
	}
	free := in.block[in.w:min(blockSize, in.w+in.budget)]
	if len(free) == 0 {
		return errLong
	}
	n, err := in.src.Read(free)
	in.w += n
	in.budget -= n
	if n > 0 {
		in.started = true
		return nil
	}
	return err
}

// line is the next line, without its end, LF or CRLF; it is valid until the next call. Of a line that is longer than a
// block only the beginning is right, and cut is true. size is what it took of the input; errLong means over limit.
func (in *reader) line(limit int) (line []byte, size int, cut bool, err error) {
	skipped := 0
	for scanned := 0; ; {
		pending := in.pending()
		if i := bytes.IndexByte(pending[scanned:], '\n'); i >= 0 {
			line = pending[:scanned+i]
			in.r += len(line) + 1
			if size = skipped + len(line) + 1; size > limit {
				return nil, size, cut, errLong
			}
			line, ok := bytes.CutSuffix(line, []byte("\r"))
			in.bare = in.bare || !ok
			return line, size, cut, nil
		}
		scanned = len(pending)
		if skipped+scanned >= limit {
			return nil, 0, cut, errLong
		}
		if in.w == blockSize && in.r > 0 {
			in.r, in.w = 0, copy(in.block[:], pending)
		}
		if in.w == blockSize {
			cut = true
			scanned = blockSize / 2
			skipped += blockSize - scanned
			in.w = scanned
		}
		if err := in.fill(); err != nil {
			return nil, 0, cut, err
		}
	}
}
