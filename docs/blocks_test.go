package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// block is a fenced block of a page, with the comment right above it: what runs it, or why nothing does.
var (
	block     = regexp.MustCompile("(?ms)(?:^[ \t]*<!-- (run|from|not run): ([^>]*?) -->\n\n?)?^([ \t]*)```(\\w+)\n(.*?)^[ \t]*```")
	testNames = regexp.MustCompile(`(?m)^func (Test\w+)\(`)
)

// ranAsAWhole are pages on which every block is run, or held to the code, by one test.
func ranAsAWhole() map[string]string {
	return map[string]string{
		filepath.Join("docs", "getting-started.md"):            "TestPages",
		filepath.Join("docs", "reference", "commands.md"):      "TestDocumentedCommandLines", // generated from the commands
		filepath.Join("docs", "reference", "configuration.md"): "TestConfigurationReference", // generated: config/example.yaml
	}
}

// Every block of commands, configuration or code on a page is run by a test, is part of a file that a test runs, or says
// why not. What is run where: the comment above it.
func TestEveryBlockIsRun(t *testing.T) {
	t.Parallel()
	tests := testsOfAll(t)
	counts := make(map[string]int)
	for _, page := range pages(t) {
		name, err := filepath.Rel(root, page)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range block.FindAllStringSubmatch(read(t, page), -1) {
			how, what, language, text := found[1], found[2], found[4], found[5]
			whole := ranAsAWhole()[name]
			switch {
			case !strings.Contains(" sh bash console yaml python js go java ", " "+language+" "):
			case how == "" && whole != "":
				counts[name+" run by "+whole]++
				if !tests[whole] {
					t.Errorf("%s: there is no %s", name, whole)
				}
			case how == "":
				t.Errorf("%s: nothing says what runs this block:\n%s", name, text)
			case how == "run":
				counts[name+" run by "+what]++
				if !tests[what] {
					t.Errorf("%s: there is no %s", name, what)
				}
			case how == "from":
				counts[name+" from "+what]++
				if !strings.Contains(read(t, filepath.Dir(page), filepath.FromSlash(what)), text) {
					t.Errorf("%s: %s does not have these lines:\n%s", name, what, text)
				}
				if !ranExamples(t, filepath.Base(what)) {
					t.Errorf("%s: no test of cmd/internal/clients runs %s", name, what)
				}
			default:
				counts[name+" not run: "+what]++
			}
		}
	}
	for what, n := range counts {
		t.Logf("%2d %s", n, what)
	}
	if len(counts) < 15 {
		t.Errorf("only %d kinds of blocks were found", len(counts))
	}
}

// Each target of make that a page names is one of the Makefile.
func TestMakeTargets(t *testing.T) {
	t.Parallel()
	makefile := read(t, root, "Makefile")
	named := regexp.MustCompile("`make ([a-z-]+)[^`]*`|(?m)^make ([a-z-]+)")
	count := 0
	for _, page := range pages(t) {
		for _, found := range named.FindAllStringSubmatch(read(t, page), -1) {
			count++
			if target := found[1] + found[2]; !strings.Contains(makefile, "\n"+target+":") {
				t.Errorf("%s: the Makefile has no target %s", page, target)
			}
		}
	}
	if count < 15 {
		t.Errorf("only %d targets are named", count)
	}
}

// ranExamples says whether the tests of other languages' clients name a file.
func ranExamples(t *testing.T, file string) bool {
	t.Helper()
	sources, err := filepath.Glob(filepath.Join(root, "cmd", "internal", "clients", "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, source := range sources {
		text := read(t, source)
		if strings.Contains(text, `"`+file+`"`) || file == "main.go" && strings.Contains(text, `example(t, "verify", "go")`) {
			return true
		}
	}
	return false
}

// testsOfAll are the names of all tests, whatever their build tags.
func testsOfAll(t *testing.T) map[string]bool {
	t.Helper()
	names := make(map[string]bool)
	err := filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err == nil && entry.IsDir() && len(entry.Name()) > 2 && entry.Name()[0] == '.' {
			return filepath.SkipDir
		}
		if err == nil && strings.HasSuffix(path, "_test.go") {
			for _, found := range testNames.FindAllStringSubmatch(read(t, path), -1) {
				names[found[1]] = true
			}
		}
		return err
	})
	if err != nil || len(names) < 100 {
		t.Fatalf("%d tests: %v", len(names), err)
	}
	return names
}
