package post

import (
	"bytes"
	"errors"
	"math"
	"strings"
)

const (
	maxHeader   = 32 << 10 // bytes of header fields, line ends included
	maxInterim  = 10       // 1xx responses before the real one
	maxLocation = 2 << 10  // bytes of a Location that are kept
)

// header has the parts that matter of a response's status line and header fields.
type header struct {
	status     int
	http10     bool
	length     int64 // Content-Length; -1 where there is none to go by
	lengths    int   // how many there were
	chunked    bool
	keep       bool // the connection may be used again once the body is read
	keepAlive  bool // Connection: keep-alive
	opaque     bool // a transfer coding that is not understood
	retryAfter string
	location   string // of a 3xx
	date       string // of a 4xx or 5xx
}

// header reads the header of the final response. It is lenient about what does not matter, since a status that came is
// the receiver's answer: a field that cannot be read costs the connection, not the exchange.
func (in *reader) header(h *header) error {
	h.keep = true
	for range maxInterim + 1 {
		*h = header{length: -1, keep: h.keep}
		in.budget = math.MaxInt32 // the limits are on lines and fields
		if err := in.statusLine(h); err != nil {
			return err
		}
		if err := in.fields(h); err != nil {
			return err
		}
		if h.status >= 200 || h.status == 101 {
			h.settle()
			return nil
		}
	}
	return failure(Connection, "more than 10 interim responses")
}

func (in *reader) statusLine(h *header) error {
	line, _, cut, err := in.line(blockSize)
	if errors.Is(err, errLong) || cut {
		return failure(Connection, "no HTTP response")
	}
	if err != nil {
		return err
	}
	// HTTP/1.x SP 3DIGIT, and the end or a space (RFC 9112 section 4).
	if len(line) < 12 || string(line[:7]) != "HTTP/1." || line[8] != ' ' || !isDigit(line[7]) || len(line) > 12 && line[12] != ' ' {
		return failure(Connection, "no HTTP/1 response")
	}
	if line[9] == '0' || !isDigit(line[9]) || !isDigit(line[10]) || !isDigit(line[11]) {
		return failure(Connection, "a status that is no number from 100 to 999")
	}
	h.http10 = line[7] == '0'
	h.status = int(line[9]-'0')*100 + int(line[10]-'0')*10 + int(line[11]-'0')
	return nil
}

func (in *reader) fields(h *header) error {
	for left := maxHeader + len("\r\n"); ; {
		line, size, cut, err := in.line(left)
		if errors.Is(err, errLong) {
			return failure(Connection, "response headers over 32 KiB")
		}
		if err != nil {
			return err
		}
		if len(line) == 0 && !cut {
			return nil
		}
		left -= size
		h.field(line, cut)
	}
}

func (h *header) field(line []byte, cut bool) {
	i := bytes.IndexByte(line, ':')
	if i <= 0 || cut || !isToken(line[:i]) || hasControl(line[i+1:]) {
		h.keep = false // of a long line only the beginning is known; a folded one may have folded a length
		return
	}
	name, value := line[:i], bytes.Trim(line[i+1:], " \t")
	switch {
	case is(name, "content-length"):
		h.contentLength(value)
	case is(name, "transfer-encoding"):
		h.opaque = h.opaque || h.chunked || !is(value, "chunked")
		h.chunked = true
	case is(name, "connection"):
		h.connection(value)
	case is(name, "retry-after") && h.retryAfter == "" && len(value) <= 64:
		h.retryAfter = string(value)
	case h.status < 300: // a 2xx has nothing more to say
	case h.status < 400 && is(name, "location") && len(value) <= maxLocation:
		h.location = string(value)
	case h.status >= 400 && is(name, "date") && len(value) <= 64:
		h.date = string(value)
	}
}

// contentLength takes the one length there is; two, or one that cannot be read, say nothing (RFC 9112 section 6.3).
func (h *header) contentLength(value []byte) {
	h.lengths++
	h.length = -1
	if h.lengths > 1 || len(value) == 0 || len(value) > 18 {
		h.keep = false
		return
	}
	n := int64(0)
	for _, c := range value {
		if !isDigit(c) {
			h.keep = false
			return
		}
		n = n*10 + int64(c-'0')
	}
	h.length = n
}

func (h *header) connection(value []byte) {
	for option := range bytes.SplitSeq(value, []byte(",")) {
		switch option = bytes.Trim(option, " \t"); {
		case is(option, "close"):
			h.keep = false
		case is(option, "keep-alive"):
			h.keepAlive = true
		}
	}
}

// settle draws the conclusions that need all fields (RFC 9112 sections 6.3 and 9.3).
func (h *header) settle() {
	if h.http10 && !h.keepAlive || h.status == 101 {
		h.keep = false
	}
	if h.chunked {
		if h.opaque || h.http10 || h.lengths > 0 {
			h.keep = false
		}
		h.chunked, h.length = !h.opaque, -1
	}
	if h.status == 101 || h.status == 204 || h.status == 304 {
		// No body follows. A 304 may tell the length of another one; a 204 that tells one may go on to send it.
		if h.status == 204 && (h.chunked || h.length > 0) {
			h.keep = false
		}
		h.chunked, h.length = false, 0
	}
	if !h.chunked && h.length < 0 {
		h.keep = false
	}
}

func is(got []byte, want string) bool {
	return len(got) == len(want) && strings.EqualFold(string(got), want)
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// isToken is RFC 9110 section 5.6.2.
func isToken(name []byte) bool {
	for _, c := range name {
		if !token[c] {
			return false
		}
	}
	return true
}

// hasControl finds what may not stand in a field's value; a CR, for one, ends a line for some.
func hasControl(value []byte) bool {
	for _, c := range value {
		if c < ' ' && c != '\t' || c == 0x7f {
			return true
		}
	}
	return false
}

//nolint:gochecknoglobals // a constant table
var token = func() (t [256]bool) {
	for c := range 256 {
		t[c] = isDigit(byte(c)) || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || strings.IndexByte("!#$%&'*+-.^_`|~", byte(c)) >= 0
	}
	return t
}()
