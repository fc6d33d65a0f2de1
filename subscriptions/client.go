package subscriptions

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"

	"fanout/credential"
)

// The keys in Redis (docs/contract.md#redis-keys).
const (
	accountPrefix = "fanout:account:"
	changesKey    = "fanout:changes"
	changesLength = 100_000
)

// The socket's time-outs: a Redis that hangs is noticed soon, so that its return is too.
const (
	dialTimeout  = time.Second
	readTimeout  = 3 * time.Second // a pipeline of accounts
	blockTimeout = time.Second     // how long one XREAD waits for a change
	grace        = time.Second     // past blockTimeout, until XREAD counts as hanging

	// For an answer of a sentinel: go-redis asks one that hangs twice before it asks the others, and begins again where that
	// takes longer than dialTimeout.
	sentinelTimeout = dialTimeout / 2
)

// masterIdle is for how long a connection to a master that a sentinel named may be idle. Where that master's host hangs,
// each idle connection would be tried for readTimeout; only a new one has the sentinels asked who serves now.
const masterIdle = blockTimeout + grace/2

// slotsAge is how old may be what is known of a Cluster's masters. A killed one cannot say who serves in its place, and
// go-redis asks the others after a minute only, unless it is told to ask sooner.
const slotsAge = time.Second

//nolint:gochecknoglobals // go-redis logs to stderr through a global of its own
var quiet = sync.OnceFunc(logging.Disable)

// newClient connects lazily: it succeeds without a Redis.
func newClient(cfg *Config, retries int, opts ...Option) (redis.UniversalClient, error) {
	quiet()
	t, err := cfg.target()
	if err != nil {
		return nil, err
	}
	opt := &redis.UniversalOptions{
		Addrs: t.addrs, DB: t.db, MasterName: t.master, IsClusterMode: t.kind == "cluster",
		Username: t.username, Password: t.password,
		SentinelUsername: cfg.SentinelUsername, SentinelPassword: cfg.SentinelPassword,
		Protocol: 2, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		MaxRetries:               retries,
		DialTimeout:              dialTimeout, DialerRetries: 1,
		ReadTimeout: readTimeout, WriteTimeout: readTimeout,
		ContextTimeoutEnabled: true,
		PoolSize:              8,
	}
	if cfg.Username != "" {
		opt.Username = cfg.Username
	}
	if cfg.Password != "" {
		opt.Password = cfg.Password
	}
	if cfg.PasswordFile != "" {
		username := opt.Username
		opt.CredentialsProviderContext = func(context.Context) (string, string, error) {
			password, err := credential.Secret("redis.password_file", cfg.PasswordFile, "password")
			return username, password, err
		}
	}
	if t.kind == "sentinel" && cfg.SentinelPasswordFile != "" {
		opt.OnConnect = cfg.signIn
	}
	if t.kind == "sentinel" {
		opt.ConnMaxIdleTime = masterIdle
	}
	if opt.Dialer, err = cfg.dialer(t, dialWith(opts)); err != nil {
		return nil, err
	}
	if t.kind == "cluster" {
		nodes := opt.Cluster()
		nodes.ClusterStateReloadInterval = slotsAge
		return redis.NewClusterClient(nodes), nil
	}
	return redis.NewUniversalClient(opt), nil
}

// signIn gives a sentinel the password that the file holds now: go-redis has a callback for the password of servers only.
func (c *Config) signIn(ctx context.Context, conn *redis.Conn) error {
	if strings.HasPrefix(conn.String(), "Redis<FailoverClient ") { // a server, by the name that go-redis gives it
		return nil
	}
	password, err := credential.Secret("redis.sentinel_password_file", c.SentinelPasswordFile, "password")
	if err != nil {
		return err
	}
	if c.SentinelUsername != "" {
		return conn.AuthACL(ctx, c.SentinelUsername, password).Err()
	}
	return conn.Auth(ctx, password).Err()
}
