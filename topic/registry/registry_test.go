package registry_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/sr"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"fanout/event"
	"fanout/topic/registry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is a registry of which a test says what it answers.
type server struct {
	*httptest.Server
	asked  atomic.Int64
	answer atomic.Pointer[http.HandlerFunc]
}

func newServer(t *testing.T, answer http.HandlerFunc) *server {
	t.Helper()
	s := &server{}
	s.answer.Store(&answer)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		s.asked.Add(1)
		(*s.answer.Load())(w, req)
	}))
	t.Cleanup(s.Close)
	return s
}

func jsonSchema(w http.ResponseWriter, _ *http.Request) {
	_, _ = io.WriteString(w, `{"schemaType":"JSON","schema":"{}"}`)
}

func unknown(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusNotFound)
	_, _ = io.WriteString(w, `{"error_code":40403,"message":"Schema not found"}`)
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// A schema is asked for once, however many want it at the same time.
func TestAskedOnce(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(w http.ResponseWriter, req *http.Request) {
		time.Sleep(100 * time.Millisecond)
		jsonSchema(w, req)
	})
	r := open(t, registry.Config{URL: s.URL})
	stopped, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for i := range 50 {
		ctx := t.Context()
		if i%2 == 0 {
			ctx = stopped // whoever stops while it asks leaves the asking to another
		}
		all.Go(func() {
			if _, err := r.JSON(ctx, frame(3, nil, []byte(`{}`)), limit); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		})
	}
	time.Sleep(20 * time.Millisecond)
	stop()
	all.Wait()
	for range 10 {
		reads(t, r, frame(3, nil, []byte(`{}`)))
	}
	if n := s.asked.Load(); n > 2 { // the one that was stopped, perhaps, and its successor
		t.Errorf("asked %d times", n)
	}
}

