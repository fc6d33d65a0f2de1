package main

import (
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
	"fanout/dispatcher/resolve"
	"fanout/topic"
	"fanout/topic/registry"
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

// checkCommand says whether everything is in place.
type checkCommand struct {
	*settings
	*output

	network resolve.Config // how receivers are reached
}

func (c *checkCommand) command() *cobra.Command {
	var verbose bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Say whether configuration, Kafka and Redis are in place",
		Long: `check looks at the configuration, the brokers, the topics that fanout reads and
owns, the schema registry, Redis with its subscriptions, the egress rules, and
what receivers are reached by: each name server, CA roots, the egress proxy, the
clock. It tries what fanout run needs: each broker at its advertised address,
the creation of topics (validated only), the Kafka user's rights, a file beside
the snapshot. It says of each problem what to do, and changes nothing.

Exit status: 0 there is no problem (there may be warnings), else 1.`,
		Example: `  fanout check
  fanout check --kafka-brokers kafka-1:9092,kafka-2:9092 -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := c.load(cmd)
			problems, readable := errors.AsType[config.Problems](err)
			if err != nil && (!readable || unreadable(problems)) {
				return err
			}
			if verbose {
				if err := cfg.Dump(c.stderr); err != nil {
					return err
				}
			}
			var f findings
			f.configuration(problems)
			f.kafka(cmd.Context(), &cfg)
			f.registry(cmd.Context(), &cfg)
			f.snapshot(&cfg)
			names := f.redis(cmd.Context(), &cfg)
			f.egress(&cfg)
			f.receivers(cmd.Context(), &cfg, c.network, names)
			return c.showFindings(f)
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
	admin, err := topic.NewCluster(cfg.Topic())
	if err != nil {
		return nil
	}
	defer admin.Close()
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	partitions, err := admin.Sizes(ctx)
	if err != nil {
		return nil
	}
	if _, err = admin.Config().Existing(partitions); err == nil {
		return nil
	}
	return config.Problems{{Key: "sources", Text: err.Error()}}
}

func (f *findings) kafka(ctx context.Context, cfg *config.Config) {
	brokers := strings.Join(cfg.Kafka.Brokers, ",")
	admin, err := topic.NewCluster(cfg.Topic())
	if err != nil {
		f.problem("kafka", err.Error(), "see kafka.tls and kafka.sasl")
		return
	}
	defer admin.Close()
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	partitions, err := admin.Sizes(ctx)
	if err != nil {
		f.problem("kafka", fmt.Sprintf("%s: %v", brokers, err), "start a broker there, or set kafka.brokers; a listener with TLS or SASL needs kafka.tls or kafka.sasl")
		return
	}
	f.okf("kafka", "%s answers, %s", brokers, count(len(partitions), "topic"))
	if m := cfg.Kafka.SASL.Mechanism; !cfg.Kafka.TLS.Enabled && (m == "PLAIN" || m == "OAUTHBEARER") {
		f.warning("kafka", "kafka.sasl.mechanism "+m+" without TLS: whoever sees the network sees the secret", "set kafka.tls.enabled and use a SASL_SSL listener, or SCRAM")
	}
	if !f.brokers(ctx, admin) {
		return
	}
	f.settings(ctx, cfg, admin)
	refused := f.creation(ctx, cfg, admin, partitions)
	f.rights(ctx, admin, partitions)
	f.sources(admin, partitions)
	f.mappings(cfg)
	f.starts(ctx, cfg, admin, partitions)
	f.orphans(ctx, admin, partitions)
	topics, err := describeTopics(ctx, cfg, admin)
	if err != nil {
		f.problem("topics", err.Error(), "the Kafka user needs Describe and DescribeConfigs on the topics: see ACLs in docs/kafka.md")
		return
	}
	for _, t := range topics {
		if t.spec != nil && refused[t.Name] == nil {
			f.own(cfg, &t)
		}
	}
	f.thin(cfg, topics)
	f.writers(ctx, cfg, admin)
}

// writers warns of topics of fanout's own that everybody may write to. Where Kafka does not tell, nothing is said.
func (f *findings) writers(ctx context.Context, cfg *config.Config, admin *topic.Cluster) {
	var names []string
	for _, spec := range admin.Config().Owned() {
		names = append(names, spec.Name)
	}
	open, err := admin.OpenToAll(ctx, names)
	if err != nil || len(open) == 0 {
		return
	}
	f.warning("rights", fmt.Sprintf("everybody (User:*) may write to %s, %s among them: whoever does has any body signed with a customer's secret and sent to that customer", count(len(open), "topic")+" of fanout's own", open[0]),
		fmt.Sprintf("kafka-acls.sh --bootstrap-server %s --list --topic %s shows the rule; remove it, and give fanout's user the rights in docs/kafka.md", cfg.Kafka.Brokers[0], open[0]))
}

// thin warns of what the brokers have chosen, where replicas are left to them.
func (f *findings) thin(cfg *config.Config, topics []describedTopic) {
	if cfg.Kafka.Replication > 0 {
		return
	}
	var names []string
	why := ""
	for _, t := range topics {
		if t.spec == nil || !t.spec.Vital || t.Partitions == 0 || t.Replicas >= 3 { // of three it has been said
			continue
		}
		if thin := topic.Thin(topic.Replicas{All: t.Replicas, InSync: t.InSync}, t.Config); thin != "" {
			names, why = append(names, t.Name), thin
		}
	}
	if len(names) > 0 {
		f.warning("replicas", fmt.Sprintf("of %s, %s among them: %s", count(len(names), "topic"), names[0], why),
			"on a cluster of three brokers or more, set kafka.replication: 3 before the topics are created; kafka-reassign-partitions.sh adds replicas to those that exist")
	}
}

// orphans names the retry and replay topics that run would not read: they hold records of a group that is gone.
func (f *findings) orphans(ctx context.Context, admin *topic.Cluster, sizes map[string]int) {
	unbegun, err := admin.Unbegun(ctx, sizes)
	if err != nil {
		return // the same right is missing that starts has named
	}
	said := make(map[string]bool)
	for _, p := range unbegun {
		group, err := admin.Orphans(ctx, p, nil)
		switch {
		case err != nil:
			f.problem("topic "+p.Topic, err.Error(), "the Kafka user needs Read on the topic: see ACLs in docs/kafka.md")
			return
		case group != "" && !said[p.Topic+" "+group]:
			said[p.Topic+" "+group] = true
			f.problem("topic "+p.Topic, fmt.Sprintf("it holds records of consumer group %s, which has no members, and %s has no offset for it: it is not read", group, admin.Config().RetryGroup()),
				"name "+group+" in kafka.former_groups if its records are to be delivered, or start that group, or give this deployment its own topics.prefix")
		}
	}
}

func (f *findings) sources(admin *topic.Cluster, partitions map[string]int) {
	_, err := admin.Config().Existing(partitions)
	missing, ok := errors.AsType[*topic.MissingTopicsError](err)
	switch {
	case err == nil:
	case ok:
		f.problem("sources", missing.Error(), "create what its producers will write to, or correct sources in the configuration")
	default:
		f.problem("sources", err.Error(), "")
	}
}

// mappings says what each configured source takes and drops.
func (f *findings) mappings(cfg *config.Config) {
	for i := range cfg.Sources {
		source := &cfg.Sources[i]
		text := "takes " + strings.Join(cfg.Catalogue().RawTypes(source.Channel), ", ")
		if ignored := source.Ignored(); len(ignored) > 0 {
			text += "; ignores " + strings.Join(ignored, ", ")
		}
		f.okf("mapping of "+source.Topic, "%s; ignores every other type that types does not map", text)
	}
}

// own looks at a topic that fanout owns: losing its records loses deliveries.
func (f *findings) own(cfg *config.Config, t *describedTopic) {
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
	for _, flaw := range t.spec.Flaws(t.Config) {
		if flaw.Fatal || flaw.Setting == "cleanup.policy" || flaw.Setting == "retention.ms" {
			f.problem(what, flaw.String(), "fanout topics apply")
		} else {
			f.warning(what, flaw.String(), "fanout topics apply")
		}
	}
	f.replicas(cfg, t, what, int(max(1, number("min.insync.replicas"))), alter)
	if len(*f) == before {
		f.okf(what, "%s, %s", count(t.Partitions, "partition"), count(t.Replicas, "replica"))
	}
}

func (f *findings) replicas(cfg *config.Config, t *describedTopic, what string, minimum int, alter func(string) string) {
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
	if c.URL == "" || !slices.ContainsFunc(cfg.Sources, func(s topic.SourceConfig) bool { return s.Format == topic.FormatConfluent }) {
		return
	}
	schemas, err := registry.New(c, nil, nil)
	if err != nil { // a problem of the configuration: it has been said
		return
	}
	defer schemas.Close()
	if err := schemas.Check(ctx); err != nil {
		f.problem("schema registry", fmt.Sprintf("%s: %v", c.URL, err), "start it, or correct schema_registry; records of format confluent wait for it")
		return
	}
	f.okf("schema registry", "%s answers", c.URL)
	if u, err := url.Parse(c.URL); err == nil && u.Scheme == "http" && c.Username != "" && !admin.Loopback(u.Host) {
		f.warning("schema registry", "the password goes over http: whoever sees the network sees it", "use https:// in schema_registry.url")
	}
}

// ofAccounts says whom opened ranges are for.
func ofAccounts(accounts []string) string {
	if len(accounts) == 0 {
		return ""
	}
	return " of " + count(len(accounts), "account")
}

// egress warns of rules that protect nobody.
func (f *findings) egress(cfg *config.Config) {
	before := len(*f)
	for _, text := range cfg.Egress.AllowCIDRs {
		if p, err := netip.ParsePrefix(text); err == nil && p.Bits() == 0 {
			f.warning("egress", text+" opens every internal address to whoever can write a subscription"+ofAccounts(cfg.Egress.Accounts), "name the ranges that receivers live in")
		}
	}
	if len(cfg.Egress.Accounts) > 0 && len(cfg.Egress.AllowCIDRs) == 0 {
		f.warning("egress", "allow_accounts is set, and allow_cidrs opens nothing", "name the ranges that these accounts may reach, or remove allow_accounts")
	}
	if cfg.Egress.AllowHTTP {
		f.warning("egress", "allow_http is set: those deliveries can be read and changed on their way", "keep it for receivers in your own network")
	}
	if ports := cfg.Egress.Ports; len(ports) > 0 && !slices.Contains(ports, 443) {
		f.warning("egress", "ports does not have 443: no ordinary https URL can be delivered to", "add 443")
	}
	if cfg.Egress.ProxyNames {
		f.warning("egress", "proxy_names is set: names are not looked up here, and the proxy alone decides which addresses can be reached", "have the proxy deny internal and metadata addresses")
	} else if cfg.Egress.Proxy != "" && cfg.Egress.AllowHTTP {
		f.warning("egress", "http goes through the proxy by address, and most proxies then send the address as Host: receivers behind virtual hosts answer for another one", "use https for these, or set egress.proxy_names")
	}
	if len(*f) == before {
		f.okf("egress", "https to public addresses")
	}
}
