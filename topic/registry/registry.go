// Package registry reads record values in Confluent's wire format: a zero byte, the four bytes of a schema's id, and a
// value of which the schema registry knows whether it is Avro, Protobuf or JSON.
//
// It promises that a value becomes the JSON that package event decodes, or is malformed ([*event.MalformedError]), or
// that nothing is said of it because the registry could not be asked ([ErrUnavailable]): then the caller asks again. What
// a hostile value can cost is bounded by its size, and what unknown ids can cost the registry by a rate.
//
// A schema is asked for once and kept for ever, since what an id stands for never changes. JSON is not held to its schema:
// package event says what is malformed.
package registry

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/sr"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"fanout/event"
)

// ErrUnavailable says that the registry could not be asked what a value is.
var ErrUnavailable = errors.New("the schema registry cannot be asked")

var (
	errUnknown = errors.New("the schema registry does not know it")
	errGone    = errors.New("the caller has stopped")
)

// Bounds of what is asked.
const (
	askAgain      = time.Second      // after a registry that could not be asked, and after an unknown id
	unknownWait   = 3 * time.Second  // for an id that is unknown: a follower may lag behind the leader that gave it out
	unknownPause  = 30 * time.Second // in which one unknown id alone is waited for: foreign writers make up any number
	maxAsks       = 50               // a second
	maxSchemas    = 10_000           // kept
	maxReferences = 200              // of one schema, with theirs
	logInterval   = 30 * time.Second // of a registry that cannot be asked
)

// decode turns what stands behind a schema's id into JSON of at most limit bytes. The result may alias value.
type decode func(value []byte, limit int) ([]byte, error)

// Registry is a schema registry's client with its schemas. Any number of goroutines may share it.
type Registry struct {
	cfg    Config
	log    *zap.Logger
	client *sr.Client
	http   *http.Client
	asks   *rate.Limiter
	asked  *prometheus.CounterVec

	mu       sync.Mutex // guards all below
	schemas  map[int]*schema
	waitedID int       // the unknown id that was last waited for
	waitedBy time.Time // and until when
	problem  error     // why the registry could not be asked; nil since it last could
	failed   time.Time // when
	logged   time.Time // when that was last said
}

// schema is what is known of an id. Its other fields are set, by whoever made it, before done is closed.
type schema struct {
	done   chan struct{}
	decode decode
	err    error
	until  time.Time // ask again then; zero: never
}

// New makes a client, which is the caller's to close. It asks nothing. A nil log or reg is fine.
func New(cfg Config, log *zap.Logger, reg prometheus.Registerer) (*Registry, error) {
	if log == nil {
		log = zap.NewNop()
	}
	r := &Registry{
		cfg: cfg, log: log, asks: rate.NewLimiter(maxAsks, maxAsks), schemas: make(map[int]*schema),
		asked: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fanout_schema_registry_requests_total", Help: "Schemas that the registry was asked for, by its answer: ok, unknown, unusable or failed.",
		}, []string{"result"}),
	}
	var err error
	if r.client, r.http, err = r.cfg.connect(); err != nil {
		return nil, err
	}
	if reg != nil {
		reg.MustRegister(r.asked)
	}
	return r, nil
}

// Close gives connections back. Nothing may be asked meanwhile or afterwards.
func (r *Registry) Close() { r.http.CloseIdleConnections() }

// JSON is the record value as JSON, of at most limit bytes; a null value is null. It may alias value. It asks the
// registry at most once where the id is new, except that it may wait for an unknown id for three seconds.
func (r *Registry) JSON(ctx context.Context, value []byte, limit int) ([]byte, error) {
	if value == nil {
		return nil, nil
	}
	id, body, err := new(sr.ConfluentHeader).DecodeID(value)
	if err != nil {
		return nil, &event.MalformedError{Problem: "no schema id: want a zero byte and four bytes of the id before the value"}
	}
	decode, err := r.decoder(ctx, id)
	if errors.Is(err, ErrUnavailable) {
		return nil, err
	}
	var text []byte
	if err == nil {
		text, err = guarded(decode, body, limit)
	}
	if err != nil {
		return nil, &event.MalformedError{Problem: fmt.Sprintf("schema %d: %s", id, brief(err))}
	}
	return text, nil
}

