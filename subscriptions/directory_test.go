package subscriptions_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	miniserver "github.com/alicebob/miniredis/v2/server"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"fanout/event"
	"fanout/subscriptions"
)

const key = "fanout:account:"

func redisURL(m *miniredis.Miniredis) string { return "redis://" + m.Addr() }

// began starts a directory on a Redis that holds n subscriptions of as many accounts.
func began(t *testing.T, n int) (*miniredis.Miniredis, *subscriptions.Directory, *subscriptions.Store) {
	t.Helper()
	m := miniredis.RunT(t)
	for i := range n {
		m.HSet(fmt.Sprint(key, "acc", i), "hook", hook(i))
	}
	d, _ := start(t, subscriptions.Config{URL: redisURL(m), SnapshotFile: "off"}, quick)
	ready(t, d)
	if d.Len() != n {
		t.Fatalf("loaded %d, want %d", d.Len(), n)
	}
	return m, d, store(t, redisURL(m))
}

func TestMatchAndLookup(t *testing.T) {
	m := miniredis.RunT(t)
	m.HSet(key+"acme", "a", hook(1))
	m.HSet(key+"acme", "off", strings.Replace(hook(2), "{", `{"enabled":false,`, 1))
	m.HSet(key+"acme", "paused", strings.Replace(hook(3), "{", `{"paused":true,`, 1))
	m.HSet(key+"acme", "sms", `{"url":"https://x","events":["SMS_FAILED"]}`)
	m.HSet(key+"acme", "broken", `{"url":7,"events":["EMAIL_OPEN"]}`)
	m.HSet(key+"other", "a", hook(4))
	d, _ := start(t, subscriptions.Config{URL: redisURL(m), SnapshotFile: "off"})
	ready(t, d)
	got := d.Match(nil, "acme", event.EmailOpen, "")
	if fmt.Sprint(got) != "[acme/a acme/broken acme/paused]" {
		t.Errorf("match %v", got)
	}
	if got[1].Invalid() == "" || d.Lookup("acme", "sms") == nil || d.Lookup("acme", "nope") != nil || d.Lookup("nope", "a") != nil {
		t.Error("lookup")
	}
	if s := d.Status(); s.Enabled != 4 || s.Disabled != 1 || s.Invalid != 1 || s.Source != "redis" || s.Error != "" {
		t.Errorf("%+v", s)
	}
	if p := d.Problems("acme"); len(p) != 1 || p[0].ID != "broken" || p[0].LastGood {
		t.Errorf("%+v", p)
	}
	dst := make([]*subscriptions.Subscription, 0, 8)
	if n := testing.AllocsPerRun(100, func() { dst = d.Match(dst[:0], "acme", event.EmailOpen, "") }); n != 0 {
		t.Errorf("%v allocations a match", n)
	}
}

func TestChangesAreFollowed(t *testing.T) {
	m, d, st := began(t, 3)
	before, version := d.Lookup("acc1", "hook"), d.Version()
	if created, err := st.Put(t.Context(), "acc1", "second", []byte(hook(9))); err != nil || !created {
		t.Fatal(created, err)
	}
	within(t, time.Second, "new subscription", func() bool { return matches(d, "acc1") == 2 })
	if d.Version() == version {
		t.Error("a change left the version as it was")
	}
	if !d.Lookup("acc1", "hook").Same(before) {
		t.Error("an unchanged subscription is another one")
	}
	if gone, err := st.Delete(t.Context(), "acc1", "second"); err != nil || !gone {
		t.Fatal(gone, err)
	}
	within(t, time.Second, "deleted subscription", func() bool { return matches(d, "acc1") == 1 })
	m.Del(key + "acc2")
	if err := st.Changed(t.Context(), "acc2"); err != nil {
		t.Fatal(err)
	}
	within(t, time.Second, "deleted account", func() bool { return matches(d, "acc2") == 0 })
	m.HSet(key+"acc0", "hook", hook(77)) // no announcement
	if err := d.Refresh(t.Context(), "acc0"); err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(d.Lookup("acc0", "hook").URL(), "77") {
		t.Error("Refresh returned before the change was in force")
	}
	if s := d.Status(); s.Enabled != 2 {
		t.Errorf("%+v", s)
	}
}

