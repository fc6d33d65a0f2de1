package admin_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fanout/admin"
)

// start runs a server until the test ends, and returns its base URL.
func start(t *testing.T, cfg admin.Config, checks ...admin.Check) string {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "seen_total", Help: "x"}))
	server, err := admin.New(t.Context(), cfg, nil, registry, checks...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return "http://" + server.Addr().String()
}

func get(t *testing.T, url string, change func(*http.Request)) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(r)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(body)
}

func TestReadyzSaysWhyNot(t *testing.T) {
	t.Parallel()
	var loaded atomic.Bool
	base := start(t, admin.Config{Listen: "127.0.0.1:0"}, admin.Check{Name: "subscriptions", Ready: func() (bool, string) {
		return loaded.Load(), "Redis does not answer"
	}})

	if code, _ := get(t, base+"/healthz", nil); code != 200 {
		t.Fatalf("/healthz = %d before readiness, want 200", code)
	}
	code, body := get(t, base+"/readyz", nil)
	if code != 503 || !strings.Contains(body, `"name":"subscriptions","ready":false,"detail":"Redis does not answer"`) {
		t.Fatalf("/readyz = %d %s, want 503 with the reason", code, body)
	}
	loaded.Store(true)
	if code, body := get(t, base+"/readyz", nil); code != 200 || !strings.Contains(body, "Redis does not answer") {
		t.Fatalf("/readyz = %d %s, want 200 with the detail", code, body)
	}
}

func TestTokenGuardsAllButHealth(t *testing.T) {
	t.Parallel()
	base := start(t, admin.Config{Listen: "127.0.0.1:0", Token: "s3cret"})
	for _, path := range []string{"/healthz", "/readyz"} {
		if code, _ := get(t, base+path, nil); code != 200 {
			t.Errorf("%s without a token = %d, want 200", path, code)
		}
	}
	for header, want := range map[string]int{"": 401, "Bearer": 401, "Bearer no": 401, "Basic s3cret": 401, "Bearer s3cret": 200, "bearer s3cret": 200} {
		code, body := get(t, base+"/metrics", func(r *http.Request) { r.Header.Set("Authorization", header) })
		if code != want {
			t.Errorf("/metrics with %q = %d, want %d", header, code, want)
		}
		if want == 200 && !strings.Contains(body, "seen_total 0") {
			t.Errorf("/metrics shows %q, want the registry's metrics", body)
		}
	}
}

func TestForeignHostIsMisdirected(t *testing.T) {
	t.Parallel()
	base := start(t, admin.Config{Listen: "127.0.0.1:0"})
	for host, want := range map[string]int{
		"evil.example": 421, "evil.example:8080": 421, "127.0.0.1.evil.example": 421,
		"localhost": 200, "LOCALHOST:9": 200, "[::1]:80": 200, "[::1]": 200, "127.0.0.1": 200,
	} {
		if code, _ := get(t, base+"/healthz", func(r *http.Request) { r.Host = host }); code != want {
			t.Errorf("Host %s = %d, want %d", host, code, want)
		}
	}
}

func TestOpenListenerNeedsToken(t *testing.T) {
	t.Parallel()
	for _, listen := range []string{":0", "0.0.0.0:0", "[::]:0", "example.org:80"} {
		if _, err := admin.New(t.Context(), admin.Config{Listen: listen}, nil, prometheus.NewRegistry()); err == nil || !strings.Contains(err.Error(), "admin.token") {
			t.Errorf("New(%s) = %v, want an error that names admin.token", listen, err)
		}
	}
}

// A profile of 5 s shows too that no time-out of the listener cuts it.
func TestProfilesBehindTheToken(t *testing.T) {
	t.Parallel()
	base := start(t, admin.Config{Listen: "127.0.0.1:0", Token: "s3cret"}) + "/debug/pprof/"
	signed := func(r *http.Request) { r.Header.Set("Authorization", "Bearer s3cret") }
	for _, name := range []string{"", "profile?seconds=5", "trace?seconds=0.1", "symbol", "heap", "goroutine", "allocs", "block", "mutex", "threadcreate"} {
		if code, _ := get(t, base+name, nil); code != 401 {
			t.Errorf("%s without a token = %d, want 401", name, code)
		}
		began := time.Now()
		code, body := get(t, base+name, signed)
		if took := time.Since(began); code != 200 || body == "" || strings.HasSuffix(name, "=5") && took < 5*time.Second {
			t.Errorf("%s = %d with %d bytes after %s, want 200 with a profile", name, code, len(body), took)
		}
	}
	for _, name := range []string{"cmdline", "nothing"} {
		if code, _ := get(t, base+name, signed); code != 404 {
			t.Errorf("%s = %d, want 404", name, code)
		}
	}
	if code, _ := get(t, start(t, admin.Config{Listen: "127.0.0.1:0"})+"/debug/pprof/heap", nil); code != 200 {
		t.Errorf("heap on a loopback listener without a token = %d, want 200 as /metrics has it", code)
	}
}
