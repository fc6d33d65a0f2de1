package main

import (
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// Each mutation still applies to the code, leaves it a Go file, and names tests that there are. Whether they see it, make mutate says.
func TestMutationsApply(t *testing.T) {
	root := filepath.Join("..", "..", "..")
	all, err := Load(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 30 {
		t.Errorf("%d mutations were found", len(all))
	}
	for _, m := range all {
		source, err := os.ReadFile(filepath.Join(root, m.File))
		if err != nil {
			t.Errorf("%s: %v", m.Name, err)
			continue
		}
		changed, err := m.Apply(source)
		if err != nil {
			t.Error(err)
			continue
		}
		if _, err := parser.ParseFile(token.NewFileSet(), m.File, changed, 0); err != nil {
			t.Errorf("%s: %v", m.Name, err)
		}
		there := testsOf(t, filepath.Join(root, m.Package))
		for _, name := range m.Tests {
			if !there[name] {
				t.Errorf("%s: %s has no %s", m.Name, m.Package, name)
			}
		}
	}
}

func testsOf(t *testing.T, dir string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	names := make(map[string]bool)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllSubmatch(text, -1) {
			names[string(found[1])] = true
		}
	}
	return names
}

func TestParse(t *testing.T) {
	m, err := parse("late", []byte("It comes\nlate.\n\nfile: a.go\ntest: ./a TestA TestB\n-- old --\n\tx\n-- new --\n-- old --\n\ty\n-- new --\n\tz\n"))
	if err != nil || m.Does != "It comes late." || m.File != "a.go" || m.Package != "./a" || len(m.Tests) != 2 || len(m.Edits) != 2 {
		t.Fatalf("%+v, %v", m, err)
	}
	got, err := m.Apply([]byte("{\n\tx\n\ty\n}\n"))
	if err != nil || string(got) != "{\n\tz\n}\n" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := m.Apply([]byte("\tx\n\tx\n\ty\n")); err == nil {
		t.Error("lines that stand there twice were changed")
	}
	for _, bad := range []string{"", "words\nfile: a\ntest: ./a TestA\n", "file: a\ntest: ./a T\n-- old --\n-- new --\n", "w\nfile: a\ntest: ./a T\n-- old --\n"} {
		if _, err := parse("bad", []byte(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
