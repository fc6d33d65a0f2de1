package main

import (
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/twmb/franz-go/pkg/kgo"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"fanout/config"
	"fanout/dispatcher"
)

// otlp is a collector in this process: it takes OTLP/HTTP in protobuf.
type otlp struct {
	url string

	mu       sync.Mutex // guards all below
	spans    []*spans.Span
	resource map[string]string
	headers  http.Header
	raw      bytes.Buffer // all bodies
}

func newOTLP(t *testing.T) *otlp {
	t.Helper()
	o := &otlp{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil && r.Header.Get("Content-Encoding") == "gzip" {
			var unpacked io.Reader
			if unpacked, err = gzip.NewReader(bytes.NewReader(body)); err == nil {
				body, err = io.ReadAll(unpacked)
			}
		}
		var request collector.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(body, &request)
		}
		if err != nil || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" {
			t.Errorf("the collector got %s with %s: %v", r.URL.Path, r.Header.Get("Content-Type"), err)
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		o.raw.Write(body)
		o.headers = r.Header
		for _, resource := range request.GetResourceSpans() {
			o.resource = attributes(resource.GetResource().GetAttributes())
			for _, scope := range resource.GetScopeSpans() {
				o.spans = append(o.spans, scope.GetSpans()...)
			}
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(server.Close)
	o.url = server.URL
	return o
}

// of are the spans of a trace, in the order in which they began.
func (o *otlp) of(trace string) []*spans.Span {
	o.mu.Lock()
	defer o.mu.Unlock()
	var found []*spans.Span
	for _, s := range o.spans {
		if hex.EncodeToString(s.GetTraceId()) == trace {
			found = append(found, s)
		}
	}
	return found
}

func attributes(list []*common.KeyValue) map[string]string {
	found := map[string]string{}
	for _, a := range list {
		if text, ok := a.GetValue().GetValue().(*common.AnyValue_StringValue); ok {
			found[a.GetKey()] = text.StringValue
		} else {
			found[a.GetKey()] = strconv.FormatInt(a.GetValue().GetIntValue(), 10)
		}
	}
	return found
}

// produce writes an event of acme with these headers.
func (w *world) produce(t *testing.T, id string, headers ...kgo.RecordHeader) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.TrimPrefix(w.env[0], "FANOUT_KAFKA_BROKERS=")))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	value := `{"accountId":"acme","channel":"EMAIL","type":"OPEN","trackingId":"` + id + `","notificationId":"n","userId":"u","id":"` + id + `"}`
	if err := client.ProduceSync(t.Context(), &kgo.Record{Topic: "channel.email", Value: []byte(value), Headers: headers}).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// receive subscribes a receiver, whose path and query are secrets, and gives what it gets. It refuses the first of "fails".
func (w *world) receive(t *testing.T) chan received {
	t.Helper()
	posts := make(chan received, 1000)
	var refused sync.Once
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if strings.Contains(string(body), "fails") {
			refused.Do(func() { rw.WriteHeader(http.StatusServiceUnavailable) })
		}
		posts <- received{r.Header, string(body)}
	}))
	t.Cleanup(server.Close)
	w.redis.HSet("fanout:account:acme", "crm", `{"url":"`+server.URL+`/hook/pa7h?key=qu3ry","events":["*"],"secrets":["`+secret+`"],"headers":{"x-key":"h3ader"}}`)
	return posts
}

func next(t *testing.T, posts chan received, r *running) (got received) {
	t.Helper()
	until(t, func() (bool, string) {
		select {
		case got = <-posts:
			return true, ""
		default:
			return false, r.log.String()
		}
	})
	return got
}

var w3c = regexp.MustCompile(`^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$`)

