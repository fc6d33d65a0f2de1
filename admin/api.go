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
	"slices"
	"strconv"
	"strings"
	"time"

	"fanout/consumer"
	"fanout/dispatcher"
	"fanout/subscriptions"
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
	Kafka       *consumer.Admin
	ReplayTopic []consumer.TopicSpec // created before a replay where it is missing; may be empty
	// CheckURL says whether the egress rules let a subscription's URL through, as far as can be known without DNS.
	CheckURL func(url string) error
	Group    string // kafka.group: the retry tiers' groups begin with it
	Version  string
}

// OpenAPI is the OpenAPI document; it must not be changed.
func OpenAPI() []byte { return openAPI }

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
		{"GET", sub + "/attempts", a.listAttempts},
		{"GET", "/api/v1/dead-letters", a.listDeadLetters},
		{"POST", "/api/v1/replays", a.startReplay},
		{"GET", "/api/v1/replays/{name}", a.getReplay},
		{"DELETE", "/api/v1/replays/{name}", a.cancelReplay},
		{"GET", "/api/v1/status", a.getStatus},
		{"GET", "/api/v1/lanes", a.listLanes},
		{"GET", "/api/v1/tail", a.tail},
		{"POST", "/api/v1/subscriptions/accept", a.acceptShrink},
		{"POST", links, a.createPortalLink},
		{"DELETE", links + "/{id}", a.revokePortalLink},
		{"GET", "/api/v1/openapi.json", a.document},
	}
}

// api answers /api/v1 (DESIGN.md section 7).
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
	_, err := w.Write(openAPI)
	_ = err // a client that went away is no error of ours
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
		return nil, problemf(http.StatusBadRequest, "the body broke off")
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
		return invalid(badField{wrong.Field, "want " + wrong.Type.String() + ", not " + wrong.Value})
	}
	if err != nil {
		if field, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
			return invalid(badField{strings.Trim(field, `"`), "is not known"})
		}
		return invalid(badField{"", "is no JSON object"})
	}
	if dec.More() || bytes.HasPrefix(bytes.TrimSpace(data), []byte("null")) {
		return invalid(badField{"", "want one JSON object"})
	}
	return nil
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
		return &problem{Status: http.StatusUnprocessableEntity, Detail: "want whole numbers, not " + readable(data[:min(len(data), 32)])}
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
			q.fail(name, "is not known; there are "+strings.Join(known, ", "))
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
		q.fail(name, fmt.Sprintf("want a whole number from 1 to %d", most))
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
		q.fail(name, "want a time as RFC 3339 writes it: 2006-01-02T15:04:05Z")
	}
	return t
}

// oneOf is a text out of a closed list.
func (q *query) oneOf(name string, list []string) string {
	text := q.text(name)
	if _, given := q.values[name]; given && !slices.Contains(list, text) {
		q.fail(name, "want one of "+strings.Join(list, ", "))
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
