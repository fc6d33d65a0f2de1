package subscriptions

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"fanout/webhook"
)

// mask stands for a value that is not shown: the whole of it, or what follows a secret's prefix.
const mask = "…"

// maxMaskDepth is how deep arrays and objects are looked into. What nests deeper is masked as a whole, so that no JSON costs
// more than its size allows.
const maxMaskDepth = 16

// Masked is a subscription's JSON for showing: secrets, header values and whatever else looks like a secret are masked,
// below keys that are not known too. url and events never are, so that the JSON may be sent back; [Merge] puts what is
// stored where a mask comes back. All that is not masked stays as it is written. Of what cannot be read nothing is shown.
func Masked(data []byte) []byte {
	list, err := readObject(data)
	if err != nil {
		return []byte("null")
	}
	for i, m := range list {
		list[i].raw = maskedKey(m.key, m.raw)
	}
	return writeObject(list)
}

func maskedKey(key, raw string) string {
	switch key {
	case "url", "events":
		return raw
	case "secrets":
		return maskSecrets(raw)
	case "headers":
		return maskHeaders(raw)
	}
	return maskShape(raw, maxMaskDepth)
}

// Merge is what a write stores: the sent JSON, with what is stored in place of each mask; with the stored secrets, headers
// and secretExpiry where it leaves them out; and with the stored keys that fanout does not know. An empty array or object,
// or null, removes. What has expired by now is left out. Nothing stored is nil. A mask that nothing stored stands behind is
// an error.
func Merge(stored, sent []byte, now time.Time) ([]byte, error) {
	next, err := readObject(sent)
	if err != nil {
		return nil, &ValidationError{[]FieldProblem{{"", err.Error()}}}
	}
	old, err := readObject(stored)
	if err != nil {
		old = nil // it is replaced as a whole
	}
	var u unmasker
	left := slices.Clone(old)
	for i, m := range next {
		if m.key != "url" && m.key != "events" {
			var was string
			was, left = left.take(m.key, false)
			next[i].raw = u.value(place{shown(m.key, 64), maxMaskDepth}, m.raw, was)
		}
	}
	if len(u.problems) > 0 {
		return nil, &ValidationError{u.problems}
	}
	for _, m := range old.withoutStrayTimes(next) {
		if next.get(m.key) == "" && staysWhenLeftOut(m.key) {
			next = append(next, m)
		}
	}
	return writeObject(next.pruned(now)), nil
}

// staysWhenLeftOut says whether a stored key outlasts a write that does not name it.
func staysWhenLeftOut(name string) bool {
	switch name {
	case "secrets", "headers", "secretExpiry":
		return true
	}
	return keyNamed(name) == nil
}

// withoutStrayTimes is the stored JSON without the expiries of secrets that the next version does not have.
func (o object) withoutStrayTimes(next object) object {
	raw := next.get("secrets")
	if raw == "" {
		return o // the secrets stay
	}
	texts, _ := secretsIn(raw)
	return o.withoutMembers("secretExpiry", func(name, _ string) bool {
		return !slices.ContainsFunc(texts, func(text string) bool { return webhook.Fingerprint(text) == strings.ToLower(name) })
	})
}

// hidden masks a text: its prefix tells a secret's kind and nothing else.
func hidden(text string) string {
	prefix, _, ok := strings.Cut(text, "_")
	if !ok || prefix != "whsec" && prefix != "whsk" {
		return mask
	}
	return prefix + "_" + mask
}

func isMasked(text string) bool { return text == hidden(text) }

// maskSecrets hides each element, whatever it is.
func maskSecrets(raw string) string {
	if kindOf(raw) != '[' {
		return quote(mask)
	}
	var list []string
	for element := range elements(raw) {
		text, _ := unquote(element)
		list = append(list, quote(hidden(text)))
	}
	return writeArray(list)
}

// maskHeaders hides each value: any of them may be a credential.
func maskHeaders(raw string) string {
	if kindOf(raw) != '{' {
		return quote(mask)
	}
	list := object{}
	for name := range members(raw) {
		list = append(list, member{name, quote(mask)})
	}
	return string(writeObject(list))
}

