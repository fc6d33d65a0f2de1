package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/rogpeppe/go-internal/txtar"
)

// Mutation is a small change of one file that some test has to see.
type Mutation struct {
	Name    string   // that of its file
	Does    string   // in words
	File    string   // which it changes
	Package string   // whose tests are to fail
	Tests   []string // those tests
	Edits   []Edit
}

// Edit puts other lines in the place of some that stand in the file once.
type Edit struct{ Old, New string }

// Load reads the mutations of the checkout at root.
func Load(root string) ([]*Mutation, error) {
	files, err := filepath.Glob(filepath.Join(root, "testdata", "mutations", "*.txt"))
	if err != nil {
		return nil, err
	}
	var all []*Mutation
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		m, err := parse(strings.TrimSuffix(filepath.Base(file), ".txt"), data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		all = append(all, m)
	}
	return all, nil
}

func parse(name string, data []byte) (*Mutation, error) {
	archive := txtar.Parse(data)
	m := &Mutation{Name: name}
	var words []string
	for line := range strings.Lines(string(archive.Comment)) {
		line = strings.TrimSpace(line)
		if file, ok := strings.CutPrefix(line, "file: "); ok {
			m.File = file
			continue
		}
		if test, ok := strings.CutPrefix(line, "test: "); ok {
			fields := strings.Fields(test)
			m.Package, m.Tests = fields[0], fields[1:]
			continue
		}
		if line != "" {
			words = append(words, line)
		}
	}
	m.Does = strings.Join(words, " ")
	for i := 0; i+1 < len(archive.Files); i += 2 {
		m.Edits = append(m.Edits, Edit{string(archive.Files[i].Data), string(archive.Files[i+1].Data)})
	}
	if m.Does == "" || m.File == "" || len(m.Tests) == 0 || len(m.Edits) == 0 || len(archive.Files)%2 != 0 {
		return nil, errors.New("want what it does, `file: PATH`, `test: PACKAGE TEST...`, and pairs of old and new")
	}
	return m, nil
}

// Apply is the source of the mutation's file with the change.
func (m *Mutation) Apply(source []byte) ([]byte, error) {
	for _, e := range m.Edits {
		if n := bytes.Count(source, []byte(e.Old)); n != 1 {
			return nil, fmt.Errorf("mutation %s: these lines stand in %s %d times, not once:\n%s", m.Name, m.File, n, e.Old)
		}
		source = bytes.Replace(source, []byte(e.Old), []byte(e.New), 1)
	}
	return source, nil
}

// Try runs the tests on the changed code and says which of them failed; none where the mutation survived.
func (m *Mutation) Try(ctx context.Context) (killedBy string, err error) {
	source, err := os.ReadFile(m.File)
	if err != nil {
		return "", err
	}
	if source, err = m.Apply(source); err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "mutate")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	overlay, err := writeOverlay(dir, m.File, source)
	if err != nil {
		return "", err
	}
	output, err := goTest(ctx, overlay, m.Package, m.Tests)
	if err == nil {
		return "", nil
	}
	if failed := failedTest.FindStringSubmatch(output); failed != nil {
		return failed[1], nil
	}
	if strings.Contains(output, "panic: ") {
		return "a panic or a time-out", nil
	}
	return "", fmt.Errorf("mutation %s: no test failed, and yet: %w\n%s", m.Name, err, output)
}

var failedTest = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)

// writeOverlay writes what tells the go command to take the source for the file.
func writeOverlay(dir, file string, source []byte) (string, error) {
	changed := filepath.Join(dir, filepath.Base(file))
	if err := os.WriteFile(changed, source, 0o600); err != nil { //nolint:gosec // in a folder of its own; the name is one of the checkout's
		return "", err
	}
	original, err := filepath.Abs(file)
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(map[string]map[string]string{"Replace": {original: changed}})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, text, 0o600)
}

// goTest runs the tests of a package by their names, with an overlay where there is one.
func goTest(ctx context.Context, overlay, pkg string, tests []string) (output string, err error) {
	args := []string{"test", "-count=1", "-failfast", "-timeout=3m", "-run=^(" + strings.Join(tests, "|") + ")$"}
	if overlay != "" {
		args = append(args, "-overlay="+overlay)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, pkg)...) //nolint:gosec // the names of the checkout's tests
	cmd.Env = append(os.Environ(), "RAPID_NOFAILFILE=1")        // what fails here is no find
	text, err := cmd.CombinedOutput()
	if err == nil && bytes.Contains(text, []byte("no tests to run")) {
		err = errors.New("there are no such tests")
	}
	return string(text), err
}
