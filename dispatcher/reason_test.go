package dispatcher_test

import (
	"testing"

	"fanout/dispatcher"
)

// Every reason has a name of its own that it can be found by, and a result that it belongs to.
func TestReasons(t *testing.T) {
	seen := make(map[string]bool)
	for r := dispatcher.NoReason + 1; r < dispatcher.Reasons; r++ {
		name := r.String()
		if name == "" || seen[name] {
			t.Errorf("reason %d has the name %q, which is empty or another's", r, name)
		}
		seen[name] = true
		if parsed, ok := dispatcher.ParseReason(name); !ok || parsed != r {
			t.Errorf("%q is read as %d, %v; want %d", name, parsed, ok, r)
		}
		if of := r.Of(); of == dispatcher.Delivered || of == dispatcher.Abandoned {
			t.Errorf("%q belongs to %s, which needs no reason", name, of)
		}
	}
	for _, unknown := range []string{"", "Status", "soon"} {
		if r, ok := dispatcher.ParseReason(unknown); ok || r != dispatcher.NoReason {
			t.Errorf("%q is read as %q", unknown, r)
		}
	}
	if n := len(dispatcher.DeadReasons()); n != 7 {
		t.Errorf("%d reasons of dead letters, want 7", n)
	}
}
