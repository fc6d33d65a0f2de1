package subscriptions

import (
	"context"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Evictions is what the servers say of keys that they drop by themselves when memory runs short
// (docs/contract.md#eviction).
type Evictions struct {
	Policy string // a maxmemory-policy that may drop accounts; empty: there is none, or it is not known
	Denied bool   // the Redis user may not ask

	evicted map[string]int64 // by server, since it started; of those with such a policy
}

// Evicted counts the keys that the servers have dropped since they started.
func (e *Evictions) Evicted() (n int64) {
	for _, of := range e.evicted {
		n += of
	}
	return n
}

// grown says whether keys were evicted since. A server that was not asked before may have evicted all that it counts.
func (e *Evictions) grown(since map[string]int64) bool {
	for server, n := range e.evicted {
		if n > since[server] {
			return true
		}
	}
	return false
}

// Evictions asks every master.
func (s *Store) Evictions(ctx context.Context) (Evictions, error) {
	e, err := askEvictions(ctx, s.client)
	return e, plain("info", err)
}

func askEvictions(ctx context.Context, client redis.UniversalClient) (Evictions, error) {
	e := Evictions{evicted: make(map[string]int64)}
	nodes, err := masters(ctx, client)
	if err != nil {
		return e, err
	}
	for _, node := range nodes {
		policy, server, evicted, err := askNode(ctx, node)
		switch {
		case err != nil && refusedByRedis(err): // the user's rights are of before this was asked
			e.Denied = e.Denied || strings.HasPrefix(err.Error(), "NOPERM")
		case err != nil:
			return e, err
		case policy != "":
			e.Policy, e.evicted[server] = policy, evicted
		}
	}
	return e, nil
}

// askNode asks one server. Of keys without an expiry, and fanout's have none, only the policies allkeys-* drop any.
func askNode(ctx context.Context, node redis.Cmdable) (policy, server string, evicted int64, err error) {
	memory, err := infoOf(ctx, node, "memory")
	if policy = memory["maxmemory_policy"]; err != nil || !strings.HasPrefix(policy, "allkeys-") {
		return "", "", 0, err
	}
	about, err := infoOf(ctx, node, "server")
	if err != nil {
		return "", "", 0, err
	}
	stats, err := infoOf(ctx, node, "stats")
	if err != nil {
		return "", "", 0, err
	}
	evicted, _ = strconv.ParseInt(stats["evicted_keys"], 10, 64) // 0 where it does not say
	return policy, about["run_id"], evicted, nil
}

// infoOf reads one section of a server's INFO.
func infoOf(ctx context.Context, node redis.Cmdable, section string) (map[string]string, error) {
	info, err := node.Info(ctx, section).Result()
	fields := make(map[string]string)
	for line := range strings.SplitSeq(info, "\n") {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			fields[key] = value
		}
	}
	return fields, err
}
