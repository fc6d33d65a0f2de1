package lab

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// remedy is the one command that installs everything that can be missing.
const remedy = "run `make real-deps` in the checkout"

// RequireKafka fails the test, naming the remedy, where Apache Kafka's jars or Java are missing. It never skips.
func RequireKafka(tb testing.TB) {
	tb.Helper()
	if _, err := kafkaClasspath(); err != nil {
		tb.Fatal(err)
	}
	RequireTools(tb, "java")
}

// RequireTools fails the test, naming the remedy, where one of the programs (kcat, redis-server, nginx, java) is
// missing. It never skips.
func RequireTools(tb testing.TB, names ...string) {
	tb.Helper()
	for _, name := range names {
		if _, err := tool(name); err != nil {
			tb.Fatal(err)
		}
	}
}

// tool finds a program in PATH, or where Debian keeps those of root.
func tool(name string) (string, error) {
	for _, candidate := range []string{name, "/usr/sbin/" + name} {
		if path, err := exec.LookPath(candidate); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed: %s", name, remedy)
}

// kafkaClasspath is Java's class path of the broker that `make real-deps` fetched.
func kafkaClasspath() (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	lib := filepath.Join(root, ".real", "kafka", "lib")
	if jars, _ := filepath.Glob(filepath.Join(lib, "kafka_*.jar")); len(jars) == 0 {
		return "", fmt.Errorf("no Apache Kafka in .real/kafka/lib: %s", remedy)
	}
	return filepath.Join(lib, "*"), nil
}

// Root is the folder of the checkout: the nearest one upwards, from the working folder, that holds fanout's go.mod.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if text, err := os.ReadFile(filepath.Join(dir, "go.mod")); err == nil && bytes.HasPrefix(text, []byte("module fanout\n")) {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no go.mod of fanout's in the working folder or above it")
		}
		dir = parent
	}
}
