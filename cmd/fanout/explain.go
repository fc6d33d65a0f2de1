package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"fanout/config"
	"fanout/consumer"
	"fanout/consumer/registry"
	"fanout/dispatcher"
	"fanout/event"
	"fanout/subscriptions"
)

func (a *app) explainCommand() *cobra.Command {
	var eventFile, topic string
	var reveal bool
	cmd := &cobra.Command{
		Use:   "explain TOPIC/PARTITION/OFFSET",
		Short: "Say who gets a record, who does not and why, and where its deliveries are",
		Long: "explain decodes a record of a source topic, shows each subscription of its account with the match or the reason why\n" +
			"not, the exact request as a curl command, and where each delivery is now. It sends nothing.\n\n" +
			"The configuration is that of now: a subscription changed since the record was read may have been matched otherwise.",
		Example: "  fanout explain channel.email/3/1287\n  fanout explain --event event.json --topic channel.email",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 1) == (eventFile != "") {
				return &exitError{code: 2, err: errors.New("give either TOPIC/PARTITION/OFFSET or --event FILE")}
			}
			if topic != "" && eventFile == "" {
				return &exitError{code: 2, err: errors.New("--topic goes with --event: a record says its topic")}
			}
			return a.withKafka(cmd, func(ctx context.Context, cfg *config.Config, admin *consumer.Admin) error {
				e := &explainer{a: a, cfg: cfg, admin: admin, reveal: reveal}
				if eventFile != "" {
					return e.file(ctx, eventFile, topic)
				}
				origin, err := consumer.ParseOrigin(args[0])
				if err != nil {
					return &exitError{code: 2, err: fmt.Errorf("%s %w", args[0], err)}
				}
				return e.record(ctx, origin)
			})
		},
	}
	cmd.Flags().StringVar(&eventFile, "event", "", "explain the raw event in this file (- is standard input), as if it were read now")
	cmd.Flags().StringVar(&topic, "topic", "", "with --event: the source topic whose mapping decodes it (default the first)")
	a.adminFlag(cmd)
	cmd.Flags().BoolVar(&reveal, "reveal", false, "show the values of the subscriptions' own headers, which may be secrets")
	return configured(cmd)
}

// Explained is what explain finds out, for programs.
type explainResult struct {
	Record     string            `json:"record"` // topic/partition/offset; empty with --event
	Appended   time.Time         `json:"appended,omitzero"`
	Result     string            `json:"result"` // event, ignored, malformed, unmatched
	Problem    string            `json:"problem,omitempty"`
	Event      map[string]string `json:"event,omitempty"`
	Committed  *bool             `json:"committed,omitempty"`  // the record is settled, says the group
	Matches    []explainMatch    `json:"subscriptions"`        // empty without an event
	DeadLetter string            `json:"deadLetter,omitempty"` // of a malformed record
}

// explainMatch is one subscription of the account.
type explainMatch struct {
	Subscription string          `json:"subscription"`
	Match        bool            `json:"match"`
	Why          string          `json:"why"`
	ID           string          `json:"webhookId,omitempty"`
	Where        string          `json:"where,omitempty"`
	Lane         string          `json:"lane,omitempty"`
	Curl         string          `json:"curl,omitempty"`
	Trace        *consumer.Trace `json:"trace,omitempty"`
}

type explainer struct {
	a      *app
	cfg    *config.Config
	admin  *consumer.Admin
	reveal bool
	lanes  []instanceLanes // once they were asked for
}

// instanceLanes is what an instance tells of its lanes.
type instanceLanes struct {
	base  string
	lanes []laneLine
	err   error
}

func (e *explainer) file(ctx context.Context, name, topic string) error {
	in := e.a.stdin
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return err
		}
		defer file.Close()
		in = file
	}
	limit := e.cfg.Consumer().MaxEventBytes
	value, err := io.ReadAll(io.LimitReader(in, int64(limit)+1))
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	if topic == "" {
		topic = consumer.DefaultSources()[0].Topic
		if c := e.cfg.Consumer(); len(c.Sources) > 0 {
			topic = c.Sources[0].Topic
		}
	}
	out, err := e.explain(ctx, &consumer.Message{Topic: topic, Offset: -1, Time: time.Now(), Value: value})
	if err != nil {
		return err
	}
	return e.show(out)
}