// A change, and a release, are told once each: not what is announced without being one, and not what lay in the stream before.
func TestChangesAndReleasesAreTold(t *testing.T) {
	m := miniredis.RunT(t)
	for i := range 3 {
		m.HSet(fmt.Sprint(key, "acc", i), "hook", hook(i))
	}
	cfg := subscriptions.Config{URL: redisURL(m), SnapshotFile: "off"}
	st, err := subscriptions.NewStore(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	if err := st.Release(t.Context(), "acc0", "long-ago"); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var told []string
	tell := func(what string) func(account, id string) {
		return func(account, id string) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, what+" "+account+"/"+id)
		}
	}
	d, _ := start(t, cfg, func(d *subscriptions.Directory) {
		d.ObserveLanes(subscriptions.LaneObserver{
			Changed: tell("changed"), Released: func(account, id, by string) { tell("released by "+by)(account, id) },
		})
	})
	ready(t, d)
	put(t, st, "acc1", "hook", hook(1)) // the same again
	put(t, st, "acc1", "new", hook(5))
	put(t, st, "acc1", "hook", hook(9))
	if err := st.As("ada").Release(t.Context(), "acc2", "hook"); err != nil {
		t.Fatal(err)
	}
	within(t, 5*time.Second, "told", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(told) >= 2
	})
	mu.Lock()
	defer mu.Unlock()
	if got := strings.Join(told, ", "); got != "changed acc1/hook, released by ada acc2/hook" {
		t.Errorf("told: %s", got)
	}
}

func TestReconcileHealsWhatIsNotAnnounced(t *testing.T) {
	m, d, _ := began(t, 12)
	m.HSet(key+"acc1", "hook", hook(100))
	m.HSet(key+"new", "hook", hook(101))
	m.HSet(key+"acc2", "second", hook(102))
	within(t, 2*time.Second, "unannounced changes", func() bool {
		return strings.HasSuffix(d.Lookup("acc1", "hook").URL(), "100") && matches(d, "new") == 1 && matches(d, "acc2") == 2
	})
	m.Del(key + "acc3")
	m.HDel(key+"acc2", "second")
	within(t, 2*time.Second, "unannounced deletes", func() bool { return matches(d, "acc3") == 0 && matches(d, "acc2") == 1 })
	if d.Len() != 12 || d.Status().Shrink != nil {
		t.Errorf("%d known, %+v", d.Len(), d.Status())
	}
}

func TestDropAsksTwice(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	for i := range 3 {
		m.HSet(fmt.Sprint(key, "acc", i), "hook", hook(i))
	}
	d, _ := start(t, subscriptions.Config{URL: redisURL(m), SnapshotFile: "off"}, func(d *subscriptions.Directory) {
		d.SetIntervalsForTest(50*time.Millisecond, 300*time.Millisecond, time.Hour)
	})
	ready(t, d)
	m.Del(key + "acc1")
	stays(t, 250*time.Millisecond, "known until asked twice", func() bool { return matches(d, "acc1") == 1 })
	m.HSet(key+"acc1", "hook", hook(1)) // it was missing for a moment only
	stays(t, time.Second, "known after coming back", func() bool { return matches(d, "acc1") == 1 })
}

