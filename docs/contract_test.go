package docs_test

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v3"

	"fanout/config"
	"fanout/consumer"
	"fanout/dispatcher"
	"fanout/egress"
	"fanout/event"
	"fanout/subscriptions"
	"fanout/topic"
	"fanout/topic/journal"
	"fanout/webhook"
)

// These tests hold docs/contract.md to the code, in both directions: what the page promises exists, what it marks as
// planned does not exist yet, and where a list is closed the code has nothing else.

// plannedMark marks what is agreed on and not built. What it covers is said at the top of the page.
const plannedMark = "*(planned)*"

// line is a row of a table of the contract.
type line struct {
	planned bool // the row as a whole
	cells   []string
}

// names are the code spans of a cell, without those that are planned.
func (l line) names(cell int) []string {
	text := l.cells[cell]
	if !l.planned {
		text, _, _ = strings.Cut(text, plannedMark)
	}
	var list []string
	for _, span := range code.FindAllString(text, -1) {
		list = append(list, strings.Trim(span, "`"))
	}
	return list
}

// contractSection is the text between a heading and the next one.
func contractSection(t *testing.T, title string) string {
	t.Helper()
	_, rest, found := strings.Cut(read(t, "contract.md"), "# "+title+"\n")
	if !found {
		t.Fatalf("contract.md has no heading %q", title)
	}
	text, _, _ := strings.Cut(rest, "\n#")
	return text
}

// contractTable is what stands in the tables of a section, without their heads.
func contractTable(t *testing.T, title string) []line {
	t.Helper()
	rows := strings.Split(contractSection(t, title), "\n")
	var list []line
	for i, row := range rows {
		next := rows[min(i+1, len(rows)-1)]
		if !strings.HasPrefix(row, "| ") || strings.HasPrefix(row, "| ---") || strings.HasPrefix(next, "| ---") {
			continue
		}
		cells := strings.Split(strings.Trim(row, "|"), "|")
		for j := range cells {
			cells[j] = strings.TrimSpace(cells[j])
		}
		list = append(list, line{planned: strings.Contains(cells[0], plannedMark), cells: cells})
	}
	if len(list) == 0 {
		t.Fatalf("contract.md has no table under %q", title)
	}
	return list
}

// split gathers the names of a cell in all rows: what exists, and what is planned.
func split(rows []line, cell int) (built, planned []string) {
	for _, row := range rows {
		if row.planned {
			planned = append(planned, row.names(cell)...)
			continue
		}
		built = append(built, row.names(cell)...)
	}
	return built, planned
}

// checkClosed compares a closed list of the contract with the code's.
func checkClosed(t *testing.T, what string, rows []line, inCode []string) {
	t.Helper()
	built, planned := split(rows, 0)
	slices.Sort(built)
	want := slices.Sorted(slices.Values(inCode))
	if diff := cmp.Diff(slices.Compact(want), slices.Compact(built)); diff != "" {
		t.Errorf("%s of the code (-), of contract.md (+):\n%s", what, diff)
	}
	checkPlanned(t, what, planned, inCode)
}

// checkPlanned complains about what is built and still marked.
func checkPlanned(t *testing.T, what string, planned, inCode []string) {
	t.Helper()
	for _, name := range planned {
		if slices.Contains(inCode, name) {
			t.Errorf("%s: contract.md marks %s as planned, and the code has it: remove the mark", what, name)
		}
	}
}

// checkPromised complains about what is promised and not there. The code may have more.
func checkPromised(t *testing.T, what string, rows []line, inCode []string) {
	t.Helper()
	built, planned := split(rows, 0)
	for _, name := range built {
		if !slices.Contains(inCode, name) {
			t.Errorf("%s: contract.md promises %s, and the code does not have it", what, name)
		}
	}
	checkPlanned(t, what, planned, inCode)
}

// The mark is written in one way only, so that a search finds each one.
func TestContractMarks(t *testing.T) {
	t.Parallel()
	page := read(t, "contract.md")
	if !strings.Contains(page, plannedMark) {
		t.Error("nothing is planned any more: remove the paragraph about the mark")
	}
	rest := strings.NewReplacer(plannedMark, "", "`grep -nF '(planned)' docs/contract.md`", "").Replace(page)
	for _, loose := range regexp.MustCompile(`(?i).*(?:\(planned|planned\)|▲|not yet built|not implemented).*`).FindAllString(rest, -1) {
		t.Errorf("write the mark as %s: %s", plannedMark, loose)
	}
}