func (e *explainer) record(ctx context.Context, at dispatcher.Origin) error {
	m, err := e.read(ctx, at)
	if err != nil {
		return err
	}
	decoders, err := consumer.NewDecoders(consumerConfig(e.cfg))
	if err != nil {
		return err
	}
	defer decoders.Close()
	if !decoders.Source(at.Topic) {
		origin, err := consumer.ParseOrigin(m.Header("fanout-origin"))
		if err != nil {
			return fmt.Errorf("%s is no source topic of the configuration, and the record's fanout-origin %w", at.Topic, err)
		}
		if !decoders.Source(origin.Topic) { // anybody may have written it, and that it comes from itself
			return fmt.Errorf("%s is no source topic of the configuration, nor is the %s that the record says it comes from", at.Topic, origin.Topic)
		}
		fmt.Fprintf(e.a.stderr, "%s is a record of %s; explaining its origin\n", at, printable(origin.String()))
		if m, err = e.read(ctx, origin); err != nil {
			return err
		}
	}
	out, err := e.explain(ctx, m)
	if err != nil {
		return err
	}
	return e.show(out)
}

func (e *explainer) read(ctx context.Context, at dispatcher.Origin) (*consumer.Message, error) {
	m, err := e.admin.Read(ctx, at)
	if err == nil && m == nil {
		err = fmt.Errorf("%s holds no record that may be read: a transaction marker, an aborted record, or one that compaction removed", at)
	}
	return m, err
}

func consumerConfig(cfg *config.Config) *consumer.Config {
	c := cfg.Consumer()
	return &c
}

func (e *explainer) explain(ctx context.Context, m *consumer.Message) (*explainResult, error) {
	decoders, err := consumer.NewDecoders(consumerConfig(e.cfg))
	if err != nil {
		return nil, err
	}
	defer decoders.Close()
	out := &explainResult{Matches: []explainMatch{}}
	recorded := m.Offset >= 0
	if recorded {
		out.Record, out.Appended = dispatcher.Origin{Topic: m.Topic, Partition: m.Partition, Offset: m.Offset}.String(), m.Time
		progress, err := e.admin.Committed(ctx, e.cfg.Kafka.Group, m.Topic, []int{m.Partition})
		if err != nil {
			return nil, err
		}
		p, ok := progress[m.Partition]
		settled := ok && p.Settled(m.Offset)
		out.Committed = &settled
	}
	ev, rec, err := decoders.Decode(ctx, m)
	switch {
	case errors.Is(err, registry.ErrUnavailable):
		return nil, err
	case errors.Is(err, event.ErrIgnored):
		out.Result, out.Problem = "ignored", "its type has no event name, or it has no value: it is counted, and never dead-lettered"
		return out, nil
	case err != nil:
		out.Result, out.Problem = "malformed", err.Error()
		if recorded {
			out.DeadLetter, err = e.buried(ctx, m)
		}
		return out, err
	}
	out.Event = map[string]string{
		"account": ev.Account, "name": ev.Name.String(), "trackingId": ev.TrackingID, "notificationId": ev.NotificationID, "userId": ev.UserID, "id": ev.ID,
	}
	return out, e.match(ctx, out, &ev, &rec, recorded)
}

// buried finds the dead letter of a malformed record.
func (e *explainer) buried(ctx context.Context, m *consumer.Message) (string, error) {
	origin := dispatcher.Origin{Topic: m.Topic, Partition: m.Partition, Offset: m.Offset}.String()
	letters := e.admin.DeadLetters()
	filter := consumer.Filter{Reasons: []string{dispatcher.MalformedEvent.String()}, Since: m.Time.Add(-time.Minute)}
	ranges, err := letters.Ranges(ctx, &filter)
	if err != nil {
		return "", err
	}
	var mu sync.Mutex // guards found
	found := ""
	err = letters.Each(ctx, &filter, ranges, nil, func(d *consumer.DeadLetter) error {
		if d.Origin == origin {
			mu.Lock()
			defer mu.Unlock()
			found = d.Position()
		}
		return nil
	})
	return found, err
}

