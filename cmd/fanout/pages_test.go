package main

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/twmb/franz-go/pkg/kfake"
)

// elsewhere are the inline commands of the pages that TestInlineCommands does not run, each with what does, or why not.
func elsewhere() map[string]string {
	return map[string]string{
		"fanout demo --for 10s":                                    "testdata/script/demo.txtar runs it, for 3 s",
		"fanout subscriptions apply -f subscriptions.yaml":         "TestPages applies a folder of such files",
		"fanout deadletter replay --edit":                          "it opens an editor: TestOperatorsMend runs it",
		"fanout deadletter replay --reason malformed_event --edit": "it opens an editor: TestOperatorsMend runs it",
		"fanout explain --reveal":                                  "it names a flag",
	}
}

// notZero are those that end with another exit status than 0 in this test, each with the reason.
func notZero() map[string]int {
	return map[string]int{
		"fanout diff --new-config next.yaml bounces":       1, // deliveries appear: that is what it is asked
		"fanout diff --new-config next.yaml channel.email": 1, // and here they vanish
	}
}

// Each command in a table's cell or in running text works as it stands. It is run where an instance delivers, with dead
// letters, a subscription acme/crm and recorded events. Only names of commands, and lines with a placeholder such as FILE
// or HOST, are not run.
func TestInlineCommands(t *testing.T) {
	t.Parallel()
	where := map[string]string{}
	for name, page := range documents(t) {
		if strings.HasPrefix(name, filepath.Join("docs", "reference")) || name == "CHANGELOG.md" {
			continue // the former is generated from the commands; the latter tells of commands that may be gone
		}
		inCells := name != filepath.Join("docs", "contract.md") // its tables list commands by name
		for _, line := range inlineCommands(page, inCells) {
			where["fanout "+strings.Join(line, " ")] = name
		}
	}
	s := newPageStage(t)
	others, statuses, ran := elsewhere(), notZero(), 0
	for _, command := range slices.Sorted(maps.Keys(where)) {
		if _, ok := others[command]; ok {
			delete(others, command)
			continue
		}
		ran++
		code, output := s.enter(t, strings.Fields(command))
		if want := statuses[command]; code != want {
			t.Errorf("%s: %s: exit %d, want %d\n%s", where[command], command, code, want, output)
		}
		delete(statuses, command)
	}
	if ran < 18 {
		t.Errorf("only %d commands were run", ran)
	}
	for command := range others {
		t.Errorf("no page has the command %s", command)
	}
	for command := range statuses {
		t.Errorf("no page has the command %s", command)
	}
}

// inlineCommands are those of a page's code spans that can be run as they stand. In running text, and in cells where
// inCells is false, the name of a command without an argument or a flag only names it.
func inlineCommands(page string, inCells bool) (commands [][]string) {
	for line := range strings.SplitSeq(blocks.ReplaceAllString(page, ""), "\n") {
		for _, found := range inline.FindAllStringSubmatch(line, -1) {
			if placeholder.MatchString(found[1]) {
				continue
			}
			for _, words := range simpleCommands(found[1]) {
				if complete(words) && (len(words) > depth(words) || inCells && strings.HasPrefix(strings.TrimSpace(line), "|")) {
					commands = append(commands, words)
				}
			}
		}
	}
	return commands
}

var placeholder = regexp.MustCompile(`…|[|<>\[]|\b[A-Z][A-Z-]+\b($|[^_])`)

// complete says whether a command has all the arguments that it needs.
func complete(words []string) bool {
	cmd, args, err := (&app{}).command(words).Find(words)
	return err == nil && !cmd.HasSubCommands() && cmd.ParseFlags(args) == nil && cmd.ValidateArgs(cmd.Flags().Args()) == nil
}

// depth is how many of the words name the command.
func depth(words []string) int {
	_, args, err := (&app{}).command(words).Find(words)
	if err != nil {
		return len(words)
	}
	return len(words) - len(args)
}

// pageStage is where the pages' commands are run.
type pageStage struct {
	*world
	*running
	dir string
}

