//go:build real

package subscriptions_test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"fanout/subscriptions"
)

// server is a redis-server of the test's own.
type server struct {
	addr string
	cmd  *exec.Cmd
}

func newServer(t *testing.T) *server {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{addr: listener.Addr().String()}
	_ = listener.Close()
	s.start(t)
	t.Cleanup(s.kill)
	return s
}

func (s *server) url() string { return "redis://" + s.addr + "/0" }

func (s *server) start(t *testing.T) {
	t.Helper()
	_, port, _ := net.SplitHostPort(s.addr)
	s.cmd = exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--daemonize", "no")
	s.cmd.Dir = t.TempDir()
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	within(t, 10*time.Second, "redis-server answers", func() bool {
		conn, err := net.Dial("tcp", s.addr)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
}

func (s *server) signal(sig os.Signal) { _ = s.cmd.Process.Signal(sig) }

func (s *server) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

func (s *server) client(t *testing.T) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: s.addr})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestRealChangeLatency(t *testing.T) {
	s := newServer(t)
	d, _ := start(t, subscriptions.Config{URL: s.url(), SnapshotFile: snapshotFile(t)})
	ready(t, d)
	st := store(t, s.url())
	var worst time.Duration
	for i := range 20 {
		put(t, st, fmt.Sprint("acc", i), "hook", hook(i))
		worst = max(worst, within(t, time.Second, "change in force", func() bool { return matches(d, fmt.Sprint("acc", i)) == 1 }))
	}
	t.Logf("worst of 20 changes: in force after %v", worst)
}

func TestRealOutages(t *testing.T) {
	s := newServer(t)
	st := store(t, s.url())
	for i := range 20 {
		put(t, st, fmt.Sprint("acc", i), "hook", hook(i))
	}
	d, _ := start(t, subscriptions.Config{URL: s.url(), SnapshotFile: snapshotFile(t)})
	ready(t, d)
	if d.Len() != 20 {
		t.Fatalf("loaded %d", d.Len())
	}
	whole := func() bool { return d.Len() == 20 && matches(d, "acc7") == 1 }

	t.Log("hanging")
	s.signal(syscall.SIGSTOP)
	stays(t, 6*time.Second, "known while redis hangs", whole)
	if d.Status().Error == "" || d.Status().Age < 3*time.Second {
		t.Errorf("a hanging redis is not seen: %+v", d.Status())
	}
	s.signal(syscall.SIGCONT)
	put(t, st, "acc7", "hook", strings.Replace(hook(7), "hooks/7", "back", 1))
	took := within(t, 5*time.Second, "change after the hang", func() bool { return strings.HasSuffix(d.Lookup("acc7", "hook").URL(), "back") })
	t.Logf("change in force %v after SIGCONT and the write", took)

	t.Log("flushed")
	if err := s.client(t).FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	took = within(t, 5*time.Second, "flush is seen", func() bool { return d.Status().Shrink != nil })
	t.Logf("FLUSHALL refused after %v: %+v", took, *d.Status().Shrink)
	stays(t, 3*time.Second, "known after a flush", whole)
	put(t, st, "fresh", "hook", hook(1))
	within(t, time.Second, "announced change while refused", func() bool { return matches(d, "fresh") == 1 })
	if _, err := st.Delete(t.Context(), "fresh", "hook"); err != nil {
		t.Fatal(err)
	}
	within(t, time.Second, "announced delete while refused", func() bool { return matches(d, "fresh") == 0 })

	t.Log("killed and restarted, empty")
	s.kill()
	stays(t, 3*time.Second, "known while redis is down", whole)
	s.start(t)
	begin := time.Now()
	put(t, st, "acc1", "second", hook(2))
	within(t, 5*time.Second, "change after the restart", func() bool { return d.Lookup("acc1", "second") != nil })
	t.Logf("change in force %v after the restart", time.Since(begin))
	if d.Len() != 21 { // whoever fills acc1 again may have begun with "second"
		t.Errorf("%d known", d.Len())
	}
	within(t, 5*time.Second, "what acc1 still lacks is gone", func() bool { return d.Len() == 20 })
	if err := st.AcceptShrink(t.Context()); err != nil {
		t.Fatal(err)
	}
	took = within(t, 10*time.Second, "confirmed shrink", func() bool { return d.Len() == 1 })
	t.Logf("confirmed shrink in force after %v", took)
	within(t, time.Second, "no refusal left", func() bool { return d.Status().Shrink == nil })
}

