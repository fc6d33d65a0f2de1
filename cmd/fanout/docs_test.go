package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"fanout/config"
	"fanout/topic"
)

var update = flag.Bool("update", false, "write the generated references again")

var repository = filepath.Join("..", "..")

// documents are the pages that show command lines.
func documents(t *testing.T) map[string]string {
	t.Helper()
	pages := map[string]string{}
	patterns := []string{"*.md", filepath.Join("docs", "*.md"), filepath.Join("docs", "*", "*.md"), filepath.Join("deploy", "*.md"), filepath.Join("deploy", "*", "*.md")}
	for _, pattern := range patterns {
		files, err := filepath.Glob(filepath.Join(repository, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			name, _ := filepath.Rel(repository, file)
			pages[name] = string(data)
		}
	}
	if len(pages) < 10 {
		t.Fatalf("only %d pages", len(pages))
	}
	return pages
}

// docs/reference/commands.md says what the commands say of themselves: go test ./cmd/fanout -run Reference -update
// writes it.
func TestCommandReference(t *testing.T) {
	t.Parallel()
	file := filepath.Join(repository, "docs", "reference", "commands.md")
	want := commandReference((&app{stdout: io.Discard, stderr: io.Discard}).command(nil))
	if *update {
		if err := os.WriteFile(file, want, 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(string(got), "\n")); diff != "" {
		t.Errorf("docs/reference/commands.md has drifted; write it again with go test ./cmd/fanout -run Reference -update\nthe commands (-), the page (+):\n%s", diff)
	}
}

func commandReference(root *cobra.Command) []byte {
	var b bytes.Buffer
	b.WriteString("# Commands\n\n<!-- Generated from the commands: go test ./cmd/fanout -run Reference -update -->\n\n" +
		"Each command takes `--config FILE` and `-o table|json`. Without `--config`, the file is the one that `FANOUT_CONFIG` names,\n" +
		"else `fanout.yaml`, if it is there. Commands marked *configured* also take a flag for each key of the\n" +
		"[configuration](configuration.md).\n\n" +
		"| exit status | meaning |\n| --- | --- |\n| 0 | done |\n| 1 | a problem, such as a bad configuration |\n" +
		"| 2 | a command line that is not understood |\n\nIf an exit status of a command means more, its text says so.\n\n")
	var all []*cobra.Command
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Hidden {
			return
		}
		all = append(all, cmd)
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	for _, cmd := range root.Commands() {
		walk(cmd)
	}
	b.WriteString("| command | |\n| --- | --- |\n")
	for _, cmd := range all {
		fmt.Fprintf(&b, "| [%s](#%s) | %s |\n", cmd.CommandPath(), strings.ReplaceAll(cmd.CommandPath(), " ", "-"), cell(cmd.Short))
	}
	for _, cmd := range all {
		writeCommand(&b, cmd)
	}
	return b.Bytes()
}

func writeCommand(b *bytes.Buffer, cmd *cobra.Command) {
	fmt.Fprintf(b, "\n## %s\n\n%s.", cmd.CommandPath(), cmd.Short)
	if cmd.Name() != "run" && isConfigured(cmd) {
		b.WriteString(" *Configured.*")
	}
	if len(cmd.Aliases) > 0 {
		fmt.Fprintf(b, " Also called: %s.", strings.Join(cmd.Aliases, ", "))
	}
	fmt.Fprintf(b, "\n\n```text\n%s\n", usageLine(cmd))
	if cmd.Long != "" {
		fmt.Fprintf(b, "\n%s\n", cmd.Long)
	}
	b.WriteString("```\n")
	if cmd.Example != "" {
		fmt.Fprintf(b, "\n```sh\n%s\n```\n", strings.TrimRight(regexp.MustCompile(`(?m)^  `).ReplaceAllString(cmd.Example, ""), "\n"))
	}
	var rows []string
	cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" || isKey(f.Name) {
			return
		}
		name := "`--" + f.Name + "`"
		if f.Shorthand != "" {
			name = "`-" + f.Shorthand + "`, " + name
		}
		def := ""
		if f.DefValue != "" && f.DefValue != "[]" && f.DefValue != "false" {
			def = "`" + f.DefValue + "`"
		}
		kind, usage := pflag.UnquoteUsage(f)
		if kind == "" {
			kind = f.Value.Type()
		}
		rows = append(rows, fmt.Sprintf("| %s | %s | %s | %s |\n", name, kind, def, cell(usage)))
	})
	if len(rows) > 0 {
		b.WriteString("\n| flag | type | default | |\n| --- | --- | --- | --- |\n" + strings.Join(rows, ""))
	}
	if cmd.Name() == "run" {
		b.WriteString("\nIts flags are the keys of the [configuration](configuration.md).\n")
	}
}

