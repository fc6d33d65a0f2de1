package wire_test

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"fanout/topic/wire"
)

// broker is an embedded Kafka with a topic t of four partitions, and a client of it.
type broker struct {
	*kfake.Cluster
	client *wire.Client
}

func newBroker(t *testing.T, nodes int) *broker {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(nodes), kfake.SeedTopics(4, "t"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	transport := &kafka.Transport{MetadataTopics: []string{"t"}}
	t.Cleanup(transport.CloseIdleConnections)
	return &broker{cluster, wire.NewClient(transport, kafka.TCP(cluster.ListenAddrs()...), "wire-test")}
}

// person is a member of a group.
type person struct {
	t        *testing.T
	group    *wire.Group
	instance string
	id       string
	joined   wire.Joined
}

func (p *person) join(metadata string) error {
	r := wire.JoinRequest{
		MemberID: p.id, InstanceID: p.instance, Protocol: "p", Metadata: []byte(metadata), SessionTimeout: 10 * time.Second, RebalanceTimeout: 5 * time.Second,
	}
	joined, err := p.group.Join(p.t.Context(), &r)
	if errors.Is(err, kafka.MemberIDRequired) {
		r.MemberID = joined.MemberID
		joined, err = p.group.Join(p.t.Context(), &r)
	}
	p.id, p.joined = joined.MemberID, joined
	return err
}

func (p *person) sync(given map[string][]byte) ([]byte, error) {
	return p.group.Sync(p.t.Context(), &wire.SyncRequest{MemberID: p.id, InstanceID: p.instance, Generation: p.joined.Generation, Assignments: given})
}

func (p *person) heartbeat() error {
	return p.group.Heartbeat(p.t.Context(), p.id, p.instance, p.joined.Generation)
}

// alone is a member that has joined by itself, and has what it was given.
func alone(t *testing.T, g *wire.Group) *person {
	t.Helper()
	p := &person{t: t, group: g}
	if err := p.join("alone"); err != nil {
		t.Fatal(err)
	}
	if _, err := p.sync(map[string][]byte{p.id: []byte("all")}); err != nil {
		t.Fatal(err)
	}
	return p
}

// Two members join, each in the words of the protocol: who leads is told what both said, and gives each its part.
func TestGroupOfTwo(t *testing.T) {
	b := newBroker(t, 3)
	a := alone(t, b.client.Group("g"))
	if err := a.heartbeat(); err != nil || !a.joined.Leader {
		t.Fatalf("alone: heartbeat %v, leads %v", err, a.joined.Leader)
	}
	second := &person{t: t, group: b.client.Group("g")}
	joining := make(chan error, 1)
	go func() { joining <- second.join("second") }()
	for !errors.Is(a.heartbeat(), kafka.RebalanceInProgress) { // until the other one is there
		time.Sleep(5 * time.Millisecond)
	}
	if err := a.join("first"); err != nil {
		t.Fatal(err)
	}
	if err := <-joining; err != nil {
		t.Fatal(err)
	}
	if !a.joined.Leader || second.joined.Leader || len(a.joined.Members) != 2 || a.joined.Generation != second.joined.Generation {
		t.Fatalf("joined %+v and %+v", a.joined, second.joined)
	}
	said := map[string]string{}
	for _, m := range a.joined.Members {
		said[m.ID] = string(m.Metadata)
	}
	if want := map[string]string{a.id: "first", second.id: "second"}; !reflect.DeepEqual(said, want) {
		t.Errorf("the leader is told %v, want %v", said, want)
	}
	syncing := make(chan []byte, 1)
	go func() {
		given, err := second.sync(nil)
		if err != nil {
			t.Error(err)
		}
		syncing <- given
	}()
	given, err := a.sync(map[string][]byte{a.id: []byte("one"), second.id: []byte("two")})
	if other := <-syncing; err != nil || string(given) != "one" || string(other) != "two" {
		t.Errorf("given %q and %q, %v", given, other, err)
	}
	d, err := a.group.Describe(t.Context())
	if err != nil || d.State != "Stable" || d.Type != wire.ProtocolType || d.Protocol != "p" || len(d.Members) != 2 {
		t.Errorf("described as %+v, %v", d, err)
	}
	if err := second.group.Leave(t.Context(), second.id, ""); err != nil {
		t.Error(err)
	}
	if err := second.heartbeat(); !wire.Fenced(err) {
		t.Errorf("a heartbeat after leaving is answered %v", err)
	}
	if err := second.group.Leave(t.Context(), second.id, ""); !wire.Fenced(err) {
		t.Errorf("leaving twice is answered %v", err)
	}
}

func TestGroupRefusals(t *testing.T) {
	b := newBroker(t, 1)
	g := b.client.Group("g")
	a := alone(t, g)
	old := *a
	old.joined.Generation--
	if err := old.heartbeat(); !errors.Is(err, kafka.IllegalGeneration) || !wire.Fenced(err) {
		t.Errorf("an older generation's heartbeat is answered %v", err)
	}
	if _, err := old.sync(nil); !errors.Is(err, kafka.IllegalGeneration) {
		t.Errorf("its sync is answered %v", err) // and not by "unexpected EOF"
	}
	refused, err := g.Commit(t.Context(), &wire.CommitRequest{
		MemberID: a.id, Generation: old.joined.Generation, Offsets: map[wire.Partition]wire.Offset{{Topic: "t", ID: 1}: {At: 5}},
	})
	if err != nil || !wire.Fenced(refused[wire.Partition{Topic: "t", ID: 1}]) {
		t.Errorf("its commit is answered %v, %v", refused, err)
	}
	other := &person{t: t, group: g}
	_, err = other.group.Join(t.Context(), &wire.JoinRequest{Protocol: "p", SessionTimeout: time.Millisecond, RebalanceTimeout: time.Second})
	if !errors.Is(err, kafka.InvalidSessionTimeout) {
		t.Errorf("a session of 1 ms is answered %v", err)
	}
	if _, err = g.Join(t.Context(), &wire.JoinRequest{Protocol: "another", SessionTimeout: 10 * time.Second, RebalanceTimeout: time.Second}); !errors.Is(err, kafka.InconsistentGroupProtocol) {
		t.Errorf("another protocol is answered %v", err)
	}
}

// A static member is known by its instance id: whoever takes it over fences the one before.
func TestStaticMember(t *testing.T) {
	b := newBroker(t, 1)
	g := b.client.Group("g")
	a := &person{t: t, group: g, instance: "i"}
	if err := a.join("x"); err != nil {
		t.Fatal(err)
	}
	if _, err := a.sync(map[string][]byte{a.id: []byte("all")}); err != nil {
		t.Fatal(err)
	}
	restarted := &person{t: t, group: g, instance: "i"}
	if err := restarted.join("x"); err != nil {
		t.Fatal(err)
	}
	if given, err := restarted.sync(nil); err != nil || string(given) != "all" || restarted.joined.Generation != a.joined.Generation {
		t.Errorf("after a restart: given %q, %v, generation %d; it was %d", given, err, restarted.joined.Generation, a.joined.Generation)
	}
	if err := a.heartbeat(); !errors.Is(err, kafka.FencedInstanceID) || !wire.Fenced(err) {
		t.Errorf("the one before is answered %v", err)
	}
	if err := g.Leave(t.Context(), "", "i"); err != nil {
		t.Errorf("leaving by the instance id alone: %v", err)
	}
	if d, err := g.Describe(t.Context()); err != nil || len(d.Members) != 0 {
		t.Errorf("then the group is %+v, %v", d, err)
	}
}

func TestOffsets(t *testing.T) {
	b := newBroker(t, 3)
	g := b.client.Group("g")
	a := alone(t, g)
	want := map[wire.Partition]wire.Offset{
		{Topic: "t", ID: 0}: {At: 7, Epoch: 3, Metadata: "what is above"},
		{Topic: "t", ID: 2}: {At: 9, Epoch: wire.NoEpoch},
	}
	if refused, err := g.Commit(t.Context(), &wire.CommitRequest{MemberID: a.id, Generation: a.joined.Generation, Offsets: want}); err != nil || len(refused) > 0 {
		t.Fatalf("commit: %v, %v", refused, err)
	}
	want[wire.Partition{Topic: "t", ID: 1}] = wire.Offset{At: -1, Epoch: wire.NoEpoch}
	got, refused, err := g.Committed(t.Context(), partitions("t", 0, 1, 2))
	if err != nil || len(refused) > 0 || !reflect.DeepEqual(got, want) {
		t.Errorf("committed is %v, %v, %v; want %v", got, refused, err, want)
	}
	if got, _, err := g.Committed(t.Context(), nil); err != nil || len(got) > 0 {
		t.Errorf("of no partitions: %v, %v", got, err)
	}
	got, _, err = b.client.Group("unheard of").Committed(t.Context(), partitions("t", 0))
	if err != nil || got[wire.Partition{Topic: "t", ID: 0}].At != -1 {
		t.Errorf("a group that does not exist has committed %v, %v", got, err)
	}
	if d, err := b.client.Group("unheard of").Describe(t.Context()); err != nil || len(d.Members) > 0 {
		t.Errorf("a group that does not exist is %+v, %v", d, err)
	}
}

// The coordinator moves: it is looked for again, and the group goes on.
func TestCoordinatorMoves(t *testing.T) {
	b := newBroker(t, 3)
	g := b.client.Group("g")
	a := alone(t, g)
	moved := 0
	b.ControlKey(int16(kmsg.Heartbeat), func(r kmsg.Request) (kmsg.Response, error, bool) {
		b.KeepControl()
		if moved++; moved > 1 {
			return nil, nil, false
		}
		res, _ := r.ResponseKind().(*kmsg.HeartbeatResponse)
		res.ErrorCode = int16(kafka.NotCoordinatorForGroup)
		return res, nil, true
	})
	asked := 0
	b.ControlKey(int16(kmsg.FindCoordinator), func(kmsg.Request) (kmsg.Response, error, bool) {
		b.KeepControl()
		asked++
		return nil, nil, false
	})
	if err := a.heartbeat(); !wire.Moved(err) {
		t.Fatalf("the first heartbeat is answered %v", err)
	}
	for range 3 {
		if err := a.heartbeat(); err != nil {
			t.Fatal(err)
		}
	}
	if asked != 1 {
		t.Errorf("the coordinator was looked for %d times, want once", asked)
	}
}

func TestProduceAndFetch(t *testing.T) {
	b := newBroker(t, 3)
	leaders := wire.NewLeaders(b.client)
	p := wire.Partition{Topic: "t", ID: 3}
	for k, codec := range []kafka.Compression{0, kafka.Gzip, kafka.Snappy, kafka.Lz4, kafka.Zstd} {
		at, err := leaders.Produce(t.Context(), &wire.ProduceRequest{
			Partition: p, Compression: codec, Records: []kafka.Record{record(0, "k", "a"), record(1, "k", "b", kafka.Header{Key: "h", Value: []byte("v")})},
		})
		if err != nil || at != int64(2*k) {
			t.Fatalf("written at %d, %v; want %d", at, err, 2*k)
		}
	}
	leader, epoch, err := leaders.Leader(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	var buffer []byte
	fetched, err := b.client.Fetch(t.Context(), &wire.FetchRequest{
		Partition: p, Offset: 0, Epoch: epoch, Broker: leader, MaxWait: time.Second, MaxBytes: 1 << 20,
		Buffer: func(n int) []byte { buffer = make([]byte, n); return buffer },
	})
	if err != nil || fetched.HighWatermark != 10 || fetched.LogStart != 0 || fetched.Preferred != wire.AnyBroker {
		t.Fatalf("fetched %+v, %v", fetched, err)
	}
	texts, err := all(fetched.Records)
	if err != nil || len(texts) != 10 || buffer == nil {
		t.Errorf("%d records, %v: %q", len(texts), err, texts)
	}
	notLeader := (leader + 1) % 3
	_, err = b.client.Fetch(t.Context(), &wire.FetchRequest{Partition: p, Broker: notLeader, Epoch: wire.NoEpoch, MaxWait: time.Second, MaxBytes: 1 << 20})
	if !wire.WrongLeader(err) {
		t.Errorf("a broker that does not lead answers %v", err)
	}
	_, err = b.client.Fetch(t.Context(), &wire.FetchRequest{Partition: p, Offset: 99, Broker: leader, Epoch: epoch, MaxWait: time.Second, MaxBytes: 1 << 20})
	if !errors.Is(err, kafka.OffsetOutOfRange) {
		t.Errorf("an offset past the end is answered %v", err)
	}
	empty, err := b.client.Fetch(t.Context(), &wire.FetchRequest{Partition: p, Offset: 10, Broker: leader, Epoch: epoch, MaxWait: time.Millisecond, MaxBytes: 1 << 20})
	if err != nil || len(empty.Records) > 0 || empty.HighWatermark != 10 {
		t.Errorf("at the end: %+v, %v", empty, err)
	}
	if _, err = leaders.Produce(t.Context(), &wire.ProduceRequest{Partition: wire.Partition{Topic: "t", ID: 99}, Records: []kafka.Record{record(0, "k", "a")}}); !errors.Is(err, kafka.UnknownTopicOrPartition) {
		t.Errorf("a partition that does not exist is answered %v", err)
	}
}

func TestListOffsets(t *testing.T) {
	b := newBroker(t, 3)
	leaders := wire.NewLeaders(b.client)
	for id := range 3 {
		records := []kafka.Record{record(0, "k", "a"), record(1, "k", "b"), record(2, "k", "c")}
		if _, err := leaders.Produce(t.Context(), &wire.ProduceRequest{Partition: wire.Partition{Topic: "t", ID: id}, Records: records}); err != nil {
			t.Fatal(err)
		}
	}
	at := map[wire.Partition]int64{
		{Topic: "t", ID: 0}: wire.Latest, {Topic: "t", ID: 1}: wire.Earliest, {Topic: "t", ID: 2}: moment.UnixMilli() + 1, {Topic: "t", ID: 3}: moment.UnixMilli(),
		{Topic: "u", ID: 0}: wire.Latest,
	}
	got, err := leaders.Offsets(t.Context(), &wire.OffsetRequest{At: at})
	want := map[wire.Partition]int64{{Topic: "t", ID: 0}: 3, {Topic: "t", ID: 1}: 0, {Topic: "t", ID: 2}: 1, {Topic: "t", ID: 3}: -1}
	if !reflect.DeepEqual(got, want) || !errors.Is(err, kafka.UnknownTopicOrPartition) {
		t.Errorf("got %v, %v; want %v, and an error of u", got, err, want)
	}
}

// A broker that has frozen keeps its connections open and answers on none: nobody waits for it for ever, and the next question goes on.
func TestLeadersAreNotAwaitedForEver(t *testing.T) {
	b := newBroker(t, 1)
	leaders := wire.NewLeaders(b.client)
	leaders.SetPatience(200 * time.Millisecond)
	p := wire.Partition{Topic: "t", ID: 0}
	if _, _, err := leaders.Leader(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	leaders.Forget("t")
	frozen := make(chan struct{})
	b.ControlKey(int16(kmsg.Metadata), func(kmsg.Request) (kmsg.Response, error, bool) {
		b.KeepControl()
		b.SleepControl(func() { <-frozen })
		return nil, nil, false
	})
	ended := make(chan error, 2)
	for range 2 { // both wait for one request
		go func() {
			_, _, err := leaders.Leader(t.Context(), p)
			ended <- err
		}()
	}
	for range 2 {
		select {
		case err := <-ended:
			if err == nil {
				t.Error("a broker that does not answer has answered")
			}
		case <-time.After(10 * time.Second):
			close(frozen)
			t.Fatal("a look-up waits for a broker that does not answer")
		}
	}
	close(frozen)
	if _, _, err := leaders.Leader(t.Context(), p); err != nil {
		t.Errorf("when it answers again: %v", err)
	}
}

// A leader that has moved is looked for again once it has said so, and its epoch is another one.
func TestLeaderMoves(t *testing.T) {
	b := newBroker(t, 3)
	leaders := wire.NewLeaders(b.client)
	p := wire.Partition{Topic: "t", ID: 0}
	write := func() error {
		_, err := leaders.Produce(t.Context(), &wire.ProduceRequest{Partition: p, Records: []kafka.Record{record(0, "k", "a")}})
		return err
	}
	if err := write(); err != nil {
		t.Fatal(err)
	}
	before, epoch, err := leaders.Leader(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.MoveTopicPartition("t", 0, (before+1)%3); err != nil {
		t.Fatal(err)
	}
	if err := write(); !wire.WrongLeader(err) {
		t.Fatalf("the former leader answers %v", err)
	}
	if err := write(); err != nil {
		t.Fatalf("the new leader answers %v", err)
	}
	after, newer, err := leaders.Leader(t.Context(), p)
	if err != nil || after != (before+1)%3 || newer <= epoch {
		t.Errorf("broker %d in epoch %d leads, %v; it was broker %d in epoch %d", after, newer, err, before, epoch)
	}
	// The log of the former epoch ends where the new leader's begins.
	end, err := leaders.EndOfEpoch(t.Context(), p, epoch)
	if err != nil || end != (wire.EpochEnd{Epoch: epoch, Offset: 1}) {
		t.Errorf("epoch %d ends at %+v, %v", epoch, end, err)
	}
	end, err = leaders.EndOfEpoch(t.Context(), p, newer)
	if err != nil || end != (wire.EpochEnd{Epoch: newer, Offset: 2}) {
		t.Errorf("epoch %d ends at %+v, %v", newer, end, err)
	}
}

func TestMetadata(t *testing.T) {
	b := newBroker(t, 3)
	c, err := b.client.Metadata(t.Context(), &wire.MetadataRequest{Topics: []string{"t", "u"}, Operations: true})
	if err != nil || len(c.Brokers) != 3 || len(c.Topics) != 2 {
		t.Fatalf("%+v, %v", c, err)
	}
	slices.SortFunc(c.Topics, func(a, b wire.Topic) int { return len(b.Partitions) - len(a.Partitions) })
	known, missing := c.Topics[0], c.Topics[1]
	if known.Name != "t" || len(known.Partitions) != 4 || known.ID == (wire.TopicID{}) || known.Err != nil {
		t.Errorf("the topic is %+v", known)
	}
	if !errors.Is(missing.Err, kafka.UnknownTopicOrPartition) {
		t.Errorf("the topic that does not exist is %+v", missing)
	}
	for _, r := range []struct {
		topics []string
		want   int
	}{{nil, 1}, {[]string{}, 0}} {
		if c, err := b.client.Metadata(t.Context(), &wire.MetadataRequest{Topics: r.topics}); err != nil || len(c.Topics) != r.want {
			t.Errorf("asked for %#v: %+v, %v", r.topics, c, err) // and u was not made by asking
		}
	}
}

func TestUnreachable(t *testing.T) {
	b := newBroker(t, 1)
	b.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err := b.client.Group("g").Heartbeat(ctx, "m", "", 1)
	if !wire.Unreachable(err) || wire.Fenced(err) {
		t.Errorf("without a broker: %v", err)
	}
	for err, want := range map[error]bool{nil: false, context.Canceled: false, context.DeadlineExceeded: true, kafka.UnknownMemberId: false, kafka.BrokerNotAvailable: true, kafka.RequestTimedOut: true} {
		if wire.Unreachable(err) != want {
			t.Errorf("%v is unreachable: %v", err, !want)
		}
	}
}
