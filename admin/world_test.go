package admin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"fanout/admin"
	"fanout/consumer"
	"fanout/dispatcher"
	"fanout/egress"
	"fanout/event"
	"fanout/operate/letters"
	"fanout/subscriptions"
	"fanout/topic"
)

// received is a request at the receiver.
type received struct {
	header http.Header
	body   string
}

// receiver answers 204, or as a test tells it to.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex // guards all below
	status int
	body   string
	header http.Header
	got    []received
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{status: http.StatusNoContent}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.got = append(r.got, received{req.Header.Clone(), string(body)})
		maps.Copy(w.Header(), r.header)
		w.WriteHeader(r.status)
		fmt.Fprint(w, r.body)
	}))
	t.Cleanup(r.Close)
	return r
}

// answers makes it answer so from now on; header has pairs of a name and a value.
func (r *receiver) answers(status int, body string, header ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status, r.body, r.header = status, body, http.Header{}
	for i := 0; i < len(header); i += 2 {
		r.header.Set(header[i], header[i+1])
	}
}

func (r *receiver) count(part string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, one := range r.got {
		if strings.Contains(one.body, part) {
			n++
		}
	}
	return n
}

// world is an instance with all its parts, an embedded Kafka and Redis, and a receiver.
type world struct {
	t          *testing.T
	base       string
	portalBase string // of the portal
	token      string
	redis      *miniredis.Miniredis
	recv       *receiver
	kafka      *topic.Cluster
	dir        *subscriptions.Directory
	admin      *admin.Server
	index      *letters.Builder // of the dead letters; a test runs it

	brokers []string
	gone    atomic.Bool // Kafka ends every connection, if a test says so
	end     func()      // of the admin side, as when the process is gone
	endAll  []func()    // of all its parts, in this order

	instance string
	broken   atomic.Pointer[string] // why it is not ready, if a test says so
	others   atomic.Pointer[[]subscriptions.Instance]

	mu     sync.Mutex              // guards opened
	opened map[string]*http.Cookie // of portal links, by what their paths begin with
}

func newWorld(t *testing.T, token string) *world {
	t.Helper()
	return newWorldOf(t, token, func(*admin.Config) {})
}

// newWorldOf is a world whose admin side is configured otherwise.
func newWorldOf(t *testing.T, token string, change func(*admin.Config)) *world {
	t.Helper()
	return newWorldWith(t, token, change, func(*dispatcher.LanesConfig) {})
}

// newWorldLanes is a world whose lanes are.
func newWorldLanes(t *testing.T, token string, lanes func(*dispatcher.LanesConfig)) *world {
	t.Helper()
	return newWorldWith(t, token, func(*admin.Config) {}, lanes)
}

func newWorldWith(t *testing.T, token string, change func(*admin.Config), changeLanes func(*dispatcher.LanesConfig)) *world {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "channel.email", "channel.sms"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	w := &world{t: t, token: token, redis: miniredis.RunT(t), recv: newReceiver(t), brokers: cluster.ListenAddrs(), instance: "test:1"}
	cluster.Control(func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		return nil, errors.New("gone"), w.gone.Load()
	})
	w.start(change, changeLanes)
	return w
}

// another is an instance more, beside the same Kafka and Redis.
func (w *world) another() *world {
	w.t.Helper()
	other := &world{t: w.t, token: w.token, redis: w.redis, recv: w.recv, brokers: w.brokers, instance: "test:2"}
	other.start(func(*admin.Config) {}, func(*dispatcher.LanesConfig) {})
	return other
}