// No anchor of the contract stands twice: a citation leads to one rule.
func TestContractAnchorsAreUnique(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for _, name := range anchors(read(t, "contract.md")) {
		if seen[name] {
			t.Errorf("contract.md has the anchor %s twice", name)
		}
		seen[name] = true
	}
	if len(seen) < 200 {
		t.Errorf("only %d anchors", len(seen))
	}
}

// sources are the repository's files of text, without what is generated or fetched.
func sources(t *testing.T, each func(path, text string)) {
	t.Helper()
	kinds := []string{".go", ".md", ".yaml", ".yml", ".json", ".sh", ".py", ".mjs", ".js", ".java", ".html", ".txtar", ".tpl", ".txt", ".toml", ".service"}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != root && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "node_modules"):
			return filepath.SkipDir
		case entry.Type().IsRegular() && (slices.Contains(kinds, filepath.Ext(path)) || slices.Contains([]string{"Makefile", "Dockerfile"}, entry.Name())):
			each(path, read(t, path))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Every anchor that a comment, a script or a page names in this form exists: docs/contract.md#the-guarantee.
func TestCitedAnchorsExist(t *testing.T) {
	t.Parallel()
	citation := regexp.MustCompile(`docs/([\w/-]+\.md)#([\w-]+)`)
	known := make(map[string][]string)
	cited := 0
	sources(t, func(path, text string) {
		for _, found := range citation.FindAllStringSubmatch(text, -1) {
			cited++
			page, anchor := found[1], found[2]
			if known[page] == nil {
				data, err := os.ReadFile(page)
				if err != nil {
					t.Errorf("%s cites docs/%s: %v", path, page, err)
				}
				known[page] = append([]string{""}, anchors(string(data))...)
			}
			if !slices.Contains(known[page], anchor) {
				t.Errorf("%s cites docs/%s#%s: there is no such anchor", path, page, anchor)
			}
		}
	})
	if cited < 30 {
		t.Errorf("only %d citations were found", cited)
	}
}

// Nothing cites a page that is not in the repository, or a section by its number: a reader could not look it up. The
// folders below still have such comments.
func TestCitationsCanBeFollowed(t *testing.T) {
	t.Parallel()
	left := []string{"consumer", filepath.Join("dispatcher", "post")}
	// A number ages, and DESIGN.md has none. RFCs keep theirs.
	stale := regexp.MustCompile(`DESIGN\.md[\s/,#]*sections?\s|sections?\s+[\d.]+\s+of\s+(?:DESIGN|the\s+design)|FACTS\.md|FACTS [0-9]|STYLE\.md|(?m:^|[\s("])spec/[a-z]`)
	sources(t, func(path, text string) {
		for _, folder := range left {
			if strings.HasPrefix(path, filepath.Join(root, folder)+string(filepath.Separator)) {
				return
			}
		}
		if filepath.Base(path) == "contract_test.go" {
			return
		}
		for _, found := range stale.FindAllString(text, -1) {
			t.Errorf("%s cites %q: cite an anchor of docs/contract.md, or say the rule", path, found)
		}
	})
}

// The table of event names is the code's, and the payload is what is sent.
func TestContractEvents(t *testing.T) {
	t.Parallel()
	var want, got [][]string
	for _, name := range event.BuiltIn().Names() {
		want = append(want, []string{name.String(), name.Channel(), name.RawType(), "`" + name.PayloadType() + "`"})
	}
	for _, row := range contractTable(t, "Event names") {
		got = append(got, row.cells)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("event names of the code (-), of contract.md (+):\n%s", diff)
	}
	body := webhook.AppendPayload(nil, event.EmailOpen.PayloadType(), "abc123", "welcome-email", event.EmailOpen.Channel(), "user-123")
	if !strings.Contains(contractSection(t, "Payload"), "\n"+string(body)+"\n") {
		t.Errorf("contract.md shows another payload than %s", body)
	}
}

