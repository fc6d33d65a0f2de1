package registry

import (
	"encoding/hex"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/avro"
)

// decimal is a decimal as it was written: the library's own number has a denominator of up to 65 536 digits, and two bytes
// are enough to ask for one.
type decimal struct {
	unscaled []byte // two's complement, big-endian
	scale    int
}

//nolint:gochecknoglobals // a constant table
var decimals = []avro.SchemaOpt{
	avro.CustomType{LogicalType: "decimal", Decode: func(v any, node *avro.SchemaNode) (any, error) {
		b, ok := v.([]byte)
		if !ok {
			return nil, avro.ErrSkipCustomType
		}
		return decimal{b, node.Scale}, nil
	}},
	avro.CustomType{LogicalType: "big-decimal", Decode: func(v any, _ *avro.SchemaNode) (any, error) { return v, nil }},
}

// maxDigits bounds a decimal, as the library bounds a schema's precision.
const maxDigits = 1 << 16

// compileAvro reads values as the schema's writer wrote them. Nothing is resolved against another schema: fields are
// found by their names.
func compileAvro(text string, files []file) (decode, error) {
	var names avro.SchemaCache
	for _, f := range files {
		if _, err := names.Parse(f.text, decimals...); err != nil {
			return nil, fmt.Errorf("its reference %.100q: %w", f.name, err)
		}
	}
	schema, err := names.Parse(text, decimals...)
	if err != nil {
		return nil, err
	}
	return func(value []byte, limit int) ([]byte, error) {
		var v any
		rest, err := schema.Decode(value, &v, avro.AliasInput())
		if err != nil {
			return nil, err
		}
		if len(rest) > 0 {
			return nil, fmt.Errorf("%d bytes follow the value", len(rest))
		}
		w := newWriter(value, limit)
		if err := w.avro(v); err != nil {
			return nil, err
		}
		return w.b, w.check()
	}, nil
}

// avro writes a decoded value: of a union the value alone, an enum's symbol, bytes and fixed as base64, timestamps and
// dates as RFC 3339, a decimal as a number, a UUID as text, a time of day in seconds. A big-decimal is bytes.
func (w *writer) avro(v any) error {
	switch v := v.(type) {
	case nil:
		w.raw("null")
	case bool:
		w.b = strconv.AppendBool(w.b, v)
	case int32:
		w.b = strconv.AppendInt(w.b, int64(v), 10)
	case int64:
		w.b = strconv.AppendInt(w.b, v, 10)
	case float32:
		w.float(float64(v), 32)
	case float64:
		w.float(v, 64)
	case string:
		w.string(v)
	case []byte:
		w.bytes(v)
	case time.Time:
		w.time(v)
	case time.Duration:
		w.float(v.Seconds(), 64)
	case decimal:
		return w.decimal(v)
	case [16]byte:
		x := hex.EncodeToString(v[:])
		w.string(x[:8] + "-" + x[8:12] + "-" + x[12:16] + "-" + x[16:20] + "-" + x[20:])
	case []any:
		return w.avroArray(v)
	case map[string]any:
		return w.avroObject(v)
	case fmt.Stringer: // a duration of months, days and milliseconds
		w.string(v.String())
	default:
		return fmt.Errorf("a %T is not read", v)
	}
	return w.check()
}

func (w *writer) decimal(d decimal) error {
	if len(d.unscaled) > maxDigits/2 || d.scale > maxDigits {
		return fmt.Errorf("a decimal has more than %d digits", maxDigits)
	}
	n := new(big.Int).SetBytes(d.unscaled)
	if len(d.unscaled) > 0 && d.unscaled[0] >= 0x80 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(d.unscaled))))
	}
	digits := n.String()
	if n.Sign() < 0 {
		w.raw("-")
		digits = digits[1:]
	}
	if d.scale > 0 {
		digits = strings.Repeat("0", max(0, d.scale+1-len(digits))) + digits
		digits = digits[:len(digits)-d.scale] + "." + digits[len(digits)-d.scale:]
	}
	w.raw(digits)
	return w.check()
}

func (w *writer) avroArray(list []any) error {
	w.raw("[")
	for i, v := range list {
		if i > 0 {
			w.raw(",")
		}
		if err := w.avro(v); err != nil {
			return err
		}
	}
	w.raw("]")
	return nil
}

func (w *writer) avroObject(object map[string]any) error {
	w.raw("{")
	n := 0
	for name, v := range object {
		w.key(n, name)
		if err := w.avro(v); err != nil {
			return err
		}
		n++
	}
	w.raw("}")
	return nil
}
