package registry

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"

	"github.com/bufbuild/protocompile"
	"github.com/twmb/franz-go/pkg/sr"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"fanout/event"
)

// mainFile names the schema itself, which has no name of its own, as no import can.
const mainFile = "(schema)"

// confluentFiles are what Confluent's serializers import without a reference.
//
//nolint:gochecknoglobals // a constant table
var confluentFiles = map[string]string{
	"confluent/meta.proto": `syntax = "proto3"; package confluent; import "google/protobuf/descriptor.proto";
message Meta { string doc = 1; map<string, string> params = 2; repeated string tags = 3; }
extend google.protobuf.FileOptions { Meta file_meta = 1088; }
extend google.protobuf.MessageOptions { Meta message_meta = 1088; }
extend google.protobuf.FieldOptions { Meta field_meta = 1088; }
extend google.protobuf.EnumOptions { Meta enum_meta = 1088; }
extend google.protobuf.EnumValueOptions { Meta enum_value_meta = 1088; }`,
	"confluent/type/decimal.proto": `syntax = "proto3"; package confluent.type;
message Decimal { bytes value = 1; uint32 precision = 2; int32 scale = 3; }`,
}

func compileProtobuf(ctx context.Context, text string, files []file) (decode, error) {
	sources := map[string]string{mainFile: text}
	maps.Copy(sources, confluentFiles)
	for _, f := range files {
		sources[f.name] = f.text
	}
	compiler := protocompile.Compiler{
		Resolver: protocompile.WithStandardImports(protocompile.ResolverFunc(func(path string) (protocompile.SearchResult, error) {
			text, ok := sources[path]
			if !ok {
				return protocompile.SearchResult{}, protoregistry.NotFound
			}
			if d := serialized(text); d != nil {
				d.Name = &path
				return protocompile.SearchResult{Proto: d}, nil
			}
			return protocompile.SearchResult{Source: strings.NewReader(text)}, nil
		})),
		MaxParallelism: 1,
	}
	compiled, err := compiler.Compile(ctx, mainFile)
	if err != nil {
		return nil, err
	}
	messages := compiled[0].Messages()
	return func(value []byte, limit int) ([]byte, error) {
		message, body, err := pick(messages, value)
		if err != nil {
			return nil, err
		}
		m := dynamicpb.NewMessage(message)
		if err := (proto.UnmarshalOptions{AllowPartial: true, DiscardUnknown: true, RecursionLimit: event.MaxDepth}).Unmarshal(body, m); err != nil {
			return nil, errors.New("it is not " + string(message.FullName()) + ": " + err.Error())
		}
		w := newWriter(value, limit)
		if err := w.message(m); err != nil {
			return nil, err
		}
		return w.b, w.check()
	}, nil
}

// serialized is the descriptor that a schema's text is, in base64, or nil: Confluent's serializer for Python registers
// that, and not every registry makes source of it.
func serialized(text string) *descriptorpb.FileDescriptorProto {
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil
	}
	d := new(descriptorpb.FileDescriptorProto)
	if proto.Unmarshal(b, d) != nil {
		return nil
	}
	nameFields(d.GetMessageType())
	return d
}

// nameFields gives fields the JSON names that a compiler would have, which a serializer need not write.
func nameFields(messages []*descriptorpb.DescriptorProto) {
	for _, m := range messages {
		for _, f := range m.GetField() {
			if f.JsonName != nil {
				continue
			}
			words := strings.Split(f.GetName(), "_")
			for i, word := range words[1:] {
				if word != "" {
					words[i+1] = strings.ToUpper(word[:1]) + word[1:]
				}
			}
			f.JsonName = new(strings.Join(words, ""))
		}
		nameFields(m.GetNestedType())
	}
}

// pick reads the indexes that stand before a value: the way to its message among those of the file.
func pick(messages protoreflect.MessageDescriptors, value []byte) (protoreflect.MessageDescriptor, []byte, error) {
	way, body, err := new(sr.ConfluentHeader).DecodeIndex(value, event.MaxDepth)
	if err != nil {
		return nil, nil, errors.New("its message indexes cannot be read")
	}
	var found protoreflect.MessageDescriptor
	for _, i := range way {
		if i < 0 || i >= messages.Len() {
			return nil, nil, fmt.Errorf("the file has no message %v", way)
		}
		found = messages.Get(i)
		messages = found.Messages()
	}
	return found, body, nil
}