// brief is an error's text, without its middle where that is long: a deep value's error names each level before it says
// what is wrong.
func brief(err error) string {
	text := err.Error()
	if len(text) > 400 {
		text = text[:150] + " … " + text[len(text)-200:]
	}
	return strings.ToValidUTF8(text, "?")
}

// guarded makes a panic of a decoder a malformed value: it is not worth the process, which would read it again.
func guarded(decode decode, value []byte, limit int) (text []byte, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("the decoder fails: %.100v", v)
		}
	}()
	return decode(value, limit)
}

// decoder is the id's decoder. An unknown id is asked for again for a while.
func (r *Registry) decoder(ctx context.Context, id int) (decode, error) {
	s := r.schema(ctx, id)
	for errors.Is(s.err, errUnknown) && r.worthWaiting(id) {
		t := time.NewTimer(askAgain)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, context.Cause(ctx))
		}
		s = r.schema(ctx, id)
	}
	return s.decode, s.err
}

// worthWaiting says whether an unknown id may hold its partition up: one id at a time, and not again soon.
func (r *Registry) worthWaiting(id int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if id != r.waitedID || now.Sub(r.waitedBy) > unknownPause {
		if now.Sub(r.waitedBy) < unknownPause {
			return false
		}
		r.waitedID, r.waitedBy = id, now.Add(unknownWait)
	}
	return now.Before(r.waitedBy)
}

// schema is what is known of the id. Whoever comes first asks, with its own context; the others wait for the answer.
func (r *Registry) schema(ctx context.Context, id int) *schema {
	for {
		s, first := r.entry(id)
		if first {
			r.ask(ctx, id, s)
			return s
		}
		select {
		case <-s.done:
		case <-ctx.Done():
			return &schema{err: fmt.Errorf("%w: %w", ErrUnavailable, context.Cause(ctx))}
		}
		if !errors.Is(s.err, errGone) || ctx.Err() != nil {
			return s
		}
	}
}

// entry is the id's entry, and whether it is the caller's to fill.
func (r *Registry) entry(id int) (s *schema, first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s = r.schemas[id]; s != nil && (s.until.IsZero() || time.Now().Before(s.until)) {
		return s, false
	}
	if len(r.schemas) >= maxSchemas {
		r.forget()
	}
	s = &schema{done: make(chan struct{})}
	r.schemas[id] = s
	return s, true
}

// forget makes room: of what is to be asked again anyway, else of any. The registry is locked.
func (r *Registry) forget() {
	for id, s := range r.schemas {
		if !s.until.IsZero() {
			delete(r.schemas, id)
		}
	}
	for id := range r.schemas {
		if len(r.schemas) < maxSchemas {
			return
		}
		delete(r.schemas, id)
	}
}

// ask fills s. What was not answered, and what is unknown, is asked again later.
func (r *Registry) ask(ctx context.Context, id int, s *schema) {
	err := r.asks.Wait(ctx)
	var decode decode
	if err == nil {
		decode, err = r.fetch(ctx, id)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	defer close(s.done)
	s.decode, s.err = decode, err
	switch bad, settled := errors.AsType[*schemaError](err); {
	case err == nil:
		r.problem = nil
		r.asked.WithLabelValues("ok").Inc()
	case settled && bad.unknown():
		r.problem, s.until = nil, time.Now().Add(askAgain)
		r.asked.WithLabelValues("unknown").Inc()
	case settled:
		r.problem = nil
		r.asked.WithLabelValues("unusable").Inc()
	case ctx.Err() != nil:
		s.err = fmt.Errorf("%w: %w: %w", ErrUnavailable, errGone, context.Cause(ctx))
		delete(r.schemas, id)
	default:
		r.asked.WithLabelValues("failed").Inc()
		err = r.cfg.explain(err)
		s.err = fmt.Errorf("%w: schema %d: %w", ErrUnavailable, id, err)
		now := time.Now()
		s.until, r.problem, r.failed = now.Add(askAgain), s.err, now
		if now.Sub(r.logged) >= logInterval {
			r.logged = now
			r.log.Warn("the schema registry cannot be asked; records wait for it", zap.Int("schema", id), zap.Error(err))
		}
	}
}

// Problem says why records wait for the registry; nil where none does.
func (r *Registry) Problem() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.failed) > 2*(askAgain+max(r.cfg.Timeout, defaultTimeout)) { // nobody asks any more
		return nil
	}
	return r.problem
}