// One trace from a produced record to the receiver: each attempt is a child of the producer's span, and the receiver's parent.
func TestTraceFromRecordToReceiver(t *testing.T) {
	t.Parallel()
	const sampled, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	const unsampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
	w, o := newWorld(t, "channel.email"), newOTLP(t)
	w.env = append(w.env, "FANOUT_TRACING_ENDPOINT="+o.url, "FANOUT_DELIVERY_SCHEDULE=100ms,100ms")
	posts := w.receive(t)
	r := w.start(t)
	r.await(t, "/readyz", 200, `"ready":true`)

	w.produce(t, "fails", kgo.RecordHeader{Key: "traceparent", Value: []byte("00-" + sampled + "-" + parent + "-01")}, kgo.RecordHeader{Key: "tracestate", Value: []byte("vendor=x")})
	first, second := next(t, posts, r), next(t, posts, r)
	w.produce(t, "quiet", kgo.RecordHeader{Key: "traceparent", Value: []byte(unsampled)}, kgo.RecordHeader{Key: "tracestate", Value: []byte("vendor=y")})
	quiet := next(t, posts, r)
	w.produce(t, "root")
	root := w3c.FindStringSubmatch(next(t, posts, r).header.Get("traceparent"))
	if code := r.stop(); code != 0 {
		t.Fatalf("exit %d\n%s", code, r.log)
	}

	attempts := o.of(sampled)
	if len(attempts) != 2 {
		t.Fatalf("%d spans of the producer's trace, want one for each of 2 attempts\n%s", len(attempts), r.log)
	}
	for i, got := range []received{first, second} {
		span := attempts[i]
		if id := hex.EncodeToString(span.GetSpanId()); got.header.Get("traceparent") != "00-"+sampled+"-"+id+"-01" || got.header.Get("tracestate") != "vendor=x" {
			t.Errorf("attempt %d: the receiver was told %s %s; the span is %s", i+1, got.header.Get("traceparent"), got.header.Get("tracestate"), id)
		}
		if hex.EncodeToString(span.GetParentSpanId()) != parent || span.GetKind() != spans.Span_SPAN_KIND_CLIENT || span.GetEndTimeUnixNano() <= span.GetStartTimeUnixNano() {
			t.Errorf("attempt %d: %v, want a client's span with the producer's as its parent", i+1, span)
		}
		a := attributes(span.GetAttributes())
		for name, want := range map[string]string{
			"http.request.method": "POST", "server.address": "127.0.0.1", "http.response.status_code": []string{"503", "200"}[i],
			"messaging.system": "kafka", "messaging.destination.name": "channel.email", "messaging.consumer.group.name": "fanout", "messaging.kafka.offset": "0",
			"fanout.account": "acme", "fanout.subscription": "crm", "fanout.webhook_id": got.header.Get("webhook-id"), "fanout.event": "EMAIL_OPEN",
			"fanout.stage": []string{"first", "retry"}[i], "fanout.attempt": []string{"1", "2"}[i],
			"fanout.result": []string{"retry", "delivered"}[i], "fanout.reason": []string{"status", ""}[i], "error.type": []string{"503", ""}[i],
		} {
			if a[name] != want {
				t.Errorf("attempt %d: %s = %q, want %q", i+1, name, a[name], want)
			}
		}
		if want := []spans.Status_StatusCode{spans.Status_STATUS_CODE_ERROR, spans.Status_STATUS_CODE_UNSET}[i]; span.GetStatus().GetCode() != want {
			t.Errorf("attempt %d: %v, want %v", i+1, span.GetStatus(), want)
		}
	}
	if quiet.header.Get("traceparent") != unsampled || quiet.header.Get("tracestate") != "vendor=y" || len(o.of(unsampled[3:35])) != 0 {
		t.Errorf("not sampled: the receiver was told %s, and %d spans were exported; want the producer's own and none", quiet.header.Get("traceparent"), len(o.of(unsampled[3:35])))
	}
	if root == nil || len(o.of(root[1])) != 1 || len(o.of(root[1])[0].GetParentSpanId()) != 0 {
		t.Errorf("a record without a traceparent: %v, want a trace of its own", root)
	}
	if o.resource["service.name"] != "fanout" || o.resource["service.version"] != thisBuild().Version {
		t.Errorf("resource %v", o.resource)
	}
	for _, hidden := range []string{"pa7h", "qu3ry", "h3ader", secret, secret[6:]} {
		if bytes.Contains(o.raw.Bytes(), []byte(hidden)) {
			t.Errorf("spans hold %s", hidden)
		}
	}
}

