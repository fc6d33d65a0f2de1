package docs_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// room is a row of DESIGN.md's table of rooms.
type room struct{ ours, others, never []string }

// imports are what a package without its tests imports.
type imports struct {
	ImportPath string
	Imports    []string
}

// listed is every package of the repository, as it is built here.
func listed(t *testing.T) (all []imports) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", "./...")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var one imports
		switch err := decoder.Decode(&one); {
		case errors.Is(err, io.EOF):
			return all
		case err != nil:
			t.Fatal(err)
		}
		all = append(all, one)
	}
}

// designRooms reads the table.
func designRooms(t *testing.T) map[string]room {
	t.Helper()
	_, rest, _ := strings.Cut(read(t, root, "DESIGN.md"), "\n## Rooms\n")
	section, _, _ := strings.Cut(rest, "\n## ")
	rooms := make(map[string]room)
	for row := range strings.Lines(section) {
		cells := strings.Split(strings.Trim(row, "|\n"), "|")
		if len(cells) != 4 || !strings.HasPrefix(strings.TrimSpace(cells[0]), "`") {
			continue
		}
		spans := func(cell int) (list []string) {
			for _, span := range code.FindAllString(cells[cell], -1) {
				list = append(list, strings.Trim(span, "`"))
			}
			return list
		}
		rooms[spans(0)[0]] = room{spans(1), spans(2), spans(3)}
	}
	return rooms
}

// within says whether the import is of one of the modules or folders, and which.
func within(path string, of []string) (string, bool) {
	i := slices.IndexFunc(of, func(folder string) bool { return path == folder || strings.HasPrefix(path, folder+"/") })
	if i < 0 {
		return "", false
	}
	return of[i], true
}

// Each room imports what DESIGN.md says, nothing else, and nothing less: the table is the picture of the code.
func TestRoomsImportWhatDesignSays(t *testing.T) {
	t.Parallel()
	const module = "fanout/"
	rooms := designRooms(t)
	if len(rooms) < 15 {
		t.Fatalf("DESIGN.md has %d rooms", len(rooms))
	}
	seen := make(map[string]bool)
	for _, p := range listed(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		if _, outside := within(name, []string{"cmd", "deploy", "docs", "admin/web", "dispatcher/resolve/dnstest"}); outside {
			continue
		}
		r, known := rooms[name]
		if !known {
			t.Errorf("package %s has no row in DESIGN.md, Rooms: say what it may import and what it must never know", name)
			continue
		}
		seen[name] = true
		used := make(map[string]bool)
		for _, path := range p.Imports {
			allowed := "the standard library"
			ok := true
			switch ours, isOurs := strings.CutPrefix(path, module); {
			case isOurs:
				allowed, ok = ours, slices.Contains(r.ours, ours)
			case strings.Contains(strings.Split(path, "/")[0], "."):
				allowed, ok = within(path, r.others)
			}
			used[allowed] = true
			if !ok {
				t.Errorf("%s imports %s: DESIGN.md, Rooms does not let it", name, path)
			}
			if slices.Contains(r.never, path) {
				t.Errorf("%s imports %s: DESIGN.md, Rooms says it must never know that", name, path)
			}
		}
		for _, path := range slices.Concat(r.ours, r.others) {
			if !used[path] {
				t.Errorf("%s does not import %s any more: take it out of DESIGN.md, Rooms", name, path)
			}
		}
	}
	for name := range rooms {
		if !seen[name] {
			t.Errorf("DESIGN.md, Rooms has a row for %s, which is not a package", name)
		}
	}
}
