package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// pages are the repository's documents.
func pages(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(root, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{"docs", "deploy"} {
		err := filepath.WalkDir(filepath.Join(root, folder), func(path string, _ fs.DirEntry, err error) error {
			if filepath.Ext(path) == ".md" {
				found = append(found, path)
			}
			return err
		})
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	return found
}

var (
	fenced  = regexp.MustCompile("(?ms)^[ \t]*```.*?^[ \t]*```")
	code    = regexp.MustCompile("`[^`\n]*`")
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#{1,6} +(.+?) *$`)
	marked  = regexp.MustCompile(`<a (?:id|name)="([^"]+)"`)
)

// Every link to a file of the repository leads to one, and its anchor to a heading there.
func TestLinks(t *testing.T) {
	t.Parallel()
	links := 0
	for _, page := range append(pages(t), filepath.Join(root, "llms.txt")) {
		prose := code.ReplaceAllString(fenced.ReplaceAllString(read(t, page), ""), "")
		for _, found := range link.FindAllStringSubmatch(prose, -1) {
			target := found[1]
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			links++
			path, anchor, _ := strings.Cut(target, "#")
			file := page
			if path != "" {
				file = filepath.Join(filepath.Dir(page), filepath.FromSlash(path))
			}
			if _, err := os.Stat(file); err != nil {
				t.Errorf("%s: %s: there is no such file", page, target)
				continue
			}
			if anchor != "" && !slices.Contains(anchors(read(t, file)), anchor) {
				t.Errorf("%s: %s: there is no such heading", page, target)
			}
		}
	}
	if links < 40 {
		t.Errorf("only %d links were found", links)
	}
}

// anchors are the names of a page's headings, as GitHub makes them.
func anchors(page string) (names []string) {
	for _, found := range marked.FindAllStringSubmatch(page, -1) {
		names = append(names, found[1])
	}
	for _, found := range heading.FindAllStringSubmatch(fenced.ReplaceAllString(page, ""), -1) {
		var name strings.Builder
		for _, r := range strings.ToLower(found[1]) {
			switch {
			case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
				name.WriteRune(r)
			case r == ' ':
				name.WriteByte('-')
			}
		}
		names = append(names, name.String())
	}
	return names
}

// llms.txt names every page of docs, the runbooks by their index.
func TestEveryPageIsInLLMS(t *testing.T) {
	t.Parallel()
	text := read(t, root, "llms.txt")
	for _, page := range pages(t) {
		name, err := filepath.Rel(root, page)
		if err != nil {
			t.Fatal(err)
		}
		name = filepath.ToSlash(name)
		indexed := strings.HasPrefix(name, "docs/runbooks/Fanout") || name == "docs/README.md" || name == "SECURITY.md" || name == "LICENSES.md"
		if !indexed && !strings.Contains(text, "("+name+")") {
			t.Errorf("llms.txt does not name %s", name)
		}
	}
}

// Each alert has its runbook, and each runbook its alert.
func TestEveryAlertHasARunbook(t *testing.T) {
	t.Parallel()
	var alerts, runbooks []string
	for _, found := range regexp.MustCompile(`(?m)^\s*-?\s*alert:\s*(\S+)`).FindAllStringSubmatch(read(t, root, "deploy", "prometheus", "alerts.yaml"), -1) {
		alerts = append(alerts, found[1])
	}
	files, err := filepath.Glob(filepath.Join("runbooks", "Fanout*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		runbooks = append(runbooks, strings.TrimSuffix(filepath.Base(file), ".md"))
	}
	slices.Sort(alerts)
	if len(alerts) < 10 || !slices.Equal(alerts, runbooks) {
		t.Errorf("alerts %v\nrunbooks %v", alerts, runbooks)
	}
}
