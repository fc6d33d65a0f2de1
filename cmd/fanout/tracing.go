package main

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"fanout/config"
	"fanout/dispatcher"
)

const (
	maxSpans      = 4096            // that wait to be exported, some 10 MiB; beyond them spans are dropped
	flushTimeout  = 5 * time.Second // of a stop, at most, for spans that wait
	traceLogEvery = time.Minute     // how often it is said that they cannot be exported
)

// tracing has each attempt's span recorded and exported over OTLP/HTTP. Nothing of it holds a delivery up: spans that
// the collector does not take are dropped, and counted.
type tracing struct {
	log      *zap.Logger
	group    string
	provider *sdktrace.TracerProvider
	exporter sdktrace.SpanExporter
	tracer   trace.Tracer
	spans    *prometheus.CounterVec
	waiting  atomic.Int64 // spans that have ended and are neither exported nor dropped

	mu   sync.Mutex // guards said
	said time.Time
}

// newTracing follows the configuration, which has been validated, and the OTEL_… variables that docs/operating.md lists.
// It connects to nobody yet. The caller calls stop, after the last attempt.
func newTracing(ctx context.Context, cfg *config.Config, log *zap.Logger, reg prometheus.Registerer) (*tracing, error) {
	t := &tracing{log: log, group: cfg.Kafka.Group, spans: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "fanout_spans_total", Help: "Spans of traces, by what became of them: exported, failed or dropped, for want of room.",
	}, []string{"result"})}
	reg.MustRegister(t.spans)
	for _, result := range []string{"exported", "failed", "dropped"} {
		t.spans.WithLabelValues(result)
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(t.failed)) // what the SDK says of itself
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(cfg.Tracing.URL()))
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	t.exporter = exporter
	who, err := resource.New(ctx, resource.WithHost(), resource.WithTelemetrySDK(),
		resource.WithAttributes(semconv.ServiceName("fanout"), semconv.ServiceVersion(thisBuild().Version)), resource.WithFromEnv())
	if err != nil { // a part of it is missing
		t.failed(err)
	}
	batches := sdktrace.NewBatchSpanProcessor(counted{exporter, t}, sdktrace.WithMaxQueueSize(maxSpans))
	t.provider = sdktrace.NewTracerProvider(sdktrace.WithResource(who), sdktrace.WithSpanProcessor(bounded{batches, t}),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(cfg.Tracing.SampleRatio))))
	t.tracer = t.provider.Tracer("fanout", trace.WithInstrumentationVersion(thisBuild().Version), trace.WithSchemaURL(semconv.SchemaURL))
	return t, nil
}

// Attempt implements dispatcher.Tracer.
func (t *tracing) Attempt(del *dispatcher.Delivery, host string, port uint16, begun time.Time) (dispatcher.Trace, func(dispatcher.Outcome)) {
	own := carrier{del.TraceParent, del.TraceState}
	ctx := propagation.TraceContext{}.Extract(context.Background(), &own)
	ctx, span := t.tracer.Start(ctx, "POST", trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(begun))
	if !span.IsRecording() {
		return dispatcher.Trace(own), func(dispatcher.Outcome) {}
	}
	span.SetAttributes(
		semconv.HTTPRequestMethodPost, semconv.ServerAddress(host), semconv.ServerPort(int(port)),
		semconv.MessagingSystemKafka, semconv.MessagingConsumerGroupName(t.group), semconv.MessagingDestinationName(del.Origin.Topic),
		semconv.MessagingDestinationPartitionID(strconv.Itoa(del.Origin.Partition)), semconv.MessagingKafkaOffset(int(del.Origin.Offset)),
		attribute.String("fanout.account", del.Account), attribute.String("fanout.subscription", del.Subscription),
		attribute.String("fanout.webhook_id", del.ID), attribute.String("fanout.event", del.Event.String()),
		attribute.String("fanout.stage", del.Stage.String()), attribute.Int("fanout.attempt", del.Attempts+1),
	)
	var send carrier
	propagation.TraceContext{}.Inject(ctx, &send)
	return dispatcher.Trace(send), func(out dispatcher.Outcome) {
		tell(span, &out)
		span.End(trace.WithTimestamp(begun.Add(out.Took)))
	}
}

