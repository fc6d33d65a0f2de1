// Package docs_test holds the documentation to what it documents: contracts, references and links.
package docs_test

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"fanout/subscriptions"
)

var update = flag.Bool("update", false, "write the generated references again")

// root is the repository.
const root = ".."

func read(t *testing.T, path ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// schema compiles a schema of docs/contracts.
func schema(t *testing.T, name string) *jsonschema.Schema {
	t.Helper()
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	compiled, err := compiler.Compile(filepath.Join("contracts", name))
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

// check is what a schema says of a JSON text.
func check(s *jsonschema.Schema, text string) error {
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		return err
	}
	return s.Validate(value)
}

// The examples of each schema are valid, and so is the schema itself.
func TestSchemaExamples(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join("contracts", "*.json"))
	if err != nil || len(files) != 8 {
		t.Fatalf("%d schemas, %v", len(files), err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		s := schema(t, name)
		for _, example := range s.Examples {
			if err := s.Validate(example); err != nil {
				t.Errorf("%s: its example: %v", name, err)
			}
		}
		if s.Title == "" || s.Description == "" {
			t.Errorf("%s has no title or no description", name)
		}
	}
}

// properties are the names that a schema knows, sorted.
func properties(s *jsonschema.Schema) []string {
	var names []string
	for name := range s.Properties {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// text is a value as JSON.
func text(t *testing.T, value any) string {
	t.Helper()
	data, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// Each sync job does to Redis what the directory understands, whatever shell runs it; called the wrong way it says how it
// is called, and without a Redis what is wrong. Package cmd/internal/clients runs them against a real Redis and fanout.
func TestSyncJob(t *testing.T) {
	t.Parallel()
	for _, job := range []struct{ program, file string }{
		{"sh", "sync-job.sh"}, {"bash", "sync-job.sh"}, {"python3", "sync-job.py"}, {"node", "sync-job.mjs"},
	} {
		t.Run(job.program, func(t *testing.T) {
			t.Parallel()
			for _, program := range []string{job.program, "redis-cli"} {
				if _, err := exec.LookPath(program); err != nil {
					t.Skip(err)
				}
			}
			testSyncJob(t, job.program, filepath.Join("examples", job.file))
		})
	}
}

// An example that is called without what it needs says so in a line, in any shell.
func TestExamplesSayWhatTheyNeed(t *testing.T) {
	t.Parallel()
	for _, example := range []struct{ program, file, want string }{
		{"sh", "producer.sh", "usage: producer.sh TOPIC KEY"},
		{"python3", "producer.py", "usage: producer.py TOPIC KEY"},
		{"python3", filepath.Join("verify", "receiver.py"), "set WEBHOOK_SECRET"},
	} {
		t.Run(example.file, func(t *testing.T) {
			t.Parallel()
			if _, err := exec.LookPath(example.program); err != nil {
				t.Skip(err)
			}
			cmd := exec.CommandContext(t.Context(), example.program, filepath.Join("examples", example.file))
			cmd.Env = append(os.Environ(), "WEBHOOK_SECRET=")
			output, err := cmd.CombinedOutput()
			if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != 2 || !strings.HasPrefix(string(output), example.want) || strings.Count(string(output), "\n") != 1 {
				t.Errorf("%v\n%s", err, output)
			}
		})
	}
}

func testSyncJob(t *testing.T, program, file string) {
	t.Helper()
	redis := miniredis.RunT(t)
	call := func(port string, args ...string) (int, string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), program, append([]string{file}, args...)...)
		cmd.Env = append(os.Environ(), "REDIS_HOST="+redis.Host(), "REDIS_PORT="+port)
		output, err := cmd.CombinedOutput()
		if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
			t.Fatal(err)
		}
		return cmd.ProcessState.ExitCode(), string(output)
	}
	for _, args := range [][]string{{}, {"acme"}, {"acme", "crm", "{}", "more"}} {
		if code, output := call(redis.Port(), args...); code != 2 || !strings.HasPrefix(output, "usage: ") || strings.Count(output, "\n") != 1 {
			t.Errorf("with %q: exit %d\n%s", args, code, output)
		}
	}
	if code, output := call("1", "acme", "crm", "{}"); code != 1 || !strings.Contains(strings.ToLower(output), "refused") || strings.Count(output, "\n") != 1 {
		t.Errorf("without a Redis: exit %d\n%s", code, output)
	}
	run := func(args ...string) {
		t.Helper()
		if code, output := call(redis.Port(), append([]string{"ac me", "crm"}, args...)...); code != 0 {
			t.Fatalf("exit %d: %s", code, output)
		}
	}
	const json = `{"url":"https://example.com/hooks","events":["EMAIL_OPEN"],"description":"naïve “quotes”"}`
	run(json)
	store, err := subscriptions.NewStore(subscriptions.Config{URL: "redis://" + redis.Addr(), Group: "fanout"})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if got, ok, err := store.Get(t.Context(), "ac me", "crm"); !ok || string(got) != json {
		t.Errorf("stored: %s, %v", got, err)
	}
	run()
	if got, ok, err := store.Get(t.Context(), "ac me", "crm"); ok || err != nil {
		t.Errorf("still there: %s, %v", got, err)
	}
	changes, err := redis.Stream("fanout:changes")
	if err != nil || len(changes) != 2 || !slices.Equal(changes[0].Values, []string{"account", "ac me"}) {
		t.Errorf("announced: %v, %v", changes, err)
	}
}
