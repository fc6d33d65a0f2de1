package registry_test

import (
	"encoding/hex"
	"testing"

	"github.com/twmb/franz-go/pkg/sr"

	"fanout/topic/registry"
)

// What Confluent's own serializers wrote (confluent-kafka 2.16.1 for Python), with the schemas that they registered: those of
// Protobuf as a descriptor in base64.
func TestConfluentSerializers(t *testing.T) {
	t.Parallel()
	stub := newStub(t)
	stub.SeedSchema("acme.User", 1, 1, schemaOf(sr.TypeAvro, userSchema))
	stub.SeedSchema("avro-value", 1, 2, schemaOf(sr.TypeAvro, `{"type":"record","name":"Mail","namespace":"acme","fields":[
		{"name":"accountId","type":"string"},{"name":"user","type":"acme.User"},
		{"name":"kind","type":{"type":"enum","name":"Kind","symbols":["OPEN","CLICK"]}},{"name":"maybe","type":["null","string"],"default":null},
		{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},{"name":"price","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}},
		{"name":"uuid","type":{"type":"string","logicalType":"uuid"}},{"name":"day","type":{"type":"int","logicalType":"date"}},{"name":"raw","type":"bytes"}]}`, "acme.User"))
	stub.SeedSchema("json-value", 1, 3, schemaOf(sr.TypeJSON, `{"type":"object"}`))
	stub.SeedSchema("acme/common.proto", 1, 4, schemaOf(sr.TypeProtobuf, "ChFhY21lL2NvbW1vbi5wcm90bxIEYWNtZSIpCgNXaG8SEQoJdGVuYW50X2lkGAEgASgJEg8KB3VzZXJfaWQYAiABKAliBnByb3RvMw=="))
	stub.SeedSchema("proto-value", 1, 5, schemaOf(sr.TypeProtobuf, "Cgxib3VuY2UucHJvdG8SBGFjbWUaEWFjbWUvY29tbW9uLnByb3RvGh9nb29nbGUvcHJvdG9idWYvdGltZXN0YW1wLnByb3Rv"+
		"IggKBlVudXNlZCKNAQoFT3V0ZXIagwEKBkJvdW5jZRIWCgN3aG8YASABKAsyCS5hY21lLldobxIYCgRraW5kGAIgASgOMgouYWNtZS5LaW5kEhMKC3RyYWNraW5nX2lkGAMgASgJEiYKAmF0GAQgASgLMhouZ29v"+
		"Z2xlLnByb3RvYnVmLlRpbWVzdGFtcBIKCgJpZBgFIAEoAyISCgVGaXJzdBIJCgF4GAEgASgJKikKBEtpbmQSEAoMS0lORF9CT1VOQ0VEEAASDwoLS0lORF9PUEVORUQQAWIGcHJvdG8z", "acme/common.proto"))
	r := open(t, registry.Config{URL: stub.URL()})
	for _, test := range []struct{ value, want string }{
		{
			"00000000020861636d6502750202026df69187b1826704f8314830303030303030302d303030302d303030302d303030302d30303030303030303030303588c00204ff00",
			`{"accountId":"acme","at":"2026-01-31T08:00:00.123Z","day":"2026-01-31T00:00:00Z","kind":"CLICK","maybe":"m","price":-19.99,"raw":"/wA=","user":{"id":"u"},"uuid":"00000000-0000-0000-0000-000000000005"}`,
		},
		{"00000000037b226163636f756e744964223a2261636d65227d", `{"accountId":"acme"}`},
		{
			"00000000050402000a090a0461636d651201751a017422060880edf6cb062807",
			`{"at":"2026-01-31T08:00:00Z","id":"7","kind":"KIND_BOUNCED","trackingId":"t","who":{"tenantId":"acme","userId":"u"}}`,
		},
		{"000000000502040a0179", `{"x":"y"}`},
		{"000000000500", `{}`},
	} {
		value, err := hex.DecodeString(test.value)
		if err != nil {
			t.Fatal(err)
		}
		if got := reads(t, r, value); got != test.want {
			t.Errorf("%s\ngot  %s\nwant %s", test.value, got, test.want)
		}
	}
}
