package registry

import (
	"encoding/base64"
	"fmt"
	"math"
	"strconv"
	"time"
)

// writer writes JSON of at most limit bytes. It writes text as it is: package event says of invalid UTF-8 that it is.
type writer struct {
	b     []byte
	limit int
}

func newWriter(value []byte, limit int) *writer {
	return &writer{b: make([]byte, 0, min(limit, 3*len(value)+256)), limit: limit}
}

// tooLong names the key of the configuration, as the limit of a raw event does.
func tooLong(limit int) error {
	return fmt.Errorf("its JSON has more than max_event_bytes, which is %d", limit)
}

// check says whether the limit has been passed. Whoever writes in a loop asks it.
func (w *writer) check() error {
	if len(w.b) > w.limit {
		return tooLong(w.limit)
	}
	return nil
}

func (w *writer) raw(text string) { w.b = append(w.b, text...) }

// key begins the n-th member of an object.
func (w *writer) key(n int, name string) {
	if n > 0 {
		w.b = append(w.b, ',')
	}
	w.string(name)
	w.b = append(w.b, ':')
}

func (w *writer) string(text string) {
	const hex = "0123456789abcdef"
	w.b = append(w.b, '"')
	from := 0
	for i := range len(text) {
		c := text[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		w.b = append(w.b, text[from:i]...)
		from = i + 1
		if c < ' ' {
			w.b = append(w.b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		} else {
			w.b = append(w.b, '\\', c)
		}
	}
	w.b = append(append(w.b, text[from:]...), '"')
}

func (w *writer) bytes(data []byte) {
	w.b = append(w.b, '"')
	w.b = base64.StdEncoding.AppendEncode(w.b, data)
	w.b = append(w.b, '"')
}

// float writes what JSON has no number for as null.
func (w *writer) float(v float64, bits int) {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		w.raw("null")
		return
	}
	w.b = strconv.AppendFloat(w.b, v, 'g', -1, bits)
}

func (w *writer) time(t time.Time) {
	w.b = append(w.b, '"')
	w.b = t.UTC().AppendFormat(w.b, time.RFC3339Nano)
	w.b = append(w.b, '"')
}