// Two answers that lack different subscriptions of an account drop neither.
func TestDropAsksTwiceForEach(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	for i := range 3 {
		m.HSet(fmt.Sprint(key, "acc", i), "one", hook(1), "two", hook(2))
	}
	d, _ := start(t, subscriptions.Config{URL: redisURL(m), SnapshotFile: "off"}, func(d *subscriptions.Directory) {
		d.SetIntervalsForTest(20*time.Millisecond, 20*time.Millisecond, time.Hour)
	})
	ready(t, d)
	var answers atomic.Int64
	m.Server().SetPreHook(func(_ *miniserver.Peer, cmd string, args ...string) bool {
		if strings.EqualFold(cmd, "HGETALL") && slices.Contains(args, key+"acc1") {
			both := []string{"one", "two"}
			n := answers.Add(1) % 2
			m.HSet(key+"acc1", both[n], hook(1))
			m.HDel(key+"acc1", both[1-n])
		}
		return false
	})
	for answers.Load() < 30 {
		if n := matches(d, "acc1"); n != 2 {
			t.Fatalf("%d of two are in force after %d answers, each of which had the one that the answer before lacked", n, answers.Load())
		}
		time.Sleep(time.Millisecond)
	}
}

func TestShrinkIsRefusedUntilAccepted(t *testing.T) {
	for name, accept := range map[string]func(*testing.T, *subscriptions.Directory, *subscriptions.Store){
		"here": func(_ *testing.T, d *subscriptions.Directory, _ *subscriptions.Store) { d.AcceptShrink() },
		"from another process": func(t *testing.T, _ *subscriptions.Directory, st *subscriptions.Store) {
			t.Helper()
			if err := st.AcceptShrink(t.Context()); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			m, d, st := began(t, 20)
			for i := range 11 {
				m.Del(fmt.Sprint(key, "acc", i))
			}
			m.HSet(key+"acc19", "hook", hook(500)) // part of the same suspicious load
			within(t, 2*time.Second, "refusal", func() bool { return d.Status().Shrink != nil })
			stays(t, 300*time.Millisecond, "known while refused", func() bool {
				return d.Len() == 20 && !strings.HasSuffix(d.Lookup("acc19", "hook").URL(), "500")
			})
			if s := d.Status().Shrink; s.Known != 20 || s.Found != 9 || len(s.Lost) != 11 || s.Lost[0] != "acc0" || !slices.Contains(s.Lost, "acc10") || slices.Contains(s.Lost, "acc19") {
				t.Errorf("%+v", s)
			}
			put(t, st, "acc1", "hook", hook(600))
			within(t, time.Second, "announced change while refused", func() bool { return strings.HasSuffix(d.Lookup("acc1", "hook").URL(), "600") })
			m.Del(fmt.Sprint(key, "acc1"))
			accept(t, d, st)
			within(t, 2*time.Second, "accepted", func() bool { return d.Len() == 9 && d.Status().Shrink == nil })
		})
	}
}

func TestEmptiedRedis(t *testing.T) {
	t.Parallel()
	for _, known := range []int{1, 20} {
		m, d, st := began(t, known)
		put(t, st, "acc0", "hook", hook(50))
		within(t, time.Second, "change", func() bool { return strings.HasSuffix(d.Lookup("acc0", "hook").URL(), "50") })
		m.FlushAll()
		within(t, 3*time.Second, "refusal", func() bool { return d.Status().Shrink != nil })
		age := d.Status().Age
		stays(t, 300*time.Millisecond, "known after a flush", func() bool { return d.Len() == known })
		if d.Status().Age <= age {
			t.Error("the age does not grow while redis is empty")
		}
		put(t, st, "fresh", "hook", hook(1))
		within(t, 2*time.Second, "change after the flush", func() bool { return matches(d, "fresh") == 1 })
	}
}

