package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"

	"fanout/config"
	"fanout/topic"
	"fanout/topic/wire"
)

// brokers tries every broker at the address that it advertises: clients use those, not the configured ones. It is false where none
// can be reached, so that nothing more can be asked.
func (f *findings) brokers(ctx context.Context, admin *topic.Cluster) bool {
	unreached, all, err := admin.Reach(ctx)
	if err != nil {
		f.problem("kafka", err.Error(), "")
		return false
	}
	for _, u := range unreached {
		what := "broker " + strconv.Itoa(int(u.Broker))
		if e, ok := errors.AsType[*topic.AdvertisedError](u.Err); ok {
			f.problem(what, e.Found(), e.Remedy())
			continue
		}
		f.problem(what, fmt.Sprintf("it advertises itself as %s and does not answer there: %v", u.Address, u.Err), "bring it back, or set its advertised.listeners to an address that can be reached from here")
	}
	return len(unreached) < all
}

// settings looks at what the brokers demand of every client and of new topics, where the Kafka user may ask.
func (f *findings) settings(ctx context.Context, cfg *config.Config, admin *topic.Cluster) {
	broker, err := admin.BrokerConfig(ctx)
	if err != nil {
		f.problem("kafka", err.Error(), "")
		return
	}
	number := func(key string) int64 {
		n, _ := strconv.ParseInt(broker[key], 10, 64) // 0 where it is not told
		return n
	}
	session := cfg.Kafka.SessionTimeout
	least, most := time.Duration(number("group.min.session.timeout.ms"))*time.Millisecond, time.Duration(number("group.max.session.timeout.ms"))*time.Millisecond
	switch {
	case session > 0 && session < least:
		f.problem("kafka", fmt.Sprintf("kafka.session_timeout is %s, and the brokers take none below group.min.session.timeout.ms, %s", session, least),
			"set kafka.session_timeout: "+least.String()+", or lower group.min.session.timeout.ms of the brokers")
	case most > 0 && session > most:
		f.problem("kafka", fmt.Sprintf("kafka.session_timeout is %s, and the brokers take none above group.max.session.timeout.ms, %s", session, most),
			"set kafka.session_timeout: "+most.String())
	}
	replicas, minimum := int64(cfg.Kafka.Replication), number("min.insync.replicas")
	if replicas < 0 {
		replicas = number("default.replication.factor")
	}
	if replicas > 0 && minimum > replicas && cfg.Kafka.Replication != 1 && cfg.Kafka.Replication < 3 { // with these fanout sets the minimum itself
		f.problem("kafka", fmt.Sprintf("new topics get %s, and min.insync.replicas of the brokers is %d: nothing could be written to them", count(int(replicas), "replica"), minimum),
			"set kafka.replication: 3 on a cluster of three brokers, or lower min.insync.replicas of the brokers")
	}
}

// creation has the brokers judge the topics that `fanout run` would create.
func (f *findings) creation(ctx context.Context, cfg *config.Config, admin *topic.Cluster, sizes map[string]int) (refused map[string]error) {
	if !cfg.Kafka.CreateTopics {
		return nil
	}
	missing := slices.DeleteFunc(admin.Config().Owned(), func(s topic.Spec) bool { return sizes[s.Name] > 0 })
	refused, err := admin.Uncreatable(ctx, missing)
	if err != nil {
		f.problem("topics", err.Error(), "")
	}
	same := make(map[string][]string) // by what the broker says and what to do
	for _, name := range slices.Sorted(maps.Keys(refused)) {
		found, remedy := refused[name].Error(), ""
		switch err := refused[name]; {
		case errors.Is(err, kafka.InvalidReplicationFactor):
			remedy = "set kafka.replication to the number of brokers at most, or to -1, which leaves it to them"
		case errors.Is(err, kafka.TopicAuthorizationFailed), errors.Is(err, kafka.ClusterAuthorizationFailed):
			remedy = "the Kafka user needs Create: see ACLs in docs/kafka.md; or have somebody else run `fanout topics create`"
		case errors.Is(err, kafka.PolicyViolation):
			remedy = "create it as the brokers' policy wants it, with the settings that `fanout topics create --dry-run` shows"
		}
		same[found+"\x00"+remedy] = append(same[found+"\x00"+remedy], name)
	}
	for _, text := range slices.Sorted(maps.Keys(same)) {
		found, remedy, _ := strings.Cut(text, "\x00")
		f.problem("topics", fmt.Sprintf("%s cannot be created: %s", strings.Join(same[text], ", "), found), remedy)
	}
	return refused
}

// rights says what the Kafka user may not do, and `fanout run` must.
func (f *findings) rights(ctx context.Context, admin *topic.Cluster, sizes map[string]int) {
	const remedy = "see ACLs in docs/kafka.md"
	var written, read []string
	names := admin.Config().Names()
	for _, s := range admin.Config().Owned() {
		if sizes[s.Name] == 0 {
			continue
		}
		written = append(written, s.Name)
		if s.Delay > 0 || s.Name == names.Replay {
			read = append(read, s.Name)
		}
	}
	sources, err := admin.Config().Existing(sizes)
	if err == nil { // else it has been said which are missing
		for i := range sources {
			read = append(read, sources[i].Topic)
		}
	}
	for _, need := range []struct {
		right  string
		o      wire.Operation
		topics []string
	}{{"Write", wire.Write, written}, {"Read", wire.Read, read}} {
		forbidden, err := admin.Forbidden(ctx, need.topics, need.o)
		if err != nil {
			f.problem("topics", err.Error(), "")
		} else if len(forbidden) > 0 {
			f.problem("rights", fmt.Sprintf("the Kafka user has no %s on %s", need.right, strings.Join(forbidden, ", ")), remedy)
		}
	}
	for _, group := range []string{admin.Config().Kafka.Group, admin.Config().RetryGroup()} {
		if err := admin.MayJoin(ctx, group); err != nil {
			f.problem("rights", "the Kafka user has no Read on the group "+group, remedy)
		}
	}
}

// snapshot tries to write beside the snapshot file.
func (f *findings) snapshot(cfg *config.Config) {
	path, err := cfg.Redis.TrySnapshot()
	if err != nil {
		f.problem("snapshot file", fmt.Sprintf("%s cannot be written: %v", path, err), "make its folder writable for fanout, or set redis.snapshot_file; without one a restart waits for Redis (off)")
		return
	}
	if path != "" {
		f.okf("snapshot file", "%s can be written", path)
	}
}