// While the registry cannot be asked nothing is said of a record, whatever way it fails.
func TestUnavailable(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(nil)
	gone.Close()
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"no server":      {nil, "refused"},
		"500":            {status(500), "status 500"},
		"429":            {status(429), "status 429"},
		"401":            {status(401), "schema_registry.username"},
		"403":            {status(403), "schema_registry.username"},
		"404 of another": {status(404), "does schema_registry.url name a schema registry?"},
		"redirect":       {func(w http.ResponseWriter, req *http.Request) { http.Redirect(w, req, "/elsewhere", http.StatusFound) }, "status 302"},
		"a login page":   {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }, "decode"},
		"no answer":      {func(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() }, "exceeded"},
		"subject not JSON": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"schemaType":"XML","schema":""}`)
		}, "XML"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := registry.Config{URL: gone.URL, Timeout: 200 * time.Millisecond, Username: "u", Password: "hunter2"}
			var s *server
			if test.answer != nil {
				s = newServer(t, test.answer)
				cfg.URL = s.URL
			}
			core, logs := observer.New(zap.WarnLevel)
			reg := prometheus.NewRegistry()
			r, err := registry.New(cfg, zap.New(core), reg)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			for range 20 {
				_, err := r.JSON(t.Context(), frame(3, nil, []byte(`{}`)), limit)
				if !errors.Is(err, registry.ErrUnavailable) || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "hunter2") {
					t.Fatalf("%v; want it to say %q", err, test.want)
				}
			}
			if s != nil && s.asked.Load() > 2 {
				t.Errorf("asked %d times at once", s.asked.Load())
			}
			if r.Problem() == nil || logs.Len() != 1 {
				t.Errorf("problem %v, %d lines are logged", r.Problem(), logs.Len())
			}
			if testutil.CollectAndCount(reg) != 1 {
				t.Error("not counted")
			}
			if s == nil {
				return
			}
			answer := http.HandlerFunc(jsonSchema)
			s.answer.Store(&answer)
			time.Sleep(1100 * time.Millisecond)
			reads(t, r, frame(3, nil, []byte(`{}`)))
			if err := r.Problem(); err != nil {
				t.Errorf("answered, and yet: %v", err)
			}
		})
	}
}

// An id may be known a moment later: one is waited for. That any number may be made up must not stop reading.
func TestUnknown(t *testing.T) {
	t.Parallel()
	s := newServer(t, unknown)
	r := open(t, registry.Config{URL: s.URL})
	begun := time.Now()
	_, err := r.JSON(t.Context(), frame(3, nil, []byte(`{}`)), limit)
	if took := time.Since(begun); took < 2*time.Second || took > 5*time.Second {
		t.Errorf("it was waited for %v", took)
	}
	bad, ok := errors.AsType[*event.MalformedError](err)
	if !ok || bad.Error() != "malformed event: schema 3: the schema registry does not know it" {
		t.Errorf("%v", err)
	}
	if n := s.asked.Load(); n > 5 {
		t.Errorf("asked %d times", n)
	}
	before := s.asked.Load()
	for range 1000 {
		malformed(t, r, frame(3, nil, []byte(`{}`)), limit)
		malformed(t, r, frame(4, nil, []byte(`{}`)), limit)
	}
	if n := s.asked.Load() - before; n > 6 {
		t.Errorf("asked %d times", n)
	}
	if err := r.Problem(); err != nil {
		t.Errorf("it answers: %v", err)
	}
	answer := http.HandlerFunc(jsonSchema)
	s.answer.Store(&answer)
	time.Sleep(1100 * time.Millisecond)
	reads(t, r, frame(3, nil, []byte(`{}`)))
}

func TestKnownAMomentLater(t *testing.T) {
	t.Parallel()
	s := newServer(t, unknown)
	r := open(t, registry.Config{URL: s.URL})
	time.AfterFunc(1500*time.Millisecond, func() {
		answer := http.HandlerFunc(jsonSchema)
		s.answer.Store(&answer)
	})
	var all sync.WaitGroup
	for range 3 { // partitions
		all.Go(func() { reads(t, r, frame(3, nil, []byte(`{}`))) })
	}
	all.Wait()
}

// Made-up ids cost the registry so many requests a second and no more, and memory for so many.
func TestMadeUpIDs(t *testing.T) {
	t.Parallel()
	s := newServer(t, unknown)
	r := open(t, registry.Config{URL: s.URL})
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second)
	defer cancel()
	begun := time.Now()
	for id := 1; ctx.Err() == nil; id++ {
		_, _ = r.JSON(ctx, frame(id, nil, []byte(`{}`)), limit)
	}
	if n, most := s.asked.Load(), int64(50*time.Since(begun).Seconds())+60; n > most || n < 50 {
		t.Errorf("asked %d times, at most %d", n, most)
	}
}

// What is wrong with a schema makes its records malformed, and is not asked again.
func TestUnusableSchemas(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat(`{"type":"array","items":`, 2000) + `"int"` + strings.Repeat("}", 2000)
	for name, test := range map[string]struct {
		kind, text string
		want       string
	}{
		"no Avro":        {"AVRO", `{"type":"what"}`, "what"},
		"deep Avro":      {"AVRO", deep, "deep"},
		"no Protobuf":    {"PROTOBUF", `syntax = "proto3"; message {`, "syntax error"},
		"missing import": {"PROTOBUF", `syntax = "proto3"; import "x.proto"; message M {}`, "x.proto"},
		"deep Protobuf":  {"PROTOBUF", `syntax = "proto3"; ` + strings.Repeat("message M {", 2000) + strings.Repeat("}", 2000), ""},
		"too large":      {"JSON", strings.Repeat(" ", 1<<20), "more than 1048576 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
				_ = json.NewEncoder(w).Encode(map[string]string{"schemaType": test.kind, "schema": test.text})
			})
			r := open(t, registry.Config{URL: s.URL})
			for range 3 {
				if got := malformed(t, r, frame(5, nil, []byte{0}), limit); !strings.Contains(got, "schema 5: ") || !strings.Contains(got, test.want) || len(got) > 512 {
					t.Error(got)
				}
			}
			if s.asked.Load() != 1 {
				t.Errorf("asked %d times", s.asked.Load())
			}
		})
	}
}

func TestReferences(t *testing.T) {
	t.Parallel()
	const leaf = `{"type":"record","name":"Leaf","fields":[{"name":"x","type":"int"}]}`
	answers := map[string]string{
		"/schemas/ids/1":                answer(`{"type":"record","name":"Top","fields":[{"name":"a","type":"Mid"},{"name":"b","type":"Leaf"}]}`, "Mid", "Leaf"),
		"/subjects/Mid/versions/1":      answer(`{"type":"record","name":"Mid","fields":[{"name":"leaf","type":"Leaf"}]}`, "Leaf"),
		"/subjects/Leaf/versions/1":     answer(leaf),
		"/schemas/ids/2":                answer(`"string"`, "Round"),
		"/subjects/Round/versions/1":    answer(`{"type":"record","name":"Round","fields":[]}`, "Round"),
		"/schemas/ids/3":                answer(`"string"`, "Missing"),
		"/schemas/ids/4":                answer(`"string"`, "n0"),
		"/subjects/self.Any/versions/1": answer(leaf),
	}
	s := newServer(t, func(w http.ResponseWriter, req *http.Request) {
		text, ok := answers[req.URL.Path]
		var n int
		if _, err := fmt.Sscanf(req.URL.Path, "/subjects/n%d/versions/1", &n); err == nil { // one leads to the next, for ever
			text, ok = answer(fmt.Sprintf(`{"type":"fixed","name":"n%d","size":1}`, n), fmt.Sprintf("n%d", n+1)), true
		}
		if !ok {
			unknown(w, req)
			return
		}
		if strings.HasPrefix(req.URL.Path, "/subjects/") && req.URL.Query().Get("deleted") != "true" {
			w.WriteHeader(http.StatusInternalServerError) // a version that was deleted is still what others refer to
		}
		_, _ = io.WriteString(w, text)
	})
	r := open(t, registry.Config{URL: s.URL})
	if got := reads(t, r, frame(1, nil, []byte{2, 4})); got != `{"a":{"leaf":{"x":1}},"b":{"x":2}}` {
		t.Error(got)
	}
	reads(t, r, frame(2, nil, []byte{0}))
	if got := malformed(t, r, frame(4, nil, []byte{0}), limit); !strings.Contains(got, "refers to more than 200 schemas") {
		t.Error(got)
	}
	_, err := r.JSON(t.Context(), frame(3, nil, []byte{0}), limit)
	if err == nil || err.Error() != `malformed event: schema 3: its reference "Missing": the schema registry does not know it` {
		t.Error(err)
	}
}

func answer(schema string, refs ...string) string {
	b, err := json.Marshal(schemaOf(sr.TypeAvro, schema, refs...))
	if err != nil {
		panic(err)
	}
	return string(b)
}

// The password is read again for each request, and so is the authority of the certificate.
func TestSecrets(t *testing.T) {
	t.Parallel()
	var password atomic.Value
	password.Store("first")
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if user, pass, _ := req.BasicAuth(); user != "key" || pass != password.Load() {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		unknown(w, req)
	}))
	t.Cleanup(s.Close)
	file, ca := filepath.Join(t.TempDir(), "password"), filepath.Join(t.TempDir(), "ca.pem")
	write(t, file, "first\n")
	write(t, ca, pemOf(s))
	cfg := registry.Config{URL: s.URL, Username: "key", PasswordFile: file, CAFile: ca}
	r := open(t, cfg)
	if err := r.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	password.Store("second")
	if err := r.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "password") {
		t.Error(err)
	}
	write(t, file, "second")
	if err := r.Check(t.Context()); err != nil {
		t.Error(err)
	}
	cfg.CAFile = ""
	if err := open(t, cfg).Check(t.Context()); err == nil || !strings.Contains(err.Error(), "schema_registry.ca_file") {
		t.Error(err)
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	empty := filepath.Join(t.TempDir(), "empty")
	write(t, empty, "\n")
	for name, test := range map[string]struct {
		cfg  registry.Config
		want string // empty: it is good
	}{
		"nothing":         {registry.Config{}, ""},
		"url":             {registry.Config{URL: "https://registry:8081/path"}, ""},
		"signed in":       {registry.Config{URL: "http://r", Username: "u", Password: "hunter2"}, ""},
		"keys, no url":    {registry.Config{Username: "u", Password: "hunter2"}, "schema_registry.url: "},
		"user in the url": {registry.Config{URL: "http://u:hunter2@r"}, "schema_registry.url: has a user name"},
		"no url":          {registry.Config{URL: "http://%zz:hunter2"}, "schema_registry.url: is not a URL"},
		"scheme":          {registry.Config{URL: "registry:8081"}, "schema_registry.url: want http://"},
		"query":           {registry.Config{URL: "http://r?x=hunter2"}, "schema_registry.url: want the base URL"},
		"two passwords":   {registry.Config{URL: "http://r", Username: "u", Password: "hunter2", PasswordFile: empty}, "schema_registry.password: "},
		"no password":     {registry.Config{URL: "http://r", Username: "u"}, "schema_registry.username: "},
		"no user":         {registry.Config{URL: "http://r", Password: "hunter2"}, "schema_registry.username: "},
		"empty file":      {registry.Config{URL: "http://r", Username: "u", PasswordFile: empty}, "schema_registry.password_file: "},
		"no file":         {registry.Config{URL: "http://r", Username: "u", PasswordFile: empty + "2"}, "schema_registry.password_file: "},
		"no CA":           {registry.Config{URL: "https://r", CAFile: empty + "2"}, "schema_registry.ca_file: "},
		"CA is no PEM":    {registry.Config{URL: "https://r", CAFile: empty}, "schema_registry.ca_file: "},
	} {
		_, err := registry.New(test.cfg, nil, nil)
		if (err == nil) != (test.want == "") || err != nil && (!strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "hunter2")) {
			t.Errorf("%s: %v; want %q", name, err, test.want)
		}
	}
}
