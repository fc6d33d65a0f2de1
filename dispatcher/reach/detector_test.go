package reach_test

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"fanout/dispatcher/reach"
)

var start = time.Date(2026, 1, 31, 8, 0, 0, 0, time.UTC)

func at(d time.Duration) time.Time { return start.Add(d) }

func place(account, host string) reach.Place {
	return reach.Place{Account: account, Host: host, Port: 443, TLS: true}
}

// asked is the only question that is due; nil: there is none.
func asked(t *testing.T, d *reach.Detector, now time.Time) *reach.Question {
	t.Helper()
	questions, _ := d.Next(now)
	if len(questions) > 1 {
		t.Fatalf("%d questions", len(questions))
	}
	if len(questions) == 0 {
		return nil
	}
	return &questions[0]
}

func wantSettled(t *testing.T, d *reach.Detector, c reach.Cause, want reach.Verdict) {
	t.Helper()
	got, settled := d.Settled(c)
	if got != want || settled != (want != reach.Undecided) {
		t.Fatalf("%v is settled: %t, as %v, want %v", c, settled, got, want)
	}
}

// TestOutage goes through an outage of DNS: held until nothing has worked for two seconds and what did work fails too, then
// ours, and asked about every second until something works.
func TestOutage(t *testing.T) {
	var d reach.Detector
	d.Worked(reach.DNS, place("a", "one.a.test"), at(0), at(0))
	d.Worked(reach.DNS, place("b", "two.b.test"), at(500*time.Millisecond), at(500*time.Millisecond))
	if v := d.Failed(reach.DNS, place("a", "one.a.test"), at(time.Second), at(time.Second)); v != reach.Undecided {
		t.Fatal(v)
	}
	if q := asked(t, &d, at(2400*time.Millisecond)); q != nil {
		t.Fatal("asked too early")
	}
	q := asked(t, &d, at(2500*time.Millisecond))
	if q == nil || len(q.Places) != 2 || q.Base {
		t.Fatalf("asked %+v", q)
	}
	wantSettled(t, &d, reach.DNS, reach.Undecided)
	d.Answered(*q, false, at(3*time.Second))
	wantSettled(t, &d, reach.DNS, reach.Ours)
	if down, since := d.Down(); len(down) != 1 || down[0] != reach.DNS || !since.Equal(at(3*time.Second)) {
		t.Fatal(down, since)
	}
	if v := d.Failed(reach.DNS, place("c", "three.c.test"), at(3500*time.Millisecond), at(3500*time.Millisecond)); v != reach.Ours {
		t.Fatal(v)
	}
	probes := 0
	for now := at(3 * time.Second); now.Before(at(13 * time.Second)); now = now.Add(100 * time.Millisecond) {
		if q := asked(t, &d, now); q != nil {
			probes++
			if len(q.Places) != 4 || q.While != reach.Ours { // two that worked, two that failed
				t.Fatalf("asked %+v", q)
			}
			d.Answered(*q, false, now)
		}
	}
	if probes != 9 {
		t.Errorf("%d probes in ten seconds", probes)
	}
	q = asked(t, &d, at(14*time.Second))
	if q == nil {
		t.Fatal("no probe")
	}
	d.Answered(*q, true, at(14*time.Second))
	wantSettled(t, &d, reach.DNS, reach.NotOurs)
	if down, _ := d.Down(); len(down) != 0 {
		t.Fatal(down)
	}
}

// TestLateFailure says that what was begun during an outage is not charged when it is told of after the end.
func TestLateFailure(t *testing.T) {
	var d reach.Detector
	failed := func(begun, now time.Duration, want reach.Verdict) {
		t.Helper()
		if v := d.Failed(reach.DNS, place("a", "one.a.test"), at(begun), at(now)); v != want {
			t.Errorf("begun at %v, told at %v: %v, want %v", begun, now, v, want)
		}
	}
	failed(0, time.Second, reach.Undecided)
	d.Answered(*asked(t, &d, at(time.Second)), false, at(2*time.Second))
	failed(time.Second, 3*time.Second, reach.Ours)
	d.Worked(reach.DNS, place("b", "two.b.test"), at(10*time.Second), at(10*time.Second))
	failed(9*time.Second, 12*time.Second, reach.Ours)
	wantSettled(t, &d, reach.DNS, reach.NotOurs) // and it raises no suspicion
	failed(11*time.Second, 12*time.Second, reach.Undecided)
}

