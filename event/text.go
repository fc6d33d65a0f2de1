package event

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
	"unsafe"
)

// string reads a string and says whether it has escapes.
func (s *scanner) string() (escaped bool, bad *MalformedError) {
	s.pos++
	for {
		s.plain()
		switch c := s.peek(); {
		case c == '"' && s.pos < len(s.data):
			s.pos++
			return escaped, nil
		case c == '\\':
			escaped = true
			if bad := s.escape(); bad != nil {
				return escaped, bad
			}
		case c < ' ':
			return escaped, s.notJSON()
		case c < utf8.RuneSelf:
			s.pos++
		default:
			r, size := utf8.DecodeRune(s.data[s.pos:])
			if r == utf8.RuneError && size == 1 {
				return escaped, &MalformedError{Problem: fmt.Sprintf("invalid UTF-8 at byte %d", s.pos)}
			}
			s.pos += size
		}
	}
}

// plain skips a string's plain ASCII, eight bytes at a time. It may stop early.
func (s *scanner) plain() {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	for s.pos+8 <= len(s.data) {
		w := binary.LittleEndian.Uint64(s.data[s.pos:])
		// The lowest byte whose top bit is set is the first one below 0x20, above 0x7F, or equal to " or \. A borrow
		// only spoils the bytes above it.
		stop := (w | (w - ones*' ') | ((w ^ ones*'"') - ones) | ((w ^ ones*'\\') - ones)) & high
		if stop != 0 {
			s.pos += bits.TrailingZeros64(stop) / 8
			return
		}
		s.pos += 8
	}
}

// escape reads one escape, or the two that make up a surrogate pair.
func (s *scanner) escape() *MalformedError {
	if s.pos+1 >= len(s.data) {
		return s.notJSON()
	}
	if s.data[s.pos+1] != 'u' {
		if strings.IndexByte(`"\/bfnrt`, s.data[s.pos+1]) < 0 {
			return s.notJSON()
		}
		s.pos += 2
		return nil
	}
	unit, ok := hex4(s.data[s.pos+2:])
	if !ok {
		return s.notJSON()
	}
	if unit&^0x7ff != 0xd800 {
		s.pos += 6
		return nil
	}
	low, ok := uint32(0), false
	if rest := s.data[s.pos+6:]; len(rest) >= 2 && rest[0] == '\\' && rest[1] == 'u' {
		low, ok = hex4(rest[2:])
	}
	if unit >= 0xdc00 || !ok || low&^0x3ff != 0xdc00 {
		return &MalformedError{Problem: fmt.Sprintf("unpaired surrogate at byte %d", s.pos)}
	}
	s.pos += 12
	return nil
}

// unescape is the value of a JSON string's inside, which the scanner has found to be right.
func unescape(raw string) string {
	b := appendUnescaped(make([]byte, 0, len(raw)), raw)
	return unsafe.String(unsafe.SliceData(b), len(b)) // nobody else has b
}

func appendUnescaped(b []byte, raw string) []byte {
	for {
		plain, rest, more := strings.Cut(raw, `\`)
		b = append(b, plain...)
		if !more {
			return b
		}
		c := rest[0]
		raw = rest[1:]
		switch c {
		case 'b':
			c = '\b'
		case 'f':
			c = '\f'
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 't':
			c = '\t'
		case 'u':
			unit, _ := hex4(raw)
			r := rune(unit)
			raw = raw[4:]
			if utf16.IsSurrogate(r) {
				low, _ := hex4(raw[2:])
				r = utf16.DecodeRune(r, rune(low))
				raw = raw[6:]
			}
			b = utf8.AppendRune(b, r)
			continue
		}
		b = append(b, c)
	}
}

// hex4 reads four hexadecimal digits.
func hex4[T string | []byte](text T) (unit uint32, ok bool) {
	if len(text) < 4 {
		return 0, false
	}
	for i := range 4 {
		c := lower(text[i])
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		default:
			return 0, false
		}
		unit = unit<<4 | uint32(c)
	}
	return unit, true
}
