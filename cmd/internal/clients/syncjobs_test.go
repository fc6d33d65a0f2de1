//go:build clients

package clients_test

import (
	"strings"
	"testing"
	"time"
)

// What each sync job writes with its language's Redis client is in force in a running fanout within a second, and so is its
// removal.
func TestSyncJobs(t *testing.T) {
	s := newSite(t, "jobs", "jobs.events")
	jobs := []client{shell(t, "sync-job.sh"), python(t, "sync-job.py"), node(t, "sync-job.mjs")}
	for i, job := range jobs {
		t.Run(job.name, func(t *testing.T) {
			account := "account of " + job.name
			send := func(from int) {
				t.Helper()
				if did := shell(t, "producer.sh").run(t, strings.NewReader(events(account, from, 1)), s.env(), "jobs.events", account); did.code != 0 {
					t.Fatal(did.output)
				}
			}
			do := func(json ...string) {
				t.Helper()
				if did := job.run(t, nil, s.env(), append([]string{account, "crm"}, json...)...); did.code != 0 {
					t.Fatalf("exit %d: %s", did.code, did.output)
				}
			}
			do(`{"url":"` + s.receiver.URL("/"+job.name) + `","events":["EMAIL_OPEN"],"description":"naïve “quotes” 日本"}`)
			added := s.inForce(t, 1)
			send(0)
			s.receives(t, "/"+job.name, "", 0, 1)
			do()
			removed := s.inForce(t, 0)
			send(1)
			await(t, 10*time.Second, "the second event counted as unmatched", func() bool {
				m, err := s.fanout.Metrics(t.Context())
				return err == nil && m.Sum("fanout_records_total", `result="unmatched"`) == float64(i+1)
			})
			if n := s.receiver.Seen("/" + job.name); n != 1 {
				t.Errorf("%d deliveries came, want the one from before the removal", n)
			}
			if max(added, removed) > time.Second {
				t.Errorf("in force after %s and %s, want within a second", added, removed)
			}
			t.Logf("%-6s in force %s after the job, removed after %s", job.name, added.Round(time.Millisecond), removed.Round(time.Millisecond))
			did := job.run(t, nil, []string{"REDIS_HOST=127.0.0.1", "REDIS_PORT=1"}, account, "crm", "{}")
			if did.code == 0 || !strings.Contains(strings.ToLower(did.output), "refused") {
				t.Errorf("no Redis: exit %d: %s", did.code, did.output)
			}
		})
	}
}
