//go:build real

package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"fanout/cmd/internal/lab"
)

// quota bounds what clients of each of the names may fetch, in bytes a second; 0 ends that.
func (s *site) quota(ctx context.Context, rate float64, clients ...string) error {
	c, err := kgo.NewClient(kgo.SeedBrokers(s.kafka.Addr()))
	if err != nil {
		return err
	}
	defer c.Close()
	req := kmsg.NewPtrAlterClientQuotasRequest()
	for _, name := range clients {
		entity := kmsg.NewAlterClientQuotasRequestEntryEntity()
		entity.Type, entity.Name = "client-id", &name
		op := kmsg.NewAlterClientQuotasRequestEntryOp()
		op.Key, op.Value, op.Remove = "consumer_byte_rate", rate, rate == 0
		entry := kmsg.NewAlterClientQuotasRequestEntry()
		entry.Entity, entry.Ops = []kmsg.AlterClientQuotasRequestEntryEntity{entity}, []kmsg.AlterClientQuotasRequestEntryOp{op}
		req.Entries = append(req.Entries, entry)
	}
	answer, err := req.RequestWith(ctx, c)
	if err != nil {
		return err
	}
	for _, e := range answer.Entries {
		if err := kerr.ErrorForCode(e.ErrorCode); err != nil {
			return err
		}
	}
	return nil
}

// reads counts what kcat reads of a topic, from its start, until ctx is done.
func (s *site) reads(t *testing.T, ctx context.Context, topic string) *atomic.Int64 { //nolint:revive // the test comes first
	t.Helper()
	cmd := exec.CommandContext(ctx, "kcat", "-C", "-b", s.kafka.Addr(), "-t", topic, "-o", "beginning", "-X", "client.id=kcat", "-u", "-q", "-f", "%o\n")
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	n := new(atomic.Int64)
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			n.Add(1)
		}
		_ = cmd.Wait() // it was ended
	}()
	return n
}

// Under a quota of the broker's, fanout reads about as much as kcat does (docs/contract.md#throttling).
func TestRealQuota(t *testing.T) {
	for _, c := range []struct {
		rate, records int // KB/s; brokers let ten seconds' worth through at once
		padding       int // of a record, in bytes
		within        time.Duration
	}{{10, 3000, 0, 25 * time.Second}, {100, 15_000, 0, 12 * time.Second}, {1000, 20_000, 2000, 12 * time.Second}} {
		t.Run(fmt.Sprintf("%d KB", c.rate), func(t *testing.T) {
			s := newSite(t, fmt.Sprintf("quota-%d", c.rate), lab.KeepIDs)
			s.subscribe(t, "acme", "crm", "/in", `"events":["*"]`)
			const batch = 200
			for from := 0; from < c.records; from += batch {
				records := make([]kafka.Record, batch)
				for i := range records {
					records[i] = s.raw("acme", from+i)
					value, _ := kafka.ReadAll(records[i].Value)
					records[i].Value = kafka.NewBytes(fmt.Appendf(bytes.TrimSuffix(value, []byte("}")), `,"padding":%q}`, strings.Repeat("x", c.padding)))
				}
				s.produce(t, s.email(), from/batch%3, records...)
			}
			if err := s.quota(t.Context(), float64(c.rate)*1000, "fanout", "kcat"); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := s.quota(context.WithoutCancel(t.Context()), 0, "fanout", "kcat"); err != nil {
					t.Error(err)
				}
			})
			s.start(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			before, _ := s.counted() // while it became ready
			kcat, began := s.reads(t, ctx, s.email()), time.Now()
			for time.Since(began) < c.within && int(kcat.Load()) < c.records {
				time.Sleep(100 * time.Millisecond)
			}
			theirs := int(kcat.Load())
			ours, _ := s.counted()
			t.Logf("%d KB/s: after %.1f s kcat has read %d of %d records, and fanout delivered %d, %d of them before", c.rate, time.Since(began).Seconds(), theirs, c.records, ours, before)
			if ours < theirs/2 {
				t.Errorf("fanout delivered %d where kcat has read %d", ours, theirs)
			}
		})
	}
}