// enumerate lists the names of a closed type of small numbers, until a number is none of them.
func enumerate(name func(i uint8) string) (list []string) {
	defer func() { _ = recover() }() // its table has an end
	for i := range uint8(255) {
		text := name(i)
		if text == "" && i > 0 {
			break
		}
		if text != "" {
			list = append(list, text)
		}
	}
	return list
}

// The lists of outcomes and reasons are closed: those of the contract are the code's.
func TestContractOutcomesAndReasons(t *testing.T) {
	t.Parallel()
	outcomes := enumerate(func(i uint8) string { return dispatcher.Result(i).String() })
	reasons := enumerate(func(i uint8) string { return dispatcher.Reason(i).String() })
	if len(outcomes) < 6 || len(reasons) < 22 {
		t.Fatalf("the code's lists are not as this test knows them: %v, %v", outcomes, reasons)
	}
	var ofOutcomes, ofReasons, dead []line
	for _, row := range contractTable(t, "Outcomes and reasons") {
		if len(row.cells) == 2 {
			ofOutcomes = append(ofOutcomes, row)
			continue
		}
		ofReasons = append(ofReasons, row)
		switch outcome := row.cells[1]; {
		case outcome == "dead":
			dead = append(dead, row)
		case !slices.Contains(outcomes, outcome):
			t.Errorf("reason %s: there is no outcome %s", row.cells[0], outcome)
		}
	}
	checkClosed(t, "outcomes", ofOutcomes, outcomes)
	checkClosed(t, "reasons", ofReasons, reasons)
	checkClosed(t, "reasons of dead letters", dead, dispatcher.DeadReasons())
}

// DESIGN.md's table of verdicts has every reason in the row of its outcome, and the runbook says what to do about each that dead letters have.
func TestTablesNameTheReasons(t *testing.T) {
	t.Parallel()
	_, rest, _ := strings.Cut(read(t, root, "DESIGN.md"), "\n## The verdict\n")
	verdicts, _, _ := strings.Cut(rest, "\n## ")
	var named []string
	for row := range strings.Lines(verdicts) {
		cells := strings.Split(row, "|")
		if len(cells) < 4 {
			continue
		}
		outcome, _, _ := strings.Cut(strings.TrimSpace(cells[2]), " ")
		for _, span := range code.FindAllString(cells[2], -1) {
			name := strings.Trim(span, "`")
			if reason, ok := dispatcher.ParseReason(name); !ok || reason.Of().String() != outcome {
				t.Errorf("DESIGN.md, The verdict: %s is no reason of %s", name, outcome)
			}
			named = append(named, name)
		}
	}
	checkNames(t, "DESIGN.md, The verdict", named, dispatcher.ReasonNames())

	named = nil
	for row := range strings.Lines(read(t, root, "docs/runbooks/FanoutDeadLetters.md")) {
		if first, isRow := strings.CutPrefix(strings.TrimSpace(row), "| `"); isRow {
			name, _, _ := strings.Cut(first, "`")
			named = append(named, name)
		}
	}
	checkNames(t, "docs/runbooks/FanoutDeadLetters.md", named, dispatcher.DeadReasons())
}

// checkNames complains about names that a page does not have, and about those that only it has.
func checkNames(t *testing.T, page string, named, inCode []string) {
	t.Helper()
	if diff := cmp.Diff(slices.Sorted(slices.Values(inCode)), slices.Sorted(slices.Values(named))); diff != "" {
		t.Errorf("%s: reasons of the code (-), of the page (+):\n%s", page, diff)
	}
}

// The headers of records are package topic's.
func TestContractHeaders(t *testing.T) {
	t.Parallel()
	constants, _ := recordHeaders(t)
	rows := slices.Concat(contractTable(t, "Retry record"), contractTable(t, "Dead letter"), contractTable(t, "Replayed deliveries"))
	checkClosed(t, "headers", rows, slices.Collect(maps.Values(constants)))
}

// The topics are those of the default configuration.
func TestContractTopics(t *testing.T) {
	t.Parallel()
	cfg := config.Default()
	cfg.Attempts.Topic = true
	owned := cfg.Topic()
	var names []string
	for _, spec := range owned.Owned() {
		names = append(names, spec.Name)
	}
	for _, source := range topic.DefaultSources(event.BuiltIn()) {
		names = append(names, source.Topic)
	}
	checkClosed(t, "topics", contractTable(t, "Topics"), names)
}

