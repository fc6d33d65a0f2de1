package subscriptions

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	logged "go.uber.org/zap/zaptest/observer"
)

// A refused load is refused since the first time, and logged once; what was suspected before it is confirmed only by a load that
// began later and was not refused.
func TestLossGuard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := logged.New(zap.ErrorLevel)
		g := &lossGuard{log: zap.New(core)}
		lost := make([]string, 2*maxLost)
		for i := range lost {
			lost[i] = fmt.Sprintf("account-%02d", len(lost)-i)
		}
		began := time.Now()
		g.refuse(10, 4, "", lost)
		time.Sleep(time.Minute)
		g.refuse(10, 3, "", nil)
		if s := g.refused(); s == nil || !s.Since.Equal(began) || s.Found != 3 || logs.Len() != 1 {
			t.Errorf("refused twice: %+v, %d lines", s, logs.Len())
		}
		g.confirm(g.suspicions())
		if !g.suspicious() {
			t.Error("confirmed by a load that was refused")
		}
		g.refuse(10, 3, "allkeys-lru", lost)
		if s := g.refused(); s.Since.Equal(began) || len(s.Lost) != maxLost || s.Lost[0] != "account-01" || logs.Len() != 2 {
			t.Errorf("refused for another reason: %+v, %d lines", s, logs.Len())
		}
		if policy := g.evicting(&Evictions{}); policy != "allkeys-lru" {
			t.Errorf("kept for evictions, and then %q", policy)
		}
		early := g.suspicions()
		g.suspect()
		g.agree(map[string]int64{"a": 5})
		if g.confirm(early); !g.suspicious() {
			t.Error("a suspicion of after the load began is confirmed by it")
		}
		if g.confirm(g.suspicions()); g.suspicious() || g.refused() != nil {
			t.Error("still suspicious")
		}
		for evicted, want := range map[int64]string{5: "", 6: "allkeys-lfu"} {
			now := Evictions{Policy: "allkeys-lfu", evicted: map[string]int64{"a": evicted}}
			if policy := g.evicting(&now); policy != want {
				t.Errorf("%d evicted: %q, want %q", evicted, policy, want)
			}
		}
	})
}

// What a read begun later has applied makes an earlier one stale, as long as that is in flight.
func TestReadOrder(t *testing.T) {
	var o readOrder
	early := o.begin(false)
	late := o.begin(true)
	o.note("acme", late)
	if !o.stale("acme", early) || o.stale("acme", late) || o.stale("other", early) {
		t.Error("two reads in flight: the earlier one alone is stale, for that account alone")
	}
	o.end(true)
	if !o.stale("acme", early) {
		t.Error("forgotten while the earlier read is in flight")
	}
	o.end(false)
	if o.applied != nil {
		t.Errorf("kept: %v", o.applied)
	}
	if o.note("acme", o.begin(true)); o.applied != nil {
		t.Errorf("nobody else reads, and it is noted: %v", o.applied)
	}
}
