package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fanout/admin"
	"fanout/config"
	"fanout/consumer"
	"fanout/consumer/registry"
	"fanout/dispatcher/egress"
	"fanout/subscriptions"
)

// finding is one thing that check has looked at.
type finding struct {
	State  string `json:"state"` // ok, warning or problem
	What   string `json:"what"`
	Found  string `json:"found"`
	Remedy string `json:"remedy,omitempty"`
}

// findings are what check has looked at, in its order.
type findings []finding

func (f *findings) okf(what, format string, args ...any) {
	*f = append(*f, finding{State: "ok", What: what, Found: fmt.Sprintf(format, args...)})
}

func (f *findings) warning(what, found, remedy string) {
	*f = append(*f, finding{"warning", what, found, remedy})
}

func (f *findings) problem(what, found, remedy string) {
	*f = append(*f, finding{"problem", what, found, remedy})
}

func (a *app) checkCommand() *cobra.Command {
	var verbose bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "See whether everything is in place: configuration, Kafka, topics, Redis",
		Long: "check looks at the configuration, the brokers, the topics that fanout reads and owns, Redis and the egress rules,\n" +
			"and says of each problem what to do. It changes nothing.\n\n" +
			"Exit status: 0 where there is no problem (there may be warnings), else 1.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.load(cmd)
			problems, readable := errors.AsType[config.Problems](err)
			if err != nil && (!readable || unreadable(problems)) {
				return err
			}
			if verbose {
				if err := cfg.Dump(a.stderr); err != nil {
					return err
				}
			}
			var f findings
			f.configuration(problems)
			f.kafka(cmd.Context(), &cfg)
			f.registry(cmd.Context(), &cfg)
			f.redis(cmd.Context(), &cfg)
			f.egress(&cfg)
			return a.showFindings(f)
		},
	}
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "show the configuration in force on standard error, without its secrets")
	return configured(cmd)
}

// configuration takes in what Load has found. What could not be read has its default, so that the rest is looked at too.
func (f *findings) configuration(problems config.Problems) {
	for _, p := range problems {
		f.problem("configuration", p.String(), "")
	}
	if len(problems) == 0 {
		f.okf("configuration", "valid")
	}
}

// unreadable says whether a file could not be read at all: then nothing is known to be looked at.
func unreadable(problems config.Problems) bool {
	return slices.ContainsFunc(problems, func(p config.Problem) bool { return p.Key == "" })
}

// missingSources are the source topics that a bad configuration names and that are missing as well, so that `run` says
// all that is wrong at once. Where no broker is named, or none answers soon, nothing is known of them.
func missingSources(ctx context.Context, cfg *config.Config) config.Problems {
	if slices.Equal(cfg.Kafka.Brokers, config.Default().Kafka.Brokers) {
		return nil
	}
	admin, err := consumer.NewAdmin(cfg.Consumer())
	if err != nil {
		return nil
	}
	defer admin.Close()
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	partitions, err := admin.Partitions(ctx)
	if err != nil {
		return nil
	}
	if _, err = admin.Sources(partitions); err == nil {
		return nil
	}
	return config.Problems{{Key: "sources", Text: err.Error()}}
}

func (a *app) showFindings(f findings) error {
	problems := 0
	rows := [][]string{}
	for _, one := range f {
		if one.State == "problem" {
			problems++
		}
		for i, line := range strings.Split(one.Found, "\n") {
			if i == 0 {
				rows = append(rows, []string{one.State, one.What, line})
			} else {
				rows = append(rows, []string{"", "", "  " + strings.TrimSpace(line)})
			}
		}
		if one.Remedy != "" {
			rows = append(rows, []string{"", "", "→ " + one.Remedy})
		}
	}
	if a.asJSON() {
		if err := a.json(map[string]any{"ok": problems == 0, "findings": f}); err != nil {
			return err
		}
	} else if err := table(a.stdout, rows); err != nil {
		return err
	}
	if problems > 0 {
		return said()
	}
	return nil
}

