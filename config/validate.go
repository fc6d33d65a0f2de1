package config

import (
	"cmp"
	"fmt"
	"math"
	"net"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"fanout/admin"
	"fanout/egress"
	"fanout/event"
	"fanout/topic"
)

const (
	maxSchedule   = 20
	maxWait       = 7 * 24 * time.Hour // a retry topic keeps its records for max_age and these 7 days: a longer wait would lose them
	minEventBytes = 256
	maxEventBytes = 16 << 20
)

// validator notes what is wrong with values that could be read.
type validator struct {
	locations map[string]string
	problems  Problems
}

func validate(c *Config, locations map[string]string) Problems {
	v := &validator{locations: locations}
	v.kafka(&c.Kafka)
	v.events(c.Events)
	v.payload(c.Payload)
	v.sources(c)
	v.packageErrors(c.SchemaRegistry.Validate())
	v.positive("schema_registry.timeout", c.SchemaRegistry.Timeout)
	v.packageErrors(c.Redis.Validate())
	v.delivery(c)
	v.lanes(c)
	_, err := egress.New(c.Egress)
	v.packageErrors(err)
	v.admin(c.Admin)
	if !topicName.MatchString(c.Topics.Prefix) || len(c.Topics.Prefix) > 200 {
		v.badf("topics.prefix", c.Topics.Prefix, "a topic's name takes letters, digits, '.', '_' and '-' alone; want 1 to 200 of them")
	}
	if c.Topics.DeadLetterRetention < time.Hour {
		v.badf("topics.dead_letter_retention", c.Topics.DeadLetterRetention, "want 1h or more: a dead letter can be replayed for so long")
	}
	if c.Attempts.Retention < time.Hour {
		v.badf("attempts.retention", c.Attempts.Retention, "want 1h or more: audit, find and the dashboard look there for what became of deliveries")
	}
	if n := c.Limits.WebhooksPerAccount; n < 1 || n > 1_000_000 {
		v.badf("limits.webhooks_per_account", n, "want 1 to 1000000 webhooks")
	}
	v.oneOf("log.level", c.Log.Level)
	v.oneOf("log.format", c.Log.Format)
	v.tracing(&c.Tracing)
	if n := c.MaxEventBytes; n < minEventBytes || n > maxEventBytes {
		v.badf("max_event_bytes", n, "want %d to %d bytes", minEventBytes, maxEventBytes)
	}
	v.positive("shutdown_timeout", c.ShutdownTimeout)
	return v.problems
}

// bad notes a problem at the place where the value was given.
func (v *validator) badf(path string, value any, format string, args ...any) {
	text := mask(path, plain(reflect.ValueOf(value)))
	v.problems = append(v.problems, Problem{v.location(path), path, text, fmt.Sprintf(format, args...)})
}