// A job that fills an emptied Redis again writes one subscription after the other: an account that has one of two so far
// has not lost the other. What the job leaves out goes, a little later.
func TestRefilledRedis(t *testing.T) {
	t.Parallel()
	for _, known := range []int{1, 20} { // the load after the flush is refused, and not: half is there again
		m := miniredis.RunT(t)
		st := store(t, redisURL(m))
		for i := range known {
			for _, id := range []string{"one", "two", "three"} {
				put(t, st, fmt.Sprint("acc", i), id, hook(i))
			}
		}
		d, _ := start(t, subscriptions.Config{URL: redisURL(m), SnapshotFile: "off"}, func(d *subscriptions.Directory) {
			d.SetIntervalsForTest(time.Hour, 500*time.Millisecond, time.Hour)
		})
		ready(t, d)
		within(t, time.Second, "all known", func() bool { return d.Len() == 3*known })
		m.FlushAll()
		time.Sleep(10 * time.Millisecond) // or an entry's id might come again
		for i := range known {
			put(t, st, fmt.Sprint("acc", i), "one", hook(i))
		}
		put(t, st, "acc0", "one", hook(700))
		within(t, time.Second, "the change", func() bool { return strings.HasSuffix(d.Lookup("acc0", "one").URL(), "700") })
		if d.Len() != 3*known {
			t.Errorf("%d of %d known while Redis is being filled", d.Len(), 3*known)
		}
		put(t, st, "acc0", "two", hook(701))
		within(t, time.Second, "the second change", func() bool { return strings.HasSuffix(d.Lookup("acc0", "two").URL(), "701") })
		stays(t, 300*time.Millisecond, "known while Redis is being filled", func() bool { return d.Lookup("acc0", "three") != nil })
		within(t, 4*time.Second, "what is not written again is gone", func() bool { return matches(d, "acc0") == 2 })
		if known > 1 {
			if _, err := st.Delete(t.Context(), "acc1", "one"); err != nil {
				t.Fatal(err)
			}
			within(t, time.Second, "an account that is removed as a whole is gone", func() bool { return matches(d, "acc1") == 0 })
		}
	}
}

// The load that an emptied Redis asks for runs beside the changes that fill it: of an account that changed while the load
// read it, it has not seen what is missing.
func TestRefilledWhileLoading(t *testing.T) {
	t.Parallel()
	for range 60 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			m := miniredis.RunT(t)
			st := store(t, redisURL(m))
			for _, id := range []string{"one", "two", "three"} {
				put(t, st, "acc0", id, hook(0))
			}
			d, _ := start(t, subscriptions.Config{URL: redisURL(m), SnapshotFile: "off"}, func(d *subscriptions.Directory) {
				d.SetIntervalsForTest(time.Hour, time.Minute, time.Hour)
			})
			ready(t, d)
			within(t, time.Second, "all known", func() bool { return d.Len() == 3 })
			m.FlushAll()
			time.Sleep(10 * time.Millisecond) // or an entry's id might come again
			for n := range 10 {
				put(t, st, "acc0", "one", hook(n))
			}
			within(t, time.Second, "the changes", func() bool { return strings.HasSuffix(d.Lookup("acc0", "one").URL(), "/9") })
			put(t, st, "acc0", "one", hook(10))
			within(t, time.Second, "the last change", func() bool { return strings.HasSuffix(d.Lookup("acc0", "one").URL(), "/10") })
			if d.Lookup("acc0", "three") == nil {
				t.Error("a subscription went while Redis was being filled")
			}
		})
	}
}

// A load that had begun before Redis was emptied saw what was there: its end confirms nothing about what is being filled.
func TestRefilledDuringFullLoad(t *testing.T) {
	t.Parallel()
	const ask = time.Second
	m := miniredis.RunT(t)
	st := store(t, redisURL(m))
	for _, id := range []string{"one", "two", "three"} {
		put(t, st, "acc0", id, hook(0))
	}
	put(t, st, "acc1", "one", hook(1))
	d, _ := start(t, subscriptions.Config{URL: redisURL(m), SnapshotFile: "off"}, func(d *subscriptions.Directory) {
		d.SetIntervalsForTest(time.Hour, ask, time.Hour)
	})
	ready(t, d)
	within(t, time.Second, "all known", func() bool { return d.Len() == 4 })
	m.HDel(key+"acc1", "one") // unannounced: the load asks a second time after a while, and ends then
	d.AcceptShrink()
	time.Sleep(ask / 10)
	m.FlushAll()
	emptied := time.Now()
	time.Sleep(10 * time.Millisecond) // or an entry's id might come again
	for d.Lookup("acc0", "three") != nil && time.Since(emptied) < 10*ask {
		put(t, st, "acc0", "one", hook(700))
		time.Sleep(ask / 20)
	}
	// The load asked for when Redis was found emptied begins where the other ends, and asks a second time too.
	if went := time.Since(emptied); went < ask*14/10 || went > 9*ask {
		t.Errorf("what is not written again went after %v, want two loads", went)
	}
}

