package subscriptions

import (
	"slices"
	"strings"
)

// readHeaders takes the headers that DESIGN.md section 3 allows.
func (p *parser) readHeaders(raw string) {
	if kindOf(raw) != '{' {
		p.bad("headers", "want an object of strings")
		return
	}
	total := 0
	for name, rawValue := range members(raw) {
		value, ok := unquote(rawValue)
		field := "headers." + cut(name, 64)
		total += len(name) + len(value)
		switch {
		case !ok:
			p.bad(field, "want a string")
		case !isToken(name):
			p.bad(field, "is no header name")
		case refused(strings.ToLower(name)):
			p.bad(field, "is fanout's own or hop-by-hop")
		case badValue(value):
			p.bad(field, "its value holds a line end or another control character")
		case slices.ContainsFunc(p.headers, func(h Header) bool { return strings.EqualFold(h.Name, name) }):
			p.bad(field, "given twice")
		default:
			p.headers = append(p.headers, Header{name, strings.Trim(value, " \t")})
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

// isToken follows RFC 9110 section 5.6.2.
func isToken(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		alnum := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
		return !alnum && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	})
}

// refused names what a subscription may not set: what frames the message, what is the connection's own, and what
// fanout says itself. The name is in lower case.
func refused(name string) bool {
	switch name {
	case "connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "host", "user-agent",
		"accept-encoding", "traceparent", "tracestate":
		return true
	}
	for _, prefix := range []string{"content-", "proxy-", "webhook-"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// badValue follows RFC 9110 section 5.5: visible characters, spaces and tabs.
func badValue(value string) bool {
	return strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
}