// start starts the parts of an instance.
func (w *world) start(change func(*admin.Config), changeLanes func(*dispatcher.LanesConfig)) {
	t := w.t
	t.Helper()
	schedule := []time.Duration{100 * time.Millisecond, 200 * time.Millisecond}
	lanes := dispatcher.LanesConfig{MaxInFlight: 64, Queue: 1000, QueueAge: 2 * time.Second, ParkAfter: 200, ParkMin: 300 * time.Millisecond, ParkMax: time.Second}
	changeLanes(&lanes)
	cfg := topic.Config{
		Kafka:   topic.KafkaConfig{Brokers: w.brokers, Group: "fanout", CreateTopics: true, Partitions: 2, RetryPartitions: 1, Replication: 1, Start: "earliest"},
		Sources: []topic.SourceConfig{{Topic: "channel.email"}, {Topic: "channel.sms"}},
		Prefix:  "fanout", AttemptsTopic: true, AttemptsResponse: true, Schedule: schedule, ParkMin: lanes.ParkMin, ParkMax: lanes.ParkMax, MaxAge: time.Hour, MaxEventBytes: 256 << 10,
	}
	registry := prometheus.NewRegistry()
	redis := subscriptions.Config{URL: "redis://" + w.redis.Addr(), SnapshotFile: "off"}
	var err error
	w.dir, err = subscriptions.New(redis, nil, registry)
	must(t, err)
	rules := egress.Config{AllowHTTP: true, AllowCIDRs: []string{"127.0.0.0/8"}}
	var c *consumer.Consumer
	d, err := dispatcher.New(dispatcher.Config{
		Delivery:  dispatcher.DeliveryConfig{Timeout: 2 * time.Second, ConnectTimeout: time.Second, Schedule: schedule, MaxAge: time.Hour, PermanentStatuses: []int{410}, MaxInFlight: 256},
		Lanes:     lanes,
		Egress:    rules,
		UserAgent: "fanout/test",
	}, w.dir, nil, registry, dispatcher.WithLaneObserver(func(e dispatcher.LaneEvent) { c.FollowLane(e) }))
	must(t, err)
	c, err = consumer.New(consumer.Config{Config: cfg, Instance: w.instance, ShutdownTimeout: 5 * time.Second}, d, nil, registry)
	must(t, err)
	w.dir.ObserveLanes(subscriptions.LaneObserver{Changed: c.FollowChange, Released: func(account, id, _ string) { d.Release(account, id) }})
	w.kafka, err = topic.NewCluster(cfg)
	must(t, err)
	t.Cleanup(w.kafka.Close)
	store, err := subscriptions.NewStore(redis)
	must(t, err)
	t.Cleanup(func() { _ = store.Close() })
	egressRules, err := egress.New(rules)
	must(t, err)
	listeners := admin.Config{Listen: "127.0.0.1:0", Token: w.token}
	change(&listeners)
	server, err := admin.NewQuick(t.Context(), listeners, nil, registry, admin.Check{Name: "kafka", Ready: func() (bool, string) {
		if err := c.Ready(); err != nil {
			return false, err.Error()
		}
		return true, ""
	}}, admin.Check{Name: "outside", Ready: func() (bool, string) {
		if why := w.broken.Load(); why != nil {
			return false, *why
		}
		return true, ""
	}})
	must(t, err)
	w.index = letters.NewBuilder(w.kafka, letters.Config{}, nil)
	must(t, server.Attach(admin.Parts{
		Store: store, Directory: w.dir, Dispatcher: d, Kafka: w.kafka, LetterIndex: w.index, ReplayTopic: cfg.Owned(), Version: "test", Webhooks: 100,
		Instances: func() []subscriptions.Instance {
			if all := w.others.Load(); all != nil {
				return *all
			}
			return nil
		},
		CheckURL: func(account, url string) error { _, err := egressRules.ParseURL(account, url); return err },
	}))
	w.admin, w.base, w.portalBase = server, "http://"+server.Addr().String(), "http://"+server.PortalAddr().String()
	// What sends stops before what it needs.
	for i, part := range []func(context.Context) error{server.Run, w.dir.Run, d.Run, c.Run} {
		ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
		done := make(chan error, 1)
		go func() { done <- part(ctx) }()
		end := sync.OnceFunc(func() {
			stop()
			if err := <-done; err != nil {
				t.Errorf("stop: %v", err)
			}
		})
		w.endAll = append(w.endAll, end)
		if t.Cleanup(end); i == 0 {
			w.end = end
		}
	}
	w.until("ready", func() bool { status, _ := get(t, w.base+"/readyz", nil); return status == 200 })
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// until waits for a condition, at most half a minute.
func (w *world) until(what string, ok func() bool) {
	w.t.Helper()
	w.within(30*time.Second, what, ok)
}

func (w *world) within(limit time.Duration, what string, ok func() bool) {
	w.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(limit); !ok(); <-tick.C {
		if time.Now().After(end) {
			w.t.Fatalf("waited in vain: %s", what)
		}
	}
}

// send produces a raw event.
func (w *world) send(topic, account, channel, kind, tracking string) {
	w.t.Helper()
	raw := fmt.Sprintf(`{"accountId":%q,"channel":%q,"type":%q,"trackingId":%q,"notificationId":"welcome","userId":"user-1"}`, account, channel, kind, tracking)
	_, err := w.kafka.Send(w.t.Context(), topic, []byte(tracking), []byte(raw), nil)
	must(w.t, err)
}

func (w *world) open(tracking, account string) {
	w.send("channel.email", account, "EMAIL", "OPEN", tracking)
}

// answer is what the API answered.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) json(t *testing.T) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal(a.body, &v); err != nil {
		t.Fatalf("%d %s: %v", a.status, a.body, err)
	}
	return v
}

