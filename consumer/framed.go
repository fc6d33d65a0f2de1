package consumer

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"fanout/consumer/registry"
	"fanout/event"
)

// unframed is what the schema registry says a record's value is: JSON, or malformed. The value itself stays as it was
// written, for the dead letter.
type unframed struct {
	json []byte
	bad  error
}

// registryPause is how long a partition waits before it asks a registry again that could not be asked.
const registryPause = time.Second

// newSchemas is nil where no source needs a schema registry.
func newSchemas(cfg *Config, log *zap.Logger, reg prometheus.Registerer) (*registry.Registry, error) {
	if len(framed(cfg.Sources)) == 0 {
		return nil, nil //nolint:nilnil // there is none
	}
	return registry.New(cfg.SchemaRegistry, log, reg)
}

// framed are the sources whose values carry a schema's id.
func framed(sources []SourceConfig) map[string]bool {
	topics := make(map[string]bool)
	for i := range sources {
		if sources[i].Format == FormatConfluent {
			topics[sources[i].Topic] = true
		}
	}
	return topics
}

func (c *Consumer) schemasOf(topic string) *registry.Registry {
	if c.framed[topic] {
		return c.schemas
	}
	return nil
}

func (c *Consumer) closeSchemas() {
	if c.schemas != nil {
		c.schemas.Close()
	}
}

// SchemasReady says why records wait for the schema registry; nil where none does.
func (c *Consumer) SchemasReady() error {
	if c.schemas == nil {
		return nil
	}
	return c.schemas.Problem()
}

// unframe asks what the value is, for as long as the registry cannot be asked; false where ctx is done before. The record
// has not been tracked: whoever reads the partition next begins with it. Other partitions go on.
func (p *partition) unframe(ctx context.Context, m *message) bool {
	if len(m.value) > p.c.cfg.MaxEventBytes {
		return true // plan says so
	}
	for waiting := false; ; {
		json, err := p.schemas.JSON(ctx, m.value, p.c.cfg.MaxEventBytes)
		if !errors.Is(err, registry.ErrUnavailable) {
			m.unframed = &unframed{json, err}
			if waiting {
				p.setAsking(false)
			}
			return true
		}
		if !waiting {
			waiting = true
			p.setAsking(true)
		}
		p.lookAhead(ctx)
		if !sleep(ctx, registryPause) {
			p.setAsking(false)
			return false
		}
	}
}

// lookAhead keeps the lag true while nothing is read: the log grows on.
func (p *partition) lookAhead(ctx context.Context) {
	_, last, err := p.g.logRange(ctx, p.topic, p.id)
	if err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end = max(p.end, last)
}

func (p *partition) setAsking(asking bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asking = asking
}

// decode is the message's event.
func (m *message) decode(d *event.Decoder) (event.Event, error) {
	switch {
	case m.unframed == nil:
		return d.Decode(m.value)
	case m.unframed.bad != nil:
		return event.Event{}, m.unframed.bad
	}
	return d.Decode(m.unframed.json)
}