func TestRealAbsentAtStart(t *testing.T) {
	s := newServer(t)
	s.kill()
	d, _ := start(t, subscriptions.Config{URL: s.url(), SnapshotFile: snapshotFile(t)})
	stays(t, 2*time.Second, "not ready without redis", func() bool { return !d.Loaded() })
	s.start(t)
	begin := time.Now()
	ready(t, d)
	t.Logf("ready %v after redis came", time.Since(begin))
}

// TestRealMillion holds a million subscriptions against its targets (docs/contract.md#targets).
func TestRealMillion(t *testing.T) {
	const total = 1_000_000
	for _, perAccount := range []int{1, 10} {
		t.Run(fmt.Sprintf("%d an account", perAccount), func(t *testing.T) {
			s := newServer(t)
			fill(t, s, total, perAccount)
			file := snapshotFile(t)
			runtime.GC()
			rss0 := status(t, "VmRSS:")
			begin := time.Now()
			d, stop := start(t, subscriptions.Config{URL: s.url(), SnapshotFile: file})
			select {
			case <-d.Ready():
			case <-time.After(time.Minute):
				t.Fatal("not loaded")
			}
			took, peak := time.Since(begin), status(t, "VmRSS:")
			if d.Len() != total {
				t.Fatalf("%d known", d.Len())
			}
			runtime.GC()
			var mem runtime.MemStats
			runtime.ReadMemStats(&mem)
			t.Logf("loaded in %v, heap %d MiB (objects %d), resident %d → %d MiB", took, mem.HeapAlloc>>20, mem.HeapObjects, rss0>>20, peak>>20)
			if took > 15*time.Second {
				t.Errorf("loaded in %v, want 15 s", took)
			}
			st := store(t, s.url())
			var changes []time.Duration
			for i := range 20 {
				put(t, st, fmt.Sprint("new", i), "hook", hook(i))
				changes = append(changes, within(t, time.Second, "change", func() bool { return matches(d, fmt.Sprint("new", i)) == 1 }))
			}
			begin = time.Now()
			stop()
			t.Logf("worst of 20 changes %v; stopped, file written, in %v", slices.Max(changes), time.Since(begin))
			d = nil
			debug.FreeOSMemory() // whoever restarts is a new process, which has nothing of the former
			s.signal(syscall.SIGSTOP)
			begin = time.Now()
			d, _ = start(t, subscriptions.Config{URL: s.url(), SnapshotFile: file})
			ready(t, d)
			info, _ := os.Stat(file)
			t.Logf("from the file (%d MiB) in %v, resident now %d MiB, most ever %d MiB", info.Size()>>20, time.Since(begin), status(t, "VmRSS:")>>20, status(t, "VmHWM:")>>20)
			if d.Len() != total+20 {
				t.Errorf("%d from the file", d.Len())
			}
			s.signal(syscall.SIGCONT)
			if status(t, "VmHWM:") > 512<<20 && perAccount == 1 {
				t.Errorf("resident %d MiB at the most, want 512", status(t, "VmHWM:")>>20)
			}
		})
	}
}