// Check asks the registry for a schema that it will hardly have, as records do: that it does not know it is an answer.
func (r *Registry) Check(ctx context.Context) error {
	_, err := r.client.SchemaByID(ctx, math.MaxInt32)
	if _, settled := errors.AsType[*schemaError](judged(err)); err == nil || settled {
		return nil
	}
	return r.cfg.explain(err)
}

// schemaError says what is wrong with a schema, as opposed to with the way to it.
type schemaError struct{ err error }

// Error implements error.
func (e *schemaError) Error() string { return e.err.Error() }

// Unwrap leads to what is wrong.
func (e *schemaError) Unwrap() error { return e.err }

func (e *schemaError) unknown() bool { return errors.Is(e.err, errUnknown) }

// file is a schema's text under the name by which others refer to it.
type file struct{ name, text string }

// fetch asks for a schema and those it refers to, and compiles them. Its error is a *schemaError where asking again
// leads to nothing else.
func (r *Registry) fetch(ctx context.Context, id int) (decode, error) {
	main, err := r.client.SchemaByID(ctx, id)
	if err != nil {
		return nil, judged(err)
	}
	var files []file
	if err := r.references(ctx, main.References, &files); err != nil {
		return nil, err
	}
	compiled, err := compile(context.WithoutCancel(ctx), main.Type, main.Schema, files) // a stop is nothing wrong with it
	if err != nil {
		return nil, &schemaError{err}
	}
	return compiled, nil
}

// references adds the schemas referred to, each behind those that it refers to.
func (r *Registry) references(ctx context.Context, refs []sr.SchemaReference, files *[]file) error {
	for _, ref := range refs {
		if slices.ContainsFunc(*files, func(f file) bool { return f.name == ref.Name }) {
			continue
		}
		if len(*files) >= maxReferences {
			return &schemaError{fmt.Errorf("it refers to more than %d schemas", maxReferences)}
		}
		at := len(*files)
		*files = append(*files, file{name: ref.Name}) // known from here on: one that refers to itself ends
		found, err := r.client.SchemaByVersion(sr.WithParams(ctx, sr.ShowDeleted), ref.Subject, ref.Version)
		if err != nil {
			return fmt.Errorf("its reference %.100q: %w", ref.Name, judged(err))
		}
		if err := r.references(ctx, found.References, files); err != nil {
			return err
		}
		*files = append(slices.Delete(*files, at, at+1), file{ref.Name, found.Schema.Schema})
	}
	return nil
}

// judged tells a registry that does not know a schema, or has one that is too large, from one that cannot be asked. A 404
// without the registry's own code is some other server's.
func judged(err error) error {
	if answer, ok := errors.AsType[*sr.ResponseError](err); ok {
		switch answer.ErrorCode {
		case sr.ErrSchemaNotFound.Code, sr.ErrSubjectNotFound.Code, sr.ErrVersionNotFound.Code:
			return &schemaError{errUnknown}
		}
	}
	if errors.Is(err, errTooLarge) {
		return &schemaError{errTooLarge}
	}
	return err
}

// compile makes a decoder.
func compile(ctx context.Context, kind sr.SchemaType, text string, files []file) (d decode, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("the schema's compiler fails: %.100v", v)
		}
	}()
	switch kind {
	case sr.TypeAvro:
		return compileAvro(text, files)
	case sr.TypeProtobuf:
		return compileProtobuf(ctx, text, files)
	case sr.TypeJSON:
		return plainJSON, nil
	}
	return nil, fmt.Errorf("it is of type %v: want AVRO, PROTOBUF or JSON", kind)
}

func plainJSON(value []byte, limit int) ([]byte, error) {
	if len(value) > limit {
		return nil, tooLong(limit)
	}
	return value, nil
}
