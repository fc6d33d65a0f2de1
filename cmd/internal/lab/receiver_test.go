package lab_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"fanout/cmd/internal/lab"
)

func TestReceiverRecordsAndMisbehaves(t *testing.T) {
	r, err := lab.ForTest(t).Receiver(lab.KeepAll)
	if err != nil {
		t.Fatal(err)
	}
	r.On("/busy", func(n int64, _ *lab.Request) lab.Answer {
		if n == 1 {
			return lab.Answer{Status: http.StatusServiceUnavailable, RetryAfter: "7", Body: []byte("later")}
		}
		return lab.Answer{}
	})
	r.On("/reset", lab.Always(lab.Answer{Reset: true}))
	r.On("/hang", lab.Always(lab.Answer{Hang: true}))

	first := post(t, r.URL("/busy"))
	if first.StatusCode != http.StatusServiceUnavailable || first.Header.Get("Retry-After") != "7" {
		t.Errorf("first answer: %s, Retry-After %q", first.Status, first.Header.Get("Retry-After"))
	}
	if second := post(t, r.URL("/busy")); second.StatusCode != http.StatusNoContent {
		t.Errorf("second answer: %s", second.Status)
	}
	if _, err := send(t, r.URL("/reset")); err == nil {
		t.Error("a reset connection gave an answer")
	}
	if seen, delivered := r.Seen("/busy"), r.Delivered("/busy"); seen != 2 || delivered != 1 {
		t.Errorf("seen %d, delivered %d", seen, delivered)
	}
	if c := r.IDs("/busy")["msg_a"]; c.Seen != 2 || c.Delivered != 1 {
		t.Errorf("counts of the id: %+v", c)
	}
	got := r.Requests("/busy")[0]
	if got.WebhookID != "msg_a" || string(got.Body) != "body" || got.Method != http.MethodPost || got.Header["x-tenant"] != "acme" {
		t.Errorf("recorded %+v", got)
	}

	hung := make(chan error, 1)
	go func() {
		_, err := send(t, r.URL("/hang"))
		hung <- err
	}()
	if err := r.WaitSeen(t.Context(), "/hang", 1); err != nil {
		t.Fatal(err)
	}
	r.Stop()
	if err := <-hung; err == nil {
		t.Error("what hung got an answer")
	}
	if _, err := send(t, r.URL("/busy")); err == nil {
		t.Error("a stopped receiver answered")
	}
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	if again := post(t, r.URL("/busy")); again.StatusCode != http.StatusNoContent {
		t.Errorf("after the restart: %s", again.Status)
	}
}

func post(t *testing.T, url string) *http.Response {
	t.Helper()
	answer, err := send(t, url)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

func send(t *testing.T, url string) (*http.Response, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("webhook-id", "msg_a")
	request.Header.Set("X-Tenant", "acme")
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(request)
	if err == nil {
		err = answer.Body.Close()
	}
	return answer, err
}
