package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"fanout/topic"
)

// endpointEvents reads the events topic, in the order of time.
func (w *world) endpointEvents(t *testing.T) (list []topic.EndpointEvent, values []string) {
	t.Helper()
	c := w.client(t)
	ranges, err := c.Ranges(t.Context(), "fanout.events", time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex // guards all
	type both struct {
		e     topic.EndpointEvent
		value string
	}
	var all []both
	err = c.Scan(t.Context(), "fanout.events", ranges, nil, func(m *topic.Record) error {
		mu.Lock()
		defer mu.Unlock()
		e, ok := topic.ParseEndpointEvent(m.Value)
		if !ok || string(m.Key) != strings.TrimSuffix(e.Account+"/"+e.Subscription, "/") && e.Account != "" && string(m.Key) != e.Account+"/" {
			return fmt.Errorf("record %s: key %s, value %s", m.Position(), m.Key, m.Value)
		}
		all = append(all, both{e, string(m.Value)})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.SortStableFunc(all, func(a, b both) int { return int(a.e.Time - b.e.Time) })
	for _, one := range all {
		list, values = append(list, one.e), append(values, one.value)
	}
	return list, values
}

// What happens to an endpoint is in the events topic, with who did it: changes through Redis, through the API and by apply, and a
// lane that parks and opens again; each once. The values fit the published schema, and the published example reads them.
func TestEndpointEvents(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "channel.email")
	status := make(chan int, 100)
	receiver := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case s := <-status:
			rw.WriteHeader(s)
		default:
			rw.WriteHeader(http.StatusNoContent)
		}
	}))
	t.Cleanup(receiver.Close)
	w.env = append(w.env, "FANOUT_LANES_PARK_AFTER=1", "FANOUT_LANES_PARK_MIN=1s", "FANOUT_DELIVERY_SCHEDULE=1s,1s", "FANOUT_ADMIN_TRUSTED_PROXIES=127.0.0.0/8",
		"FANOUT_ADMIN_USER_HEADER=X-User", "FANOUT_KAFKA_INSTANCE_ID=one")
	r := w.start(t)
	r.await(t, "/readyz", 200, `"ready":true`)
	kinds := func() (list []string) {
		events, _ := w.endpointEvents(t)
		for _, e := range events {
			list = append(list, strings.TrimSpace(e.Kind+" by "+e.Actor+" "+e.Instance))
		}
		return list
	}
	await := func(want ...string) {
		t.Helper()
		until(t, func() (bool, string) { got := kinds(); return len(got) >= len(want), fmt.Sprint(got) })
		if diff := cmp.Diff(want, kinds()); diff != "" {
			t.Fatal(diff)
		}
	}

	w.subscribe(t, "crm", receiver.URL)
	if _, err := w.redis.XAdd("fanout:changes", "*", []string{"account", "acme"}); err != nil {
		t.Fatal(err)
	}
	want := []string{"created by redis"}
	await(want...)
	for _, step := range []struct {
		user, method, path, body, want string
	}{
		{"alice@example.com", "PUT", "", `{"url":"` + receiver.URL + `","events":["EMAIL_OPEN"],"secrets":["generate"]}`, "rotated by alice@example.com"},
		{"", "PUT", "", `{"url":"` + receiver.URL + `","events":["EMAIL_OPEN"],"paused":true}`, "paused by operator"},
		{"", "PUT", "", `{"url":"` + receiver.URL + `","events":["EMAIL_OPEN"]}`, "resumed by operator"},
		{"bob", "POST", "/rotate-secret", "", "rotated by bob"},
	} {
		request, err := http.NewRequestWithContext(t.Context(), step.method, r.admin+("/api/v1/accounts/acme/subscriptions/crm"+step.path), strings.NewReader(step.body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("X-User", step.user)
		answer, err := http.DefaultClient.Do(request) //nolint:forbidigo // it asks our own API
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			t.Fatalf("%s %s: %d", step.method, step.path, answer.StatusCode)
		}
		want = append(want, step.want)
		await(want...)
	}
	w.ok(t, `{account: acme, id: other, url: "`+receiver.URL+`", events: [EMAIL_CLICK]}`, "subscriptions", "apply", "-f", "-")
	until(t, func() (bool, string) { got := kinds(); return len(got) > len(want), fmt.Sprint(got) })
	if got := kinds(); !strings.HasPrefix(got[len(got)-1], "created by apply") {
		t.Fatal(got)
	}
	want = kinds()

	status <- http.StatusServiceUnavailable
	w.sendOne(t)
	await(append(want, "parked by fanout one", "opened by fanout one")...)

	events, values := w.endpointEvents(t)
	if parked := events[len(events)-2]; !strings.Contains(parked.Detail, "1 failure in a row since ") || !strings.Contains(parked.Detail, "status 503") {
		t.Errorf("%+v", parked)
	}
	s := contract(t, "endpoint-event-record.json")
	for _, value := range values {
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(value))
		if err == nil {
			err = s.Validate(v)
		}
		if err != nil {
			t.Errorf("%s: %v", value, err)
		}
	}
	for _, line := range []string{`"msg":"change","kind":"paused","account":"acme","subscription":"crm","detail":"paused","actor":"operator","from":"127.0.0.1"`} {
		if !strings.Contains(r.log.String(), line) {
			t.Errorf("the log lacks %s", line)
		}
	}
	exampleReads(t, values)
}

// exampleReads runs docs/examples/endpoint-events.py over the events.
func exampleReads(t *testing.T, values []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	example := exec.CommandContext(ctx, "python3", "../../docs/examples/endpoint-events.py")
	example.Stdin = strings.NewReader(strings.Join(values, "\n") + "\n")
	var errs bytes.Buffer
	example.Stderr = &errs
	out, err := example.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, errs.String())
	}
	for _, want := range []string{"acme/crm: your endpoint has failed since 20", "acme/crm: your endpoint is back"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the example prints %s, which lacks %q", out, want)
		}
	}
}
