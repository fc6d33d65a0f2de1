package admin_test

import (
	"bufio"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A customer's program streams what comes to pass of its own account, one stream at a time, for as long as the link is good
// (docs/contract.md#portal-api).
func TestPortalStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token)
	w.put("acme", "a")
	w.put("globex", "b")
	made := w.makeLink("acme", "")
	bearer, _, _ := strings.Cut(strings.TrimPrefix(made["url"].(string), w.portalBase+"/portal/"), "/")
	at := "/portal/" + made["id"].(string) + "/api/v1/stream"
	as := func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+bearer) }
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.portalBase+at, http.NoBody)
	must(t, err)
	as(r)
	res, err := http.DefaultTransport.RoundTrip(r)
	must(t, err)
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "application/x-ndjson" {
		t.Fatalf("%d %v", res.StatusCode, res.Header)
	}
	if a := w.doAt(w.portalBase, "GET", at, "", as); a.status != 429 {
		t.Errorf("a second stream = %d %s", a.status, a.body)
	}
	for path, status := range map[string]int{at + "?account=globex": 429, "/portal/other/api/v1/stream": 401} {
		if a := w.doAt(w.portalBase, "GET", path, "", as); a.status != status {
			t.Errorf("%s = %d %s, want %d", path, a.status, a.body, status)
		}
	}
	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(res.Body); scanner.Scan(); {
			if scanner.Text() != "" {
				lines <- scanner.Text()
			}
		}
	}()
	w.open("t-0", "globex")
	w.recv.answers(503, "down")
	w.open("t-1", "acme")
	select {
	case line := <-lines:
		var one map[string]any
		if err := json.Unmarshal([]byte(line), &one); err != nil || one["account"] != "acme" || one["status"] != 503.0 || one["response"] != "down" {
			t.Errorf("the stream says %s: %v", line, err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the stream says nothing")
	}
	w.want(204, "DELETE", "/api/v1/accounts/acme/portal-links/"+made["id"].(string), "")
	end := time.After(20 * time.Second)
	for {
		select {
		case _, ok := <-lines: // retries go on
			if !ok {
				return
			}
		case <-end:
			t.Fatal("the stream outlives its link")
		}
	}
}