func (e *explainer) match(ctx context.Context, out *explainResult, ev *event.Event, rec *dispatcher.Record, recorded bool) error {
	redis := e.cfg.Redis
	redis.SnapshotFile = "off"
	directory, err := subscriptions.New(redis, nil, prometheus.NewRegistry())
	if err != nil {
		return err
	}
	if err := directory.Refresh(ctx, ev.Account); err != nil {
		return hint(fmt.Errorf("subscriptions of %s: %w", ev.Account, err), "explain needs Redis to know who wants the event")
	}
	planner, err := dispatcher.New(e.cfg.Dispatcher(userAgent()), directory, nil, nil)
	if err != nil {
		return err
	}
	byID := make(map[string]*dispatcher.Delivery)
	planned := planner.Plan(nil, ev, rec, time.Now())
	for i := range planned {
		byID[planned[i].Subscription] = &planned[i]
	}
	out.Result = "event"
	if len(planned) == 0 {
		out.Result = "unmatched"
	}
	traces := make(map[string]*consumer.Trace)
	knows := false
	if recorded {
		for _, d := range byID {
			traces[d.ID] = new(consumer.Trace)
		}
		if knows, err = e.admin.Trace(ctx, consumer.TraceConfig{
			Since: rec.AppendedAt.Add(-time.Minute), Attempts: true, Want: func(id string) *consumer.Trace { return traces[id] },
		}); err != nil {
			return err
		}
	}
	for _, sub := range directory.Account(ev.Account) {
		m := explainMatch{Subscription: sub.ID()}
		d := byID[sub.ID()]
		switch {
		case !sub.Enabled():
			m.Why = "disabled"
		case sub.Invalid() != "":
			m.Match, m.Why = d != nil, "invalid_subscription: "+sub.Invalid()
		case !sub.Events().Has(ev.Name):
			m.Why = "did not select " + ev.Name.String() + "; it selects " + strings.Join(setNames(sub.Events()), ", ")
		default:
			m.Match, m.Why = true, "selects "+ev.Name.String()
		}
		if d != nil {
			m.ID = d.ID
			if sub.Paused() {
				m.Why += "; paused: held back"
			}
			var blocked string
			if m.Curl, blocked = planner.Curl(sub, d, time.Now(), e.reveal); blocked != "" {
				m.Why += "; blocked_destination: " + blocked
			}
			if t := traces[d.ID]; t != nil {
				m.Trace, m.Where = t, whereabouts(t, knows, *out.Committed)
			}
			m.Lane = e.lane(ctx, d.Account, d.Subscription)
		}
		out.Matches = append(out.Matches, m)
	}
	return nil
}

func setNames(s event.Set) (names []string) {
	for _, n := range s.Names() {
		names = append(names, n.String())
	}
	return names
}

// whereabouts says where a delivery is.
func whereabouts(t *consumer.Trace, knows, committed bool) string {
	switch {
	case t.Delivered:
		return "delivered"
	case t.Waiting != nil:
		text := fmt.Sprintf("waiting in %s, due %s", t.Waiting.Topic, clock(t.Waiting.Due))
		if t.Waiting.Reason != "" {
			text += fmt.Sprintf(", after %s attempts: %s %s", t.Waiting.Attempts, t.Waiting.Reason, t.Waiting.Detail)
		}
		return text
	case t.Dead != nil:
		return fmt.Sprintf("dead since %s: %s (%s), dead letter %d/%d", clock(t.Dead.Due), t.Dead.Reason, t.Dead.Detail, t.Dead.Partition, t.Dead.Offset)
	case t.Discarded != "":
		return "discarded: " + t.Discarded
	case !committed:
		return "pending: the record is not settled yet"
	case knows:
		return "settled, and nothing is known of it: its attempt was made before attempts.topic was on, or the subscription did not match then"
	}
	return "settled: delivered or discarded; attempts.topic: true would tell which"
}

