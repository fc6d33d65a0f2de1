package consumer_test

import (
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Records of a tier that are dated ahead, by another clock or a foreign writer, hold what stands behind them for one delay, not for one each.
func TestRecordsDatedAhead(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	w.dir.set(t, "acme", "b", `{"url":"`+w.recv.URL+`/b","events":["*"]}`)
	w.createTopic("fanout.retry.1s", 2) // with CreateTime
	i := w.start()
	const ahead = 40
	for k := range ahead {
		r := retryRecord("a", k)
		r.Time = time.Now().Add(24 * time.Hour)
		w.produce("fanout.retry.1s", 0, r)
	}
	w.produce("fanout.retry.1s", 0, retryRecord("b", 100))
	w.until("all come up", func() bool { return len(w.recv.got("/b")) == 1 && len(w.ids("/a")) == ahead })
	i.end()
}

// A record without a timestamp counts from when it is read.
func TestRecordWithoutTime(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	free := make(chan struct{})
	w.recv.on("/a", func(http.ResponseWriter, *http.Request) { <-free })
	i := w.start()
	r := rawEvent("acme", 1)
	r.Time = time.UnixMilli(-1)
	w.produce("channel.email", 0, r)
	w.until("an attempt", func() bool { return len(w.recv.got("/a")) == 1 })
	if age := i.sum("fanout_lag_seconds", "topic", "channel.email"); age > 3600 {
		t.Errorf("the lag is %v seconds", age)
	}
	close(free)
	i.end()
}

// A fanout-not-before that lies further ahead than any clock goes waits in the longest tier, not in the shortest again and again.
func TestNotBeforeBeyondAllClocks(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	i := w.start()
	w.produce("fanout.retry.200ms", 0, retryRecord("a", 1, kafka.Header{Key: "fanout-not-before", Value: []byte(strconv.FormatInt(1<<48, 10))}))
	w.until("it goes to the longest tier", func() bool { return len(w.records("fanout.retry.1s")) > 0 })
	if n := len(w.records("fanout.retry.200ms")); n != 1 {
		t.Errorf("it was written to the shortest tier %d times", n-1)
	}
	i.end()
}

// A broker that holds a client to a quota may answer without a word of the partition: it is asked again when the quota allows it.
func TestThrottledAnswerIsWaitedOut(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	const throttle = 700 * time.Millisecond
	answered := make(chan time.Time, 1)
	again := make(chan time.Time, 1)
	w.cluster.ControlKey(int16(kmsg.Fetch), func(r kmsg.Request) (kmsg.Response, error, bool) {
		req, ok := r.(*kmsg.FetchRequest)
		w.cluster.KeepControl()
		if !ok || len(req.Topics) != 1 || req.Topics[0].Topic != "channel.email" || req.Topics[0].Partitions[0].Partition != 0 {
			return nil, nil, false
		}
		select {
		case answered <- time.Now():
			res, _ := req.ResponseKind().(*kmsg.FetchResponse)
			res.ThrottleMillis = int32(throttle.Milliseconds())
			return res, nil, true
		default:
		}
		select {
		case again <- time.Now():
		default:
		}
		return nil, nil, false
	})
	w.produce("channel.email", 0, rawEvent("acme", 1))
	i := w.start()
	w.until("it is delivered", func() bool { return len(w.recv.got("/a")) == 1 })
	if waited := (<-again).Sub(<-answered); waited < throttle-50*time.Millisecond {
		t.Errorf("it was asked again after %v, not after %v", waited, throttle)
	}
	if n := w.logs.FilterMessageSnippet("reading fails").Len(); n > 0 {
		t.Errorf("%d lines say that reading fails", n)
	}
	i.end()
}
