package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"fanout/cmd/internal/terminal"
	"fanout/config"
	"fanout/dispatcher"
	"fanout/event"
	"fanout/operate"
	"fanout/subscriptions"
	"fanout/topic"
)

func (a *app) explainCommand() *cobra.Command {
	var eventFile, source string
	var reveal bool
	var s selectors
	cmd := &cobra.Command{
		Use:   "explain [TOPIC/PARTITION/OFFSET]",
		Short: "Say who gets a record, who does not and why",
		Long: `explain decodes a record of a source topic. For each subscription of its account
it shows whether the event matches or why not, the exact request as a curl
command, and where the delivery is now. Given a retry record or a dead letter,
it explains the record that this came from. It sends nothing. Instead of a
record's place it takes what find takes, and explains what that leads to.

  ✓ matches    ! matches, and would become a dead letter    ✗ does not match

The subscriptions are those of now: one that was changed since the record was
read may have matched otherwise.`,
		Example: `  fanout explain channel.email/3/1287
  fanout explain --account acme --tracking-id abc123
  fanout explain --event event.json --topic channel.email`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			selecting := s.q.Account+s.q.ID != ""
			ways := 0
			for _, given := range []bool{len(args) == 1, eventFile != "", selecting} {
				if given {
					ways++
				}
			}
			if ways != 1 {
				return misusef("give one of TOPIC/PARTITION/OFFSET, --event FILE, and what selects an event (--account with --tracking-id, say)")
			}
			var q *operate.FindQuery
			if selecting {
				var err error
				if q, err = s.query(time.Now()); err != nil {
					return err
				}
			}
			if source != "" && eventFile == "" {
				return misusef("--topic goes with --event: a record names its topic")
			}
			return a.withKafka(cmd, func(ctx context.Context, cfg *config.Config, admin *topic.Cluster) error {
				e := &explainer{a: a, cfg: cfg, admin: admin, reveal: reveal}
				if q != nil {
					return e.showFound(ctx, q)
				}
				out, err := e.run(ctx, args, eventFile, source)
				if err != nil {
					return err
				}
				if a.asJSON() {
					return a.json(out)
				}
				showExplained(a.stdout, out)
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&eventFile, "event", "", "explain the raw event in this `FILE` as if it were read now; - is standard input")
	cmd.Flags().StringVar(&source, "topic", "", "with --event: the source topic whose mapping decodes it (default the first)")
	s.flags(cmd.Flags())
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
	Subscription string         `json:"subscription"`
	Match        bool           `json:"match"` // a delivery is planned for it
	Why          string         `json:"why"`
	Problem      string         `json:"problem,omitempty"` // why the delivery would become a dead letter at once
	ID           string         `json:"webhookId,omitempty"`
	Where        string         `json:"where,omitempty"`
	Lane         string         `json:"lane,omitempty"`
	Curl         string         `json:"curl,omitempty"`
	Trace        *operate.Trace `json:"trace,omitempty"`
}

type explainer struct {
	a      *app
	cfg    *config.Config
	admin  *topic.Cluster
	reveal bool
	lanes  []instanceLanes // once they were asked for
}

// instanceLanes is what an instance tells of its lanes.
type instanceLanes struct {
	base  string
	lanes []laneLine
	err   error
}

// run explains the event in a file, where one is named, or else a record.
func (e *explainer) run(ctx context.Context, args []string, file, source string) (*explainResult, error) {
	if file != "" {
		return e.file(ctx, file, source)
	}
	origin, err := topic.ParseOrigin(args[0])
	if err != nil {
		return nil, misusef("%s is not a TOPIC/PARTITION/OFFSET, such as channel.email/3/1287", args[0])
	}
	return e.record(ctx, origin)
}

func (e *explainer) file(ctx context.Context, name, source string) (*explainResult, error) {
	in := e.a.stdin
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		in = file
	}
	limit := e.cfg.Consumer().MaxEventBytes
	value, err := io.ReadAll(io.LimitReader(in, int64(limit)+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	sources := sourceNames(e.cfg)
	switch {
	case source == "":
		source = sources[0]
	case !slices.Contains(sources, source):
		return nil, misuse(notASource(e.cfg, source))
	}
	return e.explain(ctx, &topic.Record{Partition: topic.Partition{Topic: source}, Offset: -1, Time: time.Now(), Value: value})
}

func (e *explainer) record(ctx context.Context, at dispatcher.Origin) (*explainResult, error) {
	m, err := e.read(ctx, at)
	if err != nil {
		return nil, err
	}
	if sources := sourceNames(e.cfg); !slices.Contains(sources, at.Topic) {
		origin, err := topic.ParseOrigin(m.Header("fanout-origin"))
		if err != nil {
			return nil, notASource(e.cfg, at.Topic)
		}
		if !slices.Contains(sources, origin.Topic) { // anybody may have written it, and that it comes from itself
			return nil, fmt.Errorf("%w, nor is %s, which the record says it comes from", notASource(e.cfg, at.Topic), terminal.Visible(origin.Topic))
		}
		fmt.Fprintf(e.a.stderr, "%s comes from %s, which is explained here\n", at, terminal.Visible(origin.String()))
		if m, err = e.read(ctx, origin); err != nil {
			return nil, err
		}
	}
	return e.explain(ctx, m)
}

func (e *explainer) read(ctx context.Context, at dispatcher.Origin) (*topic.Record, error) {
	m, err := e.admin.Read(ctx, at)
	if err == nil && m == nil {
		err = fmt.Errorf("%s is not a record: it is a transaction marker, belongs to an aborted transaction, or was compacted away", at)
	}
	return m, err
}

func (e *explainer) explain(ctx context.Context, m *topic.Record) (*explainResult, error) {
	sources, err := newSources(e.cfg)
	if err != nil {
		return nil, err
	}
	defer sources.Close()
	out := &explainResult{Matches: []explainMatch{}}
	recorded := m.Offset >= 0
	if recorded {
		out.Record, out.Appended = m.Origin().String(), m.Time
		progress, err := e.admin.Progress(ctx, e.cfg.Kafka.Group, m.Topic, []int{m.ID})
		if err != nil {
			return nil, err
		}
		p, ok := progress[m.ID]
		settled := ok && p.Settled(m.Offset)
		out.Committed = &settled
	}
	ev, err := sources.Decode(ctx, m)
	switch {
	case errors.Is(err, topic.ErrRegistryUnavailable):
		return nil, err
	case errors.Is(err, event.ErrIgnored):
		out.Result, out.Problem = "ignored", "no event name stands for its type, or it has no value; it is counted, and nothing is sent"
		return out, nil
	case err != nil:
		out.Result, out.Problem = "malformed", err.Error()
		if recorded {
			out.DeadLetter, err = e.deadLetter(ctx, m)
		}
		return out, err
	}
	out.Event = map[string]string{
		"account": ev.Account, "name": ev.Name.String(), "trackingId": ev.TrackingID, "notificationId": ev.NotificationID, "userId": ev.UserID, "id": ev.ID,
	}
	rec := m.Metadata()
	return out, e.match(ctx, out, &ev, &rec, recorded)
}

// deadLetter finds the dead letter of a malformed record.
func (e *explainer) deadLetter(ctx context.Context, m *topic.Record) (string, error) {
	origin := m.Origin().String()
	letters := e.admin.DeadLetters()
	filter := topic.Filter{Reasons: []string{dispatcher.MalformedEvent.String()}, Since: m.Time.Add(-time.Minute)}
	ranges, err := letters.Ranges(ctx, &filter)
	if err != nil {
		return "", err
	}
	var mu sync.Mutex // guards found
	found := ""
	err = letters.Each(ctx, &filter, ranges, nil, func(d *topic.DeadLetter) error {
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
		return hint(fmt.Errorf("subscriptions of %s: %w", ev.Account, err), "explain asks Redis who wants the event: redis.url says where it is")
	}
	planner := dispatcher.NewPlanner(directory)
	renderer, err := dispatcher.NewRenderer(e.cfg.Egress, e.cfg.Dispatcher(userAgent()).UserAgent)
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
	traces := make(map[string]*operate.Trace)
	knows := false
	if recorded {
		for _, d := range byID {
			traces[d.ID] = new(operate.Trace)
		}
		if knows, err = operate.FindTraces(ctx, e.admin, operate.TraceConfig{
			Since: rec.AppendedAt.Add(-time.Minute), Attempts: true, Want: func(id string) *operate.Trace { return traces[id] },
		}); err != nil {
			return err
		}
	}
	for _, sub := range directory.Account(ev.Account) {
		m := explainMatch{Subscription: sub.ID()}
		if d := byID[sub.ID()]; d == nil {
			m.Why = whyNot(redis.Catalogue, sub, ev)
		} else {
			m.Match, m.Why, m.ID = true, whyMatch(sub, ev.Name), d.ID
			m.Curl, m.Problem = e.request(renderer, sub, d)
			if t := traces[d.ID]; t != nil {
				m.Trace, m.Where = t, whereabouts(t, knows, *out.Committed)
			}
			m.Lane = e.lane(ctx, sub)
		}
		out.Matches = append(out.Matches, m)
	}
	return nil
}

// whyNot says why no delivery is planned for a subscription.
func whyNot(c *event.Catalogue, sub *subscriptions.Subscription, ev *event.Event) string {
	if !sub.Enabled() {
		return "disabled"
	}
	why := "does not select " + ev.Name.String() + "; it selects " + cmp.Or(strings.Join(setNames(c, sub.Events()), ", "), "nothing that is known here")
	if sub.Events().Has(ev.Name) && !sub.WantsNotification(ev.NotificationID) {
		return "notificationId " + ev.NotificationID + " is not in " + strings.Join(sub.NotificationIDs(), ", ")
	}
	if bad := sub.Invalid(); bad != "" {
		why += "; invalid: " + strings.TrimPrefix(bad, "invalid subscription: ")
	}
	return why
}

// whyMatch says why a delivery is planned for a subscription.
func whyMatch(sub *subscriptions.Subscription, name event.Name) string {
	why := "selects " + name.String()
	if sub.Paused() {
		why += "; it is paused, so the delivery is held back"
	}
	return why
}

// request is the delivery's request, or what is wrong with it.
func (e *explainer) request(renderer *dispatcher.Renderer, sub *subscriptions.Subscription, d *dispatcher.Delivery) (curl, problem string) {
	if bad := sub.Invalid(); bad != "" { // its URL and headers may be the good ones, or not be known at all
		return "", "invalid_subscription: " + strings.TrimPrefix(bad, "invalid subscription: ") + "; an instance that knows an earlier, valid version goes on with that"
	}
	curl, blocked := renderer.Curl(sub, d, time.Now(), e.reveal)
	if blocked != "" {
		return "", "blocked_destination: " + blocked
	}
	return curl, ""
}

func setNames(c *event.Catalogue, s event.Set) (names []string) {
	for _, n := range s.Names(c) {
		names = append(names, n.String())
	}
	return names
}

// whereabouts says where a delivery is.
func whereabouts(t *operate.Trace, knows, committed bool) string {
	switch {
	case t.Delivered:
		return "delivered"
	case t.Waiting != nil && (t.Dead == nil || t.Waiting.Due.After(t.Dead.Due)): // one that was due before has not been committed yet
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
		return "settled, and nothing more is known: it was attempted before attempts.topic was on, or the subscription did not match then"
	}
	return "settled: delivered or discarded; attempts.topic: true would tell which"
}

// lane says how the subscription's lane is, on each instance.
func (e *explainer) lane(ctx context.Context, sub *subscriptions.Subscription) string {
	if e.lanes == nil { // once: one that does not answer would cost its time for each subscription
		remotes := e.a.remotes(e.cfg)
		e.lanes = make([]instanceLanes, len(remotes))
		askAll(remotes, func(i int, r remote) {
			lanes, err := r.lanes(ctx)
			e.lanes[i] = instanceLanes{r.base, lanes, err}
		})
	}
	now := time.Now()
	parts := make([]string, len(e.lanes))
	for i, one := range e.lanes {
		text := "idle"
		switch {
		case one.err != nil:
			text = "unknown: " + strings.TrimPrefix(one.err.Error(), one.base+": ")
		case sub.Paused():
			text = "paused"
		}
		for _, l := range one.lanes {
			if l.Account == sub.Account() && l.Subscription == sub.ID() {
				text = l.words(now)
			}
		}
		parts[i] = one.base + ": " + text
	}
	return strings.Join(parts, "; ")
}

// letterCurl is the command that sends a dead letter again, to its subscription as it is now.
func (a *app) letterCurl(ctx context.Context, cfg *config.Config, d *topic.DeadLetter) (curl, why string) {
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
		return "", "its subscription no longer exists: a replay would be discarded"
	}
	sub, bad := store.Reader().Parse(d.Account, d.Subscription, stored)
	if bad != nil {
		return "", "its subscription is invalid: " + bad.Error()
	}
	renderer, err := dispatcher.NewRenderer(cfg.Egress, cfg.Dispatcher(userAgent()).UserAgent)
	if err != nil {
		return "", err.Error()
	}
	curl, blocked := renderer.Curl(sub, &dispatcher.Delivery{ID: d.ID, Body: d.Value, TraceParent: d.Trace}, time.Now(), false)
	if blocked != "" {
		return "", "nothing may be sent there: " + blocked
	}
	return curl, ""
}
