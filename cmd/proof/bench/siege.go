package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"fanout/cmd/internal/lab"
)

// siegeToken is the admin token of the besieged.
const siegeToken = "3qTz8vWx1LpRk5Ny7Bd2Fg9Hm4Jc6Sa0" //nolint:gosec // of a lab that ends with the run

// siege is a flood at the admin listener: connections that never send a whole request, and live streams on one portal link.
type siege struct {
	connections, streams int
	redial               bool // what was closed is opened again after a second

	open, kept, refused atomic.Int64
	health              []time.Duration // how long each answer of /healthz took
	failed              int             // answers of it that did not come within a second
	openAtMost          int64
}

// besieged is the part named siege: deliveries, and what /healthz does, with and without a flood at the admin listener, in
// turns; then how long the settings page of an account with very many webhooks takes.
func besieged(ctx context.Context, args []string, out io.Writer) error {
	fs := flag.NewFlagSet("siege", flag.ContinueOnError)
	ld := load{subscriptions: 80, partitions: 6}
	rate := fs.Int("rate", 5000, "events a second")
	span := fs.Duration("for", 15*time.Second, "how long each run is")
	warm := fs.Duration("warm", 3*time.Second, "how long at its beginning nothing is measured")
	pairs := fs.Int("pairs", 2, "how often the runs take turns")
	connections := fs.Int("connections", 10_000, "connections that send half a request")
	streams := fs.Int("streams", 1000, "streams that are asked for with one portal link")
	redial := fs.Bool("redial", true, "open a connection again, after a second, that was closed")
	webhooks := fs.Int("webhooks", 100_000, "webhooks of one account, pushed into Redis")
	w, end, err := begin(ctx, fs, args, nil)
	if err != nil {
		return err
	}
	defer end()
	fmt.Fprintf(out, "%s; %d events a second for %s after %s; %d half-open connections and %d streams at the admin listener\n",
		machine(), *rate, *span, *warm, *connections, *streams)
	var ratios []float64
	for i := range *pairs {
		var saw [2]othersSaw
		var sg [2]*siege
		for j := range 2 {
			sg[j] = &siege{}
			if j == 1 {
				sg[j].connections, sg[j].streams, sg[j].redial = *connections, *streams, *redial
			}
			s := w.steady("bench.siege."+strconv.Itoa(2*i+j), ld, *rate, *span+*warm)
			s.beside = sg[j].begin
			if saw[j], err = s.others(ctx, slowReceivers{}, 0, int(*warm/produceEvery)); err != nil {
				return err
			}
		}
		ratios = append(ratios, saw[1].inTime/saw[0].inTime)
		fmt.Fprintf(out, "  besieged: in time %.4f, p99 %.2f ms, %s\n  without:  in time %.4f, p99 %.2f ms, %s\n",
			saw[1].inTime, millis(saw[1].p99), sg[1], saw[0].inTime, millis(saw[0].p99), sg[0])
	}
	slices.Sort(ratios)
	fmt.Fprintf(out, "deliveries: %.3f of the pace without it (target at least 0.95)\n", ratios[len(ratios)/2])
	return w.manyWebhooks(ctx, *webhooks, out)
}

func (g *siege) String() string {
	slices.Sort(g.health)
	text := fmt.Sprintf("/healthz p50 %.1f ms, p99 %.1f ms, at most %.1f ms of %d, %d failed",
		millis(quantile(g.health, 0.5)), millis(quantile(g.health, 0.99)), millis(quantile(g.health, 1)), len(g.health), g.failed)
	if g.connections > 0 {
		text += fmt.Sprintf("; %d connections kept open at most, %d streams served, %d refused", g.openAtMost, g.kept.Load(), g.refused.Load())
	}
	return text
}

// begin begins it; the function that it returns ends it.
func (g *siege) begin(ctx context.Context, f *lab.Fanout) (end func() error, err error) {
	ctx, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	if g.streams > 0 {
		link, err := g.link(ctx, f)
		if err != nil {
			stop()
			return nil, err
		}
		for range g.streams {
			running.Go(func() { g.stream(ctx, f, link) })
		}
	}
	addr := strings.TrimPrefix(f.Admin(), "http://")
	for range g.connections {
		running.Go(func() { g.hold(ctx, addr) })
	}
	running.Go(func() { g.probe(ctx, f) })
	select {
	case <-time.After(2 * time.Second): // until they are there
	case <-ctx.Done():
	}
	return func() error {
		stop()
		running.Wait()
		return nil
	}, nil
}

// portalLink is one for the first account.
type portalLink struct{ id, token string }

