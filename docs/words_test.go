package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// oldWords are identifiers that had a second meaning, or one that nobody else gives them. In these folders (with what lies in them;
// "" is the whole repository) they have given way to the words of docs/contract.md#words-of-the-code.
var oldWords = map[string]string{
	"ledger": "", "wedged": "", "bury": "", "mend": "", "reborn": "", "anew": "", "layGroups": "", "layTiers": "", "findTiers": "",
	"unframe": "", "shed": "", "deepen": "", "unproven": "", "partly": "", "maxOpen": "", "Quicken": "", "pulse": "", "ladder": "",
	"witnesses": "", "doubt": "", "doubts": "", "crowds": "dispatcher", "horizon": "",
	"beat": "consumer subscriptions", "Room": "", "room": "consumer dispatcher topic", "layout": "consumer topic operate",
	"framed": "consumer topic", "judge": "config", "theirs": "config", "place": "config dispatcher/semaphore.go", "places": "config",
	"line": "dispatcher/semaphore.go dispatcher/account.go", "pace": "subscriptions", "trouble": "cmd/proof/bench", "one": "cmd/proof/bench", "crowd": "cmd/proof/bench/inflight.go",
	"gone":   "consumer/partition.go consumer/committer.go consumer/reader.go",
	"window": "consumer", "blocked": "consumer/writer.go consumer/scout.go", "slots": "dispatcher", "covering": "topic",
}

// A word that was given up does not come back.
func TestOldWords(t *testing.T) {
	t.Parallel()
	sources(t, func(path, text string) {
		if filepath.Ext(path) != ".go" {
			return
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, text, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		below, _ := filepath.Rel(root, path)
		ast.Inspect(file, func(n ast.Node) bool {
			if name, ok := n.(*ast.Ident); ok && isOldWord(name.Name, filepath.ToSlash(below)) {
				t.Errorf("%s: %s is an old word: take the one of docs/contract.md#words-of-the-code", below, name.Name)
			}
			return true
		})
	})
}

func isOldWord(name, path string) bool {
	folders, old := oldWords[name]
	within := func(folder string) bool { return path == folder || strings.HasPrefix(path, folder+"/") }
	return old && (folders == "" || slices.ContainsFunc(strings.Fields(folders), within))
}