// Reads overlap: a load that is refused, or was read before a change, must not keep the change out.
func TestChangesDuringFullLoads(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	for i := range 20 {
		m.HSet(fmt.Sprint(key, "acc", i), "hook", hook(i))
	}
	d, _ := start(t, subscriptions.Config{URL: redisURL(m), SnapshotFile: "off"}, func(d *subscriptions.Directory) {
		d.SetIntervalsForTest(time.Millisecond, time.Millisecond, time.Hour)
	})
	ready(t, d)
	st := store(t, redisURL(m))
	for i := range 200 {
		if i == 100 {
			m.FlushAll() // from here on every load is refused
			within(t, 3*time.Second, "refusal", func() bool { return d.Status().Shrink != nil })
			for n := range 3000 {
				m.HSet(key+"acc7", "hook", hook(5000+n))
				if err := d.Refresh(t.Context(), "acc7"); err != nil || !strings.HasSuffix(d.Lookup("acc7", "hook").URL(), strconv.Itoa(5000+n)) {
					t.Fatalf("not in force after Refresh %d: %v", n, err)
				}
			}
		}
		put(t, st, "acc7", "hook", hook(1000+i))
		within(t, time.Second, "change", func() bool { return strings.HasSuffix(d.Lookup("acc7", "hook").URL(), strconv.Itoa(1000+i)) })
	}
}

func TestInvalidKeepsLastGood(t *testing.T) {
	m, d, st := began(t, 1)
	good := d.Lookup("acc0", "hook")
	change := func(json string) {
		m.HSet(key+"acc0", "hook", json)
		if err := st.Changed(t.Context(), "acc0"); err != nil {
			t.Fatal(err)
		}
	}
	change(`{"url":"https://example.com/","events":["EMAIL_OPEN"],"maxInFlight":0}`)
	within(t, time.Second, "problem", func() bool { return len(d.Problems("acc0")) == 1 && d.Status().Invalid == 1 })
	if d.Lookup("acc0", "hook") != good || !d.Problems("")[0].LastGood || d.Status().Enabled != 0 {
		t.Errorf("%+v %+v", d.Problems(""), d.Status())
	}
	change(hook(0))
	within(t, time.Second, "mended", func() bool { return len(d.Problems("acc0")) == 0 && d.Status().Enabled == 1 })
	if d.Lookup("acc0", "hook") != good {
		t.Error("the same JSON again is a change")
	}
	if _, err := st.Put(t.Context(), "acc0", "hook", []byte(`{"url":""}`)); err == nil {
		t.Error("an invalid subscription was stored")
	}
	m.Set(key+"text", "no hash")
	within(t, time.Second, "foreign key is reported", func() bool { return len(d.Problems("text")) == 1 })
	within(t, time.Second, "and stops nothing", func() bool { return d.Status().Error == "" && matches(d, "acc0") == 1 })
}

func TestHangingAndLostConnection(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	m.HSet(key+"acme", "a", hook(1))
	m.RequireUserAuth("user", "hunter2")
	p := newProxy(t, m.Addr())
	d, _ := start(t, subscriptions.Config{URL: "redis://user:hunter2@" + p.addr, SnapshotFile: "off"})
	ready(t, d)
	st := store(t, "redis://user:hunter2@"+m.Addr())
	for name, fault := range map[string]func(bool){"hang": p.hang, "cut": p.cut} {
		fault(true)
		within(t, 4*time.Second, name+" is seen", func() bool { return d.Status().Error != "" })
		if text := d.Status().Error; strings.Contains(text, "hunter2") || strings.Contains(text, "127.0.0.1") {
			t.Errorf("%s: %s", name, text)
		}
		put(t, st, "acme", name, hook(2))
		if matches(d, "acme") == 0 {
			t.Error("forgot what was known")
		}
		fault(false)
		within(t, 5*time.Second, "change after "+name, func() bool { return d.Lookup("acme", name) != nil })
	}
}