// cell is text that may stand in a table's cell.
func cell(text string) string {
	return strings.NewReplacer("|", "\\|", "\n", " ", "<", "&lt;").Replace(text)
}

// isKey says whether the flag stands for a key of the configuration.
func isKey(name string) bool {
	keys := pflag.NewFlagSet("", pflag.ContinueOnError)
	config.AddFlags(keys)
	return keys.Lookup(name) != nil
}

// Each command line that a page shows is one that fanout understands: the command is there, and its flags are.
func TestDocumentedCommandLines(t *testing.T) {
	t.Parallel()
	lines := 0
	for name, page := range documents(t) {
		planned := plannedCommands(page)
		for _, line := range commandLines(page) {
			lines++
			if slices.ContainsFunc(planned, func(command []string) bool { return startsWith(line.words, command) }) {
				continue
			}
			if err := understood(line.words, line.whole); err != nil {
				t.Errorf("%s: %s: %v", name, strings.Join(line.words, " "), err)
			}
		}
	}
	if lines < 60 {
		t.Errorf("%d command lines were found, which is too few to be all", lines)
	}
}

// plannedCommands are those that a page, docs/contract.md that is, marks as not built yet. A test of package docs
// complains about the mark once they are.
func plannedCommands(page string) (commands [][]string) {
	for _, found := range regexp.MustCompile("(?m)^\\| \\*\\(planned\\)\\* `fanout ([a-z ]+)` \\|").FindAllStringSubmatch(page, -1) {
		commands = append(commands, strings.Fields(found[1]))
	}
	return commands
}

func startsWith(words, command []string) bool {
	return len(words) >= len(command) && slices.Equal(words[:len(command)], command)
}

func TestDocumentedCommandLinesNotices(t *testing.T) {
	t.Parallel()
	page := "`fanout nonsense`\n```sh\nX=1 fanout top --twice # no\ntrue && fanout subscriptions get acme | cat\nfanout send --account a \\\n  --evnt x\n```\n"
	lines := commandLines(page)
	if len(lines) != 4 {
		t.Fatalf("%d command lines, want 4: %v", len(lines), lines)
	}
	for _, line := range lines {
		if understood(line.words, line.whole) == nil {
			t.Errorf("%v is understood", line.words)
		}
	}
}

// commandLine is one that a page shows. Whole ones stand in a block of shell commands and have all their arguments; in
// running text they may be cut short.
type commandLine struct {
	words []string
	whole bool
}

var (
	blocks = regexp.MustCompile("(?ms)^[ \t]*```([a-z]*)[ \t]*\n(.*?)^[ \t]*```")
	inline = regexp.MustCompile("`(fanout [^`]+)`")
	parts  = regexp.MustCompile(`'[^']*'|"[^"]*"|\$\([^)]*\)|[|;&()]+|[^\s'"|;&()]+|\s+`)
)

func commandLines(page string) (lines []commandLine) {
	for _, block := range blocks.FindAllStringSubmatch(page, -1) {
		if !slices.Contains([]string{"sh", "bash", "console"}, block[1]) {
			continue
		}
		for line := range strings.SplitSeq(strings.ReplaceAll(block[2], "\\\n", " "), "\n") {
			for _, words := range simpleCommands(strings.TrimPrefix(strings.TrimSpace(line), "$ ")) {
				lines = append(lines, commandLine{words, true})
			}
		}
	}
	for _, found := range inline.FindAllStringSubmatch(blocks.ReplaceAllString(page, ""), -1) {
		for _, words := range simpleCommands(found[1]) {
			lines = append(lines, commandLine{words, false})
		}
	}
	return lines
}

