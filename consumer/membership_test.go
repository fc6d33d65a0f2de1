package consumer

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"fanout/topic"
	"fanout/topic/wire"
)

// scripted is a group's coordinator with one member, which answers as a test has it.
type scripted struct {
	mu         sync.Mutex // guards all below
	generation int32
	assigned   []topic.Partition // to the member; nil: what its leader, which it is, says
	calls      []string
	joins      []wire.JoinRequest
	synced     []map[string][]byte

	join      func(*wire.JoinRequest) error
	sync      func() error
	heartbeat func(ctx context.Context) error
	leave     func() error
}

func (s *scripted) note(call string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, call)
}

func (s *scripted) count(call string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.calls {
		if c == call {
			n++
		}
	}
	return n
}

func (s *scripted) Join(_ context.Context, r *wire.JoinRequest) (wire.Joined, error) {
	s.note("join")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.joins = append(s.joins, *r)
	if s.join != nil {
		if err := s.join(r); err != nil {
			return wire.Joined{}, err
		}
	}
	s.generation++
	return wire.Joined{MemberID: "m", Generation: s.generation, Leader: true, Members: []wire.Member{{ID: "m", Metadata: r.Metadata}}}, nil
}

func (s *scripted) Sync(_ context.Context, r *wire.SyncRequest) ([]byte, error) {
	s.note("sync")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.synced = append(s.synced, r.Assignments)
	if s.sync != nil {
		if err := s.sync(); err != nil {
			return nil, err
		}
	}
	if s.assigned != nil {
		a := wire.Assignment{Partitions: s.assigned, UserData: []byte(`{"staying":1}`)}
		return a.Append(nil), nil
	}
	return r.Assignments["m"], nil
}

func (s *scripted) Heartbeat(ctx context.Context, _, _ string, _ int32) error {
	s.note("heartbeat")
	s.mu.Lock()
	answer := s.heartbeat
	s.mu.Unlock()
	if answer == nil {
		return nil
	}
	return answer(ctx)
}

func (s *scripted) Leave(context.Context, string, string) error {
	s.note("leave")
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leave == nil {
		return nil
	}
	return s.leave()
}

// set changes how the coordinator answers.
func (s *scripted) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// shelf is holdings that only notes what it has. Giving up takes as long as a test says.
type shelf struct {
	mu   sync.Mutex // guards all below
	has  []topic.Partition
	slow map[topic.Partition]time.Duration
}

func (s *shelf) held() []topic.Partition {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.has)
}

func (s *shelf) add(p []topic.Partition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.has = append(s.has, p...)
}

func (s *shelf) giveUp(given []topic.Partition, _ bool) {
	s.mu.Lock()
	longest := time.Duration(0)
	for _, p := range given {
		longest = max(longest, s.slow[p])
	}
	s.mu.Unlock()
	time.Sleep(longest)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.has = without(s.has, given)
}

func (s *shelf) lose() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.has = nil
}

func tPartitions(ids ...int) (list []topic.Partition) {
	for _, id := range ids {
		list = append(list, topic.Partition{Topic: "t", ID: id})
	}
	return list
}

// memberOf is a membership of one topic with four partitions in virtual time, and what it logs.
func memberOf(s *scripted, holds *shelf) (*membership, *observer.ObservedLogs) {
	core, logs := observer.New(zap.WarnLevel)
	return newMembership(membershipConfig{
		group: s, holdings: holds, session: 8 * time.Second, heartbeat: heartbeatInterval, log: zap.New(core),
		topics: func() map[string]int { return map[string]int{"t": 4} },
		sizes: func(_ context.Context, names []string) (map[string]int, error) {
			sizes := make(map[string]int)
			for _, name := range names {
				sizes[name] = 4
			}
			return sizes, nil
		},
		explain: func(err error) error { return err },
		observe: newMetrics(prometheus.NewRegistry(), new(Consumer)).group("sources"),
	}), logs
}

// A broker whose sessions must be longer than what is configured is asked for 10, 30 and 60 s in turn.
func TestSessionGrows(t *testing.T) {
	for _, least := range []time.Duration{6 * time.Second, 10 * time.Second, 20 * time.Second, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			s := &scripted{join: func(r *wire.JoinRequest) error {
				if r.SessionTimeout < least {
					return fmt.Errorf("join: %w", kafka.InvalidSessionTimeout)
				}
				return nil
			}}
			m, _ := memberOf(s, new(shelf))
			go m.run(t.Context())
			time.Sleep(5 * time.Second)
			if err := m.ready(); err != nil {
				t.Fatalf("a broker that wants %v: %v", least, err)
			}
			var asked []time.Duration
			for _, r := range s.joins {
				asked = append(asked, r.SessionTimeout)
				if r.RebalanceTimeout >= r.SessionTimeout {
					t.Errorf("a rebalance of %v in a session of %v", r.RebalanceTimeout, r.SessionTimeout)
				}
			}
			want := []time.Duration{8 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute}
			for last := len(want) - 1; last > 0 && want[last-1] >= least; last-- {
				want = want[:last]
			}
			if !slices.Equal(asked, want) {
				t.Errorf("a broker that wants %v was asked for %v, want %v", least, asked, want)
			}
			m.stop()
			<-m.ended
		})
	}
}

