package docs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fanout/event"
)

var (
	// nameList is a list of event names in a JSON document, one a line.
	nameList = regexp.MustCompile(`( *)"EMAIL_OPEN",\n *"EMAIL_CLICK"(,\n *"[A-Z0-9_]+")+`)
	// payloadValues are the lists of eventTypes and of channels in payload.json.
	payloadValues = regexp.MustCompile(`(?s)("(eventType|channel)": {\n      "enum": \[\n).*?(\n      \])`)
	// namePairs are the channels and eventTypes that belong together, in payload.json.
	namePairs = regexp.MustCompile(`(?s)(  "oneOf": \[\n).*?(\n  \])`)
	// nameTable is the table of receivers.md.
	nameTable = regexp.MustCompile("(\\| event name \\| `channel` \\| `eventType` \\|\n\\| --- \\| --- \\| --- \\|\n)(\\|.*\n)+")
)

// What lists the event names is written from the table in package event: go test ./docs -run Reference -update does it. Only the contract
// has a table of its own, since it is what the code is checked against.
func TestEventNamesReference(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join("contracts", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	lists := 0
	for _, file := range append(files, "receivers.md", filepath.Join(root, "admin", "openapi.json")) {
		is := read(t, file)
		lists += len(nameList.FindAllString(is, -1)) + len(nameTable.FindAllString(is, -1))
		want := withEventNames(file, is)
		if *update && want != is {
			if err := os.WriteFile(file, []byte(want), 0o600); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(is, "\n")); diff != "" {
			t.Errorf("%s does not have all event names; write it again with make docs\npackage event (-), the file (+):\n%s", file, diff)
		}
	}
	if lists != 10 {
		t.Errorf("%d lists of event names, want 10", lists)
	}
}

// withEventNames is the text of a file with the event names that there are.
func withEventNames(file, text string) string {
	text = nameList.ReplaceAllStringFunc(text, func(list string) string {
		indent := nameList.FindStringSubmatch(list)[1]
		var lines []string
		for _, name := range event.BuiltIn().Texts() {
			lines = append(lines, fmt.Sprintf("%s%q", indent, name))
		}
		return strings.Join(lines, ",\n")
	})
	var pairs, rows, types []string
	for _, name := range event.BuiltIn().Names() {
		pairs = append(pairs, fmt.Sprintf("    {\n      \"properties\": {\n        \"channel\": {\n          \"const\": %q\n        },\n        \"eventType\": {\n          \"const\": %q\n        }\n      }\n    }",
			name.Channel(), name.PayloadType()))
		types = append(types, name.PayloadType())
		rows = append(rows, fmt.Sprintf("| %s | %s | %s |\n", name, name.Channel(), name.PayloadType()))
	}
	if filepath.Base(file) == "payload.json" {
		text = payloadValues.ReplaceAllStringFunc(text, func(list string) string {
			parts := payloadValues.FindStringSubmatch(list)
			values := types
			if parts[2] == "channel" {
				values = event.BuiltIn().Channels()
			}
			return parts[1] + `        "` + strings.Join(values, "\",\n        \"") + `"` + parts[3]
		})
		text = namePairs.ReplaceAllString(text, "${1}"+strings.Join(pairs, ",\n")+"${2}")
	}
	return nameTable.ReplaceAllString(text, "${1}"+strings.Join(rows, ""))
}