// described notes the labels of each metric that is registered, and registers it.
type described struct {
	*prometheus.Registry
	labels map[string][]string
}

// Register implements prometheus.Registerer.
func (d *described) Register(c prometheus.Collector) error {
	form := regexp.MustCompile(`fqName: "([^"]+)".*constLabels: \{([^}]*)\}, variableLabels: \{([^}]*)\}`)
	all := make(chan *prometheus.Desc)
	go func() {
		defer close(all)
		c.Describe(all)
	}()
	for desc := range all {
		found := form.FindStringSubmatch(desc.String())
		if found == nil {
			return fmt.Errorf("a description that this test does not know: %s", desc)
		}
		var labels []string
		for part := range strings.SplitSeq(found[2]+","+found[3], ",") {
			if label, _, _ := strings.Cut(part, "="); label != "" {
				labels = append(labels, label)
			}
		}
		d.labels[found[1]] = labels
	}
	return d.Registry.Register(c)
}

// MustRegister implements prometheus.Registerer.
func (d *described) MustRegister(collectors ...prometheus.Collector) {
	for _, c := range collectors {
		if err := d.Register(c); err != nil {
			panic(err)
		}
	}
}

// values are the values of a metric's last label that are there from the start.
func (d *described) values(t *testing.T, name string) (list []string) {
	t.Helper()
	families, err := d.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			if labels := metric.GetLabel(); family.GetName() == name && len(labels) > 0 {
				list = append(list, labels[len(labels)-1].GetValue())
			}
		}
	}
	return list
}

// Each metric that the contract promises is registered, with its labels.
func TestContractMetrics(t *testing.T) {
	t.Parallel()
	cfg := config.Default()
	cfg.Redis.SnapshotFile = "off"
	registered := &described{prometheus.NewRegistry(), make(map[string][]string)}
	directory, err := subscriptions.New(cfg.Redis, nil, registered)
	if err != nil {
		t.Fatal(err)
	}
	d, err := dispatcher.New(cfg.Dispatcher("docs"), directory, nil, registered)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := consumer.New(cfg.Consumer(), d, nil, registered); err != nil {
		t.Fatal(err)
	}
	journal.New(nil, "", nil, registered)
	// The program's own are registered where it is wired.
	for name := range literals(t, regexp.MustCompile(`^fanout_[a-z]+(?:_[a-z]+)*$`), "cmd", "fanout") {
		if registered.labels[name] == nil {
			registered.labels[name] = []string{}
		}
	}
	names := slices.Collect(maps.Keys(registered.labels))
	for _, row := range contractTable(t, "Metrics") {
		for _, promised := range row.names(0) {
			name, list, _ := strings.Cut(strings.TrimSuffix(promised, "}"), "{")
			labels := strings.FieldsFunc(list, func(r rune) bool { return r == ',' })
			switch {
			case row.planned:
				checkPlanned(t, "metrics", []string{name}, names)
			case !slices.Contains(names, name):
				t.Errorf("metrics: contract.md promises %s, and the code does not have it", name)
			case !slices.Equal(labels, registered.labels[name]):
				t.Errorf("%s: contract.md promises the labels %v, the code has %v", name, labels, registered.labels[name])
			case len(labels) > 0:
				checkLabelValues(t, name, row.names(1), registered.values(t, name))
			}
		}
	}
}

// checkLabelValues compares the values that a row lists with those that the metric has from the start, if it has any.
func checkLabelValues(t *testing.T, name string, promised, got []string) {
	t.Helper()
	if len(promised) == 0 || len(got) == 0 {
		return
	}
	slices.Sort(promised)
	slices.Sort(got)
	if diff := cmp.Diff(got, promised); diff != "" {
		t.Errorf("%s: values of the code (-), of contract.md (+):\n%s", name, diff)
	}
}

