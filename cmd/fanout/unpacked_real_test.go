//go:build real

package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"golang.org/x/sync/errgroup"

	"fanout/cmd/internal/lab"
)

// backlog is what lies in a topic of 48 partitions when fanout starts.
type backlog struct {
	events  int // of a partition
	padding int // bytes of an event that compress to almost nothing
}

const backlogPartitions = 48

// write fills a topic, a batch at a time.
func (b *backlog) write(t *testing.T, s *site, topic string, codec kafka.Compression, batch int) {
	t.Helper()
	s.topics(t, lab.Topic{Name: topic, Partitions: backlogPartitions})
	padding := strings.Repeat("0123456789abcdef", b.padding/16)
	var written atomic.Int64
	var partitions errgroup.Group
	partitions.SetLimit(4)
	for id := range backlogPartitions {
		partitions.Go(func() error {
			client := s.kafka.Client()
			defer lab.CloseClient(client)
			rng := rand.New(rand.NewPCG(1, uint64(id)))
			for at := 0; at < b.events; at += batch {
				values := make([][]byte, 0, batch)
				for i := at; i < min(at+batch, b.events); i++ {
					value := fmt.Appendf(nil, `{"accountId":"acme","channel":"EMAIL","type":"OPEN","trackingId":"t-%016x-%d-%d","notificationId":"welcome","userId":"user-%016x","padding":"%s"}`,
						rng.Uint64(), id, i, rng.Uint64(), padding)
					written.Add(int64(len(value)))
					values = append(values, value)
				}
				if err := writeBatch(t, client, topic, id, codec, values); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := partitions.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: %d events, %d MiB when unpacked", topic, backlogPartitions*b.events, written.Load()>>20)
}

// writeBatch writes values as one batch. A broker may not yet know that it leads a partition just made.
func writeBatch(t *testing.T, client *kafka.Client, topic string, partition int, codec kafka.Compression, values [][]byte) error {
	t.Helper()
	var err error
	done := lab.Await(within(t, time.Minute), "the write to "+topic, func() bool {
		records := make([]kafka.Record, len(values))
		for i, value := range values {
			records[i] = kafka.Record{Value: kafka.NewBytes(value)}
		}
		var res *kafka.ProduceResponse
		res, err = client.Produce(t.Context(), &kafka.ProduceRequest{
			Topic: topic, Partition: partition, RequiredAcks: kafka.RequireAll, Compression: codec, Records: kafka.NewRecordReader(records...),
		})
		if err == nil {
			err = res.Error
		}
		return !errors.Is(err, kafka.NotLeaderForPartition) && !errors.Is(err, kafka.UnknownTopicOrPartition) && !errors.Is(err, protocol.ErrNoTopic)
	})
	return errors.Join(done, err)
}

// A backlog of 48 partitions costs no more memory when its producers compressed it (docs/contract.md#fetch-bound).
func TestRealBacklogUnpacked(t *testing.T) {
	for _, c := range []struct {
		name    string
		backlog backlog
		plain   int // events of a batch that is not compressed
	}{
		{"ordinary", backlog{events: 3000, padding: 96}, 3000},
		{"padded", backlog{events: 1024, padding: 16 << 10}, 60},
	} {
		paces := make(map[kafka.Compression]float64)
		for _, codec := range []kafka.Compression{0, kafka.Zstd} {
			t.Run(fmt.Sprintf("%s/%s", c.name, codec), func(t *testing.T) {
				s := newSite(t, fmt.Sprintf("unpacked-%s-%d", c.name, codec), lab.KeepIDs)
				s.subscribe(t, "acme", "crm", "/in", `"events":["*"]`)
				source := s.name + ".backlog"
				batch := c.plain
				if codec != 0 {
					batch = c.backlog.events
				}
				c.backlog.write(t, s, source, codec, batch)
				s.config.Set("sources", []lab.Config{{"topic": source}})
				began := time.Now()
				s.start(t)
				all := backlogPartitions * c.backlog.events
				if err := s.receiver.WaitSeen(within(t, 5*time.Minute), "/in", int64(all)); err != nil {
					t.Fatal(err)
				}
				paces[codec] = float64(all) / time.Since(began).Seconds()
				s.settled(t, 20*time.Second, source)
				usage, err := s.fanout.Usage()
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("%s, %s: peak %d MiB, %s of CPU, %.0f events a second", c.name, codec, usage.Peak>>20, usage.CPU, paces[codec])
				if codec != 0 && usage.Peak > 256<<20 { // what is not compressed is here to compare with
					t.Errorf("the peak was %d MiB, want at most 256", usage.Peak>>20)
				}
				if err := s.fanout.Kill(); err != nil {
					t.Fatal(err)
				}
			})
		}
		t.Logf("%s: compressed at %.2f of the pace of what is not", c.name, paces[kafka.Zstd]/paces[0])
	}
}
