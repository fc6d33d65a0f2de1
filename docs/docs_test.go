// Package docs_test holds the documentation to what it documents: contracts, references and links.
package docs_test

import (
	"encoding/json"
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

var update = flag.Bool("update", false, "write the generated references anew")

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
	if err != nil || len(files) != 6 {
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

// The sync job in shell does to Redis what the directory understands. Those in other languages need a client: package
// cmd/internal/clients runs them all, against a real Redis and fanout.
func TestSyncJob(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"bash", "redis-cli"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	redis := miniredis.RunT(t)
	run := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "bash", append([]string{filepath.Join("examples", "sync-job.sh"), "ac me", "crm"}, args...)...)
		cmd.Env = append(os.Environ(), "REDIS_HOST="+redis.Host(), "REDIS_PORT="+redis.Port())
		if output, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, output)
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
