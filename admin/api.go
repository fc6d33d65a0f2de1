package admin

import (
	"bytes"
	_ "embed" // the OpenAPI document
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"fanout/dispatcher"
	"fanout/docs/contracts"
	"fanout/event"
	"fanout/operate/letters"
	"fanout/subscriptions"
	"fanout/topic"
)

// maxBody bounds a request's body, in bytes: a subscription with all its secrets and headers is a few KiB.
const maxBody = 64 << 10

//go:embed openapi.json
var openAPI []byte

// Parts are what the API and the dashboard show and change. They belong to the caller, and must work for as long as the
// server runs.
type Parts struct {
	Store       *subscriptions.Store
	Directory   *subscriptions.Directory
	Dispatcher  *dispatcher.Dispatcher
	Kafka       *topic.Cluster
	LetterIndex *letters.Builder // of the dead-letter topic; nil: there is none
	ReplayTopic []topic.Spec     // created before a replay where it is missing; may be empty
	// Tell has an endpoint event written; it must not block. Nil: nobody listens.
	Tell func(topic.EndpointEvent)
	// CheckURL says whether the egress rules let the URL of an account's subscription through, as far as can be known without DNS.
	CheckURL func(account, url string) error
	Version  string
	// Instances are the others that have announced themselves; nil: there are none.
	Instances func() []subscriptions.Instance
	// Webhooks is how many subscriptions an account may have by way of API and portal; 0: no bound.
	Webhooks int
}

// OpenAPI is the OpenAPI document, with the event names of the catalogue; it must not be changed.
func OpenAPI(c *event.Catalogue) []byte { return contracts.WithNames(openAPI, c) }

// route is one operation of the API. The OpenAPI document describes exactly these; a test compares them.
type route struct {
	method, path string
	handle       func(http.ResponseWriter, *http.Request) error
}

func (a *api) routes() []route {
	const subs, sub = "/api/v1/accounts/{account}/subscriptions", "/api/v1/accounts/{account}/subscriptions/{id}"
	const links = "/api/v1/accounts/{account}/portal-links"
	return []route{
		{"GET", subs, a.listSubscriptions},
		{"GET", sub, a.getSubscription},
		{"PUT", sub, a.putSubscription},
		{"DELETE", sub, a.deleteSubscription},
		{"POST", sub + "/test", a.testSubscription},
		{"POST", sub + "/rotate-secret", a.rotateSecret},
		{"POST", sub + "/release", a.releaseSubscription},
		{"GET", sub + "/attempts", a.listAttempts},
		{"GET", "/api/v1/dead-letters", a.listDeadLetters},
		{"POST", "/api/v1/replays", a.startReplay},
		{"GET", "/api/v1/replays/{name}", a.getReplay},
		{"DELETE", "/api/v1/replays/{name}", a.cancelReplay},
		{"GET", "/api/v1/explain", a.explainRecords},
		{"GET", "/api/v1/deliveries", a.listDeliveries},
		{"GET", "/api/v1/deliveries/{id}", a.getDelivery},
		{"POST", "/api/v1/deliveries/{id}/resend", a.resendDelivery},
		{"POST", "/api/v1/backfills", a.startBackfill},
		{"GET", "/api/v1/backfills/{name}", a.getBackfill},
		{"DELETE", "/api/v1/backfills/{name}", a.cancelBackfill},
		{"GET", "/api/v1/status", a.getStatus},
		{"GET", "/api/v1/lanes", a.listLanes},
		{"GET", "/api/v1/tail", a.tail},
		{"POST", "/api/v1/subscriptions/accept", a.acceptShrink},
		{"GET", links, a.listPortalLinks},
		{"POST", links, a.createPortalLink},
		{"DELETE", links + "/{id}", a.revokePortalLink},
		{"GET", "/api/v1/openapi.json", a.document},
	}
}

// api answers /api/v1 (docs/contract.md#api).
type api struct {
	*panel
}

// Routes lists the API's operations as "METHOD path".
func Routes() []string {
	var list []string
	for _, r := range (&api{}).routes() {
		list = append(list, r.method+" "+r.path)
	}
	return list
}

// ServeHTTP makes an error of a handler a problem, and so every other answer that is none of the API's own.
func (r route) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	req.Body = http.MaxBytesReader(w, req.Body, maxBody)
	if err := r.handle(w, req); err != nil {
		asProblem(err).write(w)
	}
}

func (a *api) document(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "application/json")
	_, err := w.Write(OpenAPI(a.catalogue()))
	_ = err // a client that went away is not an error of ours
	return nil
}

