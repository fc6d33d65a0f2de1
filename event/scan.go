package event

import (
	"fmt"
	"unsafe"
)

// scanner checks a record against RFC 8259, byte by byte and once, and notes on the way where the fields are. It has no
// reflection and builds no tree: a record that nobody subscribes to costs little more than reading it.
type scanner struct {
	data  []byte
	pos   int
	seen  [(int(fields) + MaxPayload) * MaxDepth / 64]uint64 // bit set of node indexes
	found [fields]found
	extra []found // of the payload's further keys

	unescaped []byte // of the last key with escapes; used again, since a record may have a million of them
}

// document reads the one value that a record is.
func (s *scanner) document(root *node) *MalformedError {
	s.space()
	object := s.peek() == '{'
	if bad := s.value(root, 1); bad != nil {
		return bad
	}
	s.space()
	switch {
	case s.pos < len(s.data):
		return s.notJSON()
	case !object:
		return &MalformedError{Problem: "not a JSON object"}
	}
	return nil
}

// value reads a value at the given depth; at is the node that reads it, or nil.
func (s *scanner) value(at *node, depth int) *MalformedError {
	start, what := s.pos, found{kind: otherValue}
	var bad *MalformedError
	switch c := s.peek(); c {
	case '{':
		bad = s.object(at, depth)
	case '[':
		bad = s.array(depth)
	case '"':
		var escaped bool
		escaped, bad = s.string()
		if bad == nil {
			what = found{plainText, s.text(start+1, s.pos-1)}
		}
		if escaped {
			what.kind = escapedText
		}
	case 't':
		what, bad = found{boolean, "true"}, s.literal("true")
	case 'f':
		what, bad = found{boolean, "false"}, s.literal("false")
	case 'n':
		bad = s.literal("null")
	default:
		var whole bool
		whole, bad = s.number()
		what = found{fraction, s.text(start, s.pos)}
		if whole {
			what.kind = integer
		}
	}
	if bad == nil && at != nil {
		s.note(at.fields, what)
	}
	return bad
}

// note keeps what stands at the path of the fields.
func (s *scanner) note(at []field, what found) {
	for _, f := range at {
		if f < fields {
			s.found[f] = what
		} else {
			s.extra[f-fields] = what
		}
	}
}

func (s *scanner) object(at *node, depth int) *MalformedError {
	if depth > MaxDepth {
		return tooDeep()
	}
	s.pos++
	s.space()
	if s.take('}') {
		return nil
	}
	for {
		child, bad := s.key(at)
		if bad != nil {
			return bad
		}
		s.space()
		if bad := s.value(child, depth+1); bad != nil {
			return bad
		}
		s.space()
		if s.take('}') {
			return nil
		}
		if !s.take(',') {
			return s.notJSON()
		}
		s.space()
	}
}

// key reads a key and its colon, and finds the node below at that reads its value.
func (s *scanner) key(at *node) (*node, *MalformedError) {
	if s.peek() != '"' {
		return nil, s.notJSON()
	}
	start := s.pos + 1
	escaped, bad := s.string()
	if bad != nil {
		return nil, bad
	}
	key := s.data[start : s.pos-1]
	s.space()
	if !s.take(':') {
		return nil, s.notJSON()
	}
	if at == nil {
		return nil, nil
	}
	if escaped {
		s.unescaped = appendUnescaped(s.unescaped[:0], s.text(start, start+len(key)))
		key = s.unescaped
	}
	child := at.find(key)
	if child == nil {
		return nil, nil
	}
	word, bit := &s.seen[child.index/64], uint64(1)<<(child.index%64)
	if *word&bit != 0 {
		return nil, &MalformedError{Field: child.name(), Problem: "given twice"}
	}
	*word |= bit
	return child, nil
}

// name is the first field at or below the node.
func (n *node) name() string {
	for len(n.fields) == 0 {
		n = n.children[0]
	}
	return n.label
}

func (s *scanner) array(depth int) *MalformedError {
	if depth > MaxDepth {
		return tooDeep()
	}
	s.pos++
	s.space()
	if s.take(']') {
		return nil
	}
	for {
		if bad := s.value(nil, depth+1); bad != nil {
			return bad
		}
		s.space()
		if s.take(']') {
			return nil
		}
		if !s.take(',') {
			return s.notJSON()
		}
		s.space()
	}
}

// peek is the next byte; 0, which no JSON has, at the end.
func (s *scanner) peek() byte {
	if s.pos < len(s.data) {
		return s.data[s.pos]
	}
	return 0
}

func (s *scanner) take(c byte) bool {
	if s.pos >= len(s.data) || s.data[s.pos] != c {
		return false
	}
	s.pos++
	return true
}

// text is a piece of the record as a string that shares its memory.
func (s *scanner) text(from, to int) string {
	return unsafe.String(unsafe.SliceData(s.data[from:to]), to-from)
}

func (s *scanner) notJSON() *MalformedError {
	return &MalformedError{Problem: fmt.Sprintf("not JSON at byte %d", s.pos)}
}

func tooDeep() *MalformedError {
	return &MalformedError{Problem: fmt.Sprintf("nested deeper than %d", MaxDepth)}
}
