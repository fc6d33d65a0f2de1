package main

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// example is a demand whose numbers can be followed by hand.
func example() demand {
	return demand{EventsPerSecond: 10_000, Subscriptions: 1000, Hosts: 1000, FanOut: 1, Failing: 0.01, Latency: 100 * time.Millisecond, HTTP: true, Cores: 4}
}

func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > 0.01*math.Abs(want)+1e-9 {
		t.Errorf("%s: %v, want about %v", what, got, want)
	}
}

func TestPlan(t *testing.T) {
	c := plan(example())
	near(t, "retry records", c.RetryRecordsPerSecond, 101)   // 100 first attempts fail, then 1 of those, …
	near(t, "attempts", c.AttemptsPerSecond, 10_101)         //
	near(t, "dead letters", c.DeadPerSecond, 1e-12)          // 0.01 to the 8th
	near(t, "busy cores", c.BusyCores, 0.03+0.1414+0.002)    // events, attempts, retry records
	near(t, "backlog", c.BacklogPerHour, 360_000)            // 100 a second
	near(t, "retry bytes kept", c.RetryDisk, 101*650*864000) // ten days
	if c.Instances != 2 || c.Cores != 8 || c.Partitions != 12 || c.Tier != 3 {
		t.Errorf("%d instances, %d cores, %d partitions, %d in a tier", c.Instances, c.Cores, c.Partitions, c.Tier)
	}
	if c.InFlight != 1011 || c.MaxInFlight != 2048 {
		t.Errorf("in flight %d, bound %d", c.InFlight, c.MaxInFlight)
	}
}

// More of anything never takes less.
func TestPlanGrows(t *testing.T) {
	for name, change := range map[string]func(*demand){
		"events":        func(d *demand) { d.EventsPerSecond *= 30 },
		"subscriptions": func(d *demand) { d.Subscriptions *= 1000 },
		"hosts":         func(d *demand) { d.Hosts *= 100 },
		"fan-out":       func(d *demand) { d.FanOut = 50 },
		"failing":       func(d *demand) { d.Failing = 0.5 },
		"latency":       func(d *demand) { d.Latency = 5 * time.Second },
		"TLS":           func(d *demand) { d.HTTP = false },
		"attempts":      func(d *demand) { d.AttemptsTopic = true },
	} {
		d := example()
		before := plan(d)
		change(&d)
		after := plan(d)
		if after.Cores < before.Cores || after.BusyCores < before.BusyCores || after.InFlight*after.Instances < before.InFlight*before.Instances {
			t.Errorf("more %s: from %+v to %+v", name, before, after)
		}
	}
}

// What an instance is given stays within what was measured of one.
func TestPlanStaysWithinTheMeasured(t *testing.T) {
	for _, pace := range []float64{1, 1e3, 1e5, 1e6, 1e7} {
		for _, latency := range []time.Duration{time.Millisecond, time.Second, 10 * time.Second} {
			for _, hosts := range []int{1, 2048, 1_000_000} {
				d := example()
				d.EventsPerSecond, d.Latency, d.Hosts, d.HTTP = pace, latency, hosts, false
				c := plan(d)
				working := float64(c.Instances - 1)
				if c.InFlight > mostInFlight || c.BusyCores > busy*working*float64(d.Cores)+1e-6 || c.Partitions < c.Instances || c.Partitions%c.Instances != 0 {
					t.Errorf("%v/s, %s, %d hosts: %+v", pace, latency, hosts, c)
				}
			}
		}
	}
}

func TestNewConnections(t *testing.T) {
	for _, test := range []struct {
		attempts         float64
		hosts, instances int
		want             float64
	}{
		{10_000, 1000, 1, 0},       // ten a second to each host
		{10_000, 4096, 1, 0.5},     // half of them lose their connection to others
		{1, 1000, 1, 0.970},        // thirty in the time that a connection is kept, for a thousand hosts
		{0, 1000, 1, 0},            //
		{1000, 1000, 30, 0.367879}, // one in that time, at each instance
	} {
		near(t, "part", newConnections(test.attempts, test.hosts, test.instances), test.want)
	}
}

func TestPlanCommand(t *testing.T) {
	var out, errs strings.Builder
	args := []string{"plan", "--events-per-second", "1000", "--subscriptions", "100", "--failing", "0,0.1", "-o", "json"}
	if code := run(t.Context(), args, nil, strings.NewReader(""), &out, &errs); code != 0 {
		t.Fatalf("status %d: %s", code, &errs)
	}
	var plans []capacity
	if err := json.Unmarshal([]byte(out.String()), &plans); err != nil {
		t.Fatal(err)
	}
	if len(plans) != 2 || plans[0].RetryRecordsPerSecond != 0 || plans[1].Demand.Failing != 0.1 || plans[1].Demand.Hosts != 100 {
		t.Errorf("%+v", plans)
	}
	for _, bad := range []string{"--failing 1", "--failing -0.1", "--fan-out 0", "--latency 0s", "--cores 0", "--events-per-second 0", "--subscriptions 0", "--hosts -1"} {
		args := append([]string{"plan", "--events-per-second", "1000", "--subscriptions", "100"}, strings.Fields(bad)...)
		if code := run(t.Context(), args, nil, strings.NewReader(""), &out, &errs); code == 0 {
			t.Errorf("%s is taken", bad)
		}
	}
}

// The tables in docs/capacity.md are what the commands above them print; go test ./cmd/fanout -run Capacity -update
// writes them.
func TestCapacityPage(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "capacity.md")
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	shown := 0
	block := regexp.MustCompile("(?s)```\n\\$ fanout (plan [^\n]*)\n.*?```")
	now := block.ReplaceAllFunc(page, func(old []byte) []byte {
		shown++
		command := string(block.FindSubmatch(old)[1])
		var out, errs strings.Builder
		if code := run(t.Context(), strings.Fields(command), nil, strings.NewReader(""), &out, &errs); code != 0 {
			t.Errorf("%s: %s", command, &errs)
		}
		return []byte("```\n$ fanout " + command + "\n" + out.String() + "```")
	})
	switch {
	case shown < 2:
		t.Errorf("%d tables", shown)
	case string(now) == string(page):
	case *update:
		if err := os.WriteFile(path, now, 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Error("docs/capacity.md is not what fanout plan prints: go test ./cmd/fanout -run Capacity -update")
	}
}
