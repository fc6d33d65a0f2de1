package subscriptions

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// mask stands for a secret or a header value: the whole of it, or what follows the secret's prefix.
const mask = "…"

// Masked is a subscription's JSON with its secrets and header values masked, for showing. Other keys, and their order,
// stay as they are. Of what cannot be read nothing is shown.
func Masked(data []byte) []byte {
	members, err := readObject(data)
	if err != nil {
		return []byte("null")
	}
	for i, m := range members {
		switch m.key {
		case "secrets":
			members[i].raw = maskElements(m.raw)
		case "headers":
			members[i].raw = maskMembers(m.raw)
		}
	}
	return writeObject(members)
}

// Merge is what a PUT stores (DESIGN.md section 7): the sent JSON, with what it leaves out of secrets and headers, or
// sends masked, as it is stored, and with the stored keys that fanout does not know. An empty array or object, or null, removes.
// Nothing stored is nil. A masked value with nothing behind it is an error.
func Merge(stored, sent []byte) ([]byte, error) {
	next, err := readObject(sent)
	if err != nil {
		return nil, &ValidationError{[]FieldProblem{{"", err.Error()}}}
	}
	old, err := readObject(stored)
	if err != nil {
		old = nil // it is replaced as a whole
	}
	var problems []FieldProblem
	for i, m := range next {
		was := old.get(m.key)
		switch m.key {
		case "secrets":
			next[i].raw, err = unmaskElements(m.raw, was)
		case "headers":
			next[i].raw, err = unmaskMembers(m.raw, was)
		default:
			continue
		}
		if err != nil {
			problems = append(problems, FieldProblem{m.key, err.Error()})
		}
	}
	if len(problems) > 0 {
		return nil, &ValidationError{problems}
	}
	for _, m := range old {
		known := (&parser{}).field(m.key) != nil
		if next.get(m.key) == "" && (!known || m.key == "secrets" || m.key == "headers") {
			next = append(next, m)
		}
	}
	return writeObject(next), nil
}

// member is a key of an object, and its value as it was written.
type member struct{ key, raw string }

type object []member

// get is a key's value; empty where there is none.
func (o object) get(key string) string {
	for _, m := range o {
		if m.key == key {
			return m.raw
		}
	}
	return ""
}

func readObject(data []byte) (object, error) {
	if !json.Valid(data) {
		return nil, errors.New("not JSON")
	}
	text := string(data)
	if kindOf(text) != '{' {
		return nil, errors.New("not a JSON object")
	}
	list := object{}
	for key, raw := range members(text) {
		list = append(list, member{key, raw})
	}
	return list, nil
}

func writeObject(list object) []byte {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range list {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(quote(m.key) + ":" + m.raw)
	}
	b.WriteByte('}')
	return b.Bytes()
}

func quote(text string) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(text) //nolint:errchkjson // a string always encodes
	return strings.TrimSuffix(b.String(), "\n")
}

// hidden masks a secret: its prefix tells its kind and nothing else.
func hidden(secret string) string {
	prefix, _, ok := strings.Cut(secret, "_")
	if !ok || prefix != "whsec" && prefix != "whsk" {
		return mask
	}
	return prefix + "_" + mask
}

func isMasked(text string) bool { return text == hidden(text) }

func maskElements(raw string) string {
	if kindOf(raw) != '[' {
		return quote(mask)
	}
	var list []string
	for element := range elements(raw) {
		text, _ := unquote(element)
		list = append(list, quote(hidden(text)))
	}
	return "[" + strings.Join(list, ",") + "]"
}

func maskMembers(raw string) string {
	if kindOf(raw) != '{' {
		return quote(mask)
	}
	list := object{}
	for key := range members(raw) {
		list = append(list, member{key, quote(mask)})
	}
	return string(writeObject(list))
}

// unmaskElements puts stored secrets where masked ones were sent: the masks stand for the stored secrets in their order.
// As many masks as there are secrets keep all; fewer cannot say which one goes.
func unmaskElements(raw, stored string) (string, error) {
	if kindOf(raw) != '[' {
		return raw, nil
	}
	var was []string
	if kindOf(stored) == '[' {
		for element := range elements(stored) {
			was = append(was, element)
		}
	}
	var list []string
	masks := 0
	for element := range elements(raw) {
		if text, ok := unquote(element); ok && isMasked(text) {
			if masks < len(was) {
				element = was[masks]
			}
			masks++
		}
		list = append(list, element)
	}
	if masks > 0 && masks != len(was) {
		return "", fmt.Errorf("%d masked, but %d are stored: send all masks, or the secrets themselves", masks, len(was))
	}
	return "[" + strings.Join(list, ",") + "]", nil
}

func unmaskMembers(raw, stored string) (string, error) {
	if kindOf(raw) != '{' {
		return raw, nil
	}
	was := object{}
	if kindOf(stored) == '{' {
		was, _ = readObject([]byte(stored)) // it is part of valid JSON
	}
	list := object{}
	for key, value := range members(raw) {
		if text, ok := unquote(value); ok && isMasked(text) {
			value = ""
			for _, m := range was {
				if strings.EqualFold(m.key, key) {
					value = m.raw
				}
			}
			if value == "" {
				return "", fmt.Errorf("%s is masked, but none is stored", cut(key, 64))
			}
		}
		list = append(list, member{key, value})
	}
	return string(writeObject(list)), nil
}
