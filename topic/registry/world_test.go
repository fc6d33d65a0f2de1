package registry_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/bufbuild/protocompile"
	"github.com/twmb/avro"
	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"fanout/event"
	"fanout/topic/registry"
)

const limit = 1 << 18

func newStub(tb testing.TB) *srfake.Registry {
	tb.Helper()
	stub := srfake.New()
	tb.Cleanup(stub.Close)
	return stub
}

func open(tb testing.TB, cfg registry.Config) *registry.Registry {
	tb.Helper()
	r, err := registry.New(cfg, nil, nil)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(r.Close)
	return r
}

// frame puts Confluent's bytes before a value.
func frame(id int, index []int, value []byte) []byte {
	b, _ := new(sr.ConfluentHeader).AppendEncode(nil, id, index)
	return append(b, value...)
}

func avroValue(tb testing.TB, schema string, v any) []byte {
	tb.Helper()
	s, err := avro.Parse(schema)
	if err != nil {
		tb.Fatal(err)
	}
	b, err := s.Encode(v)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// protoValue is a message, given as Protobuf's JSON, on the wire.
func protoValue(tb testing.TB, files map[string]string, file string, message protoreflect.FullName, text string) []byte {
	tb.Helper()
	c := protocompile.Compiler{Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{Accessor: protocompile.SourceAccessorFromMap(files)})}
	compiled, err := c.Compile(tb.Context(), file)
	if err != nil {
		tb.Fatal(err)
	}
	d, ok := compiled.AsResolver().FindDescriptorByName(message)
	if ok != nil {
		tb.Fatal(ok)
	}
	m := dynamicpb.NewMessage(d.(protoreflect.MessageDescriptor)) //nolint:forcetypeassert // the test's own
	if err := protojson.Unmarshal([]byte(text), m); err != nil {
		tb.Fatal(err)
	}
	b, err := proto.Marshal(m)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// reads is what the value becomes; it fails the test where that is no JSON.
func reads(tb testing.TB, r *registry.Registry, value []byte) string {
	tb.Helper()
	text, err := r.JSON(tb.Context(), value, limit)
	if err != nil {
		tb.Fatalf("%x: %v", value, err)
	}
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		tb.Fatalf("%s: %v", text, err)
	}
	sorted, err := json.Marshal(v) // maps have no order
	if err != nil {
		tb.Fatal(err)
	}
	return string(sorted)
}

// malformed is why a value is malformed.
func malformed(tb testing.TB, r *registry.Registry, value []byte, limit int) string {
	tb.Helper()
	begun := time.Now()
	text, err := r.JSON(context.WithoutCancel(tb.Context()), value, limit)
	bad, ok := errors.AsType[*event.MalformedError](err)
	if !ok {
		tb.Fatalf("%.40x: %.100s, %v; want it to be malformed", value, text, err)
	}
	if took := time.Since(begun); took > 2*time.Second {
		tb.Errorf("%.40x: it took %v", value, took)
	}
	return bad.Error()
}

func schemaOf(kind sr.SchemaType, text string, refs ...string) sr.Schema {
	s := sr.Schema{Schema: text, Type: kind}
	for _, name := range refs {
		s.References = append(s.References, sr.SchemaReference{Name: name, Subject: name, Version: 1})
	}
	return s
}

func rawEvent(id int) string {
	return fmt.Sprintf(`{"accountId":"acme","channel":"EMAIL","type":"OPEN","trackingId":"t%d","notificationId":"n","userId":"u"}`, id)
}