func TestTrimmedStream(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	m.HSet(key+"acme", "a", hook(1))
	p := newProxy(t, m.Addr())
	d, _ := start(t, subscriptions.Config{URL: "redis://" + p.addr, SnapshotFile: "off"})
	ready(t, d)
	st := store(t, redisURL(m))
	put(t, st, "acme", "b", hook(2))
	within(t, time.Second, "change", func() bool { return matches(d, "acme") == 2 })
	p.cut(true)
	put(t, st, "lost", "a", hook(3))
	m.Del("fanout:changes") // what announced it is gone
	p.cut(false)
	within(t, 5*time.Second, "full load after a gap", func() bool { return matches(d, "lost") == 1 })
}

func TestSnapshotFile(t *testing.T) {
	m := miniredis.RunT(t)
	cfg := subscriptions.Config{URL: redisURL(m), SnapshotFile: snapshotFile(t)}
	st := store(t, cfg.URL)
	put(t, st, "acme", "a", hook(1))
	full, _ := os.ReadFile("../testdata/subscriptions/full.json")
	put(t, st, "acme", "full", string(full))
	d, stop := start(t, cfg, quick)
	ready(t, d)
	put(t, st, "acme", "b", hook(2))
	within(t, time.Second, "change", func() bool { return d.Lookup("acme", "b") != nil })
	within(t, 2*time.Second, "file", func() bool {
		data, _ := os.ReadFile(cfg.SnapshotFile)
		return strings.Contains(string(data), "hooks/2")
	})
	if info, _ := os.Stat(cfg.SnapshotFile); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	m.HSet(key+"acme", "a", `{"url":1}`)
	if err := d.Refresh(t.Context(), "acme"); err != nil {
		t.Fatal(err)
	}
	was := d.Lookup("acme", "full")
	stop()

	t.Run("restart without redis", func(t *testing.T) {
		m.SetError("LOADING")
		defer m.SetError("")
		d, _ := start(t, cfg)
		ready(t, d)
		is := d.Lookup("acme", "full")
		if d.Len() != 3 || is == nil || fmt.Sprint(is.Headers(), is.Secrets(), is.URL(), is.MaxInFlight(), is.MaxPerSecond(), is.Events(), is.Enabled(), is.Description()) !=
			fmt.Sprint(was.Headers(), was.Secrets(), was.URL(), was.MaxInFlight(), was.MaxPerSecond(), was.Events(), was.Enabled(), was.Description()) {
			t.Errorf("%d %+v", d.Len(), is)
		}
		if a := d.Lookup("acme", "a"); a == nil || a.Invalid() != "" {
			t.Error("the last good version did not outlast the restart")
		}
		if s := d.Status(); s.Source != "file" || s.Disabled != 1 {
			t.Errorf("%+v", s)
		}
		m.SetError("")
		within(t, 5*time.Second, "redis is back", func() bool { return d.Status().Source == "redis" && len(d.Problems("")) == 1 })
		if d.Lookup("acme", "full") != is {
			t.Error("redis brought another pointer for the same JSON")
		}
	})
	t.Run("accepted while down", func(t *testing.T) {
		if err := st.AcceptShrink(t.Context()); err != nil {
			t.Fatal(err)
		}
		m.Del(key + "acme")
		d, stop := start(t, cfg, quick)
		within(t, 3*time.Second, "empty, as accepted", func() bool { return d.Loaded() && d.Len() == 0 })
		stop()
	})
	t.Run("unusable", func(t *testing.T) {
		data, _ := os.ReadFile(cfg.SnapshotFile)
		for name, bad := range map[string]string{
			"empty": "", "foreign": "hello\n", "cut": string(data[:len(data)-1]), "changed": strings.Replace(string(data), "\n", "\r", 1),
		} {
			cfg := subscriptions.Config{URL: redisURL(m), SnapshotFile: snapshotFile(t)}
			if err := os.WriteFile(cfg.SnapshotFile, []byte(bad), 0o600); err != nil {
				t.Fatal(err)
			}
			d, stop := start(t, cfg)
			ready(t, d)
			if d.Status().Source != "redis" {
				t.Errorf("%s: %+v", name, d.Status())
			}
			stop()
		}
	})
}

