package spelling_test

import (
	"strings"
	"testing"

	"fanout/spelling"
)

func TestNearest(t *testing.T) {
	known := strings.Fields("url events enabled secrets headers description maxInFlight maxPerSecond paused secretExpiry")
	for word, want := range map[string]string{
		"secret": "secrets", "enbled": "enabled", "Events": "events", "event": "events", "max_in_flight": "maxInFlight", "header": "headers",
		"discription": "description", "secretExpires": "secretExpiry", "pasued": "paused", "headersExtra": "headers", "urls": "url",
		"disabled": "", "owner": "", "team": "", "": "", "x": "", "tags": "", strings.Repeat("y", 1000): "",
	} {
		if got := spelling.Nearest(word, known); got != want {
			t.Errorf("%.20q is close to %q, want %q", word, got, want)
		}
	}
	if got := spelling.Nearest("secret", nil); got != "" {
		t.Errorf("nothing is known, and %q is close", got)
	}
}
