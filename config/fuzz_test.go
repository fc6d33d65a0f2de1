package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"fanout/config"
)

// FuzzLoad says that no file and no variable brings Load down, that every problem is one line that names its key, and
// that none shows a secret.
func FuzzLoad(f *testing.F) {
	f.Add(config.Example, uint8(0), "")
	paths, err := filepath.Glob("../testdata/config/*.yaml")
	if err != nil || len(paths) == 0 {
		f.Fatal(paths, err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text), uint8(len(path)), "10s")
	}
	for _, text := range []string{
		"a: &a [*a]", "kafka: &k {brokers: *k}", "sources: &s [*s, {topic: *s}]", "kafka: [1]", "- 1", "x", "{}", "kafka: ~", "a: b: c",
		"kafka: {brokers: \"a\\nb\"}", "\"a\\nb\": 1", "\"\": 1", "kafka: {\"\\e[2J\": 1}", "delivery: {timeout: inf, max_ages: {\"\\n\": 1h}}", "? [a]\n: b", "<<: {kafka: {}}",
		"delivery: {timeout: 0x1p-2, schedule: [1e400s, 99999999999h]}", "!!binary a: b", "kafka: !!null x", "--- 1\n--- 2", "max_event_bytes: 1_000", "egress: {proxy: \"http://u:hunter2hunter2@%zz\"}",
	} {
		f.Add(text, uint8(len(text)), "hunter2hunter2")
	}
	f.Add("", uint8(3), "redis://me:hunter2hunter2@ho st")
	variables := []string{
		"FANOUT_ADMIN_TOKEN", "FANOUT_KAFKA_SASL_PASSWORD", "FANOUT_EGRESS_PROXY", "FANOUT_REDIS_URL", // these hold secrets
		"FANOUT_KAFKA_BROKERS", "FANOUT_SOURCES", "FANOUT_DELIVERY_SCHEDULE", "FANOUT_DELIVERY_MAX_AGES", "FANOUT_EGRESS_PORTS", "FANOUT_ADMIN_LISTEN", "FANOUT_LOG_LEVEL",
	}
	file := filepath.Join(f.TempDir(), "fanout.yaml")
	f.Fuzz(func(t *testing.T, text string, variable uint8, value string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		at := int(variable) % len(variables)
		_, warnings, err := config.Load(file, true, []string{variables[at] + "=" + value, "FANOUT_" + value + "=1"}, nil)
		for _, w := range warnings {
			if strings.ContainsAny(string(w), "\n\r\x1b") {
				t.Errorf("warning %q", w)
			}
		}
		if err == nil {
			return
		}
		list, ok := errors.AsType[config.Problems](err)
		if !ok || len(list) == 0 {
			t.Fatalf("Load = %v, want Problems", err)
		}
		for _, p := range list {
			line := p.String()
			whole := strings.HasPrefix(p.Text, "not YAML: ") || strings.HasPrefix(p.Text, "want keys with values here") || strings.HasPrefix(p.Text, "given twice")
			if p.Key == "" && !whole {
				t.Errorf("%q names no key", line)
			}
			if strings.ContainsFunc(line, unicode.IsControl) || !utf8.ValidString(line) {
				t.Errorf("%q is not one readable line", line)
			}
			if at < 2 && len(value) >= 8 && !strings.Contains(text, value) && strings.Contains(line, value) {
				t.Errorf("%q shows %q of %s", line, value, variables[at])
			}
		}
		if strings.Contains(err.Error(), "hunter2hunter2") && !strings.Contains(text, "hunter2hunter2\n") && at < 4 && !strings.Contains(text, "hunter2") {
			t.Errorf("%q shows a secret", err)
		}
	})
}