// Where the stream does not have every change since the file was written, the file does not count while Redis answers:
// events would find no subscription. What Redis holds is in force the first time that the directory is ready.
func TestStaleSnapshotFile(t *testing.T) {
	t.Parallel()
	fill := func(t *testing.T, more ...string) (m *miniredis.Miniredis) { // enough for a full load to take its time
		t.Helper()
		m = miniredis.RunT(t)
		for n := range 5000 {
			m.HSet(fmt.Sprint(key, "acc", n), "hook", hook(n))
		}
		for _, account := range more {
			m.HSet(key+account, "hook", hook(0))
		}
		return m
	}
	for _, name := range []string{"trimmed", "trimmed from its beginning", "of another redis", "of another catalogue", "slow"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := fill(t)
			if name == "of another catalogue" {
				m = fill(t, "late")
			}
			cfg := subscriptions.Config{URL: redisURL(m), SnapshotFile: snapshotFile(t)}
			st := store(t, cfg.URL)
			if name != "trimmed from its beginning" {
				put(t, st, "acc0", "hook", hook(1))
			}
			d, stop := start(t, cfg)
			ready(t, d)
			stop()
			switch name {
			case "trimmed":
				m.Del("fanout:changes")
				m.HSet(key+"late", "hook", hook(0))
			case "trimmed from its beginning":
				m.HSet(key+"late", "hook", hook(0))
				put(t, st, "acc0", "hook", hook(1))
			case "of another redis":
				cfg.URL = redisURL(fill(t, "late"))
			case "of another catalogue":
				if err := d.WriteSnapshotOf(cfg.SnapshotFile, lastChange(t, m), event.SMSFailed); err != nil {
					t.Fatal(err)
				}
			case "slow":
				put(t, st, "late", "hook", hook(0))
				p := newProxy(t, m.Addr())
				p.hang(true)
				time.AfterFunc(1500*time.Millisecond, func() { p.hang(false) })
				cfg.URL = "redis://" + p.addr
			}
			d, _ = start(t, cfg)
			ready(t, d)
			if matches(d, "late") != 1 {
				t.Errorf("ready without what redis holds: %+v", d.Status())
			}
		})
	}
}

// A Redis that fails is not waited for where there is a file.
func TestSnapshotFileWithoutRedis(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	cfg := subscriptions.Config{URL: redisURL(m), SnapshotFile: snapshotFile(t)}
	put(t, store(t, cfg.URL), "acme", "a", hook(1))
	d, stop := start(t, cfg)
	ready(t, d)
	stop()
	for what, fail := range map[string]func(*proxy){
		"refuses": func(p *proxy) { p.cut(true) },
		"hangs":   func(p *proxy) { p.hang(true) },
	} {
		p := newProxy(t, m.Addr())
		fail(p)
		cfg.URL = "redis://" + p.addr
		d, stop := start(t, cfg)
		stays(t, 500*time.Millisecond, "waits for redis", func() bool { return !d.Loaded() })
		took := within(t, 5*time.Second, "ready, although redis "+what, d.Loaded)
		t.Logf("redis %s: ready after %v", what, 500*time.Millisecond+took)
		if matches(d, "acme") != 1 {
			t.Errorf("redis %s: %+v", what, d.Status())
		}
		stop()
	}
}

