package event

import "bytes"

// number reads a number and says whether its literal is an integer.
func (s *scanner) number() (whole bool, bad *MalformedError) {
	s.take('-')
	if !s.take('0') && !s.digits() {
		return false, s.notJSON()
	}
	whole = true
	if s.take('.') {
		whole = false
		if !s.digits() {
			return false, s.notJSON()
		}
	}
	if s.take('e') || s.take('E') {
		whole = false
		_ = s.take('+') || s.take('-')
		if !s.digits() {
			return false, s.notJSON()
		}
	}
	return whole, nil
}

func (s *scanner) digits() bool {
	start := s.pos
	for s.pos < len(s.data) && '0' <= s.data[s.pos] && s.data[s.pos] <= '9' {
		s.pos++
	}
	return s.pos > start
}

func (s *scanner) literal(word string) *MalformedError {
	if !bytes.HasPrefix(s.data[s.pos:], []byte(word)) {
		return s.notJSON()
	}
	s.pos += len(word)
	return nil
}

func (s *scanner) space() {
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return
		}
	}
}