// maskShape hides the texts in a value that look like secrets, and what nests deeper than depth.
func maskShape(raw string, depth int) string {
	if depth == 0 && strings.IndexByte("[{", kindOf(raw)) >= 0 {
		return quote(mask)
	}
	changed := false
	again := func(inner string) string {
		out := maskShape(inner, depth-1)
		changed = changed || out != inner
		return out
	}
	switch kindOf(raw) {
	case '"':
		if text, _ := unquote(raw); looksSecret(text) {
			return quote(hidden(text))
		}
	case '[':
		var list []string
		for element := range elements(raw) {
			list = append(list, again(element))
		}
		if changed {
			return writeArray(list)
		}
	case '{':
		list := object{}
		for name, value := range members(raw) {
			list = append(list, member{name, again(value)})
		}
		if changed {
			return string(writeObject(list))
		}
	}
	return raw
}

// unmasker puts what is stored where masks were sent, and collects the masks that nothing stands behind.
type unmasker struct{ problems []FieldProblem }

// place is where a value stands in the JSON.
type place struct {
	path  string
	depth int // how much deeper masks are looked for
}

func (p place) key(name string) place { return place{p.path + "." + shown(name, 64), p.depth - 1} }
func (p place) index(i int) place     { return place{fmt.Sprintf("%s[%d]", p.path, i), p.depth - 1} }

func (u *unmasker) bad(at place, format string, args ...any) {
	u.problems = append(u.problems, FieldProblem{at.path, fmt.Sprintf(format, args...)})
}

// value is a sent value with its masks replaced. stored is what stands at the same place, empty where nothing does.
func (u *unmasker) value(at place, sent, stored string) string {
	switch kind := kindOf(sent); {
	case isMaskedRaw(sent):
		if stored == "" {
			u.bad(at, "is masked, and nothing is stored behind the mask: send the value itself")
		}
		return stored
	case kind == '[' && at.depth > 0:
		return u.array(at, sent, stored)
	case kind == '{' && at.depth > 0:
		return u.object(at, sent, stored)
	}
	return sent
}

func (u *unmasker) object(at place, sent, stored string) string {
	was := object{}
	if kindOf(stored) == '{' {
		was, _ = readObject([]byte(stored)) // it is part of valid JSON
	}
	list, changed := object{}, false
	for name, value := range members(sent) {
		var old string
		old, was = was.take(name, at.path == "headers") // the case of a header's name says nothing
		next := u.value(at.key(name), value, old)
		changed = changed || next != value
		list = append(list, member{name, next})
	}
	if !changed {
		return sent
	}
	return string(writeObject(list))
}

// array takes the masks for the stored elements that are shown masked, in their order. As many masks as there are of those
// keep all; fewer cannot say which one goes. What is masked inside an element is looked for in the stored element of the
// same index, where there are as many elements as before.
func (u *unmasker) array(at place, sent, stored string) string {
	var was []string
	if kindOf(stored) == '[' {
		was = slices.Collect(elements(stored))
	}
	list := slices.Collect(elements(sent))
	behind, ok := u.behind(at, list, was)
	if !ok {
		return sent
	}
	next := make([]string, len(list))
	for i, e := range list {
		switch {
		case isMaskedRaw(e):
			next[i], behind = behind[0], behind[1:]
		case len(was) == len(list):
			next[i] = u.value(at.index(i), e, was[i])
		default:
			next[i] = u.value(at.index(i), e, "")
		}
	}
	if slices.Equal(next, list) {
		return sent
	}
	return writeArray(next)
}

// behind are the stored elements that the sent masks stand for, one for each; false where there are not as many.
func (u *unmasker) behind(at place, sent, stored []string) ([]string, bool) {
	masks := 0
	for _, e := range sent {
		if isMaskedRaw(e) {
			masks++
		}
	}
	if masks == 0 {
		return nil, true
	}
	var hiding []string
	for _, e := range stored {
		if at.path == "secrets" || isMaskedRaw(maskShape(e, at.depth-1)) {
			hiding = append(hiding, e)
		}
	}
	if len(hiding) != masks {
		u.bad(at, "%d masked, but %d are stored: send all masks, or the values themselves", masks, len(hiding))
		return nil, false
	}
	return hiding, true
}

func isMaskedRaw(raw string) bool {
	text, ok := unquote(raw)
	return ok && isMasked(text)
}
