//go:build clients

package clients_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"fanout/cmd/internal/lab"
	"fanout/subscriptions"
)

// What each sync job writes is in force in a running fanout within a second, and so is its
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

// The calls of docs/examples that name a library, by its client of a Cluster: one node is given, the keys are everywhere.
const (
	onClusterPython = `
import sys
from redis.cluster import RedisCluster
host, port, count, json = sys.argv[1:]
r = RedisCluster(host=host, port=int(port))
for i in range(int(count)):
    r.hset(f"fanout:account:acme-{i}", "crm", json)
    r.xadd("fanout:changes", {"account": f"acme-{i}"}, maxlen=100000)
`
	onClusterNode = `
import { createCluster } from "redis";
const [host, port, count, json] = process.argv.slice(2);
const client = createCluster({ rootNodes: [{ url: "redis://" + host + ":" + port }] });
await client.connect();
for (let i = 0; i < Number(count); i++) {
  const account = "acme-" + i;
  await client.hSet("fanout:account:" + account, "crm", json);
  await client.xAdd("fanout:changes", "*", { account }, { TRIM: { strategy: "MAXLEN", strategyModifier: "~", threshold: 100000 } });
}
await client.close();
`
)

// What redis-py and node-redis write to a Cluster of three is in force, on every master.
func TestSyncJobsOnCluster(t *testing.T) {
	l := lab.ForTest(t)
	cluster, err := l.Cluster(within(t, time.Minute), lab.RedisSecurity{}, 3, 0)
	if err != nil {
		t.Fatal(err)
	}
	directory, err := subscriptions.New(subscriptions.Config{URL: cluster.URL(), SnapshotFile: "off"}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- directory.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	await(t, 10*time.Second, "an empty Cluster loaded", directory.Loaded)
	main := filepath.Join(t.TempDir(), "main.mjs")
	if err := errors.Join(os.WriteFile(main, []byte(onClusterNode), 0o600), os.Symlink(fetched(t, "node_modules"), filepath.Join(filepath.Dir(main), "node_modules"))); err != nil {
		t.Fatal(err)
	}
	host, port, _ := strings.Cut(cluster.Nodes[1].Addr(), ":")
	for _, job := range []client{
		{name: "redis-py", args: []string{fetched(t, "python", "bin", "python3"), "-c", onClusterPython}},
		{name: "node-redis", args: []string{"node", main}},
	} {
		url := "https://example.com/" + job.name
		if did := job.run(t, nil, nil, host, port, "20", `{"url":"`+url+`","events":["*"]}`); did.code != 0 {
			t.Fatalf("%s: exit %d: %s", job.name, did.code, did.output)
		}
		began := time.Now()
		await(t, 5*time.Second, "20 accounts in force", func() bool {
			for i := range 20 {
				if s := directory.Lookup("acme-"+strconv.Itoa(i), "crm"); s == nil || s.URL() != url {
					return false
				}
			}
			return true
		})
		t.Logf("%-10s 20 accounts on 3 masters in force %s after the job", job.name, time.Since(began).Round(time.Millisecond))
	}
}
