package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/segmentio/kafka-go"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"fanout/config"
	"fanout/consumer"
	"fanout/dispatcher"
	"fanout/event"
)

func (a *app) deadletterCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "deadletter",
		Aliases: []string{"deadletters", "dlq"},
		Short:   "Count, list, show, export or replay dead letters",
		Args:    cobra.NoArgs,
	}
	cmd.AddCommand(a.deadletterStatsCommand(), a.deadletterListCommand(), a.deadletterShowCommand(), a.deadletterExportCommand(), a.replayCommand())
	return cmd
}

// selection is the flags that select dead letters.
type selection struct {
	account, subscription, event string
	reasons                      []string
	statuses                     []int
	since, until                 string
	partitions                   []int
	offsets                      string
	ids                          []string
}

func (s *selection) flags(f *pflag.FlagSet) {
	f.StringVar(&s.account, "account", "", "of this account")
	f.StringVar(&s.subscription, "subscription", "", "of this subscription")
	f.StringVar(&s.event, "event", "", "of this event name")
	f.StringSliceVar(&s.reasons, "reason", nil, "with one of these reasons")
	f.IntSliceVar(&s.statuses, "status", nil, "whose last HTTP status was one of these")
	f.StringVar(&s.since, "since", "", "died then or later: a time (RFC 3339) or how long ago (90m, 2d)")
	f.StringVar(&s.until, "until", "", "died before")
	f.IntSliceVar(&s.partitions, "partition", nil, "in these partitions of the dead-letter topic")
	f.StringVar(&s.offsets, "offsets", "", "at these offsets: FROM-TO, both inclusive, or one")
	f.StringSliceVar(&s.ids, "id", nil, "with these webhook-ids, or at these places (PARTITION/OFFSET)")
}

// filter checks the flags. All that is wrong is said together.
func (s *selection) filter(now time.Time) (consumer.Filter, error) {
	f := consumer.Filter{
		Account: s.account, Subscription: s.subscription, Event: s.event, Reasons: s.reasons, Statuses: s.statuses,
		Partitions: s.partitions, IDs: s.ids,
	}
	var problems []string
	note := func(flag, value, remedy string) {
		problems = append(problems, fmt.Sprintf("--%s %s: %s", flag, value, remedy))
	}
	if _, ok := event.ParseName(s.event); s.event != "" && !ok {
		note("event", s.event, "no event has that name; use one of "+eventNames())
	}
	for _, reason := range s.reasons {
		if r, ok := dispatcher.ParseReason(reason); !ok || !r.Dead() {
			note("reason", reason, "nothing dies for that; use one of "+strings.Join(dispatcher.DeadReasons(), ", "))
		}
	}
	var err error
	if f.Since, err = moment(s.since, now); err != nil {
		note("since", s.since, err.Error())
	}
	if f.Until, err = moment(s.until, now); err != nil {
		note("until", s.until, err.Error())
	}
	if !f.Since.IsZero() && !f.Until.IsZero() && !f.Since.Before(f.Until) {
		note("until", s.until, "is not after --since "+s.since+": nothing lies between them")
	}
	if s.offsets != "" {
		r, err := offsetRange(s.offsets)
		if err != nil {
			note("offsets", s.offsets, err.Error())
		}
		f.Offsets = &r
	}
	if f.Since.After(now.Add(time.Minute)) {
		note("since", s.since, "has not come yet: nothing can have died since")
	}
	for _, p := range s.partitions {
		if p < 0 {
			note("partition", strconv.Itoa(p), "partitions count from 0")
		}
	}
	if len(problems) > 0 {
		return f, &exitError{code: 2, err: fmt.Errorf("%s", strings.Join(problems, "\n  "))}
	}
	return f, nil
}

func eventNames() string {
	var names []string
	for _, n := range event.Names() {
		names = append(names, n.String())
	}
	return strings.Join(names, ", ")
}

