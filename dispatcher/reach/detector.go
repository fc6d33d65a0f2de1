package reach

import (
	"slices"
	"time"
)

const (
	quietFor  = 2 * time.Second // without a success for so long, a cause is asked about
	askEvery  = time.Second     // how often it is asked whether an outage is over
	workedFor = time.Hour       // for how long it counts that something worked
	maxPlaces = 64              // places remembered for each cause, those of one account
	maxOfOne  = 4               // among them
	maxAsked  = 8               // of them, asked about at once
)

// Question is a question to be asked about a cause.
type Question struct {
	Cause  Cause
	Places []Place // each of them is asked for

	// Base has the way itself asked about too: of DNS whether a name server answers for the root zone, of the proxy whether
	// it takes a connection.
	Base bool

	// While is Ours where the question is whether an outage is over, and Undecided where it is whether there is one.
	While Verdict

	round uint64
}

// Verdict is the finding about a failure's cause.
type Verdict uint8

// The verdicts.
const (
	NotOurs   Verdict = iota // the receiver's
	Undecided                // held until it is decided
	Ours                     // our own: charged to nobody
)

// Detector decides which causes are at fault. It is pure: it is told the time. One goroutine may use it at a time.
type Detector struct{ suspects [causes]suspect }

// suspect is one cause.
//
//	well      → suspected  when something fails because of it
//	suspected → asking     when nothing has worked for 2 s; what worked in the last hour is asked then
//	suspected → well       when something works
//	asking    → well       when something works, or anything that was asked for does
//	asking    → down       when nothing that was asked for works
//	well      → down       at once, where the system itself says so
//	down      → well       when something works
type suspect struct {
	state  state
	since  time.Time // when the state began
	over   time.Time // when the last outage ended; zero: there was none
	lastOK time.Time // the last success; zero: none
	worked []success // the latest at the end; one for each account and zone
	failed []Place   // what failed since it was last well, the latest at the end
	round  uint64    // counts the changes of state: an answer to a question of an earlier one comes too late
	next   time.Time // while down: when to ask again
}

type state uint8

const (
	well state = iota
	suspected
	asking
	down
)

type success struct {
	place Place
	at    time.Time
}

// Worked notes that a cause was not at fault in what was begun at the time begun: the servers answered for the name, the proxy took
// a connection to the place. What was begun before it was suspected, or together with what made it
// so, does not clear it.
func (d *Detector) Worked(c Cause, p Place, begun, now time.Time) {
	s := &d.suspects[c]
	s.worked = slices.DeleteFunc(s.worked, func(w success) bool {
		return w.place.Account == p.Account && w.place.zone() == p.zone() || now.Sub(w.at) > workedFor
	})
	oldest, own := 0, 0
	for i, w := range slices.Backward(s.worked) {
		if w.place.Account == p.Account {
			if own++; own == maxOfOne {
				oldest = i
			}
		}
	}
	if own >= maxOfOne || len(s.worked) == maxPlaces {
		s.worked = slices.Delete(s.worked, oldest, oldest+1)
	}
	s.worked = append(s.worked, success{p, now})
	if s.state != well && !begun.After(s.since) {
		return
	}
	s.lastOK = now
	s.become(well, now)
}

// Failed notes that something which was begun at the time begun failed because of a cause, and says whose fault that is. Where
// it is undecided, it will be when Settled says so. What was begun before an outage ended is told of too late to say anything of
// what has been since.
func (d *Detector) Failed(c Cause, p Place, begun, now time.Time) Verdict {
	if c == Receiver {
		return NotOurs
	}
	s := &d.suspects[c]
	if c != System && s.state != down && begun.Before(s.over) {
		return Ours
	}
	s.failed = slices.DeleteFunc(s.failed, func(f Place) bool { return f == p })
	if len(s.failed) == maxAsked {
		s.failed = slices.Delete(s.failed, 0, 1)
	}
	s.failed = append(s.failed, p)
	switch {
	case s.state == down:
		return Ours
	case c == System:
		s.become(down, now)
		return Ours
	case s.state == well:
		s.become(suspected, now)
	}
	return Undecided
}

// become changes the state.
func (s *suspect) become(next state, now time.Time) {
	if s.state == next {
		return
	}
	if s.state == down {
		s.over = now
	}
	s.state, s.since, s.next = next, now, now.Add(askEvery)
	s.round++
	if next == well {
		s.failed = nil
	}
}

// Settled reports whether it is decided of a cause, and how.
func (d *Detector) Settled(c Cause) (Verdict, bool) {
	switch d.suspects[c].state {
	case well:
		return NotOurs, true
	case down:
		return Ours, true
	case suspected, asking:
	}
	return Undecided, false
}

// Down is the causes that are at fault now, and since when the first of them.
func (d *Detector) Down() (at []Cause, since time.Time) {
	for c := range causes {
		if s := &d.suspects[c]; s.state == down {
			at = append(at, c)
			if since.IsZero() || s.since.Before(since) {
				since = s.since
			}
		}
	}
	return at, since
}

// Next is what has to be asked at the time now, and when to call again at the latest; zero: when something fails.
func (d *Detector) Next(now time.Time) (ask []Question, again time.Time) {
	soonest := func(t time.Time) {
		if again.IsZero() || t.Before(again) {
			again = t
		}
	}
	for c := range causes {
		s := &d.suspects[c]
		switch s.state {
		case well, asking:
		case suspected:
			if due := s.lastOK.Add(quietFor); now.Before(due) {
				soonest(due)
				continue
			}
			s.become(asking, now)
			ask = append(ask, s.question(c, now))
		case down:
			if now.Before(s.next) {
				soonest(s.next)
				continue
			}
			s.next = now.Add(askEvery)
			soonest(s.next)
			q := s.question(c, now)
			// What failed is asked for too: it may be all that there is, and tells that the outage is over.
			q.Places = append(q.Places, s.failed...)
			ask = append(ask, q)
		}
	}
	return ask, again
}

// question is what worked in the last hour, the latest first and no more than two places of one account. Where that is one
// account's, or one zone's, it says little of the others: then the way itself has to fail as well.
func (s *suspect) question(c Cause, now time.Time) Question {
	q := Question{Cause: c, While: Undecided, round: s.round}
	if s.state == down {
		q.While = Ours
	}
	accounts, zones := map[string]int{}, map[string]bool{}
	for _, w := range slices.Backward(s.worked) {
		if len(q.Places) == maxAsked || now.Sub(w.at) > workedFor {
			break
		}
		if accounts[w.place.Account] < 2 {
			accounts[w.place.Account]++
			zones[w.place.zone()] = true
			q.Places = append(q.Places, w.place)
		}
	}
	q.Base = len(accounts) < 2 || len(zones) < 2
	return q
}

// Answered takes the answer to a question: whether anything that was asked for works.
func (d *Detector) Answered(q Question, works bool, now time.Time) {
	s := &d.suspects[q.Cause]
	if q.round != s.round {
		return // it has been decided meanwhile
	}
	switch {
	case works:
		s.lastOK = now
		s.become(well, now)
	case s.state == asking:
		s.become(down, now)
	}
}