// location is where the key, or what it is part of, was given.
func (v *validator) location(path string) string {
	for path != "" {
		if location, ok := v.locations[path]; ok {
			return location
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return ""
}

func (v *validator) positive(path string, d time.Duration) {
	if d <= 0 {
		v.badf(path, d, "want a duration above 0, such as 10s")
	}
}

func (v *validator) wait(path string, d time.Duration) {
	if d < time.Millisecond || d > maxWait {
		v.badf(path, d, "want 1ms to %s, which is how much longer than max_age a retry topic keeps its records", duration(maxWait))
	}
}

func (v *validator) atLeastOne(path string, n int) {
	if n < 1 {
		v.badf(path, n, "want 1 or more")
	}
}

// Choices are the values of each key that takes one of a closed list.
func Choices() map[string][]string {
	return map[string][]string{
		"log.level":            {"debug", "info", "warn", "error"},
		"log.format":           {"json", "console"},
		"kafka.sasl.mechanism": {"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"},
	}
}

func (v *validator) oneOf(path, value string) {
	known := Choices()[path]
	if !slices.Contains(known, value) {
		v.badf(path, value, "want %s", list(known...)+nearest(value, known))
	}
}

func (v *validator) kafka(c *topic.KafkaConfig) {
	if len(c.Brokers) == 0 {
		v.badf("kafka.brokers", "", "no broker: name at least one, as in [127.0.0.1:9092]")
	}
	for i, broker := range c.Brokers {
		v.address(fmt.Sprintf("kafka.brokers[%d]", i), broker, 1, "127.0.0.1:9092")
	}
	if c.Group == "" || len(c.Group) > 200 {
		v.badf("kafka.group", c.Group, "want a consumer group's name of 1 to 200 characters")
	}
	for i, group := range c.FormerGroups {
		if key := fmt.Sprintf("kafka.former_groups[%d]", i); group == "" || len(group) > 200 {
			v.badf(key, group, "want a consumer group's name of 1 to 200 characters")
		} else if group == c.Group {
			v.badf(key, group, "that is kafka.group itself: name the groups that it had before")
		}
	}
	v.atLeastOne("kafka.partitions", c.Partitions)
	v.atLeastOne("kafka.retry_partitions", c.RetryPartitions)
	if c.Replication != -1 && (c.Replication < 1 || c.Replication > math.MaxInt16) {
		v.badf("kafka.replication", c.Replication, "want 1 or more, or -1 to leave it to the brokers")
	}
	v.start("kafka.start", c.Start)
	if c.SessionTimeout < time.Second || c.SessionTimeout > 5*time.Minute {
		v.badf("kafka.session_timeout", c.SessionTimeout, "want 1s to 5m: so long stand the partitions of an instance that was killed")
	}
	if len(c.InstanceID) > 200 {
		v.badf("kafka.instance_id", c.InstanceID, "want at most 200 characters")
	}
	switch tls := c.TLS; {
	case !tls.Enabled && tls != (topic.TLSConfig{}):
		v.badf("kafka.tls.enabled", tls.Enabled, "keys of kafka.tls are given and TLS is off: write enabled: true, or remove them")
	case (tls.CertFile == "") != (tls.KeyFile == ""):
		v.badf("kafka.tls", "", "cert_file and key_file belong together: give both or none")
	}
	v.sasl(c.SASL)
}

// start notes what does not say where a source begins. Empty leaves it open.
func (v *validator) start(path, value string) {
	words := []string{topic.StartEarliest, topic.StartLatest}
	if value == "" || slices.Contains(words, value) {
		return
	}
	if _, err := time.Parse(time.RFC3339, value); err != nil {
		v.badf(path, value, "want earliest, latest or a time such as 2026-01-31T08:00:00Z%s", nearest(value, words))
	}
}

func (v *validator) sasl(c topic.SASLConfig) {
	if c.Mechanism == "" {
		if c != (topic.SASLConfig{}) {
			v.badf("kafka.sasl.mechanism", "", "credentials are given and no mechanism: want PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER")
		}
		return
	}
	v.oneOf("kafka.sasl.mechanism", c.Mechanism)
	if c.Mechanism == "OAUTHBEARER" {
		if c.TokenFile == "" || c.Username+c.Password+c.PasswordFile != "" {
			v.badf("kafka.sasl.token_file", c.TokenFile, "OAUTHBEARER wants a file with a token, and neither user name nor password")
		}
		return
	}
	if c.TokenFile != "" {
		v.badf("kafka.sasl.token_file", c.TokenFile, "only OAUTHBEARER has a token: remove it, or set kafka.sasl.mechanism")
	}
	if c.Username == "" {
		v.badf("kafka.sasl.username", "", "%s needs a user name", c.Mechanism)
	}
	if (c.Password == "") == (c.PasswordFile == "") {
		v.badf("kafka.sasl.password", "", "want either password or password_file")
	}
}

// address notes what is not a host:port; port 0 is taken where lowest is 0. example is part of the remedy.
func (v *validator) address(path, text string, lowest int, example string) {
	host, port, err := net.SplitHostPort(text)
	n, portErr := strconv.Atoi(port)
	if err != nil || portErr != nil || n < lowest || n > 65535 || (host == "" && lowest > 0) || strings.ContainsAny(host, "/@ ") {
		v.badf(path, text, "want host:port, as in %s", example)
	}
}

// topicName is what Kafka takes for a topic.
var topicName = regexp.MustCompile(`^[a-zA-Z0-9._-]+$`)

func (v *validator) sources(c *Config) {
	seen := map[string]int{}
	for i, source := range c.Sources {
		path := fmt.Sprintf("sources[%d]", i)
		first, twice := seen[source.Topic]
		switch topic := source.Topic; {
		case topic == "":
			v.badf(path+".topic", "", "a source needs a topic")
		case !topicName.MatchString(topic) || len(topic) > 249:
			v.badf(path+".topic", topic, "a topic's name takes letters, digits, '.', '_' and '-' alone; want 1 to 249 of them")
		case owned(c.Topics.Prefix, topic):
			v.badf(path+".topic", topic, "this topic is fanout's own: reading it as a source would send its records round and round")
		case twice:
			v.badf(path+".topic", topic, "given twice, first in sources[%d]: a topic has one mapping", first)
		default:
			seen[topic] = i
		}
		v.format(c, path+".format", source.Format)
		v.start(path+".start", source.Start)
		v.types(path+".types", &source.Mapping, c.Catalogue())
		if _, err := source.Compile(c.Catalogue(), goodPayload(c.Payload)...); err != nil {
			key, text, _ := strings.Cut(err.Error(), ": ")
			v.badf(path+"."+key, "", "%s", text)
		}
	}
}

// format notes an unknown format, and one that needs a registry where none is configured.
func (v *validator) format(c *Config, path, format string) {
	known := []string{topic.FormatJSON, topic.FormatConfluent}
	switch {
	case format != "" && !slices.Contains(known, format):
		v.badf(path, format, "want json, or confluent for Avro, Protobuf and JSON with a schema registry%s", nearest(format, known))
	case format == topic.FormatConfluent && c.SchemaRegistry.URL == "":
		v.badf(path, format, "needs a schema registry: set schema_registry.url, as in http://127.0.0.1:8081")
	}
}

// types notes types that are mapped to what no event of the source has: their records would be dropped in silence. What is
// to be dropped is mapped to ignore.
func (v *validator) types(path string, m *event.Mapping, c *event.Catalogue) {
	whose := "no event"
	if m.Channel != "" {
		whose += " of channel " + m.Channel
	}
	known := append(c.RawTypes(m.Channel), event.Ignore)
	for _, raw := range m.UnknownTypes(c) {
		target := m.Types[raw]
		v.badf(path+"."+raw, target, "%s has this type: want %s%s", whose, list(known...), nearest(target, known))
	}
}

// events notes rows that the catalogue cannot take.
func (v *validator) events(rows []event.Row) {
	_, problems := event.NewCatalogue(rows)
	for _, p := range problems {
		path, value := fmt.Sprintf("events[%d]", p.Row), ""
		if p.Key != "" {
			path += "." + p.Key
			value = map[string]string{"name": rows[p.Row].Name, "channel": rows[p.Row].Channel, "type": rows[p.Row].Type, "eventType": rows[p.Row].EventType}[p.Key]
		}
		v.badf(path, value, "%s", p.Text)
	}
}

// payload notes keys that cannot follow the five.
func (v *validator) payload(keys []string) {
	for i, key := range keys {
		if text := event.PayloadKeyProblem(key, keys[:i]); text != "" {
			v.badf(fmt.Sprintf("payload[%d]", i), key, "%s", text)
		}
	}
}

// goodPayload are the keys that nothing is wrong with, so that the sources are judged all the same.
func goodPayload(keys []string) []string {
	var good []string
	for _, key := range keys {
		if event.PayloadKeyProblem(key, good) == "" {
			good = append(good, key)
		}
	}
	return good
}

// owned says whether fanout writes to that topic.
func owned(prefix, topic string) bool {
	name, ours := strings.CutPrefix(topic, prefix+".")
	return ours && (strings.HasPrefix(name, "retry.") || name == "replay" || name == "dead-letter" || name == "attempts")
}

func (v *validator) delivery(c *Config) {
	d := &c.Delivery
	v.positive("delivery.timeout", d.Timeout)
	v.positive("delivery.connect_timeout", d.ConnectTimeout)
	if n := len(d.Schedule); n == 0 || n > maxSchedule {
		v.badf("delivery.schedule", "", "%d waits: want 1 to %d, as in [5s, 5m, 30m]", n, maxSchedule)
	}
	for i, wait := range d.Schedule {
		v.wait(fmt.Sprintf("delivery.schedule[%d]", i), wait)
	}
	v.positive("delivery.max_age", d.MaxAge)
	for name, age := range d.MaxAges {
		path := "delivery.max_ages." + name
		if _, ok := c.Catalogue().Parse(name); !ok {
			known := c.Catalogue().Texts()
			v.badf(path, "", "unknown event name, want %s%s", list(known...), nearest(name, known))
		}
		v.positive(path, age)
	}
	for i, status := range d.PermanentStatuses {
		path := fmt.Sprintf("delivery.permanent_statuses[%d]", i)
		switch {
		case status >= 200 && status <= 299:
			v.badf(path, status, "200 to 299 are successes, and cannot be permanent failures: remove it")
		case status < 300 || status > 599:
			v.badf(path, status, "want an HTTP status, 300 to 599")
		}
	}
	v.atLeastOne("delivery.max_in_flight", d.MaxInFlight)
	v.positive("delivery.connection_max_age", d.ConnectionMaxAge)
	if d.MaxBatchBytes < minBatchBytes || d.MaxBatchBytes > maxBatchBytes {
		v.badf("delivery.max_batch_bytes", d.MaxBatchBytes, "want %d to %d", minBatchBytes, maxBatchBytes)
	}
	if !isFieldValue(d.UserAgent) {
		v.badf("delivery.user_agent", d.UserAgent, "want printable ASCII, as in Acme-Webhooks/1.0")
	}
}

// Bounds of delivery.max_batch_bytes.
const (
	minBatchBytes = 1 << 10
	maxBatchBytes = 16 << 20
)

// isFieldValue reports whether text may stand as the value of a header: one line of ASCII that can be seen, without
// blanks at its ends.
func isFieldValue(text string) bool {
	return strings.TrimSpace(text) == text && !strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c > '~' })
}

