package subscriptions

import (
	"slices"
	"strings"
)

// readHeaders takes the subscription's own headers, but for those that it may not set.
func (p *parser) readHeaders(raw string) {
	if kindOf(raw) != '{' {
		p.bad("headers", "want an object of strings")
		return
	}
	total := 0
	for name, rawValue := range members(raw) {
		value, ok := unquote(rawValue)
		total += len(name) + len(value)
		if h, ok := p.header(name, value, ok); ok {
			p.headers = append(p.headers, h)
		}
		if total > maxHeaders {
			p.bad("headers", "are longer than %d bytes", maxHeaders)
			return
		}
	}
	slices.SortFunc(p.headers, func(a, b Header) int {
		return strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name))
	})
}

// header judges one header; false where it is not to be sent.
func (p *parser) header(name, value string, isText bool) (Header, bool) {
	since := first
	added, refused := refusedSince(name)
	var problem string
	switch {
	case !isText:
		problem = "want a string"
	case refused:
		since, problem = added, "a subscription may not set this header"
	case !isToken(name):
		problem = "is no header name"
	case badValue(value):
		problem = "its value holds a line end or another control character"
	case slices.ContainsFunc(p.headers, func(h Header) bool { return strings.EqualFold(h.Name, name) }):
		problem = "given twice"
	default:
		return Header{name, strings.Trim(value, " \t")}, true
	}
	p.breaks(since, "headers."+shown(name, 64), "%s", problem)
	return Header{}, false
}

// isToken follows RFC 9110 section 5.6.2.
func isToken(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		alnum := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
		return !alnum && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	})
}

// badValue follows RFC 9110 section 5.5: visible characters, spaces and tabs.
func badValue(value string) bool {
	return strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
}
