package main

import (
	"fmt"
	"io"
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/buffer"
	"go.uber.org/zap/zapcore"

	"fanout/config"
)

// newLogger writes to w. The configuration has been validated.
func newLogger(cfg config.Log, w io.Writer) *zap.Logger {
	level, err := zapcore.ParseLevel(cfg.Level)
	if err != nil {
		level = zapcore.InfoLevel
	}
	return zap.New(zapcore.NewCore(newBounded(cfg.Format), zapcore.Lock(zapcore.AddSync(w)), level))
}

// maxLine is how long a line of the log may get, in bytes. Much of what is logged was written by others (a subscription
// may have megabytes), and what carries logs breaks longer lines or drops them: Docker's drivers do so at 16 KiB.
const maxLine = 16 << 10

// boundedEncoder is an encoder whose lines have maxLine bytes at most. Where a line would be longer, its fields are cut, and say so.
type boundedEncoder struct {
	zapcore.Encoder

	alone zapcore.Encoder // writes one field and nothing else
	bare  zapcore.Encoder // has no fields of a logger's With
}

func newBounded(format string) boundedEncoder {
	keys := zap.NewProductionEncoderConfig()
	keys.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	encoder := zapcore.NewJSONEncoder(keys)
	if format == "console" {
		encoder = zapcore.NewConsoleEncoder(keys)
	}
	alone := zapcore.NewJSONEncoder(zapcore.EncoderConfig{SkipLineEnding: true, EncodeTime: keys.EncodeTime, EncodeDuration: keys.EncodeDuration})
	return boundedEncoder{encoder, alone, encoder.Clone()}
}

// Clone implements zapcore.Encoder.
func (b boundedEncoder) Clone() zapcore.Encoder {
	return boundedEncoder{b.Encoder.Clone(), b.alone, b.bare}
}

// EncodeEntry implements zapcore.Encoder.
func (b boundedEncoder) EncodeEntry(entry zapcore.Entry, fields []zapcore.Field) (*buffer.Buffer, error) {
	line, err := b.Encoder.EncodeEntry(entry, fields)
	for _, most := range []int{4 << 10, 512, 64} {
		if err != nil || line.Len() <= maxLine {
			return line, err
		}
		line.Free()
		entry.Message = shortened(entry.Message, most)
		line, err = b.Encoder.EncodeEntry(entry, b.shorter(fields, most))
	}
	if err == nil && line.Len() > maxLine {
		line.Free()
		line, err = b.bare.EncodeEntry(entry, nil)
	}
	return line, err
}

// shorter are the fields with at most most bytes of each value.
func (b boundedEncoder) shorter(fields []zapcore.Field, most int) []zapcore.Field {
	short := make([]zapcore.Field, len(fields))
	for i, f := range fields {
		if text, ok := b.text(f); ok && len(text) > most {
			f = zap.String(shortened(f.Key, most), shortened(text, most))
		}
		short[i] = f
	}
	return short
}

// text is the value of a field whose length nothing bounds.
func (b boundedEncoder) text(f zapcore.Field) (string, bool) {
	switch f.Type { //nolint:exhaustive // numbers, times and the like are short
	case zapcore.StringType:
		return f.String, true
	case zapcore.ErrorType, zapcore.StringerType:
		return fmt.Sprint(f.Interface), true // it takes a nil pointer
	case zapcore.ArrayMarshalerType, zapcore.ObjectMarshalerType, zapcore.InlineMarshalerType, zapcore.BinaryType, zapcore.ByteStringType, zapcore.ReflectType:
		line, err := b.alone.EncodeEntry(zapcore.Entry{}, []zapcore.Field{f})
		if err != nil {
			return "", false
		}
		defer line.Free()
		return line.String(), true
	}
	return "", false
}

// shortened is at most most bytes of a text, and says how many it lacks.
func shortened(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return fmt.Sprintf("%s… (and %d bytes more)", strings.ToValidUTF8(text[:most], ""), len(text)-most)
}
