package subscriptions

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"fanout/dispatcher/webhook"
	"fanout/event"
)

// The bounds of a subscription. DESIGN.md section 5 leaves them to us, but for the id's and the account's.
const (
	maxAccount     = 256
	maxID          = 64
	maxURL         = 2048
	maxSecrets     = 10
	maxHeaders     = 8 << 10 // bytes, names and values together
	maxDescription = 1024
	maxInvalid     = 1024 // of the text kept with an invalid subscription
	maxIdentity    = 1024 // of an account or id that is kept though it is bad
)

// FieldProblem is one thing that is wrong with a subscription.
type FieldProblem struct {
	Field   string // account, id, url, events, …; empty where it is the whole JSON
	Problem string // quotes no secret and no header value
}

// ValidationError lists every bad field of a subscription.
type ValidationError struct {
	Problems []FieldProblem
}

// Error is all problems in one line.
func (e *ValidationError) Error() string {
	texts := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		texts[i] = strings.TrimPrefix(p.Field+": "+p.Problem, ": ")
	}
	return "invalid subscription: " + strings.Join(texts, "; ")
}

// Parse reads a subscription's JSON (DESIGN.md section 5). Unknown keys are ignored, null counts as absent.
//
// It returns a subscription in any case. Where the error is not nil, it is the one whose deliveries are dead: Invalid
// says why, and Events are the ones it names, or all.
func Parse(account, id string, data []byte) (*Subscription, *ValidationError) {
	return parse(account, id, string(data))
}

// CheckIdentity says what is wrong with an account or a subscription id; nil when they are good.
func CheckIdentity(account, id string) *ValidationError {
	var p parser
	p.identity(account, id)
	return p.result()
}

type parser struct {
	problems []FieldProblem
	account  string
	id       string
	url      string
	secrets  []string
	headers  []Header
	about    string
	sub      Subscription
}

func parse(account, id, data string) (*Subscription, *ValidationError) {
	p := parser{account: account, id: id, sub: Subscription{serial: serials.Add(1), hash: hashOf(data), events: event.AllNames}}
	p.identity(account, id)
	p.document(data)
	err := p.result()
	if err != nil {
		p.sub.flags |= flagInvalid
		p.url, p.secrets, p.headers, p.about = "", nil, nil, cut(err.Error(), maxInvalid)
	}
	sub := new(p.sub) // a copy: the parser would live on with it
	sub.store(cut(account, maxIdentity), cut(id, maxIdentity), p.url, lines(p.secrets), headerLines(p.headers), p.about)
	return sub, err
}

// hashOf tells one JSON from another.
func hashOf(data string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(data))
	return h.Sum64()
}

func (s *Subscription) store(text ...string) {
	for i, piece := range text {
		s.length[i] = uint16(len(piece)) // every piece is bounded, maxHeaders is the largest
	}
	s.text = strings.Join(text, "")
}

func lines(texts []string) string {
	if len(texts) == 0 {
		return ""
	}
	return strings.Join(texts, "\n") + "\n"
}

func headerLines(headers []Header) string {
	var b strings.Builder
	for _, h := range headers {
		b.WriteString(h.Name + ":" + h.Value + "\n")
	}
	return b.String()
}

// cut shortens text to n bytes, on a rune's edge.
func cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}

func (p *parser) bad(field, format string, args ...any) {
	p.problems = append(p.problems, FieldProblem{field, fmt.Sprintf(format, args...)})
}

func (p *parser) result() *ValidationError {
	if len(p.problems) == 0 {
		return nil
	}
	return &ValidationError{p.problems}
}

func (p *parser) identity(account, id string) {
	switch {
	case account == "":
		p.bad("account", "is empty")
	case len(account) > maxAccount:
		p.bad("account", "is longer than %d bytes", maxAccount)
	case hasControl(account) || !utf8.ValidString(account):
		p.bad("account", "holds a control character or invalid UTF-8")
	}
	isID := func(r rune) bool {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '.' || r == '_' || r == '-'
	}
	if id == "" || len(id) > maxID || strings.ContainsFunc(id, func(r rune) bool { return !isID(r) }) {
		p.bad("id", "want 1 to %d characters of A-Z a-z 0-9 . _ -", maxID)
	}
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || 0x7f <= r && r < 0xa0 })
}

