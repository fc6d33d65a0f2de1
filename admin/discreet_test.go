package admin_test

import (
	"testing"

	"fanout/admin"
	"fanout/dispatcher"
)

// Somebody has decided for each reason what a customer may read of it.
func TestDisclosure(t *testing.T) {
	t.Parallel()
	for _, name := range dispatcher.ReasonNames() {
		if !admin.Discloses(name) {
			t.Errorf("admin/discreet.go does not say what a customer may read of the reason %s", name)
		}
	}
}
