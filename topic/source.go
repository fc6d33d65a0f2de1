package topic

import (
	"context"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"fanout/dispatcher"
	"fanout/event"
	"fanout/topic/registry"
)

// ErrRegistryUnavailable says that nothing can be said of a schema-encoded record until the schema registry can be asked.
var ErrRegistryUnavailable = registry.ErrUnavailable

// Sources turns source records into events, as the configuration maps them. It is safe for concurrent use.
type Sources struct {
	decoders      map[string]*event.Decoder
	schemaEncoded map[string]bool
	schemas       *registry.Registry // nil where no source needs it
	maxEventBytes int
}

// NewSources compiles the mappings of the configured sources, or of the default ones. A nil log or reg is fine. Close it.
func (c *Config) NewSources(log *zap.Logger, reg prometheus.Registerer) (*Sources, error) {
	configured := c.AllSources()
	s := &Sources{decoders: make(map[string]*event.Decoder), schemaEncoded: make(map[string]bool), maxEventBytes: c.MaxEventBytes}
	for i := range configured {
		source := &configured[i]
		d, err := source.Compile(c.Catalogue, c.Payload...)
		if err != nil {
			return nil, fmt.Errorf("source %s: %w", source.Topic, err)
		}
		s.decoders[source.Topic] = d
		if source.Format == FormatConfluent {
			s.schemaEncoded[source.Topic] = true
		}
	}
	if len(s.schemaEncoded) == 0 {
		return s, nil
	}
	var err error
	s.schemas, err = registry.New(c.SchemaRegistry, log, reg)
	return s, err
}

// Close gives the schema registry's connections back.
func (s *Sources) Close() {
	if s.schemas != nil {
		s.schemas.Close()
	}
}

// Has says whether the topic is a source.
func (s *Sources) Has(name string) bool { return s.decoders[name] != nil }

// SchemaEncoded says whether the values of the topic carry a schema's id: they are not text.
func (s *Sources) SchemaEncoded(name string) bool { return s.schemaEncoded[name] }

// Problem says why records wait for the schema registry; nil where none does.
func (s *Sources) Problem() error {
	if s.schemas == nil {
		return nil
	}
	return s.schemas.Problem()
}

// Decode is the event of a source record, and what is known of the record besides. The error is event.ErrIgnored; or
// ErrRegistryUnavailable, where nothing can be said of the record until the registry can be asked; or it says why the record is
// malformed. The event's strings may lie in the record's memory.
func (s *Sources) Decode(ctx context.Context, r *Record) (event.Event, error) {
	decoder := s.decoders[r.Topic]
	if decoder == nil {
		return event.Event{}, fmt.Errorf("topic %s is not a source of this configuration", r.Topic)
	}
	if size := max(r.Size, len(r.Value)); size > s.maxEventBytes {
		return event.Event{}, fmt.Errorf("it has %d bytes; max_event_bytes is %d", size, s.maxEventBytes)
	}
	value := r.Value
	if s.schemaEncoded[r.Topic] {
		var err error
		if value, err = s.schemas.JSON(ctx, value, s.maxEventBytes); err != nil {
			return event.Event{}, err
		}
	}
	return decoder.Decode(value)
}

// Metadata is what a delivery keeps of the source record that it is planned from.
func (r *Record) Metadata() dispatcher.RecordMetadata {
	m := dispatcher.RecordMetadata{Origin: r.Origin(), AppendedAt: r.Time}
	for i := range r.Headers {
		switch h := &r.Headers[i]; h.Key {
		case HeaderTraceParent:
			m.TraceParent = traceValue(string(h.Value))
		case HeaderTraceState:
			m.TraceState = traceValue(string(h.Value))
		}
	}
	return m
}
