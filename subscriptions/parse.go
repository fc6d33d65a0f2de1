package subscriptions

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"fanout/event"
	"fanout/spelling"
	"fanout/webhook"
)

// The bounds of a subscription, in bytes where nothing else is said. Those of the account and the id are promised
// (docs/contract.md#identity); the others are ours to choose.
const (
	maxAccount     = 256
	maxID          = 64
	maxURL         = 2048
	maxSecrets     = 10      // secrets
	maxHeaders     = 8 << 10 // names and values together
	maxDescription = 1024
	maxFilter      = 8 << 10 // of notificationIds, together
	maxFilters     = 100     // entries of notificationIds
	maxWarnings    = 50      // of one subscription
	maxInvalid     = 1024    // of the text kept with an invalid subscription
	maxIdentity    = 1024    // of an account or id that is kept though it is bad
)

// FieldProblem is one thing that is wrong or odd with a subscription.
type FieldProblem struct {
	Field   string // account, id, url, events, headers.x-tenant, …; empty where it is the whole JSON
	Problem string // quotes no header value, and nothing that looks like a secret
}

// String is the problem in one line.
func (f FieldProblem) String() string { return strings.TrimPrefix(f.Field+": "+f.Problem, ": ") }

// ValidationError lists every bad field of a subscription.
type ValidationError struct {
	Problems []FieldProblem
}

// Error is all problems in one line.
func (e *ValidationError) Error() string {
	texts := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		texts[i] = p.String()
	}
	return "invalid subscription: " + strings.Join(texts, "; ")
}

// Parse reads a subscription's JSON as Redis holds it. Unknown keys are ignored, null counts as absent, and what breaks a
// rule that a later edition of the contract has added is left out: [ReviewStored] names it, and [ReviewSent] refuses it.
//
// It returns a subscription in any case. Where the error is not nil, it is the one whose deliveries are dead: Invalid
// says why, and Events are the ones it names, or all.
//
// It knows the built-in events alone; where there are others, a [Reader] has the same method.
func Parse(account, id string, data []byte) (*Subscription, *ValidationError) {
	return Reader{}.Parse(account, id, data)
}

// Reader reads subscriptions that may select what the Catalogue holds. The zero Reader knows the built-in events.
type Reader struct {
	Catalogue *event.Catalogue
}

// Reader reads subscriptions as this configuration has it.
func (c *Config) Reader() Reader { return Reader{c.Catalogue} }

// Parse does what the function of that name does.
func (r Reader) Parse(account, id string, data []byte) (*Subscription, *ValidationError) {
	return r.parse(account, id, string(data))
}

func (r Reader) parse(account, id, data string) (*Subscription, *ValidationError) {
	p := parser{catalogue: r.Catalogue}
	return p.parse(account, id, data)
}

// CheckIdentity says what is wrong with an account or a subscription id; nil when they are good.
func CheckIdentity(account, id string) *ValidationError {
	var p parser
	p.identity(account, id)
	return p.result()
}

// parser reads one subscription.
type parser struct {
	catalogue *event.Catalogue

	strict  bool        // rules of every edition are held, not only those of the first
	reviews bool        // warnings are wanted
	now     time.Time   // for warnings
	since   edition     // of the key that is being read
	expiry  secretTimes // of secretExpiry

	problems []FieldProblem
	warnings []FieldProblem
	unsigned bool // as far as it is reviewed

	url     string
	secrets []string
	headers []Header
	about   string
	filter  string // one notification a line
	sub     Subscription
}

