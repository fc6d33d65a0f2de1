package subscriptions_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/alicebob/miniredis/v2"
	miniserver "github.com/alicebob/miniredis/v2/server"

	"fanout/subscriptions"
)

func TestUpdate(t *testing.T) {
	m := miniredis.RunT(t)
	st := store(t, redisURL(m))
	to := func(next string) subscriptions.Change {
		return func(json.RawMessage) (json.RawMessage, error) { return json.RawMessage(next), nil }
	}
	announced := func() int { list, _ := m.Stream("fanout:changes"); return len(list) }
	if created, err := st.Update(t.Context(), "acme", "a", to(hook(1))); !created || err != nil {
		t.Errorf("%v %v", created, err)
	}
	if created, err := st.Update(t.Context(), "acme", "a", func(stored json.RawMessage) (json.RawMessage, error) {
		if string(stored) != hook(1) {
			t.Errorf("the change is given %s", stored)
		}
		return json.RawMessage(hook(2)), nil
	}); created || err != nil {
		t.Errorf("%v %v", created, err)
	}
	if got := m.HGet(key+"acme", "a"); got != hook(2) || announced() != 2 {
		t.Errorf("%s, %d announced", got, announced())
	}
	// What is refused changes nothing.
	refusal := errors.New("no")
	if _, err := st.Update(t.Context(), "acme", "a", func(json.RawMessage) (json.RawMessage, error) { return nil, refusal }); !errors.Is(err, refusal) {
		t.Error(err)
	}
	if _, err := st.Update(t.Context(), "acme", "a", to(`{}`)); err == nil || !strings.Contains(err.Error(), "url: is required") {
		t.Error(err)
	}
	if got := m.HGet(key+"acme", "a"); got != hook(2) || announced() != 2 {
		t.Errorf("%s, %d announced", got, announced())
	}
	// The same again is announced: whoever stored it may have forgotten to.
	if _, err := st.Update(t.Context(), "acme", "a", to(hook(2))); err != nil || announced() != 3 {
		t.Errorf("%v, %d announced", err, announced())
	}
	if _, err := st.Update(t.Context(), "acme", "a", func(json.RawMessage) (json.RawMessage, error) { return nil, nil }); err != nil {
		t.Error(err)
	}
	if m.Exists(key+"acme") || announced() != 4 {
		t.Errorf("removed: %v, %d announced", !m.Exists(key+"acme"), announced())
	}
}

// Two that rotate at the same time, from two processes, both have the secret that they were shown in force.
func TestUpdatesDoNotUndoEachOther(t *testing.T) {
	m := miniredis.RunT(t)
	put(t, store(t, redisURL(m)), "acme", "a", hook(1))
	for round := range 10 {
		var group sync.WaitGroup
		made := make([]string, 2)
		start := make(chan struct{})
		for i := range made {
			st := store(t, redisURL(m))
			group.Go(func() {
				<-start
				_, err := st.Update(t.Context(), "acme", "a", func(stored json.RawMessage) (json.RawMessage, error) {
					r, err := subscriptions.Rotate(stored, 1e12, noon)
					made[i] = r.Secret
					return r.JSON, err
				})
				if err != nil {
					t.Errorf("round %d: %v", round, err)
				}
			})
		}
		close(start)
		group.Wait()
		secrets := keysOf(t, []byte(m.HGet(key+"acme", "a"))).Secrets
		if !slices.Contains(secrets, made[0]) || !slices.Contains(secrets, made[1]) {
			t.Fatalf("round %d: a secret that was shown signs nothing", round)
		}
		m.HSet(key+"acme", "a", hook(1))
	}
}

// A Redis user who may not use transactions, and a proxy that has none, do without: the change is made once.
func TestUpdateWithoutTransactions(t *testing.T) {
	for _, refuse := range []string{"WATCH", "MULTI"} {
		for _, with := range []string{"NOPERM this user has no permissions to run the '%s' command", "ERR unknown command '%s'"} {
			m := miniredis.RunT(t)
			st := store(t, redisURL(m))
			put(t, st, "acme", "a", hook(1))
			m.Server().SetPreHook(func(c *miniserver.Peer, cmd string, _ ...string) bool {
				if strings.EqualFold(cmd, refuse) {
					c.WriteError(fmt.Sprintf(with, strings.ToLower(cmd)))
					return true
				}
				return false
			})
			times := 0
			_, err := st.Update(t.Context(), "acme", "a", func(stored json.RawMessage) (json.RawMessage, error) {
				times++
				return json.RawMessage(strings.Replace(string(stored), "/hooks/1", "/hooks/1/more", 1)), nil
			})
			m.Server().SetPreHook(nil)
			if got := m.HGet(key+"acme", "a"); err != nil || times != 1 || strings.Count(got, "/more") != 1 {
				t.Errorf("without %s: %v, changed %d times: %s", refuse, err, times, got)
			}
			if list, _ := m.Stream("fanout:changes"); len(list) != 2 {
				t.Errorf("without %s: %d announced", refuse, len(list))
			}
		}
	}
}
