package operate_test

import (
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"

	"fanout/egress"
	"fanout/operate"
	"fanout/subscriptions"
)

// What somebody else writes between the comparison and the writing is not undone.
func TestManifestUndoesNothingUnseen(t *testing.T) {
	t.Parallel()
	redis := miniredis.RunT(t)
	store, err := subscriptions.NewStore(subscriptions.Config{URL: "redis://" + redis.Addr(), SnapshotFile: "off"})
	must(t, err)
	defer store.Close()
	rules, err := egress.New(egress.Config{})
	must(t, err)
	const one, other = `{"url":"https://example.com/one","events":["*"]}`, `{"url":"https://example.com/other","events":["*"]}`
	manifest := `{account: acme, subscriptions: {crm: {url: "https://example.com/new", events: ["*"]}}}`

	for _, stored := range []string{one, ""} { // it is updated, it is created
		redis.FlushAll()
		if stored != "" {
			redis.HSet("fanout:account:acme", "crm", stored)
		}
		m := operate.NewManifest()
		m.Read("file", []byte(manifest))
		plan, err := m.Plan(t.Context(), store, rules, false)
		must(t, err)
		if len(m.Problems()) > 0 {
			t.Fatal(m.Problems())
		}
		redis.HSet("fanout:account:acme", "crm", other)
		if err := plan.Apply(t.Context(), store); err == nil || !strings.Contains(err.Error(), "changed by somebody else") {
			t.Errorf("of %q: %v", stored, err)
		}
		if got := redis.HGet("fanout:account:acme", "crm"); got != other {
			t.Errorf("of %q: what was written meanwhile became %s", stored, got)
		}
		if plan, err = m.Plan(t.Context(), store, rules, false); err != nil || plan.Apply(t.Context(), store) != nil {
			t.Errorf("of %q: it cannot be applied to what it was compared with: %v", stored, err)
		}
	}
}