// message writes a message as Protobuf's JSON mapping has it, with fields under their JSON names (lowerCamelCase).
//
// It differs in two things. An enum that is not set is written too: its zero value may be the channel or the type that is
// meant. And a google.protobuf.Any keeps its value as base64, since the type may be in no schema. Numbers that are not
// set are left out: an id of 0 would be the same for all of them.
func (w *writer) message(m protoreflect.Message) error {
	d := m.Descriptor()
	if done, err := w.wellKnown(d.FullName(), m); done || err != nil {
		return err
	}
	w.raw("{")
	fields, n := d.Fields(), 0
	for i := range fields.Len() {
		f := fields.Get(i)
		unset := f.Kind() == protoreflect.EnumKind && !f.HasPresence() && !f.IsList() && !f.IsMap()
		if !m.Has(f) && !unset {
			continue
		}
		w.key(n, f.JSONName())
		n++
		if err := w.field(f, m.Get(f)); err != nil {
			return err
		}
	}
	w.raw("}")
	return w.check()
}

// wellKnown writes the messages that have a JSON of their own.
func (w *writer) wellKnown(name protoreflect.FullName, m protoreflect.Message) (done bool, err error) {
	switch name {
	case "google.protobuf.Timestamp", "google.protobuf.Duration", "google.protobuf.FieldMask", "google.protobuf.Struct",
		"google.protobuf.Value", "google.protobuf.ListValue", "google.protobuf.BoolValue", "google.protobuf.StringValue",
		"google.protobuf.BytesValue", "google.protobuf.Int32Value", "google.protobuf.Int64Value", "google.protobuf.UInt32Value",
		"google.protobuf.UInt64Value", "google.protobuf.FloatValue", "google.protobuf.DoubleValue":
		text, err := protojson.MarshalOptions{AllowPartial: true}.Marshal(m.Interface())
		if err != nil {
			w.raw("null") // a time out of range, say: it counts as absent
		} else {
			w.b = append(w.b, text...)
		}
		return true, w.check()
	}
	return false, nil
}

func (w *writer) field(f protoreflect.FieldDescriptor, v protoreflect.Value) error {
	switch {
	case f.IsList():
		return w.list(f, v.List())
	case f.IsMap():
		return w.entries(f, v.Map())
	}
	return w.single(f, v)
}

func (w *writer) list(f protoreflect.FieldDescriptor, list protoreflect.List) error {
	w.raw("[")
	for i := range list.Len() {
		if i > 0 {
			w.raw(",")
		}
		if err := w.single(f, list.Get(i)); err != nil {
			return err
		}
	}
	w.raw("]")
	return nil
}

func (w *writer) entries(f protoreflect.FieldDescriptor, entries protoreflect.Map) (err error) {
	w.raw("{")
	n := 0
	entries.Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
		w.key(n, k.String())
		n++
		err = w.single(f.MapValue(), v)
		return err == nil
	})
	w.raw("}")
	return err
}

func (w *writer) single(f protoreflect.FieldDescriptor, v protoreflect.Value) error {
	switch f.Kind() {
	case protoreflect.BoolKind:
		w.b = strconv.AppendBool(w.b, v.Bool())
	case protoreflect.EnumKind:
		if value := f.Enum().Values().ByNumber(v.Enum()); value != nil {
			w.string(string(value.Name()))
		} else {
			w.b = strconv.AppendInt(w.b, int64(v.Enum()), 10)
		}
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		w.b = strconv.AppendInt(w.b, v.Int(), 10)
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		w.b = strconv.AppendUint(w.b, v.Uint(), 10)
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		w.string(strconv.FormatInt(v.Int(), 10))
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		w.string(strconv.FormatUint(v.Uint(), 10))
	case protoreflect.FloatKind:
		w.float(v.Float(), 32)
	case protoreflect.DoubleKind:
		w.float(v.Float(), 64)
	case protoreflect.StringKind:
		w.string(v.String())
	case protoreflect.BytesKind:
		w.bytes(v.Bytes())
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return w.message(v.Message())
	}
	return w.check()
}