// What a record may turn out to be is the label of its metric.
func TestContractRecordResults(t *testing.T) {
	t.Parallel()
	var results []string
	inspect(t, "consumer", func(n ast.Node) { // func (r recordResult) String() string { return [...]string{…}[r] }
		method, ok := n.(*ast.FuncDecl)
		if !ok || method.Recv == nil || method.Name.Name != "String" || fmt.Sprint(method.Recv.List[0].Type) != "recordResult" {
			return
		}
		ast.Inspect(method, func(n ast.Node) bool {
			if literal, ok := n.(*ast.BasicLit); ok && literal.Kind == token.STRING {
				results = append(results, strings.Trim(literal.Value, `"`))
			}
			return true
		})
	})
	checkClosed(t, "results of a record", contractTable(t, "What a record turns out to be"), results)
	for _, row := range contractTable(t, "Metrics") {
		if strings.HasPrefix(row.names(0)[0], "fanout_records_total") {
			checkLabelValues(t, "fanout_records_total", row.names(1), results)
		}
	}
}

// literals are the texts of a package's source that have a form.
func literals(t *testing.T, form *regexp.Regexp, folder ...string) map[string]bool {
	t.Helper()
	found := make(map[string]bool)
	inspect(t, filepath.Join(folder...), func(n ast.Node) {
		if literal, ok := n.(*ast.BasicLit); ok && literal.Kind == token.STRING {
			if text, err := strconv.Unquote(literal.Value); err == nil && form.MatchString(text) {
				found[text] = true
			}
		}
	})
	if len(found) == 0 {
		t.Fatalf("no text of the form %s in %v", form, folder)
	}
	return found
}

// inspect walks the source of a package, without its tests.
func inspect(t *testing.T, folder string, each func(ast.Node)) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, folder, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no source in %s: %v", folder, err)
	}
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			each(n)
			return true
		})
	}
}

// The exit codes are those that the program ends with.
func TestContractExitCodes(t *testing.T) {
	t.Parallel()
	var codes []string
	errors := 0
	note := func(e ast.Expr) {
		if literal, ok := e.(*ast.BasicLit); ok && literal.Kind == token.INT {
			codes = append(codes, literal.Value)
		}
	}
	inspect(t, filepath.Join("cmd", "fanout"), func(n ast.Node) {
		switch n := n.(type) {
		case *ast.ValueSpec: // exitMisuse = 2
			for i, name := range n.Names {
				if strings.HasPrefix(name.Name, "exit") && i < len(n.Values) {
					note(n.Values[i])
				}
			}
		case *ast.CompositeLit: // exitError{code: exitMisuse}, or with a number
			if name, ok := n.Type.(*ast.Ident); !ok || name.Name != "exitError" {
				return
			}
			errors++
			for _, element := range n.Elts {
				note(element)
				if pair, ok := element.(*ast.KeyValueExpr); ok {
					note(pair.Value)
				}
			}
		}
	})
	if len(codes) < 3 || errors < 3 {
		t.Fatalf("package main's source is not as this test knows it: %v, %d errors", codes, errors)
	}
	rows := contractTable(t, "Exit codes")
	for i := range rows { // they are numbers, not names
		rows[i].cells[0] = "`" + strings.TrimSpace(strings.TrimPrefix(rows[i].cells[0], plannedMark)) + "`"
	}
	checkClosed(t, "exit codes", rows, codes)
}

// exampleKeys are the keys of the example, which has each at its default.
func exampleKeys(t *testing.T) map[string]string {
	t.Helper()
	var document yaml.Node
	if err := yaml.Unmarshal([]byte(config.Example), &document); err != nil {
		t.Fatal(err)
	}
	keys := make(map[string]string)
	var walk func(path string, node *yaml.Node)
	walk = func(path string, node *yaml.Node) {
		for i := 0; i+1 < len(node.Content); i += 2 {
			name, value := node.Content[i], node.Content[i+1]
			key := strings.TrimPrefix(path+"."+name.Value, ".")
			if value.Kind == yaml.MappingNode && len(value.Content) > 0 {
				walk(key, value)
				continue
			}
			keys[key] = strings.ReplaceAll(inlineYAML(value), "'", "")
		}
	}
	walk("", document.Content[0])
	return keys
}

