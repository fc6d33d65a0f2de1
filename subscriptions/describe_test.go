package subscriptions_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"fanout/subscriptions"
)

// replace stores another JSON, whatever is stored.
func replace(next string) subscriptions.Change {
	return func(json.RawMessage) (json.RawMessage, error) { return json.RawMessage(next), nil }
}

// Each state in which Redis refuses commands has a remedy, wherever fanout meets it.
func TestStatesOfRedisHaveARemedy(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	s := store(t, "redis://"+m.Addr())
	d, _ := start(t, subscriptions.Config{URL: "redis://" + m.Addr(), SnapshotFile: "off"}, quick)
	ready(t, d)
	for answer, remedy := range map[string]string{
		"OOM command not allowed when used memory > 'maxmemory'.":                     "at its maxmemory",
		"READONLY You can't write against a read only replica.":                       "name the primary in redis.url",
		"NOREPLICAS Not enough good replicas to write.":                               "min-replicas-to-write",
		"MISCONF Redis is configured to save RDB snapshots, but it's unable to do so": "its log says why",
		"LOADING Redis is loading the dataset in memory":                              "wait until it is done",
		"CLUSTERDOWN The cluster is down":                                             "redis-cli --cluster check",
		"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is 'no'.":   "lost its primary",
		"BUSY Redis is busy running a script.":                                        "SCRIPT KILL",
	} {
		m.SetError(answer)
		_, put := s.Put(t.Context(), "acme", "crm", []byte(hook(0)))
		_, update := s.Update(t.Context(), "acme", "crm", replace(hook(1)))
		_, list := s.List(t.Context(), "acme")
		for what, err := range map[string]error{"put": put, "update": update, "list": list, "announce": s.Changed(t.Context(), "acme")} {
			if e, ok := errors.AsType[*subscriptions.StoreError](err); !ok || !strings.Contains(e.Remedy, remedy) {
				t.Errorf("%s: %s answers %v", answer, what, err)
			}
		}
		word, _, _ := strings.Cut(answer, " ")
		within(t, 5*time.Second, "the directory says "+word, func() bool {
			said := d.Status().Error
			return strings.Contains(said, word) && strings.Contains(said, remedy)
		})
		m.SetError("")
	}
}

// A key that holds something else is named, each with its own remedy.
func TestKeysOfAnotherType(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	s := store(t, "redis://"+m.Addr())
	for _, name := range []string{"fanout:changes", "fanout:changed", "fanout:instances", "fanout:account:broken"} {
		_ = m.Set(name, "text")
	}
	m.HSet("fanout:account:whole", "crm", hook(0))
	wrong, err := s.WrongKeys(t.Context())
	if err != nil || len(wrong) != 3 {
		t.Fatalf("%v %v", wrong, err)
	}
	for _, e := range wrong {
		name, _, _ := strings.Cut(e.Found, " ")
		if !strings.Contains(e.Remedy, "DEL "+name) {
			t.Errorf("%s: %s", e.Found, e.Remedy)
		}
	}
	var accounts, broken []string
	for stored, err := range s.ListAll(t.Context()) {
		if e, ok := errors.AsType[*subscriptions.WrongTypeError](err); ok {
			broken = append(broken, e.Account)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		accounts = append(accounts, stored.Account)
	}
	if strings.Join(accounts, " ") != "whole" || strings.Join(broken, " ") != "broken" {
		t.Errorf("listed %v, of another type %v", accounts, broken)
	}
	err = s.Changed(t.Context(), "whole")
	if e, ok := errors.AsType[*subscriptions.StoreError](err); !ok || !strings.Contains(e.Remedy, "it must hold a stream") {
		t.Errorf("announce: %v", err)
	}
	d, _ := start(t, subscriptions.Config{URL: "redis://" + m.Addr(), SnapshotFile: "off"})
	within(t, 5*time.Second, "the directory says it", func() bool { return strings.Contains(d.Status().Error, "DEL fanout:changes") })
}
