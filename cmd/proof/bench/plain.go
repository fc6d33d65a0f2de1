package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/valyala/fasthttp"

	"fanout/cmd/internal/lab"
)

// plainWorkers is how many requests the plain pipeline has in flight at most.
const plainWorkers = 64

// plainPipeline is the yardstick plain of docs/contract.md#targets: what one writes first, with a Reader a partition,
// encoding/json, crypto/hmac and fasthttp. It signs; it commits nothing, retries nothing, and has no lanes.
type plainPipeline struct {
	host *fasthttp.HostClient
	key  []byte
	urls map[string]string // by account
	left atomic.Int64      // events that are not delivered yet
	done context.CancelFunc

	began atomic.Int64 // when the first request began, in Unix nanoseconds
	cpu   atomic.Int64 // of this process, then
}

type plainEvent struct {
	AccountID      string `json:"accountId"`
	Channel        string `json:"channel"`
	Type           string `json:"type"`
	TrackingID     string `json:"trackingId"`
	NotificationID string `json:"notificationId"`
	UserID         string `json:"userId"`
}

type plainPayload struct {
	EventType      string `json:"eventType"`
	TrackingID     string `json:"trackingId"`
	NotificationID string `json:"notificationId"`
	Channel        string `json:"channel"`
	UserID         string `json:"userId"`
}

// runPlain takes what a topic holds through the plain pipeline, and says what that cost this process.
func (w *world) runPlain(ctx context.Context, topic string, to receiverAt, ld load) (figure, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p := newPlain(to, ld.accounts())
	p.done = cancel
	p.left.Store(int64(ld.events))
	if err := p.run(ctx, w.kafka.Brokers(), topic, ld.partitions); err != nil {
		return figure{}, err
	}
	if left := p.left.Load(); left > 0 {
		return figure{}, fmt.Errorf("%d events are left: %w", left, context.Cause(ctx))
	}
	took := time.Since(time.Unix(0, p.began.Load()))
	usage, err := lab.SelfUsage()
	return newFigure(int64(ld.events), took, usage.CPU-time.Duration(p.cpu.Load())), err
}

// yardsticks are what fanout is measured beside (docs/contract.md#targets), in the same turn.
type yardsticks struct{ bare, plain figure }

// yardsticks measures both; the plain pipeline takes what a topic holds, which are the events of a load.
func (w *world) yardsticks(ctx context.Context, topic string, to receiverAt, ld load) (y yardsticks, err error) {
	if y.plain, err = w.runPlain(ctx, topic, to, ld); err != nil {
		return y, fmt.Errorf("plain: %w", err)
	}
	if y.bare, err = fasthttpLoop(ctx, to, ld); err != nil {
		return y, fmt.Errorf("fasthttp loop: %w", err)
	}
	return y, nil
}

func newPlain(to receiverAt, accounts int) *plainPipeline {
	p := &plainPipeline{
		host: &fasthttp.HostClient{Addr: to.addr, MaxConns: plainWorkers, NoDefaultUserAgentHeader: true},
		key:  []byte("0123456789abcdef0123456789abcdef"), urls: make(map[string]string),
	}
	if to.roots != nil {
		p.host.IsTLS, p.host.TLSConfig = true, to.tls()
	}
	for i := range accounts {
		p.urls[account(i)] = fmt.Sprintf("%s/hooks/%d", to.url, i)
	}
	return p
}

// run reads and delivers until ctx is done.
func (p *plainPipeline) run(ctx context.Context, brokers []string, topic string, partitions int) error {
	defer p.host.CloseIdleConnections()
	messages := make(chan kafka.Message, 10*plainWorkers)
	var running sync.WaitGroup
	failed := make(chan error, partitions+plainWorkers)
	for id := range partitions {
		running.Go(func() { p.end(failed, p.read(ctx, brokers, topic, id, messages)) })
	}
	for range plainWorkers {
		running.Go(func() { p.end(failed, p.work(ctx, messages)) })
	}
	running.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

const plainPart = "plain-pipeline"

// plainProcess is the part of that name: the plain pipeline as a process of its own, until it is ended.
func plainProcess(ctx context.Context, args []string, _ io.Writer) error {
	fs := flag.NewFlagSet(plainPart, flag.ContinueOnError)
	listen := fs.String("listen", "127.0.0.1:0", "address; that something listens there says that it has started")
	brokers := fs.String("brokers", "", "of Kafka, with commas")
	topic := fs.String("topic", "", "to read")
	partitions := fs.Int("partitions", 6, "of the topic")
	to := fs.String("to", "", "host:port of the receiver")
	accounts := fs.Int("accounts", 1000, "with one webhook each")
	if err := fs.Parse(args); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p := newPlain(receiverAt{url: "http://" + *to, addr: *to}, *accounts)
	p.done = cancel
	p.left.Store(math.MaxInt64)
	ln, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	defer ln.Close()
	return p.run(ctx, strings.Split(*brokers, ","), *topic, *partitions)
}

// end ends the run with the error, if there is one.
func (p *plainPipeline) end(failed chan<- error, err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		failed <- err
		p.done()
	}
}

func (p *plainPipeline) read(ctx context.Context, brokers []string, topic string, partition int, to chan<- kafka.Message) error {
	reader := kafka.NewReader(kafka.ReaderConfig{Brokers: brokers, Topic: topic, Partition: partition, MinBytes: 1, MaxBytes: 1 << 20, MaxWait: 250 * time.Millisecond})
	defer reader.Close()
	for {
		m, err := reader.ReadMessage(ctx)
		if err != nil {
			return err
		}
		select {
		case to <- m:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (p *plainPipeline) work(ctx context.Context, from <-chan kafka.Message) error {
	request, response := &fasthttp.Request{}, &fasthttp.Response{}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case m := <-from:
			if err := p.began1st(); err != nil {
				return err
			}
			if err := p.deliver(&m, request, response); err != nil {
				return err
			}
			if p.left.Add(-1) == 0 {
				p.done()
			}
		}
	}
}

// began1st notes when the first request begins, and what this process had used by then.
func (p *plainPipeline) began1st() error {
	if p.began.Load() != 0 {
		return nil
	}
	usage, err := lab.SelfUsage()
	if err == nil && p.began.CompareAndSwap(0, time.Now().UnixNano()) {
		p.cpu.Store(int64(usage.CPU))
	}
	return err
}

func (p *plainPipeline) deliver(m *kafka.Message, request *fasthttp.Request, response *fasthttp.Response) error {
	var ev plainEvent
	if err := json.Unmarshal(m.Value, &ev); err != nil {
		return err
	}
	body, err := json.Marshal(plainPayload{ev.Type, ev.TrackingID, ev.NotificationID, ev.Channel, ev.UserID})
	if err != nil {
		return err
	}
	id := "msg_" + strconv.Itoa(m.Partition) + "_" + strconv.FormatInt(m.Offset, 10)
	timestamp := strconv.FormatInt(time.Now().Unix(), 10)
	mac := hmac.New(sha256.New, p.key)
	fmt.Fprintf(mac, "%s.%s.%s", id, timestamp, body)
	request.Reset()
	request.SetRequestURI(p.urls[ev.AccountID])
	request.Header.SetMethod(fasthttp.MethodPost)
	request.Header.SetContentType("application/json")
	request.Header.SetUserAgent(sampleAgent)
	request.Header.Set("webhook-id", id)
	request.Header.Set("webhook-timestamp", timestamp)
	request.Header.Set("webhook-signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	request.SetBodyRaw(body)
	if err := p.host.Do(request, response); err != nil {
		return err
	}
	return wantSuccess(response.StatusCode())
}
