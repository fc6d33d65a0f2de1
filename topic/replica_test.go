package topic_test

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"fanout/topic"
)

// readFrom is who answered a fetch: the leader, the leader that was told the rack, or the replica.
type readFrom string

const (
	theLeader  readFrom = "leader"
	leaderRack readFrom = "leader, with rack"
	theReplica readFrom = "replica"
)

// A replica that the leader prefers is read. Where it fails, the same fetch brings what the leader has, and nobody is sent back to the replica.
func TestPreferredReplica(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		fails func(answer *kmsg.FetchResponseTopicPartition) error // of the replica; nil: it serves
		want  []readFrom                                           // of three fetches; each must bring a record, but for the first, which brings the preference
	}{
		"serves": {nil, []readFrom{leaderRack, theReplica, theReplica}},
		"is out of range": {func(a *kmsg.FetchResponseTopicPartition) error {
			a.ErrorCode = kerr.OffsetOutOfRange.Code
			return nil
		}, []readFrom{leaderRack, theReplica, theLeader, theLeader}},
		"is no replica any more": {func(a *kmsg.FetchResponseTopicPartition) error {
			a.ErrorCode = kerr.NotLeaderForPartition.Code
			return nil
		}, []readFrom{leaderRack, theReplica, theLeader, theLeader}},
		"hangs up": {func(*kmsg.FetchResponseTopicPartition) error { return errors.New("hang up") }, []readFrom{leaderRack, theReplica, theLeader, theLeader}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster, err := kfake.NewCluster(kfake.NumBrokers(3), kfake.SeedTopics(1, "a"))
			if err != nil {
				t.Fatal(err)
			}
			defer cluster.Close()
			leader := cluster.LeaderFor("a", 0)
			replica := (leader + 1) % 3
			var mu sync.Mutex // guards asked
			var asked []readFrom
			cluster.ControlKey(int16(kmsg.Fetch), func(r kmsg.Request) (kmsg.Response, error, bool) {
				cluster.KeepControl()
				mu.Lock()
				defer mu.Unlock()
				request, ok := r.(*kmsg.FetchRequest)
				if !ok {
					return nil, nil, false
				}
				answer := kmsg.NewFetchResponseTopicPartition()
				answer.HighWatermark, answer.LastStableOffset, answer.RecordBatches = 1, 1, batch(-1, 0, 0)
				var err error
				switch node := cluster.CurrentNode(); {
				case node == leader && request.Rack != "":
					asked = append(asked, leaderRack)
					answer.PreferredReadReplica, answer.RecordBatches = replica, nil
				case node == leader:
					asked = append(asked, theLeader)
				case node == replica:
					asked = append(asked, theReplica)
					if tt.fails != nil {
						answer.RecordBatches = nil
						err = tt.fails(&answer)
					}
				}
				if err != nil {
					return nil, err, true
				}
				response := request.ResponseKind().(*kmsg.FetchResponse)
				response.Topics = []kmsg.FetchResponseTopic{{Topic: "a", Partitions: []kmsg.FetchResponseTopicPartition{answer}}}
				return response, nil, true
			})
			core, logs := observer.New(zap.InfoLevel)
			c, err := topic.NewCluster(topic.Config{Kafka: topic.KafkaConfig{Brokers: cluster.ListenAddrs(), Rack: "near"}}, topic.WithLog(zap.New(core)))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			f := c.Fetcher(topic.Partition{Topic: "a"})
			for i := range 3 {
				page, err := f.Fetch(t.Context(), 0)
				if err != nil {
					t.Fatal(err)
				}
				if page.Empty() != (i == 0) {
					t.Errorf("fetch %d: empty %v", i, page.Empty())
				}
				page.Close()
			}
			// Another partition's fetcher learns from the leader alone.
			givenUp := 0
			if tt.fails != nil {
				givenUp = 1
				page, err := c.Fetcher(topic.Partition{Topic: "a"}).Fetch(t.Context(), 0)
				if err != nil || page.Empty() {
					t.Errorf("another one: %v", err)
				}
				tt.want = append(tt.want, leaderRack, theLeader)
			}
			// An operator is told, and once.
			said := logs.FilterMessageSnippet("the replica in this rack cannot be read").FilterField(zap.Int32("broker", replica))
			if said.Len() != givenUp || c.ReplicasGivenUp() != givenUp {
				t.Errorf("%d given up, said %d times; want %d", c.ReplicasGivenUp(), said.Len(), givenUp)
			}
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(asked, tt.want) {
				t.Errorf("asked %q, want %q", asked, tt.want)
			}
		})
	}
}

// The leader is asked again every half minute which replica it prefers. One that failed is left for ten seconds, then for twice as long each
// time it fails again, and no longer than ten minutes.
func TestReplicaIsLookedAtAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.InfoLevel)
		n, other := topic.TwoNearest(zap.New(core))
		reads := func(want bool) {
			t.Helper()
			if n.Reads() != want {
				t.Fatalf("reads the replica: %v", !want)
			}
		}
		n.Prefers(2)
		time.Sleep(29 * time.Second)
		reads(true)
		time.Sleep(time.Second)
		reads(false)
		pause := 10 * time.Second
		for range 10 {
			n.Prefers(2)
			other.Prefers(2)
			n.Failed()
			other.Failed() // what both find at the same time counts once
			time.Sleep(pause - time.Nanosecond)
			n.Prefers(2)
			reads(false)
			time.Sleep(time.Nanosecond)
			n.Prefers(2)
			reads(true)
			pause = min(2*pause, 10*time.Minute)
		}
		if got := logs.Len(); got != 1 {
			t.Errorf("while it fails that is said %d times", got)
		}
		n.Serves(2)
		n.Serves(2)
		if got := logs.FilterMessageSnippet("is read again").Len(); got != 1 {
			t.Errorf("that it serves again is said %d times", got)
		}
		n.Failed()
		time.Sleep(10 * time.Second)
		n.Prefers(2)
		reads(true)
	})
}
