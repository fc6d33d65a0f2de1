package lab

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// Redis is a redis-server that keeps its data in an append-only file, so that Start after Kill finds all of it.
type Redis struct {
	*Process

	port     int
	security RedisSecurity
}

// RedisSecurity is how a redis-server is spoken to. The zero value is in the clear, without a password.
type RedisSecurity struct {
	Password    string       // of the user `default`, and of the servers among themselves
	Certificate *Certificate // of the server: TLS only; it is its own authority
	Client      *Certificate // set, a client has to show this one, or one that it has signed
}

// Names of the files that a redis-server with TLS reads, in its folder. What they hold counts from the next start on.
const (
	RedisCertificate = "redis.crt"
	RedisKey         = "redis.key"
	RedisCA          = "ca.crt"
)

// Redis starts a redis-server and returns when it answers. args are added to its command line. ctx bounds the start.
func (l *Lab) Redis(ctx context.Context, args ...string) (*Redis, error) {
	return l.SecureRedis(ctx, RedisSecurity{}, args...)
}

// SecureRedis is Redis with a password, TLS, or both.
func (l *Lab) SecureRedis(ctx context.Context, security RedisSecurity, args ...string) (*Redis, error) {
	r, err := l.redisServer("redis", security)
	if err != nil {
		return nil, err
	}
	r.args = append(r.args, "--save", "",
		// "no" leaves syncing to the kernel, which a killed process does not take with it; with "everysec" a write waits
		// for a sync under way and is answered before it is in the file.
		"--appendonly", "yes", "--appendfsync", "no")
	r.args = append(r.args, args...)
	return r, r.Start(ctx)
}

// redisServer is a redis-server on a free port, not started.
func (l *Lab) redisServer(name string, security RedisSecurity) (*Redis, error) {
	program, err := tool("redis-server")
	if err != nil {
		return nil, err
	}
	dir, err := l.subdir(name)
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	r := &Redis{Process: l.process(name, dir, program), port: port, security: security}
	r.args = append(r.args, "--bind", "127.0.0.1", "--dir", dir)
	if security.Password != "" {
		r.args = append(r.args, "--requirepass", security.Password, "--masterauth", security.Password)
	}
	if security.Certificate == nil {
		r.args = append(r.args, "--port", strconv.Itoa(port))
		return r, nil
	}
	clients := "no"
	if security.Client != nil {
		clients = "yes"
	}
	r.args = append(r.args, "--port", "0", "--tls-port", strconv.Itoa(port), "--tls-replication", "yes", "--tls-auth-clients", clients,
		"--tls-cert-file", RedisCertificate, "--tls-key-file", RedisKey, "--tls-ca-cert-file", RedisCA)
	return r, security.writeFiles(dir)
}

func (s *RedisSecurity) writeFiles(dir string) error {
	if s.Certificate == nil {
		return nil
	}
	ca := s.Certificate
	if s.Client != nil {
		ca = s.Client
	}
	for file, text := range map[string][]byte{RedisCertificate: s.Certificate.CertPEM, RedisKey: s.Certificate.KeyPEM, RedisCA: ca.CertPEM} {
		if err := os.WriteFile(filepath.Join(dir, file), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// Renew gives a redis-server that is down another password or certificate, for its next start.
func (r *Redis) Renew(security RedisSecurity) error {
	for i, arg := range r.args {
		if arg == "--requirepass" || arg == "--masterauth" {
			r.args[i+1] = security.Password
		}
	}
	r.security = security
	return security.writeFiles(r.dir)
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

// URL is Addr as fanout's configuration wants it, without a password.
func (r *Redis) URL() string {
	if r.security.Certificate != nil {
		return "rediss://" + r.Addr() + "/0"
	}
	return "redis://" + r.Addr() + "/0"
}

// Client is a new client; the caller closes it.
func (r *Redis) Client() *redis.Client {
	return redis.NewClient(&redis.Options{Addr: r.Addr(), Password: r.security.Password, TLSConfig: r.security.client(), Protocol: 2, DisableIdentity: true})
}

// client is nil for a server in the clear.
func (s *RedisSecurity) client() *tls.Config {
	if s.Certificate == nil {
		return nil
	}
	conf := s.Certificate.Client()
	if s.Client != nil {
		if pair, err := tls.X509KeyPair(s.Client.CertPEM, s.Client.KeyPEM); err == nil {
			conf.Certificates = []tls.Certificate{pair}
		}
	}
	return conf
}

// FlushAll empties it, as an operator's mistake or a failover to an empty replica would.
func (r *Redis) FlushAll(ctx context.Context) error {
	client := r.Client()
	defer client.Close()
	if err := client.FlushAll(ctx).Err(); err != nil {
		return fmt.Errorf("flushall: %w", err)
	}
	return nil
}

// PutSubscription stores a subscription's JSON the way a sync job does (docs/contract.md#writing-a-subscription).
func (r *Redis) PutSubscription(ctx context.Context, account, id, json string) error {
	client := r.Client()
	defer client.Close()
	return PutSubscription(ctx, client, account, id, json)
}

// PutSubscription is [Redis.PutSubscription] through any client, a Cluster's say.
func PutSubscription(ctx context.Context, client redis.Cmdable, account, id, json string) error {
	if err := client.HSet(ctx, "fanout:account:"+account, id, json).Err(); err != nil {
		return fmt.Errorf("store subscription %s/%s: %w", account, id, err)
	}
	change := &redis.XAddArgs{Stream: "fanout:changes", MaxLen: 100_000, Approx: true, Values: []any{"account", account}}
	if err := client.XAdd(ctx, change).Err(); err != nil {
		return fmt.Errorf("announce %s: %w", account, err)
	}
	return nil
}