// fill writes subscriptions by the raw protocol: a client's pipeline of a million commands would count as ours.
func fill(t *testing.T, s *server, total, perAccount int) {
	t.Helper()
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() {
		w := bufio.NewWriter(conn)
		for i := range total {
			key := fmt.Sprintf("fanout:account:tenant-%08d", i/perAccount)
			id := fmt.Sprintf("hook-%d", i%perAccount)
			value := fmt.Sprintf(`{"url":"https://customer-%d.example.com/webhooks/notifications","events":["EMAIL_OPEN","SMS_FAILED"],"enabled":true,"secrets":[%q],"maxInFlight":64}`, i, secret)
			fmt.Fprintf(w, "*4\r\n$4\r\nHSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", len(key), key, len(id), id, len(value), value)
		}
		_ = w.Flush()
	}()
	r := bufio.NewReader(conn)
	for range total {
		if line, err := r.ReadString('\n'); err != nil || line[0] != ':' {
			t.Fatalf("HSET: %q %v", line, err)
		}
	}
}

func status(t *testing.T, key string) (bytes int) {
	t.Helper()
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, key); ok {
			fmt.Sscan(rest, &bytes)
		}
	}
	return bytes << 10
}

// What a real server answers in these states has a remedy, in and outside of transactions.
func TestRealStatesHaveARemedy(t *testing.T) {
	s := newServer(t)
	c, own := s.client(t), store(t, s.url())
	put(t, own, "acme", "crm", hook(0))
	for _, state := range []struct {
		remedy  string
		in, out []any
	}{
		{"at its maxmemory", []any{"CONFIG", "SET", "maxmemory", "1"}, []any{"CONFIG", "SET", "maxmemory", "0"}},
		{"min-replicas-to-write", []any{"CONFIG", "SET", "min-replicas-to-write", "1"}, []any{"CONFIG", "SET", "min-replicas-to-write", "0"}},
		{"name the primary in redis.url", []any{"REPLICAOF", "127.0.0.1", "1"}, []any{"REPLICAOF", "NO", "ONE"}},
	} {
		if err := c.Do(t.Context(), state.in...).Err(); err != nil {
			t.Fatal(err)
		}
		_, putErr := own.Put(t.Context(), "acme", "crm", []byte(hook(1)))
		_, updateErr := own.Update(t.Context(), "acme", "crm", replace(hook(2)))
		for what, err := range map[string]error{"put": putErr, "update": updateErr, "announce": own.Changed(t.Context(), "acme")} {
			t.Logf("%s: %v", what, err)
			if e, ok := errors.AsType[*subscriptions.StoreError](err); !ok || !strings.Contains(e.Remedy, state.remedy) {
				t.Errorf("%v: %s answers %v", state.in, what, err)
			}
		}
		if err := c.Do(t.Context(), state.out...).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// A real server that evicts customers: they stay in force, and the policy is named.
func TestRealEvictions(t *testing.T) {
	s := newServer(t)
	c := s.client(t)
	for n := range 400 {
		c.HSet(t.Context(), fmt.Sprintf("fanout:account:%d", n), "hook", hook(n)+strings.Repeat(" ", 4096))
	}
	d, _ := start(t, subscriptions.Config{URL: s.url(), SnapshotFile: "off"}, quick)
	ready(t, d)
	within(t, 10*time.Second, "all are loaded", func() bool { return d.Len() == 400 })
	used, err := c.InfoMap(t.Context(), "memory").Result()
	if err != nil {
		t.Fatal(err)
	}
	bytes, err := strconv.Atoi(used["Memory"]["used_memory"])
	if err != nil {
		t.Fatal(err)
	}
	for _, set := range [][2]string{{"maxmemory-policy", "allkeys-lru"}, {"maxmemory", strconv.Itoa(bytes - 300<<10)}} {
		if err := c.ConfigSet(t.Context(), set[0], set[1]).Err(); err != nil {
			t.Fatal(err)
		}
	}
	c.HSet(t.Context(), "other", "a", "b")
	within(t, 10*time.Second, "it is said", func() bool { return d.Status().Shrink != nil })
	e, err := store(t, s.url()).Evictions(t.Context())
	t.Logf("%d keys evicted by %s; %+v", e.Evicted(), e.Policy, d.Status().Shrink)
	if err != nil || e.Policy != "allkeys-lru" || e.Evicted() == 0 {
		t.Errorf("%+v %v", e, err)
	}
	stays(t, time.Second, "all are in force", func() bool { return d.Len() == 400 })
}