// The configuration has each key that is promised, with its default.
func TestContractConfiguration(t *testing.T) {
	t.Parallel()
	keys := exampleKeys(t)
	rows := contractTable(t, "Configuration keys")
	checkPromised(t, "configuration", rows, slices.Collect(maps.Keys(keys)))
	for _, row := range rows {
		if row.planned {
			continue
		}
		plannedDefault := strings.HasPrefix(row.cells[1], plannedMark)
		want := strings.Trim(strings.TrimSpace(strings.TrimPrefix(row.cells[1], plannedMark)), "`")
		for _, key := range row.names(0) {
			switch same := keys[key] == strings.Trim(want, `"`); {
			case plannedDefault && same:
				t.Errorf("%s: contract.md marks its default as planned, and the code has it: remove the mark", key)
			case !plannedDefault && !same:
				t.Errorf("%s: contract.md promises the default %s, the code has %s", key, want, keys[key])
			}
		}
	}
}

// The keys in Redis are the code's. It may have more, which sync-jobs.md names.
func TestContractRedisKeys(t *testing.T) {
	t.Parallel()
	inCode := slices.Collect(maps.Keys(literals(t, regexp.MustCompile(`^fanout:[a-z:]+$`), "subscriptions")))
	rows := contractTable(t, "Writing a subscription")
	for i := range rows {
		rows[i].cells[0], _, _ = strings.Cut(rows[i].cells[0], "<")
		rows[i].cells[0] = strings.TrimSuffix(rows[i].cells[0], "`") + "`"
	}
	checkPromised(t, "keys in Redis", rows, inCode)
	page := read(t, "contract.md") + read(t, "sync-jobs.md")
	for _, key := range inCode {
		if !strings.Contains(page, "`"+key) {
			t.Errorf("neither contract.md nor sync-jobs.md names the key %s", key)
		}
	}
}

// The keys of a subscription are those of its schema.
func TestContractSubscriptionKeys(t *testing.T) {
	t.Parallel()
	built, planned := split(contractTable(t, "Subscription JSON"), 0)
	known := properties(schema(t, "subscription.json"))
	for _, key := range built {
		if !slices.Contains(known, key) {
			t.Errorf("contract.md promises the key %s, and subscription.json does not have it", key)
		}
	}
	for _, key := range known {
		if !slices.Contains(built, key) && !slices.Contains(planned, key) {
			t.Errorf("subscription.json has the key %s, and contract.md does not", key)
		}
	}
}

// A subscription that sets one of the refused headers, also with _ for -, is refused when it is written.
func TestContractRefusedHeaders(t *testing.T) {
	t.Parallel()
	text, _, _ := strings.Cut(contractSection(t, "Subscription headers"), plannedMark)
	names := code.FindAllString(text, -1)
	if len(names) < 15 {
		t.Fatalf("only %d names of headers: %v", len(names), names)
	}
	for _, name := range append(names, "connection", "keep-alive", "transfer-encoding") {
		name = strings.Trim(strings.ReplaceAll(name, "*", "x"), "`")
		if len(name) == 1 {
			continue // "_ for -"
		}
		for value, refused := range map[string]bool{name: true, strings.ReplaceAll(name, "-", "_"): true, "x-" + name: false} {
			sub := fmt.Appendf(nil, `{"url":"https://example.com","events":["*"],"headers":{%q:"v"}}`, value)
			if problem := subscriptions.ReviewSent("acme", "crm", sub, time.Now()).Invalid; (problem != nil) != refused {
				t.Errorf("header %s: %v; refused should be %v", value, problem, refused)
			}
		}
	}
}

// The program has each command that is promised.
func TestContractCommands(t *testing.T) {
	t.Parallel()
	var commands []string
	for _, found := range regexp.MustCompile(`(?m)^## (fanout .+)$`).FindAllStringSubmatch(read(t, "reference", "commands.md"), -1) {
		commands = append(commands, found[1])
	}
	checkPromised(t, "commands", contractTable(t, "Commands"), commands)
}

// The API has each request that is promised.
func TestContractAPI(t *testing.T) {
	t.Parallel()
	var document struct {
		Paths map[string]map[string]any `json:"paths"`
	}
	if err := json.Unmarshal([]byte(read(t, root, "admin", "openapi.json")), &document); err != nil {
		t.Fatal(err)
	}
	var requests []string
	for path, methods := range document.Paths {
		for method := range methods {
			requests = append(requests, strings.ToUpper(method)+" "+path)
		}
	}
	checkPromised(t, "API", contractTable(t, "API"), requests)
}