// simpleCommands takes a line of shell apart, as far as documentation needs it: what begins with fanout, after a pipe
// or a list's operator too, or with go run ./cmd/fanout.
func simpleCommands(line string) (commands [][]string) {
	var words []string
	word := ""
	flush := func() {
		if word != "" {
			words = append(words, word)
		}
		word = ""
	}
	end := func() {
		flush()
		for len(words) > 0 && (strings.Contains(words[0], "=") || slices.Contains([]string{"exec", "sudo", "!", "if", "until", "while", "then", "do"}, words[0])) {
			words = words[1:]
		}
		if len(words) > 2 && slices.Equal(words[:3], []string{"go", "run", "./cmd/fanout"}) {
			words = words[2:]
			words[0] = "fanout"
		}
		if len(words) > 1 && (words[0] == "fanout" || words[0] == "bin/fanout") {
			commands = append(commands, words[1:])
		}
		words = nil
	}
	for _, part := range parts.FindAllString(line, -1) {
		switch {
		case strings.TrimSpace(part) == "":
			flush()
		case strings.HasPrefix(part, "#") && word == "":
			end()
			return commands
		case strings.Trim(part, "|;&()") == "":
			end()
		case part[0] == '\'' || part[0] == '"':
			word += part[1:len(part)-1] + "\x00" // an empty word is one too
		default:
			word += part
		}
	}
	end()
	for _, words := range commands {
		for i := range words {
			words[i] = strings.ReplaceAll(words[i], "\x00", "")
		}
		for i, w := range words {
			if strings.HasPrefix(w, ">") || strings.HasPrefix(w, "<") || w == "2>" {
				clear(words[i:])
			}
		}
	}
	for i, words := range commands {
		commands[i] = slices.DeleteFunc(words, func(w string) bool { return w == "" })
	}
	return commands
}

// understood says what is wrong with a command line. Placeholders, such as FILE or …, are fine.
func understood(words []string, whole bool) error {
	root := (&app{stdout: io.Discard, stderr: io.Discard}).command(words)
	root.InitDefaultHelpCmd()
	root.InitDefaultVersionFlag()
	cmd, args, err := root.Find(words)
	if err != nil {
		return err
	}
	if cmd == root && len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		return fmt.Errorf("there is no command %s", args[0])
	}
	if cmd.HasSubCommands() && len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		for name := range strings.SplitSeq(args[0], "|") { // `topics create|describe` in running text
			if sub, _, err := cmd.Find([]string{name}); whole || err != nil || sub == cmd {
				return fmt.Errorf("%s has no command %s", cmd.CommandPath(), name)
			}
		}
		return nil
	}
	if slices.Contains(args, "--help") || slices.Contains(args, "-h") {
		return nil
	}
	args = slices.DeleteFunc(slices.Clone(args), func(w string) bool { return w == "…" || w == "..." })
	if err := cmd.ParseFlags(args); err != nil {
		return err
	}
	if whole {
		return cmd.ValidateArgs(cmd.Flags().Args())
	}
	return nil
}