func (p *parser) parse(account, id, data string) (*Subscription, *ValidationError) {
	// All events, until it names some.
	p.sub = Subscription{serial: serials.Add(1), hash: hashOf(data), events: event.AllNames, flags: flagEvery}
	p.identity(account, id)
	p.document(data)
	err := p.result()
	if err != nil {
		p.sub.flags |= flagInvalid
		p.sub.flags &^= flagFilters
		p.url, p.secrets, p.headers, p.filter, p.about = "", nil, nil, "", cut(err.Error(), maxInvalid)
	}
	sub := new(p.sub) // a copy: the parser would live on with it
	sub.store(cut(account, maxIdentity), cut(id, maxIdentity), p.url, p.secretLines(), headerLines(p.headers), p.about, p.filter)
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

// secretLines has one secret a line, followed by the Unix time from which on it signs nothing, where it has one.
func (p *parser) secretLines() string {
	var b strings.Builder
	for _, secret := range p.secrets {
		b.WriteString(secret)
		if until, ok := p.expiry.of(secret); ok {
			fmt.Fprintf(&b, " %d", until.Unix())
		}
		b.WriteByte('\n')
	}
	return b.String()
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

// bad notes that the key which is being read breaks a rule.
func (p *parser) bad(field, format string, args ...any) { p.breaks(p.since, field, format, args...) }

// breaks notes that a rule is broken. One that a later edition has added makes no stored subscription invalid: the caller
// leaves out what breaks it.
func (p *parser) breaks(since edition, field, format string, args ...any) {
	switch {
	case since == first || p.strict:
		p.problems = append(p.problems, FieldProblem{field, fmt.Sprintf(format, args...)})
	case p.reviews:
		p.warn(field, format+"; it is left out, and refused in what is written from now on", args...)
	}
}

func (p *parser) warn(field, format string, args ...any) {
	if len(p.warnings) == maxWarnings {
		return
	}
	p.warnings = append(p.warnings, FieldProblem{field, fmt.Sprintf(format, args...)})
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
	for name, raw := range members(data) {
		k := keyNamed(name)
		if k == nil {
			p.unknown(name)
			continue
		}
		p.since = k.since
		if slices.Contains(seen, name) {
			p.bad(name, "given twice")
			continue
		}
		if kindOf(raw) == 'n' {
			continue // null is absent; it does not count as seen, for url and events are still missing then
		}
		seen = append(seen, name)
		k.read(p, raw)
	}
	p.since = first
	for _, name := range []string{"url", "events"} {
		if !slices.Contains(seen, name) {
			p.bad(name, "is required")
		}
	}
	p.signing()
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
	count, unknown, star := 0, 0, false
	for element := range elements(raw) {
		count++
		text, ok := unquote(element)
		name, known := p.catalogue.Parse(text)
		switch {
		case !ok:
			p.bad("events", "want an array of strings")
		case text == "*":
			star = true
		case !known:
			unknown++
			p.breaks(second, "events", "unknown event name %q%s", shown(text, 64), p.nearestEvent(text))
		default:
			set = set.With(name)
		}
	}
	switch {
	case count == 0:
		p.bad("events", "is empty")
	case star && count > 1:
		p.bad("events", `"*" stands alone`)
	case set != 0 || unknown > 0:
		p.sub.events = set
		p.sub.flags &^= flagEvery
	}
	if unknown > 0 {
		p.sub.flags |= flagUnknown
	}
}

// nearestEvent is a hint at the event name that was perhaps meant.
func (p *parser) nearestEvent(text string) string {
	if !p.strict && !p.reviews {
		return ""
	}
	if nearest := spelling.Nearest(cut(text, maxID), p.catalogue.Texts()); nearest != "" {
		return " (did you mean " + nearest + "?)"
	}
	return ""
}

// readFilter takes the notifications that are wanted.
func (p *parser) readFilter(raw string) {
	if kindOf(raw) != '[' {
		p.bad("notificationIds", "want an array of notification ids")
		return
	}
	var b strings.Builder
	count := 0
	for element := range elements(raw) {
		count++
		text, ok := unquote(element)
		switch {
		case !ok || text == "":
			p.bad("notificationIds", "want an array of strings that are not empty")
			return
		case hasControl(text):
			p.bad("notificationIds", "an id holds a control character")
			return
		}
		b.WriteString(text + "\n")
	}
	switch {
	case count == 0 || count > maxFilters:
		p.bad("notificationIds", "want 1 to %d entries; leave the key out to want every notification", maxFilters)
	case b.Len() > maxFilter:
		p.bad("notificationIds", "longer than %d bytes together", maxFilter)
	default:
		p.filter = b.String()
		p.sub.flags |= flagFilters
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
