package docs_test

import (
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// operating.md lists each field that a line of the log may have, and each metric.
func TestLogFieldsAndMetricsAreListed(t *testing.T) {
	t.Parallel()
	page := read(t, "operating.md")
	_, log, _ := strings.Cut(page, "\n## Log\n")
	_, metrics, _ := strings.Cut(page, "\n## Metrics\n")
	log, _, _ = strings.Cut(log, "\n## ")
	metrics, _, _ = strings.Cut(metrics, "\n## ")
	field := regexp.MustCompile(`zap\.[A-Z]\w*\("(\w+)"`)
	metric := regexp.MustCompile(`"(fanout_[a-z]+(?:_[a-z]+)*)"`)
	fields, names := 0, 0
	for _, folder := range []string{"admin", "consumer", "dispatcher", "subscriptions", filepath.Join("cmd", "fanout")} {
		err := filepath.WalkDir(filepath.Join(root, folder), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			source := read(t, path)
			for _, found := range field.FindAllStringSubmatch(source, -1) {
				fields++
				if !strings.Contains(log, "`"+found[1]+"`") {
					t.Errorf("%s logs the field %s, which operating.md does not list", path, found[1])
				}
			}
			for _, found := range metric.FindAllStringSubmatch(source, -1) {
				names++
				if found[1] != "fanout_session" && !strings.Contains(metrics, "`"+found[1]) {
					t.Errorf("%s has the metric %s, which operating.md does not list", path, found[1])
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if fields < 40 || names < 12 {
		t.Errorf("only %d fields and %d metrics were found", fields, names)
	}
}