func (p *parser) document(data string) {
	switch {
	case !utf8.ValidString(data):
		p.bad("", "not valid UTF-8")
		return
	case !json.Valid([]byte(data)):
		p.bad("", "not JSON")
		return
	case kindOf(data) != '{':
		p.bad("", "not a JSON object")
		return
	}
	seen := make([]string, 0, 16)
	for key, raw := range members(data) {
		read := p.field(key)
		if read == nil {
			continue
		}
		if slices.Contains(seen, key) {
			p.bad(key, "given twice")
			continue
		}
		if kindOf(raw) == 'n' {
			continue // null is absent; it does not count as seen, for url and events are still missing then
		}
		seen = append(seen, key)
		read(raw)
	}
	for _, key := range []string{"url", "events"} {
		if !slices.Contains(seen, key) {
			p.bad(key, "is required")
		}
	}
}

// field is how a known key is read; nil for an unknown one.
func (p *parser) field(key string) func(raw string) {
	switch key {
	case "url":
		return p.readURL
	case "events":
		return p.readEvents
	case "enabled":
		return func(raw string) { p.readFlag(key, raw, flagDisabled, "false") }
	case "paused":
		return func(raw string) { p.readFlag(key, raw, flagPaused, "true") }
	case "secrets":
		return p.readSecrets
	case "headers":
		return p.readHeaders
	case "description":
		return p.readDescription
	case "maxInFlight":
		return p.readMaxInFlight
	case "maxPerSecond":
		return p.readMaxPerSecond
	}
	return nil
}

func (p *parser) readURL(raw string) {
	text, ok := unquote(raw)
	switch {
	case !ok:
		p.bad("url", "want a string")
	case text == "":
		p.bad("url", "is empty")
	case len(text) > maxURL:
		p.bad("url", "is longer than %d bytes", maxURL)
	case hasControl(text):
		p.bad("url", "holds a control character")
	default:
		p.url = text
	}
}

func (p *parser) readEvents(raw string) {
	if kindOf(raw) != '[' {
		p.bad("events", "want an array of event names")
		return
	}
	var set event.Set
	count, star := 0, false
	for element := range elements(raw) {
		count++
		text, ok := unquote(element)
		name, known := event.ParseName(text)
		switch {
		case !ok:
			p.bad("events", "want an array of strings")
		case text == "*":
			star = true
		case !known:
			p.bad("events", "unknown event name %q", cut(text, 64))
		default:
			set = set.With(name)
		}
	}
	switch {
	case count == 0:
		p.bad("events", "is empty")
	case star && count > 1:
		p.bad("events", `"*" stands alone`)
	case !star && set != 0:
		p.sub.events = set // else all: they are selected, or nothing could be read
	}
}

func (p *parser) readFlag(field, raw string, flag uint8, sets string) {
	switch raw {
	case "true", "false":
		if raw == sets {
			p.sub.flags |= flag
		}
	default:
		p.bad(field, "want true or false")
	}
}

func (p *parser) readSecrets(raw string) {
	if kindOf(raw) != '[' {
		p.bad("secrets", "want an array of secrets")
		return
	}
	for element := range elements(raw) {
		text, ok := unquote(element)
		if !ok {
			p.bad("secrets", "want an array of strings")
			return
		}
		if _, err := webhook.ParseSecret(text); err != nil {
			p.bad(fmt.Sprintf("secrets[%d]", len(p.secrets)), "%v", err)
		}
		p.secrets = append(p.secrets, text)
		if len(p.secrets) > maxSecrets {
			p.bad("secrets", "more than %d", maxSecrets)
			return
		}
	}
}

func (p *parser) readDescription(raw string) {
	text, ok := unquote(raw)
	switch {
	case !ok:
		p.bad("description", "want a string")
	case len(text) > maxDescription:
		p.bad("description", "is longer than %d bytes", maxDescription)
	default:
		p.about = text
	}
}

func (p *parser) readMaxInFlight(raw string) {
	n, err := strconv.ParseInt(raw, 10, 32)
	if err != nil || n < 1 {
		p.bad("maxInFlight", "want a whole number of at least 1")
		return
	}
	p.sub.flight = int32(n)
}

func (p *parser) readMaxPerSecond(raw string) {
	n, err := strconv.ParseFloat(raw, 64)
	if err != nil || n < 0.001 || n > math.MaxInt32 {
		p.bad("maxPerSecond", "want a number from 0.001 to %d", math.MaxInt32)
		return
	}
	p.sub.perSec = float32(n)
}