// do asks the API with the token, and checks that the answer is what the OpenAPI document says.
func (w *world) do(method, path, body string, change ...func(*http.Request)) answer {
	w.t.Helper()
	a := w.doAt(w.base, method, path, body, change...)
	if strings.HasPrefix(path, "/api/") {
		checkDocumented(w.t, method, strings.SplitN(path, "?", 2)[0], a)
	}
	return a
}

// doAt asks a listener.
func (w *world) doAt(base, method, path, body string, change ...func(*http.Request)) answer {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), method, base+path, strings.NewReader(body))
	must(w.t, err)
	if w.token != "" {
		r.Header.Set("Authorization", "Bearer "+w.token)
	}
	w.mu.Lock()
	for base, cookie := range w.opened {
		if strings.HasPrefix(path, base+"/") {
			r.AddCookie(cookie)
		}
	}
	w.mu.Unlock()
	for _, f := range change {
		f(r)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(r)
	must(w.t, err)
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	must(w.t, err)
	return answer{res.StatusCode, res.Header, data}
}

func (w *world) want(status int, method, path, body string, change ...func(*http.Request)) answer {
	w.t.Helper()
	a := w.do(method, path, body, change...)
	if a.status != status {
		w.t.Fatalf("%s %s = %d %s, want %d", method, path, a.status, a.body, status)
	}
	return a
}

func (w *world) put(account, id string, names ...event.Name) answer {
	w.t.Helper()
	selected := []string{}
	for _, name := range names {
		selected = append(selected, name.String())
	}
	if len(names) == 0 {
		selected = []string{"*"}
	}
	list, err := json.Marshal(selected)
	must(w.t, err)
	return w.do("PUT", "/api/v1/accounts/"+account+"/subscriptions/"+id, fmt.Sprintf(`{"url":%q,"events":%s,"secrets":["generate"]}`, w.recv.URL+"/"+id, list))
}

// document is the OpenAPI document, read once.
var document = sync.OnceValue(func() map[string]any {
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(admin.OpenAPI(nil)))
	if err != nil {
		panic(err)
	}
	doc, _ := v.(map[string]any)
	return doc
})

var compiler = sync.OnceValue(func() *jsonschema.Compiler {
	c := jsonschema.NewCompiler()
	if err := c.AddResource("doc:openapi", document()); err != nil {
		panic(err)
	}
	return c
})

// compiling guards the compiler, which is not safe for concurrent use.
var compiling sync.Mutex

// checkDocumented checks that an answer of the API is one that the document describes.
func checkDocumented(t *testing.T, method, path string, a answer) {
	t.Helper()
	paths, _ := document()["paths"].(map[string]any)
	for template, item := range paths {
		if !matches(template, path) {
			continue
		}
		op, ok := item.(map[string]any)[strings.ToLower(method)].(map[string]any)
		if !ok {
			if a.status != 405 && a.status != 401 && a.status != 403 {
				t.Errorf("%s %s is not in the document, but answers %d", method, path, a.status)
			}
			return
		}
		at := "#/paths/" + strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D").Replace(template) + "/" + strings.ToLower(method) + "/responses/" + strconv.Itoa(a.status)
		res, ok := op["responses"].(map[string]any)[strconv.Itoa(a.status)].(map[string]any)
		if !ok {
			t.Errorf("%s %s answers %d, which the document does not know: %s", method, path, a.status, a.body)
			return
		}
		if ref, ok := res["$ref"].(string); ok {
			at = ref
			res = map[string]any{"content": map[string]any{"application/problem+json": nil}}
		}
		content, ok := res["content"].(map[string]any)
		if !ok {
			if len(a.body) > 0 {
				t.Errorf("%s %s answers %d with a body, where the document has none", method, path, a.status)
			}
			return
		}
		kind := a.header.Get("Content-Type")
		if _, ok := content[kind]; !ok {
			t.Errorf("%s %s answers %d with %q, which is not in the document", method, path, a.status, kind)
			return
		}
		if kind == "application/x-ndjson" {
			return
		}
		compiling.Lock()
		schema, err := compiler().Compile("doc:openapi" + at + "/content/" + strings.ReplaceAll(kind, "/", "~1") + "/schema")
		compiling.Unlock()
		must(t, err)
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(a.body))
		if err != nil {
			t.Errorf("%s %s answers %s: %v", method, path, a.body, err)
		} else if err := schema.Validate(v); err != nil {
			t.Errorf("%s %s answers %s, against the document: %v", method, path, a.body, err)
		}
		return
	}
	if a.status != 404 && a.status != 401 {
		t.Errorf("%s %s is not in the document, but answers %d", method, path, a.status)
	}
}

func matches(template, path string) bool {
	a, b := strings.Split(template, "/"), strings.Split(path, "/")
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] && !strings.HasPrefix(a[i], "{") {
			return false
		}
	}
	return true
}
