package lab

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// Fanout is `fanout run` as a process of its own.
type Fanout struct {
	*Process

	admin int
	token string // admin.token; "" where there is none
}

// snapshotName is the file of fanout's snapshot, in its folder.
const snapshotName = "subscriptions"

// Build compiles cmd/fanout into the lab once, with more arguments for `go build` (such as -race), and returns the
// program's path.
func (l *Lab) Build(ctx context.Context, args ...string) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	program := filepath.Join(l.dir, "fanout")
	args = append(append([]string{"build", "-o", program}, args...), "./cmd/fanout")
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build ./cmd/fanout: %w\n%s", err, out)
	}
	return program, nil
}

// Fanout starts program (of Build) with a configuration; adjust may change what NewConfig made. It does not wait until
// it is ready: see Ready.
func (l *Lab) Fanout(program string, k *Kafka, r *Redis, adjust func(Config)) (*Fanout, error) {
	dir, err := l.subdir("fanout")
	if err != nil {
		return nil, err
	}
	f := &Fanout{Process: l.process("fanout", dir, program, "run", "--config", "fanout.yaml")}
	// What it leaves in its home or among temporary files is found, and removed, with the folder.
	f.env = []string{"HOME=" + dir, "TMPDIR=" + dir, "XDG_CACHE_HOME=" + dir}
	if f.admin, err = freePort(); err != nil {
		return nil, err
	}
	cfg := NewConfig(k, r, f.admin).Set("redis.snapshot_file", filepath.Join(dir, snapshotName))
	if adjust != nil {
		adjust(cfg)
	}
	if admin, ok := cfg["admin"].(Config); ok {
		f.token, _ = admin["token"].(string)
	}
	text, err := cfg.text()
	if err != nil {
		return nil, fmt.Errorf("write fanout.yaml: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "fanout.yaml"), text, 0o600); err != nil {
		return nil, err
	}
	return f, f.Start()
}

// Start starts a fanout that has ended, with the same configuration and snapshot.
func (f *Fanout) Start() error { return f.start() }

// Dir is the folder that fanout runs in: fanout.yaml, its log, its snapshot, and whatever else it writes.
func (f *Fanout) Dir() string { return f.dir }

// Admin is the address of the admin listener, http://127.0.0.1:PORT.
func (f *Fanout) Admin() string { return "http://" + loopback(f.admin) }

// Ready waits until /readyz says yes; it is an error, at once, if the process ends.
func (f *Fanout) Ready(ctx context.Context) error {
	return f.ready(ctx, func() bool { return f.IsReady(ctx) })
}

// Metrics scrapes /metrics.
func (f *Fanout) Metrics(ctx context.Context) (Metrics, error) {
	text, err := getWith(ctx, f.Admin()+"/metrics", f.token)
	if err != nil {
		return nil, err
	}
	return ParseMetrics(string(text))
}

// Unaccounted checks the loss account (docs/contract.md#loss-account): for each stage, deliveries planned minus outcomes
// minus deliveries in flight. All are 0 when fanout is at rest; a stage that is off is returned with the difference.
func (m Metrics) Unaccounted() map[string]float64 {
	off := make(map[string]float64)
	for _, stage := range []string{"first", "retry", "replay"} {
		label := `stage="` + stage + `"`
		off[stage] = m.Sum("fanout_deliveries_total", label) - m.Sum("fanout_outcomes_total", label) - m.Sum("fanout_in_flight", label)
	}
	maps.DeleteFunc(off, func(_ string, difference float64) bool { return difference == 0 })
	return off
}

// IsReady says whether /readyz says yes now.
func (f *Fanout) IsReady(ctx context.Context) bool {
	asking, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_, err := get(asking, f.Admin()+"/readyz")
	return err == nil
}

// HasSnapshot says whether the subscriptions have been written to the file.
func (f *Fanout) HasSnapshot() bool {
	_, err := os.Stat(filepath.Join(f.dir, snapshotName))
	return err == nil
}
