//go:build real && collector

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// collectorVersion is that of the OpenTelemetry Collector and of the program that builds it.
const collectorVersion = "v0.165.0"

// collectorProgram is an OpenTelemetry Collector that takes OTLP and prints what it gets. It is built once, in some minutes,
// and kept in .real.
func collectorProgram(t *testing.T) string {
	t.Helper()
	folder, err := filepath.Abs(filepath.Join(repository, ".real", "otelcol", collectorVersion))
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(folder, "otelcol")
	if _, err := os.Stat(program); !errors.Is(err, fs.ErrNotExist) {
		return program
	}
	recipe := filepath.Join(t.TempDir(), "recipe.yaml")
	text := fmt.Sprintf(`dist: {name: otelcol, output_path: %q}
receivers: [{gomod: go.opentelemetry.io/collector/receiver/otlpreceiver %[2]s}]
exporters: [{gomod: go.opentelemetry.io/collector/exporter/debugexporter %[2]s}]
`, folder, collectorVersion)
	if err := os.WriteFile(recipe, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "go", "run", "go.opentelemetry.io/collector/cmd/builder@"+collectorVersion, "--config", recipe)
	build.Dir = t.TempDir() // outside of this module
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the collector: %v\n%s", err, out)
	}
	return program
}

// startCollector runs it until the test ends, and returns its OTLP/HTTP endpoint and what it prints.
func startCollector(t *testing.T) (endpoint string, printed *writer) {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()
	settings := filepath.Join(t.TempDir(), "collector.yaml")
	text := fmt.Sprintf(`receivers: {otlp: {protocols: {http: {endpoint: %q}}}}
exporters: {debug: {verbosity: detailed}}
service:
  telemetry: {metrics: {level: none}}
  pipelines: {traces: {receivers: [otlp], exporters: [debug]}}
`, address)
	if err := os.WriteFile(settings, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	program, printed := collectorProgram(t), &writer{}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	running := exec.CommandContext(ctx, program, "--config", settings)
	running.Stdout, running.Stderr = printed, printed
	if err := running.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = running.Wait()
	})
	until(t, func() (bool, string) {
		return strings.Contains(printed.String(), "Everything is ready"), printed.String()
	})
	return "http://" + address, printed
}

// The OpenTelemetry Collector takes the spans: one trace from a produced record to the receiver, over a retry.
func TestRealCollectorHasTheTrace(t *testing.T) {
	t.Parallel()
	endpoint, printed := startCollector(t)
	w := newWorld(t, "channel.email")
	w.env = append(w.env, "FANOUT_TRACING_ENDPOINT="+endpoint, "FANOUT_DELIVERY_SCHEDULE=100ms,100ms")
	posts := w.receive(t)
	r := w.start(t)
	r.await(t, "/readyz", 200, `"ready":true`)
	const trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	w.produce(t, "fails", kgo.RecordHeader{Key: "traceparent", Value: []byte("00-" + trace + "-" + parent + "-01")})
	told := []string{next(t, posts, r).header.Get("traceparent"), next(t, posts, r).header.Get("traceparent")}
	if code := r.stop(); code != 0 {
		t.Fatalf("exit %d\n%s", code, r.log)
	}
	got := strings.Join(strings.Fields(printed.String()), " ")
	for _, header := range told {
		found := w3c.FindStringSubmatch(header)
		if found == nil {
			t.Fatalf("the receiver was told %q", header)
		}
		if want := "Trace ID : " + trace + " Parent ID : " + parent + " ID : " + found[2] + " Name : POST Kind : Client"; !strings.Contains(got, want) {
			t.Errorf("the collector has no %q in\n%s", want, printed)
		}
	}
}
