package topic_test

import (
	"testing"
	"time"

	"fanout/topic"
)

// The configuration says how long dead letters and attempts are kept; where it does not, 30 and 10 days.
func TestOwnedRetention(t *testing.T) {
	for _, tt := range []struct {
		cfg            topic.Config
		dead, attempts string
	}{
		{topic.Config{AttemptsTopic: true}, "2592000000", "864000000"},
		{topic.Config{AttemptsTopic: true, DeadLetterRetention: 48 * time.Hour, AttemptsRetention: 2 * time.Hour}, "172800000", "7200000"},
	} {
		tt.cfg.Prefix = "fanout"
		got := map[string]string{}
		for _, spec := range tt.cfg.Owned() {
			got[spec.Name] = spec.Config["retention.ms"]
		}
		if got["fanout.dead-letter"] != tt.dead || got["fanout.replay"] != tt.dead || got["fanout.attempts"] != tt.attempts {
			t.Errorf("retentions %v", got)
		}
	}
}