// moment reads a time, or how long ago.
func moment(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseFloat(days, 64); err == nil && n >= 0 && n <= 36500 { // a Duration holds 292 years
			return now.Add(-time.Duration(n * 24 * float64(time.Hour))), nil
		}
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	return time.Time{}, errors.New("is neither a time like 2026-01-02T15:04:05Z nor a while like 90m or 2d")
}

// offsetRange reads FROM-TO, both inclusive, or a single offset.
func offsetRange(s string) (consumer.Range, error) {
	from, to, ranged := strings.Cut(s, "-")
	if !ranged {
		to = from
	}
	f, err1 := strconv.ParseInt(from, 10, 64)
	t, err2 := strconv.ParseInt(to, 10, 64)
	if err1 != nil || err2 != nil || f < 0 || t < f || t == math.MaxInt64 {
		return consumer.Range{}, errors.New("is no range; write FROM-TO with FROM not above TO")
	}
	return consumer.Range{From: f, To: t + 1}, nil
}

// withKafka asks something of Kafka, however long that takes, unlike withAdmin.
func (a *app) withKafka(cmd *cobra.Command, ask func(context.Context, *config.Config, *consumer.Admin) error) error {
	cfg, err := a.load(cmd)
	if err != nil {
		return err
	}
	admin, err := consumer.NewAdmin(cfg.Consumer())
	if err != nil {
		return err
	}
	defer admin.Close()
	return kafkaHint(&cfg, ask(cmd.Context(), &cfg, admin))
}

// eachLetter calls f with each dead letter that the filter selects, one at a time, and says how many records were read.
func (a *app) eachLetter(ctx context.Context, admin *consumer.Admin, filter *consumer.Filter, f func(*consumer.DeadLetter) error) (read int, err error) {
	letters := admin.DeadLetters()
	ranges, err := letters.Ranges(ctx, filter)
	if err != nil {
		return 0, err
	}
	done, total, end := a.progress("reading dead letters")
	defer end()
	total(consumer.Total(ranges))
	var one sync.Mutex // guards what f changes
	return int(consumer.Total(ranges)), letters.Each(ctx, filter, ranges, done, func(d *consumer.DeadLetter) error {
		one.Lock()
		defer one.Unlock()
		return f(d)
	})
}

// selectedLetters are the dead letters that the filter selects, in the order of their death.
func (a *app) selectedLetters(ctx context.Context, admin *consumer.Admin, filter *consumer.Filter) (found []*consumer.DeadLetter, err error) {
	_, err = a.eachLetter(ctx, admin, filter, func(d *consumer.DeadLetter) error {
		found = append(found, new(*d))
		return nil
	})
	slices.SortFunc(found, func(x, y *consumer.DeadLetter) int { return x.DeadAt.Compare(y.DeadAt) })
	return found, err
}

// kafkaHint adds the next step to an error that Kafka, or the way there, is the cause of. A partition that is not there
// was asked for by a flag.
func kafkaHint(cfg *config.Config, err error) error {
	if errors.Is(err, consumer.ErrNoPartition) {
		return &exitError{code: 2, err: err}
	}
	_, answered := errors.AsType[kafka.Error](err)
	_, network := errors.AsType[net.Error](err)
	if !answered && !network && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return err
	}
	return hint(err, "kafka.brokers is %s; `fanout check` looks at everything", strings.Join(cfg.Kafka.Brokers, ","))
}

// progress shows a bar on a terminal, and nothing elsewhere. The function ends it.
func (a *app) progress(what string) (done *atomic.Int64, total func(int64), end func()) {
	done = new(atomic.Int64)
	if !isTerminal(a.stderr) {
		return done, func(int64) {}, func() {}
	}
	bar := progressbar.NewOptions64(0, progressbar.OptionSetWriter(a.stderr), progressbar.OptionSetDescription(what),
		progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
	stop := make(chan struct{})
	var running sync.WaitGroup
	var sum atomic.Int64
	running.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				_ = bar.Finish()
				return
			case <-tick.C:
				if n := sum.Load(); n > 0 {
					bar.ChangeMax64(n)
					_ = bar.Set64(min(done.Load(), n))
				}
			}
		}
	})
	return done, func(n int64) { sum.Add(n) }, func() { close(stop); running.Wait() }
}