// The variables of the SDK that operating.md names.
func TestTraceFollowsTheSDKsVariables(t *testing.T) {
	for name, value := range map[string]string{
		"OTEL_SERVICE_NAME": "webhooks", "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
		"OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=t1", "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
		"OTEL_EXPORTER_OTLP_ENDPOINT": "http://" + nobody, "OTEL_TRACES_SAMPLER": "always_off", // these two the configuration has
	} {
		t.Setenv(name, value)
	}
	w, o := newWorld(t, "channel.email"), newOTLP(t)
	w.env = append(w.env, "FANOUT_TRACING_ENDPOINT="+o.url+"/v1/traces/")
	posts := w.receive(t)
	r := w.start(t)
	w.produce(t, "e1")
	next(t, posts, r)
	r.await(t, "/metrics", 200, `fanout_spans_total{result="exported"} 1`)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.resource["service.name"] != "webhooks" || o.resource["deployment.environment.name"] != "test" || o.headers.Get("x-tenant") != "t1" || o.headers.Get("Content-Encoding") != "gzip" {
		t.Errorf("resource %v, headers %v", o.resource, o.headers)
	}
}

// A collector that is away, or takes requests and never answers, costs spans and no delivery.
func TestDeliveriesGoOnWithoutACollector(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	for name, endpoint := range map[string]string{"away": "http://" + nobody, "silent": "http://" + silent.Addr().String()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const records = 200
			w := newWorld(t, "channel.email")
			w.env = append(w.env, "FANOUT_TRACING_ENDPOINT="+endpoint)
			posts := w.receive(t)
			r := w.start(t)
			r.await(t, "/readyz", 200, `"ready":true`)
			for i := range records {
				w.produce(t, fmt.Sprint("e", i))
			}
			for range records {
				next(t, posts, r)
			}
			r.await(t, "/metrics", 200, fmt.Sprintf(`fanout_outcomes_total{outcome="delivered",reason="",stage="first"} %d`, records))
			if name == "away" {
				r.await(t, "/metrics", 200, fmt.Sprintf(`fanout_spans_total{result="failed"} %d`, records))
			}
			began := time.Now()
			if code := r.stop(); code != 0 || time.Since(began) > 10*time.Second {
				t.Errorf("exit %d after %s, want 0 within 10 s", code, time.Since(began))
			}
			said := map[string]string{"away": "traces cannot be exported", "silent": "spans were not exported before the stop"}[name]
			if n := strings.Count(r.log.String(), said); n != 1 {
				t.Errorf("the log says %q %d times, want once\n%s", said, n, r.log)
			}
		})
	}
}

// Beyond its room, spans are dropped at once, and counted.
func TestSpansThatFindNoRoomAreCounted(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	traced := tracedTo(t, "http://"+silent.Addr().String())
	const more = 1000
	for range maxSpans + more {
		oneAttempt(traced, "")
	}
	if n := traced.count("dropped"); n != more {
		t.Errorf("%v dropped, want %d", n, more)
	}
	traced.stop(t.Context(), time.Now())
}

func tracedTo(tb testing.TB, endpoint string) *tracing {
	tb.Helper()
	cfg := config.Default()
	cfg.Tracing.Endpoint = endpoint
	traced, err := newTracing(tb.Context(), &cfg, zap.NewNop(), prometheus.NewRegistry())
	if err != nil {
		tb.Fatal(err)
	}
	return traced
}

// count is what fanout_spans_total says.
func (t *tracing) count(result string) float64 {
	var metric dto.Metric
	_ = t.spans.WithLabelValues(result).Write(&metric)
	return metric.GetCounter().GetValue()
}

func oneAttempt(traced *tracing, parent string) {
	begun := time.Now()
	_, end := traced.Attempt(&dispatcher.Delivery{ID: "msg_1", Account: "acme", Subscription: "crm", TraceParent: parent}, "example.com", 443, begun)
	end(dispatcher.Outcome{Result: dispatcher.Delivered, Status: 200, Attempted: true, Took: time.Millisecond})
}

// BenchmarkTracing is what tracing adds to an attempt: with the export of its span, and where its producer did not sample.
func BenchmarkTracing(b *testing.B) {
	sink := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	defer sink.Close()
	for name, flags := range map[string]string{"sampled": "01", "unsampled": "00"} {
		b.Run(name, func(b *testing.B) {
			traced := tracedTo(b, sink.URL)
			b.ReportAllocs()
			for b.Loop() {
				oneAttempt(traced, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-"+flags)
			}
			traced.stop(b.Context(), time.Now().Add(flushTimeout))
			b.ReportMetric(traced.count("exported")/float64(b.N), "exported/op")
		})
	}
}