func (g *siege) link(ctx context.Context, f *lab.Fanout) (portalLink, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, f.Admin()+"/api/v1/accounts/"+account(0)+"/portal-links", strings.NewReader("{}"))
	if err != nil {
		return portalLink{}, err
	}
	request.Header.Set("Authorization", "Bearer "+siegeToken)
	request.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return portalLink{}, err
	}
	defer answer.Body.Close()
	var made struct {
		ID  string `json:"id"`
		URL string `json:"url"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&made); err != nil || answer.StatusCode != http.StatusCreated {
		return portalLink{}, fmt.Errorf("make a portal link: %s, %w", answer.Status, err)
	}
	at, err := url.Parse(made.URL)
	if err != nil {
		return portalLink{}, err
	}
	token, _, _ := strings.Cut(strings.TrimPrefix(at.Path, "/portal/"), "/")
	return portalLink{made.ID, token}, nil
}

// again waits before something is tried once more; false ends it.
func again(ctx context.Context) bool {
	select {
	case <-time.After(time.Second):
		return true
	case <-ctx.Done():
		return false
	}
}

// stream asks for a stream until ctx is done, and again where it is refused.
func (g *siege) stream(ctx context.Context, f *lab.Fanout, link portalLink) {
	for ok := true; ok; ok = again(ctx) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, f.Admin()+"/portal/"+link.id+"/api/v1/stream", http.NoBody)
		if err != nil {
			return
		}
		request.Header.Set("Authorization", "Bearer "+link.token)
		answer, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			g.refused.Add(1)
			continue
		}
		if answer.StatusCode == http.StatusOK {
			g.kept.Add(1)
		} else {
			g.refused.Add(1)
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		_ = answer.Body.Close()
	}
}

// hold keeps a connection open that has sent half a request, and opens another where it is closed.
func (g *siege) hold(ctx context.Context, addr string) {
	var dialer net.Dialer
	for ok := true; ok; ok = g.redial && again(ctx) {
		conn, err := dialer.DialContext(ctx, "tcp", addr)
		if err != nil {
			continue
		}
		ended := context.AfterFunc(ctx, func() { _ = conn.Close() })
		g.open.Add(1)
		if _, err := io.WriteString(conn, "POST /sign-in HTTP/1.1\r\nHost: "+addr+"\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 1000\r\n\r\ntok"); err == nil {
			_, _ = io.Copy(io.Discard, conn)
		}
		g.open.Add(-1)
		ended()
		_ = conn.Close()
	}
}

// probe asks /healthz on a connection of its own, again and again.
func (g *siege) probe(ctx context.Context, f *lab.Fanout) {
	transport := &http.Transport{DisableKeepAlives: true}
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			tick.Stop()
			return
		}
		g.openAtMost = max(g.openAtMost, g.open.Load())
		began := time.Now()
		err := ask(ctx, transport, f.Admin()+"/healthz", "")
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			g.failed++
		}
		g.health = append(g.health, time.Since(began))
	}
}

// ask makes a GET request that has to be answered 200 within a minute, /healthz within a second.
func ask(ctx context.Context, transport *http.Transport, at, token string) error {
	within := time.Minute
	if strings.HasSuffix(at, "/healthz") {
		within = time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at, http.NoBody)
	if err != nil {
		return err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return errors.New(answer.Status)
	}
	return nil
}

// manyWebhooks says how long the settings page of an account takes whose webhooks were pushed into Redis, however many.
func (w *world) manyWebhooks(ctx context.Context, n int, out io.Writer) error {
	const topic = "bench.siege.settings"
	client := redis.NewClient(&redis.Options{Addr: w.redis.Addr()})
	defer client.Close()
	for some := range slices.Chunk(numbers(n), 1000) {
		_, err := client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, i := range some {
				p.HSet(ctx, "fanout:account:many", subscription(i), fmt.Sprintf(`{"url":"http://127.0.0.1:9/%d","events":["EMAIL_OPEN"],"secrets":["%s"]}`, i, secret()))
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("store webhooks: %w", err)
		}
	}
	if err := w.kafka.CreateTopics(ctx, lab.Topic{Name: topic, Partitions: 1}); err != nil {
		return err
	}
	f, err := w.startReady(ctx, topic, withToken)
	if err != nil {
		return err
	}
	defer f.Kill() //nolint:errcheck // the lab ends what is left
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	times := make([]time.Duration, 0, 5)
	for range cap(times) {
		began := time.Now()
		if err := ask(ctx, transport, f.Admin()+"/settings/events-webhook?account=many", siegeToken); err != nil {
			return fmt.Errorf("the settings page: %w", err)
		}
		times = append(times, time.Since(began))
	}
	fmt.Fprintf(out, "the settings page of an account with %d webhooks: %.0f ms, at most %.0f ms of %d (target at most 1000)\n",
		n, millis(quantile(times, 0.5)), millis(quantile(times, 1)), len(times))
	return nil
}

func withToken(c lab.Config) { c.Set("admin.token", siegeToken) }
