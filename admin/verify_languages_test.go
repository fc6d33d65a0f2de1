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

// runner runs the sample of another language: a program that reads the cases from cases.json and prints what verify thinks of each. A
// language without a JSON reader of its own has the program in the sample's file, and reads cases.txt.
type runner struct {
	file, program string
	appended      bool       // to the sample, instead of a file of its own, main.*
	commands      [][]string // the last one runs it
}

var runners = map[string]runner{
	"node": {file: "verify.js", commands: [][]string{{"node", "main.js"}}, program: `
const {verify} = require("./verify.js"), {secret, cases} = JSON.parse(require("fs").readFileSync("cases.json"));
console.log(JSON.stringify(cases.map(c => verify(secret, {"webhook-id": c.id, "webhook-timestamp": c.timestamp, "webhook-signature": c.signature}, c.body))));
`},
	"python": {file: "verify.py", commands: [][]string{{"python3", "main.py"}}, program: `
import json, sys
sys.path.insert(0, ".")
from verify import verify
data = json.load(open("cases.json", encoding="utf-8"))
print(json.dumps([verify(data["secret"], {"webhook-id": c["id"], "webhook-timestamp": c["timestamp"], "webhook-signature": c["signature"]}, c["body"].encode()) for c in data["cases"]]))
`},
	"php": {file: "verify.php", commands: [][]string{{"php", "main.php"}}, program: `<?php
error_reporting(E_ALL);
require "verify.php";
$data = json_decode(file_get_contents("cases.json"), true);
echo json_encode(array_map(fn($c) => verify($data["secret"], ["webhook-id" => $c["id"], "webhook-timestamp" => $c["timestamp"], "webhook-signature" => $c["signature"]], $c["body"]), $data["cases"]));
`},
	"ruby": {file: "verify.rb", commands: [][]string{{"ruby", "-w", "main.rb"}}, program: `
require "json"
require_relative "verify"
data = JSON.parse(File.read("cases.json", encoding: "UTF-8"))
puts JSON.generate(data["cases"].map { |c| verify(data["secret"], {"webhook-id" => c["id"], "webhook-timestamp" => c["timestamp"], "webhook-signature" => c["signature"]}, c["body"]) })
`},
	"java": {file: "Verify.java", appended: true, commands: [][]string{{"javac", "-d", ".", "-encoding", "UTF-8", "Verify.java"}, {"java", "-cp", ".", "Main"}}, program: `
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
`},
	"csharp": {file: "Verify.cs", appended: true, commands: [][]string{{"mcs", "-warnaserror", "-out:main.exe", "Verify.cs"}, {"mono", "main.exe"}}, program: `
public static class Program
{
    public static void Main()
    {
        string[] lines = System.IO.File.ReadAllLines("cases.txt");
        Console.WriteLine("[" + string.Join(",", Enumerable.Range(0, lines.Length / 4).Select(i => i * 4 + 1).Select(i =>
            Webhooks.Verify(lines[0], lines[i], lines[i + 1], lines[i + 2], Encoding.UTF8.GetBytes(lines[i + 3])) ? "true" : "false")) + "]");
    }
}
`},
}

func TestVerifySamplesOfOtherLanguages(t *testing.T) {
	t.Parallel()
	secret := webhook.GenerateSecret()
	cases := signedCases(secret)
	for language, r := range runners {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			got := r.run(t, secret, cases)
			if len(got) != len(cases) {
				t.Fatalf("%d answers to %d cases", len(got), len(cases))
			}
			for i, c := range cases {
				if got[i] != c.Good {
					t.Errorf("%s: %v", c.Name, got[i])
				}
			}
		})
	}
}

// run returns what the sample thinks of each case.
func (r *runner) run(t *testing.T, secret string, cases []signedCase) (good []bool) {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, data []byte) { must(t, os.WriteFile(filepath.Join(dir, name), data, 0o600)) }
	sample, err := os.ReadFile(filepath.Join("web", "verify", r.file))
	must(t, err)
	if r.appended {
		sample = append(sample, r.program...)
	} else {
		write("main"+filepath.Ext(r.file), []byte(r.program))
	}
	write(r.file, sample)
	data, err := json.Marshal(map[string]any{"secret": secret, "cases": cases})
	must(t, err)
	write("cases.json", data)
	lines := []string{secret}
	for _, c := range cases {
		lines = append(lines, c.ID, c.Timestamp, c.Signature, c.Body)
	}
	write("cases.txt", []byte(strings.Join(lines, "\n")+"\n"))
	var out []byte
	for _, command := range r.commands {
		cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
		cmd.Dir = dir
		if out, err = cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", command[0], err, out)
		}
	}
	if err := json.Unmarshal(out, &good); err != nil {
		t.Fatalf("it prints %s: %v", out, err)
	}
	return good
}