// Every address of a denied range is denied, and what lies beside the ranges is not.
func TestContractDeniedRanges(t *testing.T) {
	t.Parallel()
	rules, err := egress.New(egress.Config{})
	if err != nil {
		t.Fatal(err)
	}
	open, err := egress.New(egress.Config{AllowCIDRs: []string{"0.0.0.0/0", "::/0"}})
	if err != nil {
		t.Fatal(err)
	}
	ranges, _ := split(contractTable(t, "Denied ranges"), 0)
	metadata, planned := split(contractTable(t, "Metadata addresses"), 0)
	denied := prefixes(t, slices.Concat(ranges, metadata, []string{"::ffff:0:0/96", "64:ff9b::/96"}))
	for _, p := range prefixes(t, slices.Concat(ranges, metadata)) {
		for _, a := range []netip.Addr{p.Addr(), last(p)} {
			if rules.CheckAddr(a, true) == nil {
				t.Errorf("%s passes; contract.md denies %s", a, p)
			}
		}
		for _, a := range []netip.Addr{p.Addr().Prev(), last(p).Next()} {
			inside := !a.IsValid() || slices.ContainsFunc(denied, func(p netip.Prefix) bool { return p.Contains(a) })
			if !inside && rules.CheckAddr(a, true) != nil {
				t.Errorf("%s beside %s is denied, which contract.md does not say", a, p)
			}
		}
	}
	for _, p := range prefixes(t, metadata) {
		for _, a := range []netip.Addr{p.Addr(), last(p)} {
			if open.CheckAddr(a, true) == nil {
				t.Errorf("%s passes where everything is opened; contract.md says that %s never does", a, p)
			}
		}
	}
	for _, p := range prefixes(t, planned) {
		if open.CheckAddr(p.Addr(), true) != nil && open.CheckAddr(last(p), true) != nil {
			t.Errorf("contract.md marks %s as planned, and the code denies it: remove the mark", p)
		}
	}
}

func prefixes(t *testing.T, texts []string) []netip.Prefix {
	t.Helper()
	list := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		var err error
		if list[i], err = netip.ParsePrefix(text); err != nil || list[i] != list[i].Masked() {
			t.Fatalf("%s is not a range: %v", text, err)
		}
	}
	return list
}

// last is the last address of a range.
func last(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < 8*len(b); i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// What goes over the wire has the headers of the contract, in whatever order, and no other.
func TestContractRequestHeaders(t *testing.T) {
	t.Parallel()
	renderer, err := dispatcher.NewRenderer(egress.Config{}, "fanout/test")
	if err != nil {
		t.Fatal(err)
	}
	sub, invalid := subscriptions.Parse("acme", "crm", []byte(`{"url":"https://example.com/hook","events":["*"],"secrets":["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]}`))
	if invalid != nil {
		t.Fatal(invalid)
	}
	text, blocked := renderer.Request(sub, &dispatcher.Delivery{
		ID: "msg_2kd7tuelszbk5xh6gq3p4wyrmc", Body: []byte("{}"), TraceParent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", TraceState: "a=b",
	}, time.Unix(1_800_000_000, 0))
	if blocked != "" {
		t.Fatal(blocked)
	}
	head, _, _ := strings.Cut(text, "\r\n\r\n")
	var sent []string
	for _, field := range strings.Split(head, "\r\n")[1:] {
		name, _, _ := strings.Cut(field, ": ")
		if name != "Host" && name != "Content-Length" { // HTTP/1.1 asks for these
			sent = append(sent, name)
		}
	}
	var promised []string
	for _, row := range contractTable(t, "Request headers") {
		promised = append(promised, row.names(0)...)
	}
	slices.Sort(sent)
	slices.Sort(promised)
	if diff := cmp.Diff(sent, promised); diff != "" {
		t.Errorf("headers on the wire (-), of contract.md (+):\n%s", diff)
	}
	for _, name := range sent {
		own := fmt.Appendf(nil, `{"url":"https://example.com/hook","events":["*"],"headers":{%q:"x"}}`, name)
		if _, invalid := subscriptions.Parse("acme", "crm", own); (invalid == nil) != (name == "Accept") {
			t.Errorf("a subscription that sets %s: %v", name, invalid)
		}
	}
}
