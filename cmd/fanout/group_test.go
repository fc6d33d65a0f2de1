package main

import (
	"encoding/json"
	"strings"
	"testing"
)

// The groups' members are shown with what they read, and an instance that has left is not shown.
func TestGroup(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "channel.email")
	if stdout := w.ok(t, "", "group", "describe"); !strings.Contains(stdout, "no instance is a member") {
		t.Fatalf("before the first run:\n%s", stdout)
	}
	run := w.start(t, "--kafka-instance-id", "fanout-0")
	run.await(t, "/readyz", 200, `"ready":true`)

	var members []groupMember
	if err := json.Unmarshal([]byte(w.ok(t, "", "group", "describe", "-o", "json")), &members); err != nil {
		t.Fatal(err)
	}
	reads := make(map[string]string)
	for _, m := range members {
		if m.Instance != "fanout-0" || m.State != "Stable" {
			t.Errorf("%+v: want the stable member fanout-0", m)
		}
		reads[m.Group] = strings.Join(m.Partitions, " ")
	}
	if len(members) != 2 || !strings.Contains(reads["fanout"], "channel.email/0") || !strings.Contains(reads["fanout.retry"], "fanout.retry.5s/0") {
		t.Errorf("the members read %v", reads)
	}
	if stdout := w.ok(t, "", "group", "describe"); !strings.Contains(stdout, "fanout-0") || !strings.Contains(stdout, "channel.email/0") {
		t.Errorf("for people:\n%s", stdout)
	}

	if stdout := w.ok(t, "", "group", "leave", "fanout-0", "-o", "json"); !json.Valid([]byte(stdout)) || !strings.Contains(stdout, `"fanout.retry"`) {
		t.Errorf("leave said:\n%s", stdout)
	}
	if code, _, stderr := w.fanout(t, "", "group", "leave", "fanout-9"); code != 1 || !strings.Contains(stderr, "fanout-9") {
		t.Errorf("an unknown instance left with status %d: %s", code, stderr)
	}
}