func (e *explainer) show(out *explainResult) error {
	if e.a.asJSON() {
		return e.a.json(out)
	}
	w := e.a.stdout
	if out.Record != "" {
		state := "not settled yet"
		if *out.Committed {
			state = "settled"
		}
		fmt.Fprintf(w, "record   %s, appended %s, %s\n", out.Record, clock(out.Appended), state)
	}
	fmt.Fprintf(w, "result   %s", out.Result)
	if out.Problem != "" {
		fmt.Fprintf(w, ": %s", printable(out.Problem))
	}
	fmt.Fprintln(w)
	if out.DeadLetter != "" {
		fmt.Fprintf(w, "         dead letter %s; `fanout deadletter show %s`\n", out.DeadLetter, out.DeadLetter)
	}
	if out.Event == nil {
		return nil
	}
	ev := out.Event
	fmt.Fprintf(w, "event    %s of account %s: trackingId %s, notificationId %s, userId %s", ev["name"], printable(ev["account"]), printable(ev["trackingId"]), printable(ev["notificationId"]), printable(ev["userId"]))
	if ev["id"] != "" {
		fmt.Fprintf(w, ", id %s", printable(ev["id"]))
	}
	fmt.Fprintln(w)
	if len(out.Matches) == 0 {
		fmt.Fprintln(w, "\nthe account has no subscription")
	}
	for _, m := range out.Matches {
		mark := "✗"
		if m.Match {
			mark = "✓"
		}
		fmt.Fprintf(w, "\n%s %s  %s\n", mark, printable(m.Subscription), printable(m.Why))
		if m.ID != "" {
			fmt.Fprintf(w, "  webhook-id %s\n", m.ID)
		}
		if m.Where != "" {
			fmt.Fprintf(w, "  now        %s\n", printable(m.Where))
		}
		if m.Lane != "" {
			fmt.Fprintf(w, "  lane       %s\n", printable(m.Lane))
		}
		if m.Trace != nil && len(m.Trace.Attempts) > 0 {
			showTrace(w, m.Trace)
		}
		if m.Curl != "" {
			fmt.Fprintf(w, "  request    (signed for now; not sent)\n    %s\n", strings.ReplaceAll(printableLines(m.Curl), "\n", "\n    "))
		}
	}
	return nil
}

// lane asks the instances how the subscription's lane is.
func (e *explainer) lane(ctx context.Context, account, subscription string) string {
	if e.lanes == nil { // once: one that does not answer costs its time for each subscription else
		for _, base := range e.a.instances(e.cfg) {
			lanes, err := askLanes(ctx, base, e.cfg.Admin.Token)
			e.lanes = append(e.lanes, instanceLanes{base, lanes, err})
		}
	}
	var parts []string
	for _, i := range e.lanes {
		if i.err != nil {
			parts = append(parts, i.base+": "+i.err.Error())
			continue
		}
		text := "idle"
		for _, l := range i.lanes {
			if l.Account == account && l.Subscription == subscription {
				text = fmt.Sprintf("%s, %d in flight of at most %d, %d queued", l.State, l.InFlight, l.Limit, l.Queued)
				if l.Why != "" {
					text += "; " + l.Why
				}
			}
		}
		parts = append(parts, i.base+": "+text)
	}
	return strings.Join(parts, "; ")
}

// letterCurl is the command that sends a dead letter again, to its subscription as it is now.
func (a *app) letterCurl(ctx context.Context, cfg *config.Config, d *consumer.DeadLetter) (curl, why string) {
	store, err := subscriptions.NewStore(cfg.Redis)
	if err != nil {
		return "", err.Error()
	}
	defer store.Close()
	stored, there, err := store.Get(ctx, d.Account, d.Subscription)
	switch {
	case err != nil:
		return "", "its subscription cannot be read: " + err.Error()
	case !there:
		return "", "its subscription does not exist any more: a replay would be discarded"
	}
	sub, bad := subscriptions.Parse(d.Account, d.Subscription, stored)
	if bad != nil {
		return "", "its subscription is invalid: " + bad.Error()
	}
	renderer, err := dispatcher.New(cfg.Dispatcher(userAgent()), nil, nil, nil)
	if err != nil {
		return "", err.Error()
	}
	curl, blocked := renderer.Curl(sub, &dispatcher.Delivery{ID: d.ID, Body: d.Value, TraceParent: d.Trace}, time.Now(), false)
	if blocked != "" {
		return "", "nothing may be sent there: " + blocked
	}
	return curl, ""
}