// What fanout writes to its topics is as docs/contracts says: retries, replays, dead letters and attempts of a real run.
func TestRecordsFitTheirSchemas(t *testing.T) {
	t.Parallel()
	b := newBuried(t)
	b.status.Store(503)
	b.ok(t, "", "send", "--account", "acme", "--event", "SMS_FAILED", "--topic", "channel.email")
	b.await(t, "/metrics", 200, `fanout_outcomes_total{outcome="retry",reason="status",stage="first"} 1`)
	b.status.Store(400)
	b.ok(t, "", "deadletter", "replay", "--account", "acme", "--yes", "--name", "again", "--max-failures", "0")
	b.await(t, "/metrics", 200, `fanout_outcomes_total{outcome="dead",reason="permanent_status",stage="replay"} 3`)

	cfg, _, err := config.Load("", false, b.env, nil)
	if err != nil {
		t.Fatal(err)
	}
	admin, err := topic.NewCluster(cfg.Topic())
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	for name, want := range map[string]struct {
		count           int
		headers, values string
	}{
		"fanout.retry.5s":    {1, "retry-record.json", "payload.json"},
		"fanout.replay":      {3, "retry-record.json", "payload.json"},
		"fanout.dead-letter": {7, "dead-letter-record.json", "payload.json"},
		"fanout.attempts":    {8, "", "attempt-record.json"},
	} {
		var ranges map[int]topic.Range
		until(t, func() (bool, string) { // attempts are written beside
			var err error
			if ranges, err = admin.Ranges(t.Context(), name, time.Time{}); err != nil {
				t.Fatal(err)
			}
			n := topic.Total(ranges)
			return n >= int64(want.count), fmt.Sprintf("%s: %d records, want %d", name, n, want.count)
		})
		var seen atomic.Int64
		headersOf, values := contract(t, want.headers), contract(t, want.values)
		err = admin.Scan(t.Context(), name, ranges, nil, func(m *topic.Record) error {
			seen.Add(1)
			headers := map[string]any{}
			for _, h := range m.Headers {
				headers[h.Key] = string(h.Value)
			}
			if headersOf != nil {
				if err := headersOf.Validate(headers); err != nil {
					t.Errorf("%s: headers %v: %v", name, headers, err)
				}
			}
			if headers["fanout-reason"] == "malformed_event" {
				return nil
			}
			value, err := jsonschema.UnmarshalJSON(bytes.NewReader(m.Value))
			if err == nil {
				err = values.Validate(value)
			}
			if err != nil {
				t.Errorf("%s: value %s: %v", name, m.Value, err)
			}
			return nil
		})
		if err != nil || int(seen.Load()) < want.count {
			t.Errorf("%s: %d records, want %d: %v", name, seen.Load(), want.count, err)
		}
	}
}

// contract compiles a schema of docs/contracts; nil where none is named.
func contract(t *testing.T, name string) *jsonschema.Schema {
	t.Helper()
	if name == "" {
		return nil
	}
	s, err := jsonschema.NewCompiler().Compile(filepath.Join(repository, "docs", "contracts", name))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// docs/getting-started.md is followed to the letter, by bash, with an embedded Kafka and Redis in place of real ones.
func TestGettingStarted(t *testing.T) {
	t.Parallel()
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("there is no bash")
	}
	page := documents(t)[filepath.Join("docs", "getting-started.md")]
	var script strings.Builder
	// Programs that come with Kafka and Redis: the topics are there already, and redis-cli is these few lines.
	script.WriteString("set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null; wait' EXIT\nkafka-topics.sh() { :; }\n" + respInBash)
	for _, section := range regexp.MustCompile("(?s)(<!-- not run[^>]*-->\n+)?```sh\n(.*?)```").FindAllStringSubmatch(page, -1) {
		if section[1] == "" {
			script.WriteString(section[2])
		}
	}
	w := newWorld(t, "channel.email")
	posts := make(chan http.Header, 10)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		posts <- r.Header
	}))
	defer receiver.Close()
	text := strings.ReplaceAll(script.String(), "127.0.0.1:9000", strings.TrimPrefix(receiver.URL, "http://"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cmd := exec.CommandContext(ctx, bash, "-c", text)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), w.env[:3]...) // where Kafka and Redis are; the rest is in the page's own fanout.yaml
	free := httptest.NewServer(nil)
	cmd.Env = append(cmd.Env, "FANOUT_ADMIN_LISTEN="+strings.TrimPrefix(free.URL, "http://"), "REDIS="+w.redis.Host(), "REDIS_PORT="+w.redis.Port())
	free.Close()
	output, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s\n--- the script:\n%s", err, output, text)
	}
	if len(posts) != 2 { // the sample of step 5, and the event of step 7
		t.Errorf("%d deliveries came, want 2\n%s", len(posts), output)
	}
	for range len(posts) {
		if header := <-posts; header.Get("webhook-signature") == "" {
			t.Errorf("a delivery is not signed: %v", header)
		}
	}
	for _, want := range []string{"  ready", "✓ crm", "delivered", "acme     crm"} {
		if !strings.Contains(string(output), want) {
			t.Errorf("the page's commands do not show %q:\n%s", want, output)
		}
	}
}

const respInBash = `redis-cli() {
  exec 3<>"/dev/tcp/$REDIS/$REDIS_PORT"
  printf '*%d\r\n' $# >&3
  for word; do printf '$%d\r\n%s\r\n' "${#word}" "$word" >&3; done
  local answer; read -r answer <&3; echo "$answer"; exec 3>&-
  [[ $answer != -* ]]
}
`
