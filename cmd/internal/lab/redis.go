package lab

import (
	"context"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// Redis is a redis-server that keeps its data in an append-only file, so that Start after Kill finds all of it.
type Redis struct {
	*Process

	port int
}

// Redis starts a redis-server and returns when it answers. args are added to its command line. ctx bounds the start.
func (l *Lab) Redis(ctx context.Context, args ...string) (*Redis, error) {
	program, err := tool("redis-server")
	if err != nil {
		return nil, err
	}
	dir, err := l.subdir("redis")
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	args = append([]string{
		program, "--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", dir, "--save", "",
		// "no" leaves syncing to the kernel, which a killed process does not take with it; with "everysec" a write waits
		// for a sync under way and is answered before it is in the file.
		"--appendonly", "yes", "--appendfsync", "no",
	}, args...)
	r := &Redis{Process: l.process("redis", dir, args...), port: port}
	return r, r.Start(ctx)
}

// Start starts a Redis that was stopped or killed, on its own port and data.
func (r *Redis) Start(ctx context.Context) error {
	if err := r.start(); err != nil {
		return err
	}
	client := r.Client()
	defer client.Close()
	return r.ready(ctx, func() bool { return client.Ping(ctx).Err() == nil })
}

// Addr is host:port.
func (r *Redis) Addr() string { return loopback(r.port) }

// URL is Addr as fanout's configuration wants it.
func (r *Redis) URL() string { return "redis://" + r.Addr() + "/0" }

// Client is a new client; the caller closes it.
func (r *Redis) Client() *redis.Client { return redis.NewClient(&redis.Options{Addr: r.Addr()}) }

// FlushAll empties it, as an operator's mistake or a failover to an empty replica would.
func (r *Redis) FlushAll(ctx context.Context) error {
	client := r.Client()
	defer client.Close()
	if err := client.FlushAll(ctx).Err(); err != nil {
		return fmt.Errorf("flushall: %w", err)
	}
	return nil
}

// PutSubscription stores a subscription's JSON the way a config sync job does (DESIGN.md, section 5).
func (r *Redis) PutSubscription(ctx context.Context, account, id, json string) error {
	client := r.Client()
	defer client.Close()
	if err := client.HSet(ctx, "fanout:account:"+account, id, json).Err(); err != nil {
		return fmt.Errorf("store subscription %s/%s: %w", account, id, err)
	}
	change := &redis.XAddArgs{Stream: "fanout:changes", MaxLen: 100_000, Approx: true, Values: []any{"account", account}}
	if err := client.XAdd(ctx, change).Err(); err != nil {
		return fmt.Errorf("announce %s: %w", account, err)
	}
	return nil
}
