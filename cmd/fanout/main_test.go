package main

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/twmb/franz-go/pkg/kfake"
)

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	testscript.Main(closing{m}, map[string]func(){"fanout": main})
}

// asProgram is a variable that makes the tests' executable be fanout.
const asProgram = "BE_FANOUT"

// atEnd is called when all tests have ended: what they share is closed there.
var atEnd []func()

// closing calls atEnd. It runs many tests beside each other, unless -parallel says how many: they wait for most of their time.
type closing struct{ *testing.M }

func (c closing) Run() int {
	if err := os.Setenv("OTEL_BSP_SCHEDULE_DELAY", "20"); err != nil { // ms: spans are seen before the stop
		panic(err)
	}
	flag.Parse()
	told := false
	flag.Visit(func(f *flag.Flag) { told = told || f.Name == "test.parallel" })
	if !told {
		if err := flag.Set("test.parallel", "6"); err != nil {
			panic(err)
		}
	}
	defer func() {
		for _, end := range atEnd {
			end()
		}
	}()
	return c.M.Run()
}

// TestScripts runs the commands as processes of their own, as their users do. Each script has a Kafka with the source
// topics channel.email and channel.sms, a Redis, and an address where nobody listens.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("..", "..", "testdata", "script"),
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			kafka, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "channel.email", "channel.sms"))
			if err != nil {
				return err
			}
			env.Defer(kafka.Close)
			redis, err := miniredis.Run()
			if err != nil {
				return err
			}
			env.Defer(redis.Close)
			for name, value := range map[string]string{
				"FANOUT_KAFKA_BROKERS": kafka.ListenAddrs()[0], "FANOUT_REDIS_URL": "redis://" + redis.Addr(),
				"FANOUT_REDIS_SNAPSHOT_FILE": "off", "FANOUT_ADMIN_LISTEN": "127.0.0.1:0", "NOBODY": nobody,
			} {
				env.Setenv(name, value)
			}
			// A script's own files end with a line end, which a signature does not forgive.
			return os.WriteFile(filepath.Join(env.WorkDir, "body.json"), []byte(`{"test": 2432232314}`), 0o600)
		},
	})
}

// TestConfigs loads the configurations of testdata: those that begin with good- without a problem, and of the others
// each problem is what the file of the same name ending in .txt says.
func TestConfigs(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join("..", "..", "testdata", "config", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("testdata/config: %d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			testConfig(t, file)
		})
	}
}

func testConfig(t *testing.T, file string) {
	t.Helper()
	var stderr writer
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // a good configuration ends at once
	code := run(ctx, []string{"run", "--config", file}, []string{"FANOUT_REDIS_SNAPSHOT_FILE=off"}, nil, &stderr, &stderr)
	want, err := os.ReadFile(file[:len(file)-len(".yaml")] + ".txt")
	if os.IsNotExist(err) {
		if code != 0 {
			t.Fatalf("exit %d\n%s", code, stderr.String())
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if code != 1 || stderr.String() != string(want) {
		t.Fatalf("exit %d, want 1, with\n%s\ngot\n%s", code, want, stderr.String())
	}
}