// newStage makes what the pages' examples suppose: topics channel.email (with partition 3 beyond offset 1287) and bounces,
// a subscription acme/crm, an instance that has delivered, 18 dead letters or more in partition 0, and next.yaml.
func newPageStage(t *testing.T) *pageStage {
	t.Helper()
	kafka, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(6, "channel.email"), kfake.SeedTopics(1, "bounces"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(kafka.Close)
	s := &pageStage{world: &world{kafka: kafka, redis: miniredis.RunT(t)}, dir: t.TempDir()}
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if strings.Contains(string(body), `"trackingId":"refused"`) {
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	t.Cleanup(receiver.Close)
	s.env = []string{
		"FANOUT_KAFKA_BROKERS=" + kafka.ListenAddrs()[0], "FANOUT_REDIS_URL=redis://" + s.redis.Addr(), "FANOUT_REDIS_SNAPSHOT_FILE=off",
		"FANOUT_ADMIN_LISTEN=127.0.0.1:0", "FANOUT_EGRESS_ALLOW_HTTP=true", "FANOUT_EGRESS_ALLOW_CIDRS=127.0.0.0/8",
		"FANOUT_ATTEMPTS_TOPIC=true", "FANOUT_DELIVERY_PERMANENT_STATUSES=400,410", "FANOUT_KAFKA_PARTITIONS=1",
	}
	subscription := `{account: acme, id: crm, url: "` + receiver.URL + `", events: ["*"], secrets: [` + secret + `]}`
	if code, _, stderr := s.fanout(t, subscription, "subscriptions", "apply", "-f", "-"); code != 0 {
		t.Fatal(stderr)
	}
	s.running = s.start(t, "--sources", "channel.email")
	s.await(t, "/readyz", 200, `"ready":true`)
	send := func(args ...string) string {
		code, stdout, stderr := s.fanout(t, "", append([]string{"send", "--account", "acme", "--event", "EMAIL_OPEN"}, args...)...)
		if code != 0 {
			t.Fatal(stderr)
		}
		return stdout
	}
	key := ""
	for i := 0; key == ""; i++ {
		if candidate := strings.Repeat("k", i+1); strings.HasPrefix(send("--key", candidate), "channel.email/3/") {
			key = candidate
		}
	}
	send("--key", key, "--count", "1288")
	send("--tracking-id", "refused", "--count", "20")
	s.await(t, "/metrics", 200, `fanout_outcomes_total{outcome="dead",reason="permanent_status",stage="first"} 20`)
	s.await(t, "/metrics", 200, `fanout_in_flight{stage="first"} 0`)
	if code, _, stderr := s.fanout(t, `{"accountId":"acme","type":"bounced","message":{"tracking_id":"b1"},"notificationId":"n","userId":"u"}`, "send", "--topic", "bounces", "-"); code != 0 {
		t.Fatal(stderr)
	}
	today := "sources: [{topic: channel.email}]\n"
	if err := os.WriteFile(filepath.Join(s.dir, "fanout.yaml"), []byte(today), 0o600); err != nil {
		t.Fatal(err)
	}
	next := "sources:\n  - {topic: bounces, channel: EMAIL, fields: {trackingId: message.tracking_id}, types: {bounced: FAILED}}\n"
	if err := os.WriteFile(filepath.Join(s.dir, "next.yaml"), []byte(next), 0o600); err != nil {
		t.Fatal(err)
	}
	for i, pair := range s.env {
		if strings.HasPrefix(pair, "FANOUT_ADMIN_LISTEN=") {
			s.env[i] = "FANOUT_ADMIN_LISTEN=" + strings.TrimPrefix(s.admin, "http://")
		}
	}
	return s
}

// enter runs a command as a process, as a person would. What goes on until it is interrupted is interrupted.
func (s *pageStage) enter(t *testing.T, words []string) (code int, output string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = 5 * time.Second
	cmd.Dir, cmd.Env = s.dir, append(os.Environ(), s.env...)
	var out writer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v: %v", words, err)
	}
	if slices.Contains(words, "tail") {
		until(t, func() (bool, string) { return strings.Contains(out.String(), "following "), out.String() })
		cancel()
	}
	err := cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode(), out.String()
	}
	if err != nil && ctx.Err() == nil {
		t.Fatalf("%v: %v", words, err)
	}
	return 0, out.String()
}

// The webhook that the pages show is one: its signature verifies with the secret that they show.
func TestPagesShowAVerifiableWebhook(t *testing.T) {
	t.Parallel()
	pages := documents(t)
	for _, name := range []string{"README.md", filepath.Join("docs", "receivers.md")} {
		request := regexp.MustCompile("(?s)```http\n(.*?)\n```").FindStringSubmatch(pages[name])
		shown := regexp.MustCompile(`whsec_[A-Za-z0-9+/=]+`).FindString(pages[name])
		if request == nil || shown == "" {
			t.Errorf("%s shows no request or no secret", name)
			continue
		}
		file := filepath.Join(t.TempDir(), "request.txt")
		if err := os.WriteFile(file, []byte(request[1]), 0o600); err != nil {
			t.Fatal(err)
		}
		var out writer
		code := run(t.Context(), []string{"verify", "--secret", shown, "--request", file, "--tolerance", "0"}, nil, nil, &out, &out)
		if code != 0 || !strings.Contains(out.String(), "verified") {
			t.Errorf("%s: exit %d\n%s", name, code, out.String())
		}
	}
}