// TestLateSuccess says that what was begun before a cause was suspected does not clear it.
func TestLateSuccess(t *testing.T) {
	var d reach.Detector
	d.Worked(reach.DNS, place("b", "two.b.test"), at(0), at(0))
	d.Failed(reach.DNS, place("a", "one.a.test"), at(time.Second), at(time.Second))
	d.Worked(reach.DNS, place("b", "two.b.test"), at(900*time.Millisecond), at(1100*time.Millisecond))
	wantSettled(t, &d, reach.DNS, reach.Undecided)
	d.Worked(reach.DNS, place("b", "two.b.test"), at(1200*time.Millisecond), at(1300*time.Millisecond))
	wantSettled(t, &d, reach.DNS, reach.NotOurs)
}

// TestBrokenZone says that one account whose names fail never makes it ours, whatever else is known.
func TestBrokenZone(t *testing.T) {
	for name, tt := range map[string]struct {
		worked []reach.Place
		base   bool // is asked as well
	}{
		"nothing worked yet":                 {nil, true},
		"others worked":                      {[]reach.Place{place("b", "x.b.test"), place("c", "y.c.test")}, false},
		"only its own worked":                {[]reach.Place{place("a", "x.a.test"), place("a", "y.b.test")}, true},
		"only others in its own zone worked": {[]reach.Place{place("b", "x.a.test"), place("c", "y.a.test")}, true},
		"its own worked and another's":       {[]reach.Place{place("a", "x.a.test"), place("b", "y.b.test")}, false},
	} {
		t.Run(name, func(t *testing.T) {
			var d reach.Detector
			for _, p := range tt.worked {
				d.Worked(reach.DNS, p, at(0), at(0))
			}
			for i := range 200 {
				if v := d.Failed(reach.DNS, place("a", fmt.Sprintf("n%d.a.test", i)), at(time.Minute), at(time.Minute)); v != reach.Undecided {
					t.Fatal(v)
				}
			}
			q := asked(t, &d, at(time.Minute))
			if q == nil || q.Base != tt.base || len(q.Places) > len(tt.worked) {
				t.Fatalf("asked %+v", q)
			}
			d.Answered(*q, true, at(time.Minute+time.Second)) // the root zone, or what worked, answers
			wantSettled(t, &d, reach.DNS, reach.NotOurs)
		})
	}
}

// TestSystem says that what the system says is ours at once, and over when a connection shows it.
func TestSystem(t *testing.T) {
	var d reach.Detector
	p := place("a", "one.a.test")
	if v := d.Failed(reach.System, p, at(0), at(0)); v != reach.Ours {
		t.Fatal(v)
	}
	if q := asked(t, &d, at(900*time.Millisecond)); q != nil {
		t.Fatal("asked too early")
	}
	q := asked(t, &d, at(time.Second))
	if q == nil || q.Cause != reach.System || len(q.Places) != 1 || q.Places[0] != p {
		t.Fatalf("asked %+v", q)
	}
	d.Answered(*q, true, at(time.Second))
	wantSettled(t, &d, reach.System, reach.NotOurs)
}