// Batch implements dispatcher.Tracer: the span is linked to each delivery that came with a trace.
func (t *tracing) Batch(members []*dispatcher.Delivery, id, host string, port uint16, begun time.Time) (dispatcher.Trace, func(dispatcher.Outcome)) {
	ctx, span := t.tracer.Start(context.Background(), "POST", trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(begun), trace.WithLinks(links(members)...))
	if !span.IsRecording() {
		return dispatcher.Trace{}, func(dispatcher.Outcome) {}
	}
	first := members[0]
	span.SetAttributes(
		semconv.HTTPRequestMethodPost, semconv.ServerAddress(host), semconv.ServerPort(int(port)),
		semconv.MessagingSystemKafka, semconv.MessagingConsumerGroupName(t.group), semconv.MessagingBatchMessageCount(len(members)),
		attribute.String("fanout.account", first.Account), attribute.String("fanout.subscription", first.Subscription),
		attribute.String("fanout.webhook_id", id),
	)
	var send carrier
	propagation.TraceContext{}.Inject(ctx, &send)
	return dispatcher.Trace(send), func(out dispatcher.Outcome) {
		tell(span, &out)
		span.End(trace.WithTimestamp(begun.Add(out.Took)))
	}
}

// links are to the traces that the deliveries came with.
func links(members []*dispatcher.Delivery) (list []trace.Link) {
	for _, del := range members {
		own := carrier{del.TraceParent, del.TraceState}
		ctx := propagation.TraceContext{}.Extract(context.Background(), &own)
		if parent := trace.SpanContextFromContext(ctx); parent.IsValid() {
			list = append(list, trace.Link{SpanContext: parent, Attributes: []attribute.KeyValue{attribute.String("fanout.webhook_id", del.ID)}})
		}
	}
	return list
}

// tell writes an outcome into its span. The text of an error is not among it: it may quote what a receiver answered.
func tell(span trace.Span, out *dispatcher.Outcome) {
	reason := out.Reason.String()
	span.SetAttributes(attribute.String("fanout.result", out.Result.String()))
	if reason != "" {
		span.SetAttributes(attribute.String("fanout.reason", reason))
	}
	failure := reason
	if out.Status != 0 {
		span.SetAttributes(semconv.HTTPResponseStatusCode(out.Status))
		failure = strconv.Itoa(out.Status)
	}
	if out.Result == dispatcher.Retry || out.Result == dispatcher.Dead || out.Status >= 400 {
		span.SetAttributes(semconv.ErrorTypeKey.String(failure))
		span.SetStatus(codes.Error, reason)
	}
}

// stop exports what waits, until by at the latest, and drops what is left then.
func (t *tracing) stop(ctx context.Context, by time.Time) {
	ctx, cancel := context.WithDeadline(ctx, by)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		_ = t.exporter.Shutdown(ctx) // it breaks off the request that is under way
		t.log.Warn("traces: spans were not exported before the stop", zap.Error(err), zap.Int64("count", t.waiting.Load()))
	}
}

// failed says what went wrong with traces, now and then.
func (t *tracing) failed(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Since(t.said) < traceLogEvery {
		return
	}
	t.said = time.Now()
	t.log.Warn("traces cannot be exported; their spans are dropped", zap.Error(err))
}

// carrier carries a W3C trace context.
type carrier dispatcher.Trace

func (c *carrier) field(key string) *string {
	if key == "traceparent" {
		return &c.Parent
	}
	return &c.State
}

// Get implements propagation.TextMapCarrier.
func (c *carrier) Get(key string) string { return *c.field(key) }

// Set implements propagation.TextMapCarrier.
func (c *carrier) Set(key, value string) { *c.field(key) = value }

// Keys implements propagation.TextMapCarrier.
func (*carrier) Keys() []string { return []string{"traceparent", "tracestate"} }

// bounded lets no more spans wait than there is room for. The SDK would drop those beyond too, and not say so.
type bounded struct {
	sdktrace.SpanProcessor
	t *tracing
}

// OnEnd implements sdktrace.SpanProcessor.
func (b bounded) OnEnd(span sdktrace.ReadOnlySpan) {
	if b.t.waiting.Add(1) > maxSpans {
		b.t.waiting.Add(-1)
		b.t.spans.WithLabelValues("dropped").Inc()
		return
	}
	b.SpanProcessor.OnEnd(span)
}

// counted counts what is exported, and keeps failures from the SDK's own log.
type counted struct {
	sdktrace.SpanExporter
	t *tracing
}

// ExportSpans implements sdktrace.SpanExporter.
func (c counted) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	result := "exported"
	if err := c.SpanExporter.ExportSpans(ctx, spans); err != nil {
		c.t.failed(err)
		result = "failed"
	}
	c.t.spans.WithLabelValues(result).Add(float64(len(spans)))
	c.t.waiting.Add(int64(-len(spans)))
	return nil
}