func (f *findings) kafka(ctx context.Context, cfg *config.Config) {
	brokers := strings.Join(cfg.Kafka.Brokers, ",")
	admin, err := consumer.NewAdmin(cfg.Consumer())
	if err != nil {
		f.problem("kafka", err.Error(), "see kafka.tls and kafka.sasl")
		return
	}
	defer admin.Close()
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	partitions, err := admin.Partitions(ctx)
	if err != nil {
		f.problem("kafka", fmt.Sprintf("%s: %v", brokers, err), "start a broker there, or set kafka.brokers; a listener with TLS or SASL needs kafka.tls or kafka.sasl")
		return
	}
	f.okf("kafka", "%s answers, %s", brokers, count(len(partitions), "topic"))
	if m := cfg.Kafka.SASL.Mechanism; !cfg.Kafka.TLS.Enabled && (m == "PLAIN" || m == "OAUTHBEARER") {
		f.warning("kafka", "kafka.sasl.mechanism "+m+" without TLS: whoever sees the network sees the secret", "set kafka.tls.enabled and use a SASL_SSL listener, or SCRAM")
	}
	f.sources(admin, partitions)
	topics, err := describeTopics(ctx, cfg, admin)
	if err != nil {
		f.problem("topics", err.Error(), "the Kafka user needs Describe and DescribeConfigs on the topics: see ACLs in docs/operating.md")
		return
	}
	for _, t := range topics {
		switch {
		case t.spec != nil:
			f.own(cfg, &t)
		case t.Partitions > 0:
			f.okf("source "+t.Name, "%s", count(t.Partitions, "partition"))
		}
	}
}

func (f *findings) sources(admin *consumer.Admin, partitions map[string]int) {
	_, err := admin.Sources(partitions)
	missing, ok := errors.AsType[*consumer.MissingTopicsError](err)
	switch {
	case err == nil:
	case ok:
		f.problem("sources", missing.Error(), "create what its producers will write to, or mend sources in the configuration")
	default:
		f.problem("sources", err.Error(), "")
	}
}

// own looks at a topic that fanout owns: losing its records loses deliveries.
func (f *findings) own(cfg *config.Config, t *topic) {
	what := "topic " + t.Name
	if t.Partitions == 0 {
		if cfg.Kafka.CreateTopics {
			f.okf(what, "does not exist; `fanout run` creates it")
		} else {
			f.problem(what, "does not exist, and kafka.create_topics is false", "fanout topics create")
		}
		return
	}
	before := len(*f)
	alter := func(setting string) string {
		return fmt.Sprintf("kafka-configs.sh --bootstrap-server %s --alter --entity-type topics --entity-name %s --add-config %s", cfg.Kafka.Brokers[0], t.Name, setting)
	}
	number := func(key string) int64 {
		n, err := strconv.ParseInt(t.Config[key], 10, 64)
		if err != nil {
			return -1
		}
		return n
	}
	wanted, _ := strconv.ParseInt(t.spec.Config["retention.ms"], 10, 64)
	if n := number("retention.ms"); n >= 0 && n < wanted {
		f.problem(what, fmt.Sprintf("records are kept for %s only, want %s: what waits longer is lost", retention(t.Config["retention.ms"]), retention(t.spec.Config["retention.ms"])),
			alter("retention.ms="+t.spec.Config["retention.ms"]))
	}
	if strings.Contains(t.Config["cleanup.policy"], "compact") {
		f.problem(what, "it is compacted: of a subscription's deliveries only the last one would be kept", alter("cleanup.policy=delete"))
	}
	if n := number("retention.bytes"); n >= 0 {
		f.warning(what, fmt.Sprintf("at most %d bytes a partition are kept: a long outage of a receiver may lose deliveries", n), alter("retention.bytes=-1"))
	}
	room, _ := strconv.ParseInt(t.spec.Config["max.message.bytes"], 10, 64)
	if n := number("max.message.bytes"); n >= 0 && n < room {
		f.warning(what, fmt.Sprintf("takes records of %d bytes, want %d for the largest raw event with its headers", n, room), alter("max.message.bytes="+t.spec.Config["max.message.bytes"]))
	}
	f.replicas(cfg, t, what, int(max(1, number("min.insync.replicas"))), alter)
	if len(*f) == before {
		f.okf(what, "%s, %s", count(t.Partitions, "partition"), count(t.Replicas, "replica"))
	}
}

