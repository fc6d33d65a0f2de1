package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	miniserver "github.com/alicebob/miniredis/v2/server"

	"fanout/subscriptions"
)

// Lists are sorted, whatever order Redis has, and each subscription is there once.
func TestSubscriptionsAreSorted(t *testing.T) {
	t.Parallel()
	var names []string
	for _, one := range sorted([]subscriptions.Stored{
		{Account: "b", ID: "y"}, {Account: "b", ID: "x"}, {Account: "a", ID: "z"}, {Account: "c", ID: "x"}, {Account: "a", ID: "a"}, {Account: "b", ID: "x"},
	}) {
		names = append(names, one.Account+"/"+one.ID)
	}
	if got, want := strings.Join(names, " "), "a/a a/z b/x b/y c/x"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// A rule that is newer than what is stored is named, and refuses what is written; what a file leaves as it is is not.
func TestSubscriptionsOfAnEarlierEdition(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "channel.email")
	const stored = `{"url":"https://example.com","events":["*"],"secrets":["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],"headers":{"via":"1.1 me"}}`
	w.redis.HSet("fanout:account:acme", "old", stored)
	if out := w.ok(t, "", "subscriptions", "list"); !strings.Contains(out, "enabled") || !strings.Contains(out, "headers.via: a subscription may not set this header; it is left out") {
		t.Errorf("list:\n%s", out)
	}
	if _, out, _ := w.fanout(t, "", "check"); !strings.Contains(out, "subscription acme/old") || !strings.Contains(out, "headers.via") {
		t.Errorf("check:\n%s", out)
	}
	same := `{account: acme, id: old, url: "https://example.com", events: ["*"]}`
	code, out, said := w.fanout(t, same, "subscriptions", "apply", "-f", "-")
	if code != 0 || !strings.Contains(out, "1 unchanged") || !strings.Contains(said, "warning: acme/old headers.via") {
		t.Errorf("apply of what is stored: exit %d\n%s%s", code, out, said)
	}
	other := `{account: acme, id: old, url: "https://example.com/other", events: ["*"]}`
	if code, _, said := w.fanout(t, other, "subscriptions", "apply", "-f", "-"); code != 1 || !strings.Contains(said, "acme/old headers.via: ") {
		t.Errorf("apply of another URL: exit %d\n%s", code, said)
	}
	if got := w.redis.HGet("fanout:account:acme", "old"); got != stored {
		t.Errorf("stored is %s", got)
	}
}

// A key of another type is named with what to do, and the other accounts are looked at all the same.
func TestKeysOfAnotherType(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "channel.email")
	_ = w.redis.Set("fanout:account:broken", "text")
	_ = w.redis.Set("fanout:changes", "text")
	w.redis.HSet("fanout:account:acme", "crm", `{"url":"https://example.com","events":["*"],"evnts":1}`)
	for command, wants := range map[string][]string{
		"check": {
			"fanout:account:broken holds another type of value than it must", "delete or rename it", "subscription acme/crm", "1 subscription",
			"fanout:changes holds another type of value than it must", "DEL fanout:changes",
		},
		"subscriptions list":                  {"fanout:account:broken holds another type", "crm", "enabled"},
		"subscriptions list --account broken": {"fanout:account:broken holds another type"},
		"subscriptions list -o json":          {`"account": "broken"`, `"state": "invalid"`, `"id": "crm"`},
	} {
		code, out, said := w.fanout(t, "", strings.Fields(command)...)
		if problem := command == "check"; (code != 0) != problem {
			t.Errorf("%s: exit %d", command, code)
		}
		text := strings.Join(strings.Fields(out+said), " ")
		for _, want := range wants {
			if !strings.Contains(text, want) {
				t.Errorf("%s: no %q in\n%s%s", command, want, out, said)
			}
		}
	}
}

// A policy that may drop customers is a problem.
func TestCheckNamesAnEvictionPolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "channel.email")
	w.redis.Server().SetPreHook(func(c *miniserver.Peer, command string, _ ...string) bool {
		if command == "INFO" {
			c.WriteBulk("# Server\r\nrun_id:one\r\n# Memory\r\nmaxmemory_policy:allkeys-lru\r\n# Stats\r\nevicted_keys:85\r\n")
		}
		return command == "INFO"
	})
	code, out, _ := w.fanout(t, "", "check")
	if code != 1 || !strings.Contains(out, "maxmemory-policy is allkeys-lru") || !strings.Contains(out, "85 keys evicted") || !strings.Contains(out, "CONFIG SET maxmemory-policy noeviction") {
		t.Errorf("exit %d\n%s", code, out)
	}
}

// With a great many, check stays readable, and says how many there are.
func TestCheckIsBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "channel.email")
	for n := range 60 {
		account := fmt.Sprintf("fanout:account:a%02d", n)
		w.redis.HSet(account, "plain", `{"url":"https://example.com","events":["*"]}`)
		w.redis.HSet(account, "odd", `{"url":"https://example.com","events":["*"],"secrets":["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],"evnts":1}`)
		w.redis.HSet(account, "bad", `{"url":7}`)
	}
	_, out, _ := w.fanout(t, "", "check")
	for _, want := range []string{"60 are invalid, 20 of them named above", "60 have something odd about them", "unsigned", "180 subscriptions"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q", want)
		}
	}
	if lines := strings.Count(out, "\n"); lines > 120 {
		t.Errorf("%d lines:\n%s", lines, out)
	}
}

// The number of signatures that `test` shows is that of now.
func TestSigningCountsWhatHasNotExpired(t *testing.T) {
	t.Parallel()
	const one, two = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
	w := newWorld(t, "channel.email")
	w.redis.HSet("fanout:account:acme", "crm", fmt.Sprintf(`{"url":"http://%s/","events":["*"],"secrets":[%q,%q],"secretExpiry":{%q:"2020-01-01T00:00:00Z"}}`, nobody, one, two, fingerprintOf(two)))
	if _, out, said := w.fanout(t, "", "subscriptions", "test", "acme", "crm"); !strings.Contains(out, "1 secret") {
		t.Errorf("%s%s", out, said)
	}
}

func fingerprintOf(secret string) string {
	return subscriptions.Signing([]byte(`{"secrets":["`+secret+`"]}`), time.Time{})[0].Fingerprint
}
