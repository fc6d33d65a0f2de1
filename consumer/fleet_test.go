package consumer

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/zap"

	"fanout/topic"
	"fanout/topic/wire"
)

// fleet is members of one group, on an embedded Kafka, in virtual time. It keeps the account of who has what.
type fleet struct {
	t       *testing.T
	cluster *kfake.Cluster
	client  *wire.Client
	sizes   map[string]int
	members []*fleetMember
	fenced  bool // a member may be given what another one has and must not commit any more

	mu    sync.Mutex // guards all below
	owner map[topic.Partition]*fleetMember
	last  map[topic.Partition]string    // who had it last, by name
	since map[topic.Partition]time.Time // when somebody last had what nobody has
	moved int
	stood time.Duration // of all partitions together
	most  time.Duration
}

// fleetMember is a member, and the holdings of its membership.
type fleetMember struct {
	*membership

	f    *fleet
	name string
	kill context.CancelFunc
}

// newFleet must be called in a bubble.
func newFleet(t *testing.T, sizes map[string]int, nodes int) *fleet {
	t.Helper()
	var network kfake.VirtualNetwork
	ports := make([]int, nodes)
	for i := range ports {
		ports[i] = 9092 + i
	}
	opts := []kfake.Opt{kfake.NumBrokers(nodes), kfake.Ports(ports...), kfake.ListenFn(network.Listen)}
	for name, n := range sizes {
		opts = append(opts, kfake.SeedTopics(int32(n), name))
	}
	cluster, err := kfake.NewCluster(opts...)
	if err != nil {
		t.Fatal(err)
	}
	transport := &kafka.Transport{Dial: network.DialContext, IdleTimeout: time.Hour, MetadataTopics: []string{"t"}, MetadataTTL: 10 * time.Second}
	f := &fleet{
		t: t, cluster: cluster, client: wire.NewClient(transport, kafka.TCP(cluster.ListenAddrs()...), "fleet"), sizes: sizes,
		owner: make(map[topic.Partition]*fleetMember), last: make(map[topic.Partition]string), since: make(map[topic.Partition]time.Time),
	}
	t.Cleanup(func() {
		for _, m := range f.members {
			m.kill()
			<-m.ended
		}
		transport.CloseIdleConnections()
		cluster.Close()
	})
	return f
}

// start starts a member that would read the topics; instance is empty for a dynamic one.
func (f *fleet) start(name, instance string, topics ...string) *fleetMember {
	m := &fleetMember{f: f, name: name}
	wanted := make(map[string]int)
	for _, t := range topics {
		wanted[t] = f.sizes[t]
	}
	m.membership = newMembership(membershipConfig{
		group: f.client.Group("g"), holdings: m, session: 8 * time.Second, heartbeat: heartbeatInterval, log: zap.NewNop(), instance: instance,
		topics: func() map[string]int { return wanted },
		sizes: func(_ context.Context, names []string) (map[string]int, error) {
			found := make(map[string]int)
			for _, name := range names {
				found[name] = f.sizes[name]
			}
			return found, nil
		},
		explain: func(err error) error { return err },
		observe: newMetrics(prometheus.NewRegistry(), new(Consumer)).group("sources"),
	})
	ctx, cancel := context.WithCancel(f.t.Context())
	m.kill = cancel
	f.members = append(f.members, m)
	go m.run(ctx)
	return m
}

func (m *fleetMember) held() (list []topic.Partition) {
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	for p, o := range m.f.owner {
		if o == m {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, topic.Partition.Compare)
	return list
}

func (m *fleetMember) add(added []topic.Partition) {
	f := m.f
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range added {
		if o := f.owner[p]; o != nil && !f.fenced {
			f.t.Errorf("%s is given %v, which %s has", m.name, p, o.name)
		}
		f.owner[p] = m
		before, had := f.last[p]
		if had && before != m.name {
			f.moved++
		}
		if had {
			d := time.Since(f.since[p])
			f.stood += d
			f.most = max(f.most, d)
		}
		f.last[p] = m.name
	}
}

// giveUp takes as long as a handover may while something is in flight.
func (m *fleetMember) giveUp(given []topic.Partition, _ bool) {
	if len(given) > 0 {
		time.Sleep(handoverGrace)
	}
	m.drop(given)
}

func (m *fleetMember) lose() { m.drop(m.held()) }

func (m *fleetMember) drop(given []topic.Partition) {
	f := m.f
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range given {
		if f.owner[p] == m {
			delete(f.owner, p)
			f.since[p] = time.Now()
		}
	}
}

// loads is how many partitions each member has.
func (f *fleet) loads() map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	loads := make(map[string]int)
	for _, o := range f.owner {
		loads[o.name]++
	}
	return loads
}

// rests waits until so many members share all partitions evenly.
func (f *fleet) rests(members int) {
	f.t.Helper()
	all := 0
	for _, n := range f.sizes {
		all += n
	}
	f.until(fmt.Sprintf("%d members share %d partitions", members, all), func() bool {
		loads := slices.Sorted(maps.Values(f.loads()))
		sum := 0
		for _, n := range loads {
			sum += n
		}
		return sum == all && len(loads) == members && loads[len(loads)-1]-loads[0] <= 1
	})
}

