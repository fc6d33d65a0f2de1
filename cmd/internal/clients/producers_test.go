//go:build clients

package clients_test

import (
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// codecs are the compressions by their number in a record batch.
var codecs = []string{"none", "gzip", "snappy", "lz4", "zstd"}

func producers(t *testing.T) []client {
	t.Helper()
	kcat, python, java := shell(t, "producer.sh"), python(t, "producer.py"), java(t, "Producer.java")
	kcat.name = "kcat"
	return []client{kcat, python, java}
}

// What each producer writes, in each compression, arrives at a receiver: every event once, with payload and trace. The log
// of the broker shows that it was compressed so, and written by an idempotent producer.
func TestProducers(t *testing.T) {
	const each = 40
	var topics []string
	for _, p := range []string{"kcat", "python", "java"} {
		for _, codec := range codecs {
			topics = append(topics, "producers."+p+"."+codec)
		}
	}
	s := newSite(t, "producers", topics...)
	for _, p := range producers(t) {
		for _, codec := range codecs {
			t.Run(p.name+"/"+codec, func(t *testing.T) {
				account := p.name + "-" + codec
				s.subscribe(t, account, "crm", s.receiver.URL("/"+account), "")
				topic := "producers." + p.name + "." + codec
				did := p.run(t, strings.NewReader(events(account, 0, each)), s.env("COMPRESSION="+codec, "TRACEPARENT="+trace), topic, account)
				if did.code != 0 {
					t.Fatalf("exit %d: %s", did.code, did.output)
				}
				s.receives(t, "/"+account, trace, 0, each)
				s.keyed(t, topic, account+" traceparent="+trace, each)
				batches := s.batches(t, topic)
				for _, b := range batches {
					if b.records != 0 && (b.producer < 0 || b.codec != codec && b.codec != "none") {
						t.Errorf("a batch in the log: %+v", b)
					}
				}
				if !slices.ContainsFunc(batches, func(b batch) bool { return b.codec == codec }) {
					t.Errorf("no batch in the log has the codec: %+v", batches)
				}
				t.Logf("%-6s %-6s %d events in %d batches, each delivered once", p.name, codec, each, len(batches))
			})
		}
	}
}

// A record that is not acknowledged is an error that says what is wrong, and no success.
func TestProducersSayWhatFailed(t *testing.T) {
	s := newSite(t, "unwritable", "unwritable.events")
	for _, p := range producers(t) {
		t.Run(p.name, func(t *testing.T) {
			did := p.run(t, strings.NewReader(events("acme", 0, 1)), s.env("TIMEOUT_MS=4000"), "unwritable.nowhere", "acme")
			if lower := strings.ToLower(did.output); did.code == 0 || !strings.Contains(lower, "unwritable.nowhere") && !strings.Contains(lower, "timed out") {
				t.Errorf("no such topic: exit %d: %s", did.code, did.output)
			}
			did = p.run(t, strings.NewReader(events("acme", 0, 1)), []string{"KAFKA=127.0.0.1:1", "TIMEOUT_MS=2000"}, "unwritable.events", "acme")
			if lower := strings.ToLower(did.output); did.code == 0 || !strings.Contains(lower, "timed out") && !strings.Contains(lower, "not present in metadata") && !strings.Contains(lower, "brokers are down") {
				t.Errorf("no broker: exit %d: %s", did.code, did.output)
			}
		})
	}
}

// What a transaction wrote is delivered if it was committed, and never if it was aborted, though it is in the log.
func TestTransactionalProducers(t *testing.T) {
	s := newSite(t, "transactions", "transactions.python", "transactions.java")
	for _, p := range producers(t)[1:] {
		t.Run(p.name, func(t *testing.T) {
			topic, account := "transactions."+p.name, p.name
			s.subscribe(t, account, "crm", s.receiver.URL("/"+account), "")
			input, feed := io.Pipe()
			done := make(chan ran, 1)
			env := s.env("TRANSACTIONAL_ID=" + topic)
			go func() { done <- p.run(t, input, env, topic, account) }()
			if _, err := io.WriteString(feed, events(account, 100, 3)); err != nil {
				t.Fatal(err)
			}
			await(t, 20*time.Second, "the records of the transaction in the log", func() bool { return s.end(t, topic) >= 3 })
			if _, err := io.WriteString(feed, "nonsense\n"); err != nil {
				t.Fatal(err)
			}
			_ = feed.Close()
			if did := <-done; did.code == 0 || !strings.Contains(did.output, "not everything was written") {
				t.Errorf("aborted: exit %d: %s", did.code, did.output)
			}
			if did := p.run(t, strings.NewReader(events(account, 0, 2)), env, topic, account); did.code != 0 {
				t.Fatalf("committed: exit %d: %s", did.code, did.output)
			}
			s.receives(t, "/"+account, "", 0, 2)
			// Everything that is in the log has been read, both ends of transactions too.
			await(t, 20*time.Second, "the commit of all offsets", func() bool {
				committed, err := s.kafka.Committed(t.Context(), "transactions", topic)
				return err == nil && committed[0] >= 6 && committed[0] >= s.end(t, topic)-1
			})
			if n := s.receiver.Seen("/" + account); n != 2 {
				t.Errorf("%d deliveries came, want the 2 that were committed", n)
			}
			var control, plain, transactional int
			for _, b := range s.batches(t, topic) {
				switch {
				case b.control:
					control++
				case b.transactional:
					transactional += b.records
				default:
					plain += b.records
				}
			}
			if control != 2 || plain != 0 || transactional != 5 {
				t.Errorf("in the log: %d ends of transactions, %d records in them, %d outside", control, transactional, plain)
			}
			t.Logf("%-6s 3 records aborted, 2 committed and delivered", p.name)
		})
	}
}

func (s *site) env(more ...string) []string {
	return append(more, "KAFKA="+s.kafka.Addr(), "REDIS_HOST=127.0.0.1", "REDIS_PORT="+s.redis.Addr()[strings.LastIndexByte(s.redis.Addr(), ':')+1:])
}

// keyed reads a topic with kcat: each of its n records has this key and these headers.
func (s *site) keyed(t *testing.T, topic, want string, n int) {
	t.Helper()
	kcat := client{args: []string{"kcat", "-C", "-b", s.kafka.Addr(), "-t", topic, "-o", "beginning", "-c", strconv.Itoa(n), "-q", "-f", `%k %h\n`}}
	if did := kcat.run(t, nil, nil); did.code != 0 || did.output != strings.Repeat(want+"\n", n) {
		t.Errorf("exit %d: keys and headers are not %d times %s:\n%s", did.code, n, want, did.output)
	}
}

// receives waits until exactly the bodies from..from+n have come to a path, each once, with this traceparent or none.
func (s *site) receives(t *testing.T, path, traceparent string, from, n int) {
	t.Helper()
	if err := s.receiver.WaitSeen(within(t, 20*time.Second), path, int64(n)); err != nil {
		t.Fatal(err)
	}
	got := make(map[string]int)
	for _, r := range s.receiver.Requests(path) {
		got[string(r.Body)]++
		if h := r.Header["traceparent"]; h != traceparent {
			t.Errorf("traceparent %q, want %q", h, traceparent)
		}
	}
	for i := from; i < from+n; i++ {
		if got[body(i)] != 1 {
			t.Errorf("%s came %d times", body(i), got[body(i)])
		}
	}
	if len(got) != n {
		t.Errorf("%d bodies came, want %d", len(got), n)
	}
}

func (s *site) end(t *testing.T, topic string) int64 {
	t.Helper()
	ends, err := s.kafka.Ends(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	return ends[0]
}

// batch is the header of a record batch, as it lies in the broker's log.
type batch struct {
	codec                  string
	transactional, control bool
	producer               int64 // its id; -1 is none, so not idempotent
	records                int
}

// batches reads the broker's log of a topic (format 2 of Kafka's record batches).
func (s *site) batches(t *testing.T, topic string) (found []batch) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(s.lab.Dir(), "kafka*", "data", topic+"-0", "*.log"))
	if err != nil || len(files) != 1 {
		t.Fatalf("the log of %s: %v, %v", topic, files, err)
	}
	log, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	for len(log) >= 61 {
		size := 12 + int(binary.BigEndian.Uint32(log[8:]))
		if log[16] != 2 || size > len(log) {
			break // the file is longer than what was written
		}
		attributes := binary.BigEndian.Uint16(log[21:])
		found = append(found, batch{
			codec:         codecs[attributes&7],
			transactional: attributes&0x10 != 0, control: attributes&0x20 != 0,
			producer: int64(binary.BigEndian.Uint64(log[43:])), records: int(binary.BigEndian.Uint32(log[57:])),
		})
		log = log[size:]
	}
	return found
}
