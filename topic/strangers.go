package topic

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/segmentio/kafka-go"
)

// Ours says whether records that name the group are this deployment's: its own, those of a group that it has had before, and those that name
// none (docs/contract.md#records-of-other-groups).
func (c *Config) Ours(group string) bool {
	return group == "" || group == c.Kafka.Group || slices.Contains(c.Kafka.FormerGroups, group)
}

// maxStrangers bounds how many other groups are looked for in one partition.
const maxStrangers = 16

// Orphans names a group whose records lie in the partition of a retry or replay topic, which is not ours, and which has no members: nobody
// delivers them. It is empty where there is none. each is called with every record that lies there; it may be nil.
func (c *Cluster) Orphans(ctx context.Context, p Partition, each func(*Record)) (string, error) {
	log, err := c.LogRange(ctx, p)
	if err != nil {
		return "", err
	}
	var mu sync.Mutex // guards strangers
	var strangers []string
	err = c.Scan(ctx, p.Topic, map[int]Range{p.ID: log}, nil, func(r *Record) error {
		if each != nil {
			each(r)
		}
		name := Clip(r.Header(HeaderGroup), maxGroup)
		if c.cfg.Ours(name) {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		if !slices.Contains(strangers, name) && len(strangers) < maxStrangers {
			strangers = append(strangers, name)
		}
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("look for records of other groups: %w", err)
	}
	for _, name := range strangers {
		works, err := c.hasMembers(ctx, name)
		if err != nil {
			return "", err
		}
		if !works {
			return name, nil
		}
	}
	return "", nil
}

// hasMembers says whether any instance reads the retry topics for the group. One that may not be asked about is taken to have none: its records
// are kept until somebody says whose they are.
func (c *Cluster) hasMembers(ctx context.Context, group string) (bool, error) {
	d, err := c.Group(retryGroup(group)).Describe(ctx)
	if errors.Is(err, kafka.GroupAuthorizationFailed) || errors.Is(err, kafka.InvalidGroupId) {
		return false, nil
	}
	return len(d.Members) > 0, err
}

// Unbegun are those partitions of the retry and replay topics among sizes that the group has no offset of.
func (c *Cluster) Unbegun(ctx context.Context, sizes map[string]int) ([]Partition, error) {
	retries, names := c.cfg.RetryTopics(), c.cfg.Names()
	var all []Partition
	for name, n := range sizes {
		if _, tier := retries.Delay(name); tier || name == names.Replay {
			all = append(all, Partitions(name, n)...)
		}
	}
	if len(all) == 0 {
		return nil, nil
	}
	offsets, refused, err := c.Group(c.cfg.RetryGroup()).Committed(ctx, all)
	if err != nil {
		return nil, err
	}
	for p, err := range refused {
		return nil, fmt.Errorf("offset of %s: %w", p, Needs("Describe", err))
	}
	unbegun := slices.DeleteFunc(all, func(p Partition) bool { return offsets[p].At >= 0 })
	slices.SortFunc(unbegun, Partition.Compare)
	return unbegun, nil
}
