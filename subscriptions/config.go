package subscriptions

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"fanout/event"
)

// Config is the section `redis` of the configuration.
//
// The URL says which kind of Redis it is; with rediss in place of redis, TLS is spoken:
//
//	redis://[user:password@]host[:6379][/db]
//	redis+sentinel://[user:password@]host[:26379],host…[/db]?master=NAME
//	redis+cluster://[user:password@]host[:6379],host…
//	unix://[user:password@]/path/to/socket[?db=N]
type Config struct {
	URL                  string    `mapstructure:"url"`               // default redis://127.0.0.1:6379/0
	Username             string    `mapstructure:"username"`          // instead of the URL's
	Password             string    `mapstructure:"password"`          // instead of the URL's
	PasswordFile         string    `mapstructure:"password_file"`     // instead of password: a mounted secret, read at each connection
	SentinelUsername     string    `mapstructure:"sentinel_username"` // for the sentinels themselves
	SentinelPassword     string    `mapstructure:"sentinel_password"`
	SentinelPasswordFile string    `mapstructure:"sentinel_password_file"` // instead of sentinel_password: read at each connection
	TLS                  TLSConfig `mapstructure:"tls"`                    // for rediss://
	SnapshotFile         string    `mapstructure:"snapshot_file"`          // default <group>.subscriptions in the user's cache folder; "off" disables it
	Group                string    `mapstructure:"-"`                      // the consumer group, for the default of SnapshotFile

	Catalogue *event.Catalogue `mapstructure:"-"` // the event names that subscriptions may select; nil: the eight
}

// TLSConfig says how Redis is spoken to over TLS.
type TLSConfig struct {
	CAFile     string `mapstructure:"ca_file"`     // PEM; empty means the system's roots; read at each connection
	CertFile   string `mapstructure:"cert_file"`   // PEM, for mutual TLS; read at each connection
	KeyFile    string `mapstructure:"key_file"`    // PEM, for mutual TLS; read at each connection
	ServerName string `mapstructure:"server_name"` // instead of Redis's host name
}

const defaultURL = "redis://127.0.0.1:6379/0"

// target is a parsed URL.
type target struct {
	kind     string // "", "sentinel", "cluster" or "unix"
	secure   bool
	addrs    []string
	db       int
	master   string
	username string
	password string
}

// Validate reports every problem. It never quotes the URL, which may hold a password.
func (c *Config) Validate() error {
	_, err := c.target()
	problems := []error{err}
	if c.Password != "" && c.PasswordFile != "" {
		problems = append(problems, errors.New("redis.password: password_file is set too, want one of them"))
	}
	if c.SentinelPassword != "" && c.SentinelPasswordFile != "" {
		problems = append(problems, errors.New("redis.sentinel_password: sentinel_password_file is set too, want one of them"))
	}
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		problems = append(problems, errors.New("redis.tls: want cert_file and key_file, or neither"))
	}
	files := map[string]string{
		"password_file": c.PasswordFile, "sentinel_password_file": c.SentinelPasswordFile,
		"tls.ca_file": c.TLS.CAFile, "tls.cert_file": c.TLS.CertFile, "tls.key_file": c.TLS.KeyFile,
	}
	for _, key := range []string{"password_file", "sentinel_password_file", "tls.ca_file", "tls.cert_file", "tls.key_file"} {
		if files[key] == "" {
			continue
		}
		if _, err := os.ReadFile(files[key]); err != nil {
			problems = append(problems, fmt.Errorf("redis.%s: %w", key, err))
		}
	}
	return errors.Join(problems...)
}

func (c *Config) target() (*target, error) {
	text := c.URL
	if text == "" {
		text = defaultURL
	}
	u, err := url.Parse(text)
	if err != nil {
		// The parser's own error quotes the URL.
		return nil, errors.New("redis.url: is no URL")
	}
	t := &target{}
	scheme, kind, _ := strings.Cut(u.Scheme, "+")
	t.kind, t.secure = kind, scheme == "rediss"
	if u.Scheme == "unix" {
		t.kind = "unix"
	}
	var problems []error
	bad := func(format string, args ...any) {
		problems = append(problems, fmt.Errorf("redis.url: "+format, args...))
	}
	switch u.Scheme {
	case "redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster", "unix":
	default:
		return nil, errors.New("redis.url: want redis://, rediss://, redis+sentinel://, redis+cluster:// or unix://")
	}
	t.username = u.User.Username()
	t.password, _ = u.User.Password()
	db := strings.Trim(u.Path, "/")
	query := u.Query()
	if t.kind == "unix" {
		t.addrs, db = []string{u.Path}, query.Get("db")
	} else {
		t.addrs = addresses(u.Host, t.kind)
	}
	if db != "" {
		if t.db, err = strconv.Atoi(db); err != nil || t.db < 0 {
			bad("want a database number")
		}
	}
	t.master = query.Get("master")
	if (t.kind == "sentinel") != (t.master != "") {
		bad("?master=NAME belongs to redis+sentinel://, which needs it")
	}
	if t.kind == "cluster" && t.db != 0 {
		bad("a cluster has database 0 only")
	}
	for key := range query {
		if key != "master" && (key != "db" || t.kind != "unix") {
			bad("unknown parameter %q", key)
		}
	}
	return t, errors.Join(problems...)
}

// addresses are the hosts of a URL with their ports.
func addresses(hosts, kind string) []string {
	port := "6379"
	if kind == "sentinel" {
		port = "26379"
	}
	var list []string
	for host := range strings.SplitSeq(hosts, ",") {
		if _, _, err := net.SplitHostPort(host); err == nil {
			list = append(list, host)
			continue
		}
		if host == "" {
			host = "127.0.0.1"
		}
		list = append(list, net.JoinHostPort(strings.Trim(host, "[]"), port))
	}
	return list
}

// snapshotPath is where the snapshot is kept; empty where it is not.
func (c *Config) snapshotPath() (string, error) {
	switch c.SnapshotFile {
	case "off":
		return "", nil
	case "":
		dir, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("redis.snapshot_file: no default: %w", err)
		}
		// A group may hold any character; a slash would leave the folder.
		return filepath.Join(dir, strings.ReplaceAll(c.Group, "/", "_")+".subscriptions"), nil
	}
	return c.SnapshotFile, nil
}

// Beside is the path of another file that is kept where the snapshot is; empty where that is not kept.
func (c *Config) Beside(name string) (string, error) {
	path, err := c.snapshotPath()
	if err != nil || path == "" {
		return "", err
	}
	return strings.TrimSuffix(path, ".subscriptions") + "." + name, nil
}

// origin names the Redis without naming it: an instance must not begin with another system's subscriptions because
// both left the snapshot file at its default.
func (c *Config) origin() string {
	t, err := c.target()
	if err != nil {
		return ""
	}
	slices.Sort(t.addrs)
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %q %d %s", t.kind, t.addrs, t.db, t.master))
	return hex.EncodeToString(sum[:8])
}

// TrySnapshot says why the snapshot file could not be written: it makes a file beside it, and removes that again. Without a
// snapshot file there is nothing to say.
func (c *Config) TrySnapshot() (path string, err error) {
	path, err = c.snapshotPath()
	if err != nil || path == "" {
		return path, err
	}
	file, err := createBeside(path)
	if err != nil {
		return path, err
	}
	return path, errors.Join(file.Close(), os.Remove(file.Name()))
}