func (f *findings) replicas(cfg *config.Config, t *topic, what string, minimum int, alter func(string) string) {
	switch {
	case minimum > t.Replicas:
		f.problem(what, fmt.Sprintf("min.insync.replicas is %d and there are %s: nothing can be written", minimum, count(t.Replicas, "replica")), alter("min.insync.replicas="+strconv.Itoa(t.Replicas)))
	case t.InSync < minimum:
		f.problem(what, fmt.Sprintf("%s in sync, min.insync.replicas is %d: nothing can be written now", count(t.InSync, "replica"), minimum), "bring the brokers back")
	case t.Replicas < cfg.Kafka.Replication:
		f.warning(what, fmt.Sprintf("%s, kafka.replication is %d", count(t.Replicas, "replica"), cfg.Kafka.Replication), "kafka-reassign-partitions.sh adds replicas to a topic that exists")
	case t.Replicas >= 3 && minimum < 2:
		f.warning(what, "min.insync.replicas is 1: a record that one broker alone has acknowledged is lost with it", alter("min.insync.replicas=2"))
	}
}

// registry asks the schema registry, where a source needs it.
func (f *findings) registry(ctx context.Context, cfg *config.Config) {
	c := cfg.SchemaRegistry
	if c.URL == "" || !slices.ContainsFunc(cfg.Sources, func(s consumer.SourceConfig) bool { return s.Format == consumer.FormatConfluent }) {
		return
	}
	schemas, err := registry.New(c, nil, nil)
	if err != nil { // a problem of the configuration: it has been said
		return
	}
	defer schemas.Close()
	if err := schemas.Check(ctx); err != nil {
		f.problem("schema registry", fmt.Sprintf("%s: %v", c.URL, err), "start it, or mend schema_registry; records of format confluent wait for it")
		return
	}
	f.okf("schema registry", "%s answers", c.URL)
	if u, err := url.Parse(c.URL); err == nil && u.Scheme == "http" && c.Username != "" && !admin.Loopback(u.Host) {
		f.warning("schema registry", "the password goes over http: whoever sees the network sees it", "use https:// in schema_registry.url")
	}
}

// redis counts what is stored there, and names what does not validate.
func (f *findings) redis(ctx context.Context, cfg *config.Config) {
	store, err := subscriptions.NewStore(cfg.Redis)
	if err != nil {
		f.problem("redis", err.Error(), "see redis.url and redis.tls")
		return
	}
	defer store.Close()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := store.Ping(ctx); err != nil {
		f.store(err)
		return
	}
	rules, err := egress.New(cfg.Egress)
	if err != nil { // a problem of the configuration: it has been said
		return
	}
	total, before := 0, len(*f)
	for stored, err := range store.ListAll(ctx) {
		if err != nil {
			f.store(err)
			return
		}
		total++
		if problem := judgeStored(&stored, rules); problem != "" && len(*f)-before < shownInvalid {
			f.warning("subscription "+stored.Account+"/"+stored.ID, problem, "fanout subscriptions list shows all that are invalid; its last good version stays in force, if there is one")
		}
	}
	if total == 0 {
		f.warning("redis", "no subscription is stored: nothing would be delivered", "fanout subscriptions apply -f FILE")
		return
	}
	f.okf("redis", "answers, %s", count(total, "subscription"))
}

// store is an error of Redis, with its own remedy if it has one.
func (f *findings) store(err error) {
	found, remedy := err.Error(), ""
	if e, ok := errors.AsType[*subscriptions.StoreError](err); ok {
		found, remedy = e.Found, e.Remedy
	}
	f.problem("redis", found, cmp.Or(remedy, "start Redis, or set redis.url; it holds the subscriptions"))
}

// shownInvalid bounds how many invalid subscriptions check names.
const shownInvalid = 20

// egress warns of rules that protect nobody.
func (f *findings) egress(cfg *config.Config) {
	before := len(*f)
	for _, text := range cfg.Egress.AllowCIDRs {
		if p, err := netip.ParsePrefix(text); err == nil && p.Bits() == 0 {
			f.warning("egress", text+" opens every internal address to whoever can write a subscription", "name the ranges that receivers live in")
		}
	}
	if cfg.Egress.AllowHTTP {
		f.warning("egress", "allow_http is set: those deliveries can be read and changed on their way", "keep it for receivers in your own network")
	}
	if ports := cfg.Egress.Ports; len(ports) > 0 && !slices.Contains(ports, 443) {
		f.warning("egress", "ports does not have 443: no ordinary https URL can be delivered to", "add 443")
	}
	if len(*f) == before {
		f.okf("egress", "https to public addresses")
	}
}
