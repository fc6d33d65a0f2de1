// Package deploy_test looks at what is shipped for running fanout: names that are not in the code are found here, and not
// on the worst night. What needs other tools is in test.sh.
package deploy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.yaml.in/yaml/v3"

	"fanout/admin"
	"fanout/config"
	"fanout/consumer"
	"fanout/dispatcher"
	"fanout/operate/letters"
	"fanout/subscriptions"
)

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// described is how client_golang prints a description; there is no other door to its name and labels.
var described = regexp.MustCompile(`fqName: "(\w+)", help: ".*", constLabels: \{(.*)\}, variableLabels: \{(.*)\}\}`)

// registered are the metrics of an instance, each with its labels.
func registered(t *testing.T) map[string][]string {
	t.Helper()
	cfg := config.Default()
	cfg.Redis.SnapshotFile = "off"
	registry, log := prometheus.NewRegistry(), zap.NewNop()
	directory, err := subscriptions.New(cfg.Redis, log, registry)
	if err != nil {
		t.Fatal(err)
	}
	d, err := dispatcher.New(cfg.Dispatcher("fanout/test"), directory, log, registry)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = consumer.New(cfg.Consumer(), d, log, registry); err != nil {
		t.Fatal(err)
	}
	registry.MustRegister(letters.NewBuilder(nil, letters.Config{}, log).Metrics()...)
	server, err := admin.New(t.Context(), admin.Config{Listen: "127.0.0.1:0"}, log, registry)
	if err != nil {
		t.Fatal(err)
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	if err := server.Run(stopped); err != nil {
		t.Fatal(err)
	}
	all := make(chan *prometheus.Desc, 1000)
	registry.Describe(all)
	close(all)
	metrics := map[string][]string{}
	for desc := range all {
		match := described.FindStringSubmatch(desc.String())
		if match == nil {
			t.Fatalf("not understood: %s", desc)
		}
		labels := strings.FieldsFunc(match[2]+","+match[3], func(r rune) bool { return r == ',' })
		for i := range labels {
			labels[i], _, _ = strings.Cut(labels[i], "=")
		}
		metrics[match[1]] = labels
	}
	// Those that the program itself registers.
	for name, labels := range map[string][]string{"fanout_build_info": {"version", "revision", "modified", "goversion"}, "fanout_ready": nil} {
		if !strings.Contains(read(t, "../cmd/fanout/serve.go"), `Name: "`+name+`"`) {
			t.Fatalf("%s is no metric of the program any more", name)
		}
		metrics[name] = labels
	}
	return metrics
}

var (
	used    = regexp.MustCompile(`(?:^|[^:\w])(fanout_[a-z_]+)(?:\{([^}]*)\})?`)
	matcher = regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)\s*["']`)
	part    = regexp.MustCompile(`_(bucket|sum|count)$`) // of a histogram
	grouped = regexp.MustCompile(`\b(?:by|on)\s*\(([^)]*)\)`)
)

// scraped are the labels that Prometheus adds.
var scraped = []string{"job", "instance", "le"}

// exist checks that a query asks for metrics and labels that there are.
func exist(t *testing.T, where, query string, metrics map[string][]string) {
	t.Helper()
	labels := slices.Clone(scraped)
	for _, use := range used.FindAllStringSubmatch(query, -1) {
		name := use[1]
		if _, ok := metrics[name]; !ok {
			name = part.ReplaceAllString(name, "")
		}
		own, ok := metrics[name]
		if !ok {
			t.Errorf("%s: %s is registered nowhere", where, use[1])
			continue
		}
		labels = append(labels, own...)
		for _, m := range matcher.FindAllStringSubmatch(use[2], -1) {
			if !slices.Contains(own, m[1]) && !slices.Contains(scraped, m[1]) {
				t.Errorf("%s: %s has no label %s", where, use[1], m[1])
			}
		}
	}
	for _, group := range grouped.FindAllStringSubmatch(query, -1) {
		for label := range strings.SplitSeq(group[1], ",") {
			if label = strings.TrimSpace(label); label != "" && !slices.Contains(labels, label) {
				t.Errorf("%s: groups by %s, which none of its metrics has", where, label)
			}
		}
	}
}

type rule struct {
	Record      string            `yaml:"record"` // the name of the series, of a rule that is not an alert
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

// rules are those of prometheus/alerts.yaml: alerts, and the series that these are made of.
func rules(t *testing.T) []rule {
	t.Helper()
	var file struct {
		Groups []struct {
			Rules []rule `yaml:"rules"`
		} `yaml:"groups"`
	}
	if err := yaml.Unmarshal([]byte(read(t, "prometheus/alerts.yaml")), &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Groups) != 1 || len(file.Groups[0].Rules) == 0 {
		t.Fatalf("want one group of rules, got %d", len(file.Groups))
	}
	return file.Groups[0].Rules
}

// alerts are the rules that alert.
func alerts(t *testing.T) []rule {
	t.Helper()
	return slices.DeleteFunc(slices.Clone(rules(t)), func(r rule) bool { return r.Alert == "" })
}

// Each rule asks for metrics that there are, and each alert names its runbook, which says the same severity.
func TestAlerts(t *testing.T) {
	t.Parallel()
	metrics, index := registered(t), read(t, "../docs/runbooks/README.md")
	for _, r := range rules(t) {
		exist(t, r.Alert+r.Record, r.Expr, metrics)
	}
	for _, r := range alerts(t) {
		if r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
			t.Errorf("%s: want a summary and a description", r.Alert)
		}
		runbook := r.Annotations["runbook"]
		if want := "docs/runbooks/" + r.Alert + ".md"; runbook != want {
			t.Errorf("%s: runbook = %q, want %q", r.Alert, runbook, want)
			continue
		}
		severity := r.Labels["severity"]
		if !slices.Contains([]string{"critical", "warning", "info"}, severity) {
			t.Errorf("%s: severity = %q", r.Alert, severity)
		}
		if page := strings.ToLower(read(t, "../"+runbook)); !strings.HasPrefix(page, "# "+strings.ToLower(r.Alert)+"\n\n*"+severity+". ") {
			t.Errorf("%s does not begin with its name and its severity, %s", runbook, severity)
		}
		if row := "| [" + r.Alert + "](" + r.Alert + ".md) | " + severity + " | "; !strings.Contains(index, row) {
			t.Errorf("docs/runbooks/README.md does not have the row %s", row)
		}
	}
}

// Each alert is seen firing and not firing; that the series of the tests are real ones is seen here.
func TestAlertsAreTested(t *testing.T) {
	t.Parallel()
	text := read(t, "prometheus/alerts_test.yaml")
	var file struct {
		Tests []struct {
			Name   string `yaml:"name"`
			Series []struct {
				Series string `yaml:"series"`
			} `yaml:"input_series"`
			Alerts []struct {
				Name string      `yaml:"alertname"`
				Want []yaml.Node `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		} `yaml:"tests"`
	}
	if err := yaml.Unmarshal([]byte(text), &file); err != nil {
		t.Fatal(err)
	}
	metrics := registered(t)
	fires, quiet := map[string]int{}, map[string]int{}
	for _, one := range file.Tests {
		for _, s := range one.Series {
			exist(t, one.Name, s.Series, metrics)
		}
		for _, a := range one.Alerts {
			if len(a.Want) > 0 {
				fires[a.Name]++
			} else {
				quiet[a.Name]++
			}
		}
	}
	for _, r := range alerts(t) {
		if fires[r.Alert] == 0 || quiet[r.Alert] == 0 {
			t.Errorf("%s: seen firing %d times and not firing %d times, want both", r.Alert, fires[r.Alert], quiet[r.Alert])
		}
	}
}

func TestDashboard(t *testing.T) {
	t.Parallel()
	type datasource struct {
		Type string `json:"type"`
		UID  string `json:"uid"`
	}
	var board struct {
		UID    string `json:"uid"`
		Panels []struct {
			ID         int        `json:"id"`
			Type       string     `json:"type"`
			Title      string     `json:"title"`
			Datasource datasource `json:"datasource"`
			Targets    []struct {
				Expr       string     `json:"expr"`
				Datasource datasource `json:"datasource"`
			} `json:"targets"`
		} `json:"panels"`
	}
	if err := json.Unmarshal([]byte(read(t, "grafana/fanout.json")), &board); err != nil {
		t.Fatal(err)
	}
	metrics := registered(t)
	shown, ids := map[string]bool{}, map[int]bool{}
	for _, p := range board.Panels {
		if p.Title == "" || p.ID == 0 || ids[p.ID] {
			t.Errorf("panel %d %q: want a title and an id of its own", p.ID, p.Title)
		}
		ids[p.ID] = true
		if p.Type == "row" {
			continue
		}
		want := datasource{"prometheus", "${datasource}"}
		if p.Datasource != want || len(p.Targets) == 0 {
			t.Errorf("panel %q: datasource %v and %d targets", p.Title, p.Datasource, len(p.Targets))
		}
		for _, target := range p.Targets {
			if target.Datasource != want {
				t.Errorf("panel %q: datasource %v", p.Title, target.Datasource)
			}
			exist(t, "panel "+p.Title, target.Expr, metrics)
			for _, use := range used.FindAllStringSubmatch(target.Expr, -1) {
				shown[part.ReplaceAllString(use[1], "")] = true
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(metrics)) {
		if strings.HasPrefix(name, "fanout_") && !shown[name] {
			t.Errorf("%s is on no panel", name)
		}
	}
}

// manifests are the objects of a folder's files, as test.sh renders them from the chart.
func manifests(t *testing.T, name string) []map[string]any {
	t.Helper()
	decoder := yaml.NewDecoder(bytes.NewReader([]byte(read(t, name))))
	var all []map[string]any
	for {
		var one map[string]any
		switch err := decoder.Decode(&one); {
		case errors.Is(err, io.EOF):
			return all
		case err != nil:
			t.Fatalf("%s: %v", name, err)
		case one != nil:
			all = append(all, one)
		}
	}
}

// at follows keys, and numbers of list items, into a decoded document.
func at(t *testing.T, node any, path ...any) any {
	t.Helper()
	for _, key := range path {
		switch key := key.(type) {
		case string:
			m, _ := node.(map[string]any)
			node = m[key]
		case int:
			l, _ := node.([]any)
			if key >= len(l) {
				t.Fatalf("%v: no such item", path)
			}
			node = l[key]
		}
	}
	return node
}

// The rendered fanout.yaml is what fanout takes, and the pod is given longer than a stop may last.
func TestRenderedChart(t *testing.T) {
	t.Parallel()
	folder := os.Getenv("RENDERED")
	if folder == "" {
		t.Skip("make test-deploy renders the chart and sets RENDERED")
	}
	files, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: no manifests: %v", folder, err)
	}
	for _, file := range files {
		var cfg config.Config
		var deployment map[string]any
		for _, one := range manifests(t, file) {
			text, _ := at(t, one, "data", "fanout.yaml").(string)
			switch {
			case one["kind"] == "Deployment":
				deployment = one
			case one["kind"] == "ConfigMap" && text != "":
				cfg = load(t, file, text)
			}
		}
		if cfg.Admin.Listen != ":8080" || cfg.Redis.SnapshotFile != "/var/lib/fanout/subscriptions" || deployment == nil {
			t.Fatalf("%s: listen %q, snapshot %q, deployment %v", file, cfg.Admin.Listen, cfg.Redis.SnapshotFile, deployment != nil)
		}
		pod := at(t, deployment, "spec", "template", "spec")
		grace, _ := at(t, pod, "terminationGracePeriodSeconds").(int)
		if time.Duration(grace)*time.Second < cfg.ShutdownTimeout+10*time.Second {
			t.Errorf("%s: the pod is given %d s, and a stop may take %s", file, grace, cfg.ShutdownTimeout)
		}
		container := at(t, pod, "containers", 0)
		if first := at(t, container, "env", 0); at(t, first, "name") != config.FileVariable || at(t, first, "value") != "/etc/fanout/fanout.yaml" {
			t.Errorf("%s: a command in the pod does not know where the configuration is", file)
		}
		if at(t, container, "securityContext", "readOnlyRootFilesystem") != true || at(t, pod, "securityContext", "runAsNonRoot") != true {
			t.Errorf("%s: want a read-only file system and no root", file)
		}
	}
}

// The values that docs/kubernetes.md shows are values of the chart, and the fanout.yaml in them is one that fanout takes.
// That the chart renders with them is seen by test.sh.
func TestKubernetesPage(t *testing.T) {
	t.Parallel()
	found := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(read(t, "../docs/kubernetes.md"), -1)
	if len(found) != 1 {
		t.Fatalf("docs/kubernetes.md has %d blocks of values, want 1", len(found))
	}
	var shown, known map[string]any
	for text, to := range map[string]*map[string]any{found[0][1]: &shown, read(t, "helm/fanout/values.yaml"): &known} {
		if err := yaml.Unmarshal([]byte(text), to); err != nil {
			t.Fatal(err)
		}
	}
	for name := range shown {
		if _, ok := known[name]; !ok {
			t.Errorf("the chart has no value %s", name)
		}
	}
	text, err := yaml.Marshal(shown["config"])
	if err != nil {
		t.Fatal(err)
	}
	cfg := load(t, "docs/kubernetes.md", string(text))
	policy := at(t, shown, "networkPolicy")
	if len(cfg.Sources) == 0 || at(t, shown, "image", "repository") == "" || at(t, shown, "secret", "name") == "" ||
		at(t, policy, "ingressFrom", 0) == nil || at(t, policy, "dependencies", 0) == nil {
		t.Errorf("the page leaves out what has no default: %s", found[0][1])
	}
}

// The network policy leaves out of the receivers what fanout denies by itself (docs/contract.md#denied-ranges), and NAT64, which
// leads to the rest.
func TestNetworkPolicyLeavesOutWhatIsDenied(t *testing.T) {
	t.Parallel()
	var values struct {
		NetworkPolicy struct {
			IngressFrom, Dependencies []any
			Receivers                 struct{ Except []string }
		} `yaml:"networkPolicy"`
	}
	if err := yaml.Unmarshal([]byte(read(t, "helm/fanout/values.yaml")), &values); err != nil {
		t.Fatal(err)
	}
	var except []netip.Prefix
	for _, text := range values.NetworkPolicy.Receivers.Except {
		p, err := netip.ParsePrefix(text)
		if err != nil || p.Masked() != p {
			t.Errorf("except %s: %v", text, err)
		}
		except = append(except, p)
	}
	_, page, _ := strings.Cut(read(t, "../docs/contract.md"), "\n#### Denied ranges\n")
	page, _, _ = strings.Cut(page, "\n* ")
	_, metadata, _ := strings.Cut(read(t, "../docs/contract.md"), "\n#### Metadata addresses\n")
	metadata, _, _ = strings.Cut(metadata, "\nTheir ")
	denied := regexp.MustCompile("`([0-9a-f:.]+/[0-9]+)`").FindAllStringSubmatch(page+metadata+"`64:ff9b::/96`", -1)
	if len(denied) < 40 {
		t.Fatalf("contract.md has %d denied ranges", len(denied))
	}
	for _, found := range denied {
		p := netip.MustParsePrefix(found[1])
		if !slices.ContainsFunc(except, func(e netip.Prefix) bool { return e.Bits() <= p.Bits() && e.Contains(p.Addr()) }) {
			t.Errorf("receivers may be at %s", p)
		}
	}
	if n := len(values.NetworkPolicy.IngressFrom) + len(values.NetworkPolicy.Dependencies); n != 0 {
		t.Errorf("%d peers by default, which nobody has named", n)
	}
}

// With prometheusRule.runbookUrl set, each alert of the chart links to its runbook.
func TestRenderedAlertsLinkToRunbooks(t *testing.T) {
	t.Parallel()
	folder := os.Getenv("RENDERED")
	if folder == "" {
		t.Skip("make test-deploy renders the chart and sets RENDERED")
	}
	text := read(t, filepath.Join(folder, "full.yaml"))
	for _, r := range alerts(t) {
		if !strings.Contains(text, "runbook_url: https://wiki.example.com/fanout/"+r.Alert+".md\n") {
			t.Errorf("%s has no link to its runbook", r.Alert)
		}
	}
}

// load takes in a fanout.yaml as the pod would, the secrets being in its environment.
func load(t *testing.T, where, text string) config.Config {
	t.Helper()
	file := filepath.Join(t.TempDir(), "fanout.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	env := []string{"FANOUT_ADMIN_TOKEN=0123456789abcdef0123456789abcdef"}
	if strings.Contains(text, "sasl:") {
		env = append(env, "FANOUT_KAFKA_SASL_PASSWORD=secret")
	}
	cfg, warnings, err := config.Load(file, true, env, nil)
	if err != nil || len(warnings) > 0 {
		t.Fatalf("%s: %v\n%v", where, warnings, err)
	}
	return cfg
}

var stop = regexp.MustCompile(`(?m)^\s*(?:TimeoutStopSec=|stop_grace_period: )(\d+s)`)

// Who stops fanout waits longer than it takes.
func TestTimeToStop(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"systemd/fanout.service", "../docker-compose.yml"} {
		match := stop.FindStringSubmatch(read(t, file))
		if match == nil {
			t.Errorf("%s: says nothing of a stop", file)
			continue
		}
		if given, err := time.ParseDuration(match[1]); err != nil || given < config.Default().ShutdownTimeout+5*time.Second {
			t.Errorf("%s: %s for a stop that may take %s", file, match[1], config.Default().ShutdownTimeout)
		}
	}
}