func (a *app) deadletterStatsCommand() *cobra.Command {
	var s selection
	var by []string
	cmd := &cobra.Command{
		Use:     "stats",
		Short:   "Count dead letters by subscription and reason",
		Example: "  fanout deadletter stats --since 2h\n  fanout deadletter stats --by reason,event",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, err := s.filter(time.Now())
			if err != nil {
				return err
			}
			var groups consumer.By
			for _, key := range by {
				switch key {
				case "subscription":
					groups.Subscription = true
				case "event":
					groups.Event = true
				case "reason":
					groups.Reason = true
				default:
					return &exitError{code: 2, err: fmt.Errorf("--by %s: want subscription, event or reason", key)}
				}
			}
			return a.withKafka(cmd, func(ctx context.Context, _ *config.Config, admin *consumer.Admin) error {
				return a.deadletterStats(ctx, admin, &filter, groups)
			})
		},
	}
	s.flags(cmd.Flags())
	cmd.Flags().StringSliceVar(&by, "by", []string{"subscription", "reason"}, "what to count by: subscription, event, reason")
	return configured(cmd)
}

func (a *app) deadletterStats(ctx context.Context, admin *consumer.Admin, filter *consumer.Filter, by consumer.By) error {
	letters := admin.DeadLetters()
	ranges, err := letters.Ranges(ctx, filter)
	if err != nil {
		return err
	}
	done, total, end := a.progress("reading dead letters")
	total(consumer.Total(ranges))
	groups, err := letters.Stats(ctx, filter, by, ranges, done)
	end()
	if err != nil {
		return err
	}
	sum := 0
	for _, g := range groups {
		sum += g.Count
	}
	if a.asJSON() {
		return a.json(map[string]any{"total": sum, "read": consumer.Total(ranges), "groups": append([]consumer.Group{}, groups...)})
	}
	if sum == 0 {
		fmt.Fprintf(a.stdout, "no dead letters%s (%s read)\n", selected(filter), count(int(consumer.Total(ranges)), "record"))
		return nil
	}
	if err := table(a.stdout, groupRows(groups, by)); err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "\n%s in %s\n", count(sum, "dead letter"), count(len(groups), "group"))
	return nil
}

// selected is what to add to "no dead letters".
func selected(f *consumer.Filter) string {
	if f.Account == "" && f.Subscription == "" && f.Event == "" && len(f.Reasons)+len(f.Statuses)+len(f.Partitions)+len(f.IDs) == 0 &&
		f.Since.IsZero() && f.Until.IsZero() && f.Offsets == nil {
		return ""
	}
	return " that the flags select"
}

func groupRows(groups []consumer.Group, by consumer.By) [][]string {
	head := []string{"COUNT"}
	add := func(on bool, names ...string) {
		if on {
			head = append(head, names...)
		}
	}
	add(by.Subscription, "ACCOUNT", "SUBSCRIPTION")
	add(by.Event, "EVENT")
	add(by.Reason, "REASON")
	rows := [][]string{append(head, "FIRST", "LAST")}
	for _, g := range groups {
		row := []string{strconv.Itoa(g.Count)}
		if by.Subscription {
			row = append(row, orDash(g.Account), orDash(g.Subscription))
		}
		if by.Event {
			row = append(row, orDash(g.Event))
		}
		if by.Reason {
			row = append(row, orDash(g.Reason))
		}
		rows = append(rows, append(row, clock(g.First), clock(g.Last)))
	}
	return rows
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// clock is a time for people, in their zone.
func clock(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }

func (a *app) deadletterListCommand() *cobra.Command {
	var s selection
	limit := 100
	cmd := &cobra.Command{
		Use:         "list",
		Short:       "List dead letters, headers only",
		Long:        "list shows dead letters as it finds them: partitions are read all at once, so their lines mix.\n-o json and -o ndjson list all that is selected, one object a line in ndjson; a table ends at --limit.",
		Example:     "  fanout deadletter list --account acme --reason expired\n  fanout deadletter list --since 1d -o ndjson | jq .detail",
		Args:        cobra.NoArgs,
		Annotations: map[string]string{streams: ""},
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, err := s.filter(time.Now())
			if err != nil {
				return err
			}
			if limit < 0 {
				return &exitError{code: 2, err: errNegativeLimit}
			}
			if a.format != "table" && !cmd.Flags().Changed("limit") {
				limit = 0
			}
			return a.withKafka(cmd, func(ctx context.Context, _ *config.Config, admin *consumer.Admin) error {
				return a.deadletterList(ctx, admin, &filter, limit)
			})
		},
	}
	s.flags(cmd.Flags())
	cmd.Flags().IntVar(&limit, "limit", limit, "show so many at the most; 0 means all")
	return configured(cmd)
}

