package consumer_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"fanout/consumer"
	"fanout/topic"
	"fanout/topic/wire"
)

// attemptsTopic is a topic that refuses, or leaves without an answer, what a test says.
type attemptsTopic struct {
	mu     sync.Mutex
	refuse map[int]bool
	freeze map[int]bool
	values map[int][]string // by partition
}

func newAttemptsTopic() *attemptsTopic {
	return &attemptsTopic{refuse: make(map[int]bool), freeze: make(map[int]bool), values: make(map[int][]string)}
}

func (l *attemptsTopic) ProduceBatch(ctx context.Context, p topic.Partition, batch []byte) (int64, error) {
	l.mu.Lock()
	frozen, refused := l.freeze[p.ID], l.refuse[p.ID]
	l.mu.Unlock()
	if frozen {
		<-ctx.Done()
		return 0, ctx.Err()
	}
	if refused {
		return 0, errors.New("refused")
	}
	time.Sleep(2 * time.Millisecond)
	read, _, _, err := wire.NextBatch(batch)
	if err != nil {
		return 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return 0, read.Each(func(r *wire.Record) bool {
		l.values[p.ID] = append(l.values[p.ID], string(r.Key)+" "+string(r.Value))
		return true
	})
}

// set says of partitions whether they are refused or frozen.
func (l *attemptsTopic) set(which map[int]bool, value bool, ids ...int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range ids {
		which[id] = value
	}
}

// count is how many values of the partitions contain the text.
func (l *attemptsTopic) count(text string, ids ...int) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range ids {
		for _, v := range l.values[id] {
			if strings.Contains(v, text) {
				n++
			}
		}
	}
	return n
}

// attemptsWorld runs f in virtual time with a log of three partitions.
func attemptsWorld(t *testing.T, f func(kafka *attemptsTopic, log *consumer.AttemptsLog)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer cancel()
		to := newAttemptsTopic()
		f(to, consumer.NewAttemptsLog(ctx, to, 3))
	})
}

// An account's attempts lie in its own partition, and hold back a commit for no longer than it takes to write them.
func TestAttemptsGoToTheAccountsPartition(t *testing.T) {
	t.Parallel()
	attemptsWorld(t, func(to *attemptsTopic, log *consumer.AttemptsLog) {
		accounts := []string{"acme", "globex", "initech", "hooli"}
		for n := range 4000 {
			log.Add(accounts[n%4], int64(n), "")
			if n%400 == 0 {
				time.Sleep(10 * time.Millisecond)
			}
		}
		time.Sleep(200 * time.Millisecond)
		for _, account := range accounts {
			if n := to.count(account+" ", topic.AccountPartition(account, 3)); n != 1000 {
				t.Errorf("%s: %d of 1000 records in its partition", account, n)
			}
		}
		if log.Held() != 0 || log.Lost() != 0 {
			t.Errorf("%d held back, %d lost", log.Held(), log.Lost())
		}
	})
}

// A partition that refuses, or whose leader is frozen, is gone round; later it is written again.
func TestAttemptsGoRoundAPartition(t *testing.T) {
	t.Parallel()
	for name, kind := range map[string]func(*attemptsTopic) map[int]bool{
		"refused": func(l *attemptsTopic) map[int]bool { return l.refuse },
		"frozen":  func(l *attemptsTopic) map[int]bool { return l.freeze },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			attemptsWorld(t, func(to *attemptsTopic, log *consumer.AttemptsLog) {
				own := topic.AccountPartition("acme", 3)
				others := []int{(own + 1) % 3, (own + 2) % 3}
				to.set(kind(to), true, own)
				for n := range 100 {
					log.Add("acme", int64(n), "")
					time.Sleep(100 * time.Millisecond)
				}
				time.Sleep(4 * time.Second)
				if n := to.count("acme ", others...); n != 100 || log.Held() != 0 || log.Lost() != 0 {
					t.Fatalf("%d of 100 records elsewhere, %d held back, %d lost", n, log.Held(), log.Lost())
				}
				to.set(kind(to), false, own)
				time.Sleep(6 * time.Second)
				log.Add("acme", 100, "")
				time.Sleep(time.Second)
				if n := to.count("acme ", own); n != 1 {
					t.Errorf("%d records in the account's own partition, which can be written again", n)
				}
			})
		})
	}
}

