//go:build real

package main

import (
	"context"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"fanout/cmd/internal/lab"
)

// Some parts run their own program again, as the receiver or the plain pipeline: here that is the test binary.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == receiverPart || os.Args[1] == plainPart) {
		main()
		return
	}
	m.Run()
}

// The figures of so small a run mean nothing; that every event was delivered once, committed and accounted for does.
func TestPartsRun(t *testing.T) {
	lab.RequireKafka(t)
	lab.RequireTools(t, "nginx", "redis-server")
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	for _, test := range []struct{ args, want string }{
		{"pipeline -pairs 2 -events 5000 -subscriptions 100", "medians: fanout"},
		{"tls -pairs 1 -events 5000 -subscriptions 100", "medians: fanout"},
		{"plain -pairs 1 -events 5000 -subscriptions 100", "medians of plain"},
		{"batch -pairs 1 -events 5000 -subscriptions 20", "medians of batch"},
		{"failing -pairs 1 -events 5000 -subscriptions 100", "of none failing"},
		{"retry -pairs 1 -events 5000 -subscriptions 100", "of first attempts"},
		{"hosts -hosts 50 -pause 1ms", "50 full handshakes, 0 resumed"},
		{"waiting -events 2000 -rate 500 -for 2s -warm 500ms -settle 1s", "rewrites a delivery and minute"},
		{"siege -pairs 1 -rate 500 -for 2s -warm 500ms -connections 50 -streams 10 -webhooks 100", "the settings page of an account"},
		{"rest -for 2s -rates 500 -subscriptions 100", "1000 requests"},
		{"tails -rates 500 -pairs 1 -for 1s -warm 500ms -subscriptions 100", "500/s, fanout of plain: p50"},
		{"latency -rate 1000 -for 2s -warm 500ms -subscriptions 100", "2500 requests, 0 missing"},
	} {
		var out strings.Builder
		if err := run(ctx, strings.Fields(test.args), &out); err != nil {
			t.Errorf("bench %s: %v", test.args, err)
		}
		t.Log(out.String())
		if !strings.Contains(out.String(), test.want) {
			t.Errorf("bench %s: no %q", test.args, test.want)
		}
	}
}

// mostCalls pins read(2) and write(2) a delivery: the look at a kept connection, the request, the response; Kafka's are few.
const mostCalls = 3.3

func TestCallsOfADelivery(t *testing.T) {
	lab.RequireKafka(t)
	lab.RequireTools(t, "nginx", "redis-server")
	var out strings.Builder
	if err := run(t.Context(), []string{"pipeline", "-pairs", "1", "-events", "20000"}, &out); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	found := regexp.MustCompile(`([0-9.]+) calls`).FindStringSubmatch(out.String())
	if found == nil {
		t.Fatalf("no calls in\n%s", &out)
	}
	if calls, err := strconv.ParseFloat(found[1], 64); err != nil || calls < 2 || calls > mostCalls {
		t.Errorf("%s reads and writes a delivery, want at most %.1f", found[1], mostCalls)
	}
}