// errNegativeLimit is a --limit of less than nothing.
var errNegativeLimit = errors.New("--limit is not negative; 0 means no limit")

// errEnough ends a scan that has shown what was asked for.
var errEnough = errors.New("enough")

func (a *app) deadletterList(ctx context.Context, admin *consumer.Admin, filter *consumer.Filter, limit int) error {
	shown := 0
	rows := [][]string{{"PARTITION/OFFSET", "DIED", "REASON", "STATUS", "ACCOUNT", "SUBSCRIPTION", "EVENT", "ATTEMPTS", "REPLAYS", "WEBHOOK-ID", "DETAIL"}}
	list := a.lister()
	read, err := a.eachLetter(ctx, admin, filter, func(d *consumer.DeadLetter) error {
		if limit > 0 && shown >= limit {
			return errEnough
		}
		shown++
		if a.format != "table" {
			slim := *d
			slim.Key, slim.Value, slim.Headers = nil, nil, nil
			return list.add(slim)
		}
		status := ""
		if d.Status != 0 {
			status = strconv.Itoa(d.Status)
		}
		rows = append(rows, []string{
			d.Position(), clock(d.DeadAt), d.Reason, orDash(status), orDash(d.Account), orDash(d.Subscription), orDash(d.Event),
			strconv.Itoa(d.Attempts), strconv.Itoa(d.Replays), orDash(d.ID), d.Detail,
		})
		return nil
	})
	more := err == errEnough //nolint:errorlint // it is ours, unwrapped
	if more {
		err = nil
	}
	if a.format != "table" && (err == nil || list.some) {
		return errors.Join(err, list.end()) // a part is well-formed too: the exit status says that it is one
	}
	if err != nil {
		return err
	}
	if shown == 0 {
		fmt.Fprintf(a.stdout, "no dead letters%s (%s read)\n", selected(filter), count(read, "record"))
		return nil
	}
	if err := table(a.stdout, rows); err != nil {
		return err
	}
	if more {
		fmt.Fprintf(a.stdout, "\nthere are more: --limit %d ended the list; `fanout deadletter stats` counts them\n", limit)
	}
	return nil
}

// lister streams objects: as one JSON array, or one a line.
type lister struct {
	out   io.Writer
	lines bool
	some  bool
}

func (a *app) lister() *lister {
	return &lister{out: bufio.NewWriterSize(a.stdout, 1<<16), lines: a.format == "ndjson"}
}

func (l *lister) add(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	switch {
	case l.lines:
		b = append(b, '\n')
	case l.some:
		b = append([]byte(",\n"), b...)
	default:
		b = append([]byte("[\n"), b...)
	}
	l.some = true
	_, err = l.out.Write(b)
	return err
}

func (l *lister) end() error {
	var err error
	switch {
	case l.lines:
	case l.some:
		_, err = io.WriteString(l.out, "\n]\n")
	default:
		_, err = io.WriteString(l.out, "[]\n")
	}
	if b, ok := l.out.(*bufio.Writer); ok && err == nil {
		err = b.Flush()
	}
	return err
}

// streams marks a command that can write ndjson.
const streams = "streams"
