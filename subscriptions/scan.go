package subscriptions

import (
	"encoding/json"
	"iter"
	"strings"
)

// A million subscriptions are read at every start, so the JSON is not decoded by reflection. What follows takes valid
// JSON only (json.Valid has seen it) and therefore need not look for errors.

const space = " \t\r\n"

// kindOf is the first character of a value: { [ " t f n, or a number's.
func kindOf(raw string) byte {
	raw = strings.TrimLeft(raw, space)
	if raw == "" {
		return 0
	}
	return raw[0]
}

// members yields an object's keys and values, in their order; values are raw, without surrounding space.
func members(object string) iter.Seq2[string, string] {
	return func(yield func(key, raw string) bool) {
		for rest := inside(object); rest != ""; rest = next(rest) {
			n := end(rest)
			key, _ := unquote(rest[:n])
			rest = strings.TrimLeft(strings.TrimLeft(rest[n:], space)[1:], space) // past the colon
			n = end(rest)
			if !yield(key, rest[:n]) {
				return
			}
			rest = rest[n:]
		}
	}
}

// elements yields an array's values, raw.
func elements(array string) iter.Seq[string] {
	return func(yield func(raw string) bool) {
		for rest := inside(array); rest != ""; rest = next(rest) {
			n := end(rest)
			if !yield(rest[:n]) {
				return
			}
			rest = rest[n:]
		}
	}
}

// inside is an object or array without its brackets and the space within.
func inside(raw string) string {
	raw = strings.Trim(raw, space)
	return strings.Trim(raw[1:len(raw)-1], space)
}

// next skips what stands between two members: a comma and space.
func next(rest string) string {
	return strings.TrimLeft(rest, space+",")
}

// end is where the value at the start of raw ends.
func end(raw string) int {
	depth := 0
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case '"':
			for i++; raw[i] != '"'; i++ {
				if raw[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			depth++
			continue
		case '}', ']':
			depth--
		default:
			// Part of a literal, or of something deeper: it ends where a separator follows.
			if depth > 0 || i+1 < len(raw) && !strings.ContainsRune(space+",:}]", rune(raw[i+1])) {
				continue
			}
		}
		if depth == 0 {
			return i + 1
		}
	}
	return len(raw)
}

// unquote reads a string; false for any other value.
func unquote(raw string) (string, bool) {
	if kindOf(raw) != '"' {
		return "", false
	}
	if strings.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1], true
	}
	var text string
	err := json.Unmarshal([]byte(raw), &text)
	return text, err == nil
}