func (f *fleet) until(what string, ok func() bool) {
	f.t.Helper()
	for range 6000 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	f.t.Fatalf("not within a minute: %s; %v", what, f.loads())
}

// forget begins the account of moves again.
func (f *fleet) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.moved, f.stood, f.most = 0, 0, 0
}

// 50 members on 200 partitions, each restarted in turn: what has to move does, and no more. A static member's partitions wait for it.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	members, partitions := 50, 200
	if RaceDetector {
		members, partitions = 10, 40
	}
	for _, static := range []bool{false, true} {
		t.Run(fmt.Sprintf("static %v", static), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(t, map[string]int{"t": partitions}, 1)
				start := func(k int) {
					instance := ""
					if static {
						instance = "i" + strconv.Itoa(k)
					}
					f.start("m"+strconv.Itoa(k), instance, "t")
				}
				for k := range members {
					start(k)
				}
				f.rests(members)
				f.forget()
				for k := range members {
					m := f.members[k]
					m.stop()
					<-m.ended
					time.Sleep(time.Second) // until it runs again
					start(k)
					f.rests(members)
				}
				// When one stops its four move, and when it is back four move to it.
				least := members * 2 * partitions / members
				if static {
					least = 0
				}
				t.Logf("%d partitions moved, %d is the least possible; %.0f partition-seconds stood, %v at most", f.moved, least, f.stood.Seconds(), f.most)
				if f.moved != least {
					t.Errorf("%d partitions moved, and %d is the least possible", f.moved, least)
				}
				if !static && f.most > 1500*time.Millisecond {
					t.Errorf("a partition stood %v", f.most)
				}
			})
		})
	}
}

// One of three is killed: its partitions stand for a session, and those of the others not at all.
func TestKilledMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, map[string]int{"t": 12}, 1)
		for k := range 3 {
			f.start("m"+strconv.Itoa(k), "", "t")
		}
		f.rests(3)
		f.forget()
		f.members[1].kill()
		f.rests(2)
		if f.moved != 4 || f.most > 10*time.Second {
			t.Errorf("%d partitions moved, and stood %v at most", f.moved, f.most)
		}
	})
}

// A source that only some instances know goes only to them, and a topic that does not exist holds up nobody.
func TestMembersWithOtherSources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, map[string]int{"t": 4, "u": 4}, 1)
		a := f.start("a", "", "t", "missing")
		b := f.start("b", "", "t", "u")
		f.rests(2)
		for _, p := range a.held() {
			if p.Topic != "t" {
				t.Errorf("a has %v, which it does not read", p)
			}
		}
		a.stop()
		<-a.ended
		f.rests(1)
		if n := len(b.held()); n != 8 {
			t.Errorf("b has %d partitions of 8", n)
		}
	})
}

// The group's coordinator becomes another broker: nobody lets go of anything.
func TestCoordinatorBecomesAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, map[string]int{"t": 6}, 3)
		for k := range 3 {
			f.start("m"+strconv.Itoa(k), "", "t")
		}
		f.rests(3)
		f.forget()
		at := f.cluster.CoordinatorFor("g")
		for f.cluster.CoordinatorFor("g") == at {
			f.cluster.RehashCoordinators()
		}
		time.Sleep(20 * time.Second)
		f.rests(3)
		if f.moved != 0 || f.stood != 0 {
			t.Errorf("%d partitions moved, and stood %v", f.moved, f.stood)
		}
	})
}

// The group's name is taken by an application that shares in another way: the error says what to do.
func TestNameTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, map[string]int{"t": 2}, 1)
		other := f.client.Group("g")
		r := wire.JoinRequest{Protocol: "range", SessionTimeout: 30 * time.Second, RebalanceTimeout: time.Second}
		joined, _ := other.Join(t.Context(), &r) // it is given an id
		r.MemberID = joined.MemberID
		if _, err := other.Join(t.Context(), &r); err != nil {
			t.Fatal(err)
		}
		m := f.start("m", "", "t")
		f.until("an explanation", func() bool {
			err := m.ready()
			return err != nil && strings.Contains(err.Error(), "another application")
		})
	})
}

// Two processes have the same instance id. The one before says so and stands back: else they would take the partitions from each other for ever.
func TestSameInstanceID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, map[string]int{"t": 2}, 1)
		first := f.start("first", "i", "t")
		f.rests(1)
		f.fenced = true
		second := f.start("second", "i", "t")
		f.until("the second has all", func() bool { return len(second.held()) == 2 })
		time.Sleep(2 * time.Second)
		for range 20 {
			if len(first.held()) > 0 || len(second.held()) < 2 {
				t.Fatalf("they have %v", f.loads())
			}
			time.Sleep(time.Second)
		}
		if err := first.ready(); err == nil || !strings.Contains(err.Error(), "same kafka.instance_id") {
			t.Errorf("the first says %v", err)
		}
		second.stop()
		<-second.ended
		f.until("the first has all", func() bool { return len(first.held()) == 2 })
	})
}