func TestDefaultSnapshotIsOfOneRedis(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	one, other := miniredis.RunT(t), miniredis.RunT(t)
	one.HSet(key+"acme", "a", hook(1))
	d, stop := start(t, subscriptions.Config{URL: redisURL(one), Group: "blue"})
	ready(t, d)
	stop()
	d, _ = start(t, subscriptions.Config{URL: redisURL(other), Group: "blue"})
	ready(t, d)
	if d.Len() != 0 || d.Status().Shrink != nil {
		t.Errorf("began with another redis's subscriptions: %+v", d.Status())
	}
}

func TestUnwritableSnapshot(t *testing.T) {
	m := miniredis.RunT(t)
	d, _ := start(t, subscriptions.Config{URL: redisURL(m), SnapshotFile: "/proc/none/snapshot"}, quick)
	ready(t, d)
	put(t, store(t, redisURL(m)), "acme", "a", hook(1))
	within(t, time.Second, "change all the same", func() bool { return matches(d, "acme") == 1 })
}

// A disk that was full for a while: the file is written when it no longer is, without another change.
func TestSnapshotIsTriedAgain(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	folder := filepath.Join(t.TempDir(), "cache")
	if err := os.WriteFile(folder, nil, 0o600); err != nil { // a file where the folder should be
		t.Fatal(err)
	}
	path := filepath.Join(folder, "snapshot")
	core, logs := observer.New(zap.WarnLevel)
	d, err := subscriptions.New(subscriptions.Config{URL: redisURL(m), SnapshotFile: path}, zap.New(core), nil)
	if err != nil {
		t.Fatal(err)
	}
	quick(d)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	ready(t, d)
	put(t, store(t, redisURL(m)), "acme", "a", hook(1))
	within(t, 2*time.Second, "a failure in the log", func() bool { return logs.FilterMessageSnippet("not written").Len() > 0 })
	if err := os.Remove(folder); err != nil {
		t.Fatal(err)
	}
	within(t, 2*time.Second, "the file", func() bool { _, err := os.Stat(path); return err == nil })
}

func TestMetrics(t *testing.T) {
	m := miniredis.RunT(t)
	m.HSet(key+"acme", "a", hook(1))
	reg := prometheus.NewRegistry()
	if _, err := subscriptions.New(subscriptions.Config{URL: redisURL(m), SnapshotFile: "off"}, nil, reg); err != nil {
		t.Fatal(err)
	}
	families, err := reg.Gather()
	if err != nil || len(families) != 2 || families[0].GetName() != "fanout_subscriptions" || families[1].GetName() != "fanout_subscriptions_age_seconds" || len(families[0].GetMetric()) != 3 {
		t.Errorf("%v %v", families, err)
	}
	if _, err := subscriptions.New(subscriptions.Config{SnapshotFile: "off"}, nil, nil); err != nil {
		t.Error(err)
	}
}

func TestStore(t *testing.T) {
	m := miniredis.RunT(t)
	st := store(t, redisURL(m))
	put(t, st, "acme", "b", hook(1))
	put(t, st, "acme", "a", hook(2))
	put(t, st, "other", "a", hook(3))
	if created, err := st.Put(t.Context(), "acme", "a", []byte(hook(4))); created || err != nil {
		t.Error(created, err)
	}
	list, err := st.List(t.Context(), "acme")
	if err != nil || len(list) != 2 || list[0].ID != "a" || string(list[0].JSON) != hook(4) {
		t.Errorf("%v %v", list, err)
	}
	count := 0
	for _, err := range st.ListAll(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		count++
	}
	if count != 3 {
		t.Errorf("listed %d", count)
	}
	if _, ok, err := st.Get(t.Context(), "acme", "none"); ok || err != nil {
		t.Error(ok, err)
	}
	entries, err := m.Stream("fanout:changes")
	if err != nil || len(entries) != 4 || fmt.Sprint(entries[0].Values) != "[account acme]" {
		t.Errorf("%v %v", entries, err)
	}
	addr := m.Addr()
	m.Close()
	if err := st.Ping(t.Context()); err == nil || strings.Contains(err.Error(), addr) {
		t.Errorf("ping: %v", err)
	}
}
