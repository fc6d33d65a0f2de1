package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// SentinelMaster is the name that the sentinels of a Sentinels know their master by.
const SentinelMaster = "mymaster"

// Sentinels is a master, its replicas, and the sentinels that watch over them.
type Sentinels struct {
	Servers   []*Redis // the first master first
	Sentinels []*Redis
}

// Sentinels starts a master, replicas and as many sentinels as are asked for, and returns when every sentinel knows all.
// A master counts as down after a second. The sentinels ask for the same password as the servers, and speak TLS if they do.
func (l *Lab) Sentinels(ctx context.Context, security RedisSecurity, replicas, sentinels int) (*Sentinels, error) {
	s := &Sentinels{}
	for i := range 1 + replicas {
		args := []string{"--repl-diskless-sync-delay", "0"}
		if i > 0 {
			args = append(args, "--replicaof", "127.0.0.1 "+strconv.Itoa(s.Servers[0].port))
		}
		r, err := l.SecureRedis(ctx, security, args...)
		if err != nil {
			return nil, err
		}
		s.Servers = append(s.Servers, r)
	}
	for range sentinels {
		r, err := l.redisServer("sentinel", security)
		if err != nil {
			return nil, err
		}
		// A sentinel writes what it learns into its file; its options may not be given on the command line.
		conf := fmt.Sprintf("sentinel monitor %[1]s 127.0.0.1 %[2]d %[3]d\nsentinel down-after-milliseconds %[1]s 1000\nsentinel failover-timeout %[1]s 5000\n",
			SentinelMaster, s.Servers[0].port, sentinels/2+1)
		if security.Password != "" {
			conf += fmt.Sprintf("sentinel auth-pass %s %s\nsentinel sentinel-pass %s\n", SentinelMaster, security.Password, security.Password)
		}
		if err := os.WriteFile(filepath.Join(r.dir, "sentinel.conf"), []byte(conf), 0o600); err != nil {
			return nil, err
		}
		r.args = append([]string{r.args[0], filepath.Join(r.dir, "sentinel.conf"), "--sentinel"}, r.args[1:]...)
		if err := r.Start(ctx); err != nil {
			return nil, err
		}
		s.Sentinels = append(s.Sentinels, r)
	}
	return s, Await(ctx, "replicas, and sentinels that know each other", func() bool {
		for _, r := range s.Servers[1:] {
			// One that never had a copy may be promoted too.
			if info, err := r.CLI(ctx, "INFO", "replication"); err != nil || !strings.Contains(info, "master_link_status:up") {
				return false
			}
		}
		for _, r := range s.Sentinels {
			state, err := r.master(ctx)
			if err != nil || state["num-slaves"] != strconv.Itoa(replicas) || state["num-other-sentinels"] != strconv.Itoa(sentinels-1) {
				return false
			}
		}
		return true
	})
}

// master is what a sentinel knows of the master.
func (r *Redis) master(ctx context.Context) (map[string]string, error) {
	c := r.sentinel()
	defer c.Close()
	return c.Master(ctx, SentinelMaster).Result()
}

func (r *Redis) sentinel() *redis.SentinelClient {
	return redis.NewSentinelClient(&redis.Options{Addr: r.Addr(), Password: r.security.Password, TLSConfig: r.security.client(), Protocol: 2, DisableIdentity: true})
}

// URL is what fanout's configuration wants, without a password.
func (s *Sentinels) URL() string {
	scheme := "redis+sentinel://"
	if s.Servers[0].security.Certificate != nil {
		scheme = "rediss+sentinel://"
	}
	return scheme + addresses(s.Sentinels) + "/0?master=" + SentinelMaster
}

func addresses(servers []*Redis) string {
	var list []string
	for _, r := range servers {
		list = append(list, r.Addr())
	}
	return strings.Join(list, ",")
}

// Master is the server that the sentinels agree on and that takes writes; nil while there is none.
func (s *Sentinels) Master(ctx context.Context) *Redis {
	addr := ""
	for _, r := range s.Sentinels {
		state, err := r.master(ctx)
		if err != nil {
			continue // down
		}
		now := state["ip"] + ":" + state["port"]
		if addr != "" && now != addr {
			return nil
		}
		addr = now
	}
	for _, r := range s.Servers {
		if r.Addr() == addr && r.Role(ctx) == "master" {
			return r
		}
	}
	return nil
}