// The leader's SyncGroup does not arrive: it brings everybody's assignment again. Without, everybody would be given nothing.
func TestSyncLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lost := 2
		s := new(scripted)
		s.sync = func() error {
			if lost--; lost >= 0 {
				return fmt.Errorf("sync: %w", kafka.NotCoordinatorForGroup)
			}
			return nil
		}
		holds := new(shelf)
		m, _ := memberOf(s, holds)
		go m.run(t.Context())
		time.Sleep(5 * time.Second)
		if n := len(holds.held()); n != 4 {
			t.Errorf("the only member holds %d of 4 partitions", n)
		}
		if len(s.synced) != 3 || s.synced[2]["m"] == nil {
			t.Errorf("it brought %v", s.synced)
		}
		m.stop()
		<-m.ended
	})
}

// A stop does not wait for a heartbeat that hangs.
func TestStopWhileAHeartbeatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, holds := new(scripted), new(shelf)
		m, _ := memberOf(s, holds)
		go m.run(t.Context())
		time.Sleep(time.Second)
		s.set(func() {
			s.heartbeat = func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }
		})
		time.Sleep(heartbeatInterval + time.Millisecond) // one hangs
		began := time.Now()
		m.stop()
		<-m.ended
		if took := time.Since(began); took > time.Second || len(holds.held()) > 0 {
			t.Errorf("it stopped after %v, and holds %v", took, holds.held())
		}
	})
}

// It is told to stop while it gives a partition up: it leaves when it has let go of all of them, not when it has let go of that one.
func TestStopWhileGivingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(scripted)
		holds := &shelf{slow: map[topic.Partition]time.Duration{{Topic: "t", ID: 0}: time.Second, {Topic: "t", ID: 3}: 2 * time.Second}}
		s.leave = func() error {
			if held := holds.held(); len(held) > 0 {
				t.Errorf("it leaves, and holds %v", held)
			}
			return nil
		}
		m, _ := memberOf(s, holds)
		go m.run(t.Context())
		time.Sleep(time.Second)
		s.set(func() { s.assigned = tPartitions(1, 2, 3) })
		m.topicsChanged() // so that it joins again, and is given less
		time.Sleep(100 * time.Millisecond)
		m.stop()
		<-m.ended
		if s.count("leave") != 1 {
			t.Errorf("it left %d times", s.count("leave"))
		}
	})
}

// A member that stops is told that its generation has passed: the group may count on it all the same, so it leaves. That it has been taken out
// already is nothing to warn of.
func TestLeavesWhenExpelled(t *testing.T) {
	for _, gone := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s, holds := new(scripted), &shelf{slow: map[topic.Partition]time.Duration{{Topic: "t", ID: 0}: 2 * time.Second}}
			if gone {
				s.leave = func() error { return fmt.Errorf("leave: %w", kafka.UnknownMemberId) }
			}
			m, logs := memberOf(s, holds)
			go m.run(t.Context())
			time.Sleep(time.Second)
			m.stop()
			time.Sleep(time.Second)
			s.set(func() {
				s.heartbeat = func(context.Context) error { return fmt.Errorf("heartbeat: %w", kafka.IllegalGeneration) }
			})
			<-m.ended
			if s.count("leave") != 1 || len(holds.held()) > 0 {
				t.Errorf("it left %d times, and holds %v", s.count("leave"), holds.held())
			}
			if n := logs.FilterMessageSnippet("leaving the group fails").Len(); n > 0 {
				t.Errorf("warned: %v", logs.All())
			}
		})
	}
}

// What was being given up when the member was expelled, and ends later, is not the end of what it gives up as a member again.
func TestLateEndOfGivingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(scripted)
		holds := &shelf{slow: map[topic.Partition]time.Duration{{Topic: "t", ID: 0}: 3 * time.Second, {Topic: "t", ID: 3}: 10 * time.Second}}
		m, _ := memberOf(s, holds)
		go m.run(t.Context())
		time.Sleep(time.Second)
		s.set(func() { s.assigned = tPartitions(1, 2, 3) })
		m.topicsChanged()
		time.Sleep(100 * time.Millisecond) // partition 0 is being given up, until 4.1 s
		m.refused(m.who())
		time.Sleep(time.Second) // a member again, with 1, 2 and 3
		s.set(func() { s.assigned = tPartitions(1, 2) })
		m.topicsChanged()
		time.Sleep(500 * time.Millisecond)
		joins := s.count("join")
		time.Sleep(4 * time.Second) // partition 3 is being given up
		if n := s.count("join"); n != joins {
			t.Errorf("it joined %d times while it gave a partition up", n-joins)
		}
		m.stop()
		<-m.ended
	})
}