// TestPlaces says that what worked is remembered for an hour, bounded, and asked about two of an account and eight in all.
func TestPlaces(t *testing.T) {
	var d reach.Detector
	for i := range 1000 {
		d.Worked(reach.DNS, place("loud", fmt.Sprintf("x.n%d.test", i)), at(time.Duration(i)*time.Millisecond), at(time.Duration(i)*time.Millisecond))
	}
	for i := range 20 {
		d.Worked(reach.DNS, place(fmt.Sprint("q", i), fmt.Sprintf("x.q%d.test", i)), at(time.Second+time.Duration(i)*time.Millisecond), at(time.Second+time.Duration(i)*time.Millisecond))
	}
	for i := range 1000 {
		d.Worked(reach.DNS, place("loud", fmt.Sprintf("x.m%d.test", i)), at(2*time.Second+time.Duration(i)*time.Millisecond), at(2*time.Second+time.Duration(i)*time.Millisecond))
	}
	d.Failed(reach.DNS, place("x", "x.x.test"), at(time.Minute), at(time.Minute))
	q := asked(t, &d, at(time.Minute))
	accounts := map[string]int{}
	for _, p := range q.Places {
		accounts[p.Account]++
	}
	if len(q.Places) != 8 || accounts["loud"] != 2 || q.Base {
		t.Errorf("asked about %v, base %t", accounts, q.Base)
	}
	d.Answered(*q, true, at(time.Minute))
	d.Failed(reach.DNS, place("x", "x.x.test"), at(2*time.Hour), at(2*time.Hour))
	if q := asked(t, &d, at(2*time.Hour)); len(q.Places) != 0 || !q.Base {
		t.Errorf("after two hours asked %+v", q)
	}
}

// TestDetectorModel explores what may happen in any order, and checks after each step what must never be.
func TestDetectorModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var d reach.Detector
		now := start
		var out []reach.Question // asked, and not answered yet
		var lastOK time.Time
		var held time.Time // since when a failure is undecided; zero: none is
		var fell bool      // an outage has been found, and nothing has worked since
		some := func(t *rapid.T) reach.Place {
			return place(rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "account"), rapid.SampledFrom([]string{"x.a.test", "x.b.test", "y.b.test"}).Draw(t, "host"))
		}
		look := func(t *rapid.T) {
			questions, again := d.Next(now)
			out = append(out, questions...)
			verdict, settled := d.Settled(reach.DNS)
			switch {
			case !settled && again.IsZero() && len(out) == 0:
				t.Fatal("undecided, and nobody comes back to it")
			case (verdict == reach.Ours) != fell:
				t.Fatalf("down: %t, want %t", verdict == reach.Ours, fell)
			case settled:
				held = time.Time{}
			case held.IsZero():
				t.Fatal("undecided without a failure")
			case now.Sub(held) > 2*time.Second && len(out) == 0:
				t.Fatalf("undecided for %v, and nothing is asked", now.Sub(held))
			}
			for _, q := range questions {
				if q.While == reach.Undecided && now.Sub(lastOK) < 2*time.Second {
					t.Fatalf("asked %v after a success", now.Sub(lastOK))
				}
				if len(q.Places) == 0 && !q.Base {
					t.Fatal("a question about nothing")
				}
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"time passes": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(1, 1500).Draw(t, "ms")) * time.Millisecond)
				look(t)
			},
			"works": func(t *rapid.T) {
				now = now.Add(time.Millisecond)
				d.Worked(reach.DNS, some(t), now, now)
				lastOK, fell, out = now, false, nil
				look(t)
			},
			"fails": func(t *rapid.T) {
				if v := d.Failed(reach.DNS, some(t), now, now); (v == reach.Ours) != fell || v == reach.NotOurs {
					t.Fatalf("%v while down is %t", v, fell)
				}
				if held.IsZero() && !fell {
					held = now
				}
				look(t)
			},
			"answer": func(t *rapid.T) {
				if len(out) == 0 {
					t.Skip("nothing is asked")
				}
				q := out[0]
				out = out[1:]
				works := rapid.Bool().Draw(t, "works")
				d.Answered(q, works, now)
				switch {
				case works:
					lastOK, fell, out = now, false, nil
				case q.While == reach.Undecided:
					fell = true
				}
				look(t)
			},
		})
	})
}