// unrouted answers for paths and methods that the API does not have, as problems.
func (a *api) unrouted(mux *http.ServeMux) http.Handler {
	methods := func(path string) (allowed []string) {
		for _, m := range []string{"GET", "PUT", "POST", "DELETE"} {
			probe := &http.Request{Method: m, URL: &url.URL{Path: path}, Host: "localhost"}
			if _, pattern := mux.Handler(probe); strings.HasPrefix(pattern, m+" /api/v1/") {
				allowed = append(allowed, m)
			}
		}
		return allowed
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if allowed := methods(r.URL.Path); len(allowed) > 0 && !slices.Contains(allowed, r.Method) {
			w.Header().Set("Allow", strings.Join(allowed, ", "))
			problemf(http.StatusMethodNotAllowed, "this path takes %s", strings.Join(allowed, ", ")).write(w)
			return
		}
		problemf(http.StatusNotFound, "there is no such path; GET /api/v1/openapi.json lists them").write(w)
	})
}

// identity is the path's account and subscription, valid.
func identity(r *http.Request) (account, id string, err error) {
	account, id = r.PathValue("account"), r.PathValue("id")
	if bad := subscriptions.CheckIdentity(account, id); bad != nil {
		return "", "", bad
	}
	return account, id, nil
}

// body reads the whole body, which must be valid JSON.
func body(r *http.Request) ([]byte, error) {
	data, err := io.ReadAll(r.Body)
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return nil, err
		}
		return nil, problemf(http.StatusBadRequest, "the request body ended early")
	}
	return data, nil
}

// decode reads a JSON body into v, strictly: unknown keys are errors. No body leaves v as it is.
func decode(r *http.Request, v any) error {
	data, err := body(r)
	if err != nil || len(bytes.TrimSpace(data)) == 0 {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	err = dec.Decode(v)
	if p, ok := errors.AsType[*problem](err); ok {
		return problemf(p.Status, "%s", p.Detail)
	}
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		field := wrong.Field[strings.LastIndexByte(wrong.Field, '.')+1:] // embedded structs are named before it; bodies are flat
		return invalid(badField{field, "must be " + jsonKind(wrong.Type) + ", not " + wrong.Value})
	}
	if err != nil {
		if field, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
			return invalid(badField{strings.Trim(field, `"`), "is not a known key"})
		}
		return invalid(badField{"", "must be a JSON object"})
	}
	if dec.More() || bytes.HasPrefix(bytes.TrimSpace(data), []byte("null")) {
		return invalid(badField{"", "must be one JSON object"})
	}
	return nil
}

// jsonKind is what JSON calls the values that a Go type takes.
func jsonKind(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a text"
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.Struct, reflect.Map:
		return "an object"
	default:
		return "a number"
	}
}

// whole is an integer as JSON has it: 5, 5.0 and 5e0 are the same.
type whole int64

// UnmarshalJSON implements json.Unmarshaler.
func (n *whole) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		return nil
	}
	var f float64
	if err := json.Unmarshal(data, &f); err != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		return &problem{Status: http.StatusUnprocessableEntity, Detail: "must be a whole number, not " + readable(data[:min(len(data), 32)])}
	}
	*n = whole(f)
	return nil
}

// since is a time that Kafka can look for: it knows none before 1970, and what lies far ahead finds nothing either way.
func since(t time.Time) time.Time {
	if t.Before(time.Unix(0, 0)) {
		return time.Time{}
	}
	if ahead := time.Now().Add(time.Hour); t.After(ahead) {
		return ahead
	}
	return t
}

// query reads parameters strictly, and collects what is wrong with them.
type query struct {
	values map[string][]string
	bad    []badField
}

func newQuery(r *http.Request, known ...string) *query {
	q := &query{values: r.URL.Query()}
	for name, values := range q.values {
		if !slices.Contains(known, name) {
			q.fail(name, "is not a known parameter; there are "+strings.Join(known, ", "))
		} else if len(values) > 1 {
			q.fail(name, "is given twice")
		}
	}
	return q
}

func (q *query) fail(field, detail string) { q.bad = append(q.bad, badField{field, detail}) }

func (q *query) text(name string) string {
	if v := q.values[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// count is a whole number from 1 to most.
func (q *query) count(name string, otherwise, most int) int {
	if _, given := q.values[name]; !given {
		return otherwise
	}
	n, err := strconv.Atoi(q.text(name))
	if err != nil || n < 1 || n > most {
		q.fail(name, fmt.Sprintf("must be a whole number from 1 to %d", most))
		return otherwise
	}
	return n
}

func (q *query) time(name string) (t time.Time) {
	if _, given := q.values[name]; !given {
		return t
	}
	t, err := time.Parse(time.RFC3339, q.text(name))
	if err != nil {
		q.fail(name, "must be a time such as 2006-01-02T15:04:05Z (RFC 3339)")
	}
	return t
}

// oneOf is a text out of a closed list.
func (q *query) oneOf(name string, list []string) string {
	text := q.text(name)
	if _, given := q.values[name]; given && !slices.Contains(list, text) {
		q.fail(name, "must be one of "+strings.Join(list, ", "))
	}
	return text
}

func (q *query) err() error {
	if len(q.bad) == 0 {
		return nil
	}
	p := problemf(http.StatusBadRequest, "the query is not valid")
	p.Errors = q.bad
	return p
}
