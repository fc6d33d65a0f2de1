package subscriptions

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
)

// object is a JSON object whose members stay as they are written, in their order.
type object []member

// member is a key of an object, and its raw value.
type member struct{ key, raw string }

// get is a key's raw value; empty where there is none.
func (o object) get(key string) string {
	for _, m := range o {
		if m.key == key {
			return m.raw
		}
	}
	return ""
}

// take returns a key's raw value, empty where there is none, and what is left without it. A key that stands there twice is
// taken twice, in its order. The object itself must not be used any more.
func (o object) take(key string, anyCase bool) (raw string, left object) {
	for i, m := range o {
		if m.key == key || anyCase && strings.EqualFold(m.key, key) {
			return m.raw, slices.Delete(o, i, i+1)
		}
	}
	return "", o
}

// with is a copy in which the key has that raw value: where it stood, or at the end.
func (o object) with(key, raw string) object {
	o = slices.Clone(o)
	for i := range o {
		if o[i].key == key {
			o[i].raw = raw
			return o
		}
	}
	return append(o, member{key, raw})
}

// without is a copy that lacks the key.
func (o object) without(key string) object {
	return slices.DeleteFunc(slices.Clone(o), func(m member) bool { return m.key == key })
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

func writeArray(list []string) string { return "[" + strings.Join(list, ",") + "]" }

func quote(text string) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(text) //nolint:errchkjson // a string always encodes
	return strings.TrimSuffix(b.String(), "\n")
}