// Role is master or slave; empty while it does not answer.
func (r *Redis) Role(ctx context.Context) string {
	if !r.Running() {
		return ""
	}
	c := r.Client()
	defer c.Close()
	answer, err := c.Do(ctx, "ROLE").Slice()
	if err != nil || len(answer) == 0 {
		return ""
	}
	role, _ := answer[0].(string)
	return role
}

// Cluster is a Redis Cluster.
type Cluster struct {
	Nodes []*Redis // the first masters first
}

// Cluster starts masters with that many replicas each, and returns when all slots are served and every
// replica has its copy. A node counts as down after two seconds.
func (l *Lab) Cluster(ctx context.Context, security RedisSecurity, masters, replicas int) (*Cluster, error) {
	c := &Cluster{}
	for range masters * (1 + replicas) {
		// The bus would be 10 000 ports up, where the kernel gives ports to whoever asks.
		bus, err := freePort()
		if err != nil {
			return nil, err
		}
		args := []string{
			"--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(bus), "--cluster-node-timeout", "2000",
			// A replica is promoted however long it has been cut off, and has its first copy at once.
			"--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0",
		}
		if security.Certificate != nil {
			args = append(args, "--tls-cluster", "yes")
		}
		r, err := l.SecureRedis(ctx, security, args...)
		if err != nil {
			return nil, err
		}
		c.Nodes = append(c.Nodes, r)
	}
	args := []string{"--cluster", "create"}
	for _, r := range c.Nodes {
		args = append(args, r.Addr())
	}
	args = append(args, "--cluster-replicas", strconv.Itoa(replicas), "--cluster-yes")
	if _, err := c.Nodes[0].CLI(ctx, args...); err != nil {
		return nil, err
	}
	return c, Await(ctx, "a cluster whose nodes know each other", func() bool {
		for _, r := range c.Nodes {
			info, err := r.CLI(ctx, "CLUSTER", "INFO")
			if err != nil || !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, fmt.Sprintf("cluster_known_nodes:%d", len(c.Nodes))) {
				return false
			}
			info, err = r.CLI(ctx, "INFO", "replication")
			if err != nil || strings.Contains(info, "master_link_status:down") {
				return false
			}
		}
		return true
	})
}

// CLI runs redis-cli against the server, with its password and TLS, and returns what it printed.
func (r *Redis) CLI(ctx context.Context, args ...string) (string, error) {
	program, err := tool("redis-cli")
	if err != nil {
		return "", err
	}
	begin := []string{"-e"}
	if args[0] != "--cluster" {
		_, port, _ := strings.Cut(r.Addr(), ":")
		begin = append(begin, "-h", "127.0.0.1", "-p", port)
	}
	if r.security.Certificate != nil {
		begin = append(begin, "--tls", "--cacert", RedisCertificate, "--cert", RedisCertificate, "--key", RedisKey)
	}
	cmd := exec.CommandContext(ctx, program, append(begin, args...)...)
	cmd.Dir = r.dir
	if r.security.Password != "" { // one that wants none would complain
		cmd.Env = append(os.Environ(), "REDISCLI_AUTH="+r.security.Password)
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("redis-cli %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// URL is what fanout's configuration wants, without a password.
func (c *Cluster) URL() string {
	scheme := "redis+cluster://"
	if c.Nodes[0].security.Certificate != nil {
		scheme = "rediss+cluster://"
	}
	return scheme + addresses(c.Nodes)
}

// Client is a new client; the caller closes it.
func (c *Cluster) Client() *redis.ClusterClient {
	first := c.Nodes[0]
	return redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: strings.Split(addresses(c.Nodes), ","), Password: first.security.Password, TLSConfig: first.security.client(), Protocol: 2, DisableIdentity: true,
		ClusterStateReloadInterval: time.Second, // a minute, else, until it looks for what was promoted
	})
}

// Owner is the master that serves a key now.
func (c *Cluster) Owner(ctx context.Context, key string) (*Redis, error) {
	client := c.Client()
	defer client.Close()
	node, err := client.MasterForKey(ctx, key)
	if err != nil {
		return nil, err
	}
	for _, r := range c.Nodes {
		if r.Addr() == node.Options().Addr {
			return r, nil
		}
	}
	return nil, errors.New("no node of ours")
}
