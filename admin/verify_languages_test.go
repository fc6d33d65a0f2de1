//go:build browser

package admin_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"fanout/webhook"
)

// runners run the samples of other languages; they read the cases from a file and print what they think of each.
var runners = map[string]struct{ file, program string }{
	"node": {"verify.js", `const {verify} = require("./verify.js"), {secret, cases} = JSON.parse(require("fs").readFileSync("cases.json"));
console.log(JSON.stringify(cases.map(c => verify(secret, {"webhook-id": c.id, "webhook-timestamp": c.timestamp, "webhook-signature": c.signature}, c.body))));`},
	"python3": {"verify.py", `import json, sys
sys.path.insert(0, ".")
from verify import verify
data = json.load(open("cases.json", encoding="utf-8"))
print(json.dumps([verify(data["secret"], {"webhook-id": c["id"], "webhook-timestamp": c["timestamp"], "webhook-signature": c["signature"]}, c["body"].encode()) for c in data["cases"]]))`},
	"java": {"Verify.java", ""},
}

// javaMain is added to the sample: a program of one file needs no compiler run of its own, and no JSON library.
const javaMain = `
final class Main {
    public static void main(String[] args) throws Exception {
        java.util.List<String> lines = java.nio.file.Files.readAllLines(java.nio.file.Path.of("cases.txt"));
        StringBuilder out = new StringBuilder("[");
        for (int i = 1; i + 3 < lines.size(); i += 4) {
            out.append(i > 1 ? "," : "").append(Verify.verify(lines.get(0), lines.get(i), lines.get(i + 1), lines.get(i + 2), lines.get(i + 3).getBytes(StandardCharsets.UTF_8), 300));
        }
        System.out.println(out.append("]"));
    }
}
`

func TestVerifySamplesOfOtherLanguages(t *testing.T) {
	t.Parallel()
	secret := webhook.GenerateSecret()
	cases := signedCases(secret)
	for language, runner := range runners {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			path, err := exec.LookPath(language)
			must(t, err)
			dir := t.TempDir()
			sample, err := os.ReadFile(filepath.Join("web", "verify", runner.file))
			must(t, err)
			write := func(name string, data []byte) { must(t, os.WriteFile(filepath.Join(dir, name), data, 0o600)) }
			data, err := json.Marshal(map[string]any{"secret": secret, "cases": cases})
			must(t, err)
			write("cases.json", data)
			write(runner.file, sample)
			args := []string{"run.js"}
			switch language {
			case "java":
				lines := []string{secret}
				for _, c := range cases {
					lines = append(lines, c.ID, c.Timestamp, c.Signature, c.Body)
				}
				write("cases.txt", []byte(strings.Join(lines, "\n")+"\n"))
				write(runner.file, append(sample, javaMain...))
				build := exec.CommandContext(t.Context(), "javac", "-d", ".", "-encoding", "UTF-8", runner.file)
				build.Dir = dir
				if out, err := build.CombinedOutput(); err != nil {
					t.Fatalf("javac: %v: %s", err, out)
				}
				args = []string{"-cp", ".", "Main"}
			case "python3":
				args = []string{"run.py"}
				write("run.py", []byte(runner.program))
			default:
				write("run.js", []byte(runner.program))
			}
			run := exec.CommandContext(t.Context(), path, args...)
			run.Dir = dir
			out, err := run.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			var got []bool
			if err := json.Unmarshal(out, &got); err != nil || len(got) != len(cases) {
				t.Fatalf("it prints %s: %v", out, err)
			}
			for i, c := range cases {
				if got[i] != c.Good {
					t.Errorf("%s: %v", c.Name, got[i])
				}
			}
		})
	}
}
