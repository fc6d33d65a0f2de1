package docs_test

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"fanout/event"
)

// Whatever lists the built-in event names lists all of them: each list of a schema or of the OpenAPI document, and each page. A list of
// fewer than five is an example.
func TestEventNamesAreListedInFull(t *testing.T) {
	t.Parallel()
	names := event.BuiltIn().Texts()
	lists := 0
	check := func(path, what string, has func(name string) bool) {
		missing := slices.DeleteFunc(slices.Clone(names), has)
		if len(names)-len(missing) < 5 {
			return
		}
		lists++
		if len(missing) > 0 {
			t.Errorf("%s: %s lack %s", path, what, strings.Join(missing, ", "))
		}
	}
	sources(t, func(path, text string) {
		below, _ := filepath.Rel(root, path)
		below = filepath.ToSlash(below)
		if strings.HasPrefix(below, "testdata/") || below == "CHANGELOG.md" || below == "docs/contracts/payload.json" { // that lists event types
			return
		}
		switch filepath.Ext(path) {
		case ".md":
			check(below, "the event names of the page", func(name string) bool { return strings.Contains(text, name) })
		case ".json":
			var tree any
			if json.Unmarshal([]byte(text), &tree) != nil {
				return
			}
			eachList(tree, func(list []any) {
				check(below, "the event names of a list", func(name string) bool { return slices.Contains(list, any(name)) })
			})
		}
	})
	if lists < 10 {
		t.Errorf("only %d lists of event names", lists)
	}
}

// eachList hands over every array of a JSON document.
func eachList(tree any, visit func([]any)) {
	switch tree := tree.(type) {
	case []any:
		visit(tree)
		for _, item := range tree {
			eachList(item, visit)
		}
	case map[string]any:
		for _, item := range tree {
			eachList(item, visit)
		}
	}
}