// What cannot be written holds back a commit for ten seconds at most. It is counted, and a gap says later what is missing.
func TestAttemptsGiveUp(t *testing.T) {
	t.Parallel()
	attemptsWorld(t, func(to *attemptsTopic, log *consumer.AttemptsLog) {
		to.set(to.freeze, true, 0, 1, 2)
		for n := range 300 {
			log.Add([]string{"acme", "globex", "initech"}[n%3], int64(1000+n), "")
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(6 * time.Second) // 9 s after the first
		if log.Lost() != 0 {
			t.Errorf("%d lost before their time", log.Lost())
		}
		time.Sleep(5 * time.Second)
		if log.Held() != 0 || log.Lost() != 300 {
			t.Errorf("%d held back, %d of 300 lost", log.Held(), log.Lost())
		}
		log.Add("acme", 1300, "") // while it is known to be useless, nothing waits
		if log.Held() != 0 || log.Lost() != 301 {
			t.Errorf("%d held back, %d of 301 lost", log.Held(), log.Lost())
		}
		to.set(to.freeze, false, 0, 1, 2)
		time.Sleep(8 * time.Second)
		log.Add("acme", 1301, "")
		time.Sleep(time.Second)
		if n := to.count(`{"kind":"gap","source":"email/3","from":1000,"to":1300,`, 0, 1, 2); n != 1 {
			t.Errorf("%d marks of the gap: %v", n, to.values)
		}
		if n := to.count("msg_1301", 0, 1, 2); n != 1 || log.Lost() != 301 {
			t.Errorf("the next attempt was written %d times, %d lost", n, log.Lost())
		}
	})
}

// A flood that cannot be written takes no more memory than is set aside for it.
func TestAttemptsAreBounded(t *testing.T) {
	t.Parallel()
	attemptsWorld(t, func(to *attemptsTopic, log *consumer.AttemptsLog) {
		to.set(to.freeze, true, 0, 1, 2)
		detail := strings.Repeat("x", 64<<10)
		for n := range 2000 { // 125 MiB
			log.Add("acme", int64(n), detail)
		}
		if held := log.Held(); held == 0 || held > 600 || log.Lost() != 2000-held {
			t.Errorf("%d held back, %d lost of 2000", held, log.Lost())
		}
	})
}

// An attempts topic that refuses everything holds back nobody's delivery for good.
func TestUnwritableAttemptsStopNothing(t *testing.T) {
	w := newWorld(t, "email")
	w.cfg.AttemptsTopic = true
	w.dir.set(t, "acme", "s", `{"url":"`+w.recv.URL+`/hook","events":["*"]}`)
	w.refuse(func(name string, _ int32, _ int) *kerr.Error {
		if name == "fanout.attempts" {
			return kerr.TopicAuthorizationFailed
		}
		return nil
	})
	i := w.start()
	for n := range 20 {
		w.produce("email", 0, rawEvent("acme", n))
	}
	w.until("all are delivered", func() bool { return len(w.recv.got("/hook")) == 20 })
	w.until("the offset is committed", func() bool { return w.uncommitted("fanout", "email") == 0 })
	if n := i.sum("fanout_attempts_unwritten_total"); n != 20 {
		t.Errorf("%v unwritten, want 20", n)
	}
	if err := i.c.Ready(); err != nil {
		t.Error(err)
	}
	i.end()
}

// Without an attempts topic, where it may not be created, deliveries are made all the same.
func TestMissingAttemptsTopicStopsNothing(t *testing.T) {
	w := newWorld(t, "email")
	w.cfg.Kafka.CreateTopics = false
	if _, err := w.admin().Create(t.Context(), w.cfg.Owned()); err != nil {
		t.Fatal(err)
	}
	w.cfg.AttemptsTopic = true
	w.dir.set(t, "acme", "s", `{"url":"`+w.recv.URL+`/hook","events":["*"]}`)
	i := w.start()
	w.produce("email", 0, rawEvent("acme", 1))
	w.until("it is delivered and committed", func() bool { return len(w.recv.got("/hook")) == 1 && w.uncommitted("fanout", "email") == 0 })
	if n := w.logs.FilterMessageSnippet("do not exist, and what belongs there is not written").Len(); n != 1 {
		t.Errorf("it is said %d times", n)
	}
	i.end()
}

// Each attempt is recorded before its record is committed: with the account as its key, and its webhook-id and outcome as headers.
func TestAttemptsAreRecorded(t *testing.T) {
	w := newWorld(t, "email")
	w.cfg.AttemptsTopic, w.cfg.AttemptsResponse, w.cfg.Instance = true, true, "here:1"
	w.dir.set(t, "acme", "s", `{"url":"`+w.recv.URL+`/hook","events":["*"]}`)
	w.recv.on("/hook", func(rw http.ResponseWriter, _ *http.Request) {
		rw.WriteHeader(http.StatusGone)
		_, _ = io.WriteString(rw, "moved away")
	})
	i := w.start()
	w.produce("email", 0, rawEvent("acme", 7))
	w.until("it is committed", func() bool { return len(w.recv.got("/hook")) == 1 && w.uncommitted("fanout", "email") == 0 })
	records := w.records("fanout.attempts")
	if len(records) != 1 {
		t.Fatalf("%d records of one attempt", len(records))
	}
	m := &records[0]
	a, ok := topic.ParseAttempt(m.Value)
	if !ok || string(m.Key) != "acme" || header(m, "fanout-webhook-id") != a.ID || header(m, "fanout-outcome") != "dead" ||
		a.TrackingID != "t7" || a.Channel != "EMAIL" || a.Instance != "here:1" || a.Response != "moved away" || a.Reason != "gone" {
		t.Errorf("%s: %s", m.Key, m.Value)
	}
	i.end()
}
