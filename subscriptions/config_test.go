package subscriptions_test

import (
	"strings"
	"testing"

	"fanout/subscriptions"
)

func TestConfigValidate(t *testing.T) {
	for _, url := range []string{
		"", "redis://127.0.0.1", "redis://127.0.0.1:6379/0", "rediss://user:pw@redis.example.com:6380/3", "unix:///run/redis.sock?db=2",
		"redis+sentinel://:pw@a:26379,b:26379/1?master=main", "rediss+sentinel://a?master=main", "redis+cluster://a:7000,b:7001", "redis://[::1]:6379",
	} {
		cfg := subscriptions.Config{URL: url, SnapshotFile: "off"}
		if err := cfg.Validate(); err != nil {
			t.Errorf("%s: %v", url, err)
		}
		st, err := subscriptions.NewStore(cfg)
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		_ = st.Close()
	}
	for _, url := range []string{
		"127.0.0.1:6379", "http://hunter2@x", "redis://u:hunter2@x/y", "redis://u:hunter2@x:port", "redis://:hunter2@x/-1", "redis://:hunter2@x?hunter=2",
		"redis+sentinel://:hunter2@x", "redis://:hunter2@x?master=a", "redis+cluster://:hunter2@x/1", "redis://u:hunter2@%zz",
	} {
		cfg := subscriptions.Config{URL: url}
		if err := cfg.Validate(); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", url, err)
		}
	}
	cfg := subscriptions.Config{URL: "redis://x/y", Password: "a", PasswordFile: "/none", SentinelPassword: "a", SentinelPasswordFile: "/none", TLS: subscriptions.TLSConfig{CertFile: "/none"}}
	err := cfg.Validate()
	for _, key := range []string{"redis.url", "redis.password:", "redis.password_file", "redis.sentinel_password:", "redis.sentinel_password_file", "redis.tls:", "redis.tls.cert_file"} {
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s is not reported: %v", key, err)
		}
	}
}
