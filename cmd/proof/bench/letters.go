package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/segmentio/kafka-go"

	"fanout/cmd/internal/lab"
)

// fewLetters is how many dead letters the account has whose list is looked at. They are spread over all that there are.
const fewLetters = 10

// deadLetters is the part named letters: the first list of an account with ten dead letters, before and after the index has caught up, what
// building that costs, and a restart.
func deadLetters(ctx context.Context, args []string, out io.Writer) error {
	fs := flag.NewFlagSet("letters", flag.ContinueOnError)
	n := fs.Int("letters", 5_000_000, "dead letters in all")
	accounts := fs.Int("accounts", 5000, "accounts of the others")
	times := fs.Int("times", 20, "how often each list is asked for once the index has caught up")
	w, end, err := begin(ctx, fs, args, nil)
	if err != nil {
		return err
	}
	defer end()
	if err := w.kafka.CreateTopics(ctx, lab.Topic{Name: "channel.email", Partitions: 2}, lab.Topic{Name: "channel.email.dead-letter", Partitions: 12}); err != nil {
		return err
	}
	if err := w.write(ctx, "channel.email.dead-letter", *n, func(i int) kafka.Message { return deadLetter(i, *n, *accounts) }); err != nil {
		return err
	}
	size, err := logSize(w.kafka)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s; %d dead letters of %d accounts and one with %d, in 12 partitions, %d MB, real Kafka\n", machine(), *n, *accounts, fewLetters, size/1_000_000)
	f, err := w.start("channel.email")
	if err != nil {
		return err
	}
	answering, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	if err := lab.Await(answering, "an answer", func() bool { // while the index is being built
		_, err := get(ctx, f.Admin()+"/api/v1/status")
		return err == nil
	}); err != nil {
		return errors.Join(err, tail(f))
	}
	before, err := f.Usage()
	if err != nil {
		return err
	}
	began := time.Now()
	took, answers, err := listFew(ctx, f)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "while it is built: all %d found in %s, by %d answers of the API\n", fewLetters, took.Round(time.Millisecond), answers)
	if err := f.Ready(ctx); err != nil {
		return err
	}
	if err := caughtUp(ctx, f, *n); err != nil {
		return err
	}
	after, err := f.Usage()
	if err != nil {
		return err
	}
	m, err := f.Metrics(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "the index: built in %s with %.1f s CPU, %.1f MiB for %.0f accounts, the process %d MiB\n", time.Since(began).Round(100*time.Millisecond),
		(after.CPU - before.CPU).Seconds(), m.Sum("fanout_dead_letter_index_bytes")/(1<<20), m.Sum("fanout_dead_letter_index_accounts"), after.Resident>>20)
	if err := timeLists(ctx, f, *times, out); err != nil {
		return err
	}
	if err := f.Stop(ctx); err != nil {
		return err
	}
	info, err := os.Stat(filepath.Join(f.Dir(), "subscriptions.dead-letters"))
	if err != nil {
		return fmt.Errorf("the index's file: %w", err)
	}
	began = time.Now()
	if err := errors.Join(f.Start(), f.Ready(ctx)); err != nil {
		return err
	}
	ready := time.Since(began)
	if err := caughtUp(ctx, f, *n); err != nil {
		return err
	}
	fmt.Fprintf(out, "its file: %.1f MiB; after a restart ready in %s, the index caught up %s after the start\n", float64(info.Size())/(1<<20), ready.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
	return f.Kill()
}

// deadLetter is one that is like those of deliveries.
func deadLetter(i, n, accounts int) kafka.Message {
	owner := account(i % accounts)
	if i%(n/fewLetters) == n/fewLetters/2 {
		owner = "few"
	}
	now := strconv.FormatInt(time.Now().UnixMilli(), 10)
	headers := []kafka.Header{}
	for _, h := range [][2]string{
		{"webhook-id", fmt.Sprintf("msg_%026d", i)},
		{"account", owner},
		{"subscription", "hook-1"},
		{"event", "EMAIL_OPEN"},
		{"attempts", "8"},
		{"first-seen", now},
		{"group", "fanout"},
		{"origin", fmt.Sprintf("channel.email/0/%d", i)},
		{"reason", "attempts_exhausted"},
		{"status", "503"},
		{"detail", "the receiver answered 503 Service Unavailable"},
		{"dead-at", now},
		{"replays", "0"},
	} {
		headers = append(headers, kafka.Header{Key: "fanout-" + h[0], Value: []byte(h[1])})
	}
	return kafka.Message{
		Key: fmt.Appendf(nil, "%s/hook-1", owner), Headers: headers,
		Value: fmt.Appendf(nil, `{"eventType":"OPEN","trackingId":"tracking-%08d","notificationId":"n","channel":"EMAIL","userId":"u"}`, i),
	}
}

// letterPage is a page of the API.
type letterPage struct {
	DeadLetters []json.RawMessage `json:"deadLetters"`
	Matched     int               `json:"matched"`
	Cursor      string            `json:"cursor"`
	Unfinished  bool              `json:"unfinished"`
	Indexed     bool              `json:"indexed"`
}

// listFew asks for the account's dead letters until all are there.
func listFew(ctx context.Context, f *lab.Fanout) (took time.Duration, answers int, err error) {
	began := time.Now()
	found, cursor := 0, ""
	for {
		var page letterPage
		body, err := get(ctx, f.Admin()+"/api/v1/dead-letters?account=few&cursor="+url.QueryEscape(cursor))
		if err == nil {
			err = json.Unmarshal(body, &page)
		}
		if err != nil {
			return 0, 0, err
		}
		answers++
		found += len(page.DeadLetters)
		if cursor = page.Cursor; cursor == "" {
			break
		}
	}
	if found != fewLetters {
		return 0, 0, fmt.Errorf("%d dead letters found, want %d", found, fewLetters)
	}
	return time.Since(began), answers, nil
}

// caughtUp returns when the index has.
func caughtUp(ctx context.Context, f *lab.Fanout, n int) error {
	ctx, cancel := context.WithTimeout(ctx, time.Hour)
	defer cancel()
	return lab.Await(ctx, "the index", func() bool {
		var status struct {
			Index *struct {
				Records  int  `json:"records"`
				CaughtUp bool `json:"caughtUp"`
			} `json:"deadLetterIndex"`
		}
		body, err := get(ctx, f.Admin()+"/api/v1/status")
		return err == nil && json.Unmarshal(body, &status) == nil && status.Index != nil && status.Index.CaughtUp && status.Index.Records == n
	})
}

// timeLists times the lists once the index has caught up.
func timeLists(ctx context.Context, f *lab.Fanout, times int, out io.Writer) error {
	for _, list := range [][2]string{
		{"the API", "/api/v1/dead-letters?account=few"},
		{"the page", "/dead-letters?account=few"},
		{"the page of an account with many", "/dead-letters?account=" + account(1)},
	} {
		var all []time.Duration
		for range times {
			began := time.Now()
			if _, err := get(ctx, f.Admin()+list[1]); err != nil {
				return err
			}
			all = append(all, time.Since(began))
		}
		fmt.Fprintf(out, "with the index: %s in %s the first time, p50 %.1f ms, most %.1f ms (target 300)\n", list[0], all[0].Round(100*time.Microsecond), millis(quantile(all, 0.5)), millis(quantile(all, 1)))
	}
	return nil
}

// get reads what an address answers with 200.
func get(ctx context.Context, address string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req) //nolint:forbidigo // of a lab
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %.300s", address, res.Status, body)
	}
	return body, err
}