func (v *validator) lanes(c *Config) {
	l := &c.Lanes
	v.atLeastOne("lanes.max_in_flight", l.MaxInFlight)
	v.atLeastOne("lanes.queue", l.Queue)
	v.positive("lanes.queue_age", l.QueueAge)
	v.atLeastOne("lanes.park_after", l.ParkAfter)
	v.wait("lanes.park_min", l.ParkMin)
	v.wait("lanes.park_max", l.ParkMax)
	if l.ParkMin > l.ParkMax {
		v.badf("lanes.park_min", l.ParkMin, "longer than lanes.park_max, which is %s", duration(l.ParkMax))
	}
}

// theirs notes what a package says of its own section: joined errors, each of which begins with its key. They quote no
// secret; the values are not shown, since a password in a URL that cannot be read cannot be found to be masked.
func (v *validator) packageErrors(err error) {
	if err == nil {
		return
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok { // errors.Join, which nobody wrapped
		for _, problem := range joined.Unwrap() {
			v.packageErrors(problem)
		}
		return
	}
	path, text, _ := strings.Cut(err.Error(), ": ")
	v.badf(path, "", "%s", text)
}

func (v *validator) admin(c admin.Config) {
	v.address("admin.listen", c.Listen, 0, "127.0.0.1:8080")
	if c.Portal.Listen != "" {
		v.address("admin.portal.listen", c.Portal.Listen, 0, "127.0.0.1:8081")
	}
	v.packageErrors(c.Validate())
}

func (v *validator) tracing(c *Tracing) {
	if !(c.SampleRatio >= 0 && c.SampleRatio <= 1) { // NaN is neither
		v.badf("tracing.sample_ratio", c.SampleRatio, "want 0 to 1, as in 0.1 for a tenth of the records without a traceparent")
	}
	if c.Endpoint == "" {
		return
	}
	u, err := url.Parse(c.Endpoint)
	_, portErr := strconv.ParseUint(cmp.Or(portOf(u), "0"), 10, 16)
	switch {
	case strings.Contains(c.Endpoint, "@"): // perhaps a password: it is not shown
		v.badf("tracing.endpoint", "", "a user name or password in it is not taken: give credentials in OTEL_EXPORTER_OTLP_HEADERS")
	case err != nil || portErr != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "":
		v.badf("tracing.endpoint", c.Endpoint, "want the URL of an OTLP/HTTP receiver, http or https without a query, as in http://127.0.0.1:4318")
	}
}

// portOf is the port of a URL that may not have been understood.
func portOf(u *url.URL) string {
	if u == nil {
		return ""
	}
	return u.Port()
}
